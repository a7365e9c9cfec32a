"""A few numbers to stand for many, so that what is stored is which of them.

1. Begin with levels that lie as dense as the cube root of the numbers (Panter and Dite 1951).
2. Move them by k-means (Lloyd 1957): each number to the nearest level, each level to the mean of its numbers.
3. Round the levels to the format they are stored in, and assign once more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDS = 30
Numbers = NDArray[np.float64]


def on_palette(values: NDArray[np.floating], n_levels: int) -> Numbers:
    """Return values replaced by levels, at most ``n_levels`` different ones, all of them float16 or bfloat16."""
    exact = values.astype(np.float64)
    if len(np.unique(exact)) <= n_levels:
        return stored(exact)
    levels = _dense_levels(exact, n_levels)
    for _ in range(ROUNDS):
        chosen = _nearest(exact, levels)
        counts = np.bincount(chosen, minlength=len(levels))
        used = counts > 0
        levels = np.bincount(chosen, exact, minlength=len(levels))[used] / counts[used]
    levels = np.unique(stored(levels))
    return levels[_nearest(exact, levels)]


def on_signs(values: NDArray[np.floating]) -> Numbers:
    """Return values replaced by one number, its negative, or 0, with the least squared error.

    With ``k`` values other than 0, the best are those of largest magnitude and the number their mean magnitude m; what
    is saved is ``k m²``.
    """
    exact = values.astype(np.float64)
    sizes = np.abs(exact)
    if len(np.unique(sizes[sizes > 0])) <= 1:
        return stored(exact)
    order = np.argsort(-sizes, kind="stable")
    means = np.cumsum(sizes[order]) / np.arange(1, len(order) + 1)
    best = int((means**2 * np.arange(1, len(order) + 1)).argmax())
    size = stored(means[best : best + 1])[0]
    kept = np.zeros(len(exact), bool)
    kept[order[: best + 1]] = True
    return np.where(kept, np.copysign(size, exact), 0.0)


def stored(values: Numbers) -> Numbers:
    """Round to float16, or to bfloat16 where that is nearer (very large and very small numbers)."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16).astype(np.float64)
    brain = _to_bfloat16(values)
    errors = [np.abs(rounded - values).sum() if np.isfinite(rounded).all() else np.inf for rounded in (half, brain)]
    return half if errors[0] <= errors[1] else brain


def _to_bfloat16(values: Numbers) -> Numbers:
    patterns = values.astype(np.float32).view(np.uint32)
    rounded = patterns + np.uint32(0x7FFF) + ((patterns >> np.uint32(16)) & np.uint32(1))  # ties to even
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


def _dense_levels(values: Numbers, n_levels: int) -> Numbers:
    """Spread levels as the cube root of the density of values."""
    ordered = np.sort(values)
    places = np.interp(np.linspace(0, 1, 4 * n_levels + 1), np.linspace(0, 1, len(ordered)), ordered)
    places = np.union1d(np.linspace(ordered[0], ordered[-1], 4 * n_levels + 1), places)
    gaps = np.diff(places)
    steps = np.append(0, np.cumsum(np.cbrt(np.histogram(values, places)[0] / gaps) * gaps))
    return np.unique(np.interp((np.arange(n_levels) + 0.5) / n_levels * steps[-1], steps, places))


def _nearest(values: Numbers, levels: Numbers) -> NDArray[np.intp]:
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, values)
