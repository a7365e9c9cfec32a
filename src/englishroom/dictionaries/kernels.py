"""Sparse arithmetic of dictionaries on the CPU, compiled by numba.

A batch of sparse codes is three arrays: ``indices`` [row, slot] and ``values`` [row, slot] of the latents that are
active, and ``counts`` [row], how many slots of each row are used. Work is proportional to the active latents, not to
all of them.

Every kernel does a range ``low`` to ``high`` of its work and holds no lock, so that :func:`run` can share it out to
torch's number of threads: rows where each row is written once, columns where many rows add to one latent. Sums have
one order, and the same answer, whatever the number of threads. (numba's own thread pool spins while it waits, which
costs a two-core machine half of its speed.)
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

GROUPS = 64
"""Groups whose maxima bound the largest entries; at least two for every entry to keep."""


def array(tensor: Tensor) -> NDArray:
    """View a contiguous CPU tensor as an array."""
    assert tensor.is_contiguous(), "kernels read rows as they lie in memory"
    return tensor.detach().numpy()


def run(kernel: Callable[..., None], n: int, *arguments: Any) -> None:
    """Call ``kernel(low, high, *arguments)`` for parts of ``range(n)``, one a thread."""
    n_threads = min(torch.get_num_threads(), max(1, n))
    bounds = [n * i // n_threads for i in range(n_threads + 1)]
    rest = [_pool(n_threads).submit(kernel, *part, *arguments) for part in pairwise(bounds[1:])]
    kernel(bounds[0], bounds[1], *arguments)
    for part in rest:
        part.result()


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, n_threads - 1), "kernels")


@njit(cache=True, nogil=True)
def _group_maxima(entries, maxima):  # pragma: no cover (compiled)
    """Take the maximum of every ``len(maxima)``-th entry from each of the first ones on."""
    n_groups = len(maxima)
    maxima[:] = entries[:n_groups]
    for start in range(n_groups, len(entries), n_groups):
        part = entries[start : start + n_groups]
        for g in range(len(part)):
            maxima[g] = part[g] if part[g] > maxima[g] else maxima[g]


@njit(cache=True, nogil=True)
def _insert(candidate, x, indices, values, kept):  # pragma: no cover (compiled)
    """Put an entry in its place among the largest so far, in falling order; return how many slots are used."""
    slot = kept if kept < len(values) else kept - 1
    while slot > 0 and (values[slot - 1] < x or (values[slot - 1] == x and indices[slot - 1] > candidate)):
        values[slot] = values[slot - 1]
        indices[slot] = indices[slot - 1]
        slot -= 1
    values[slot] = x
    indices[slot] = candidate
    return min(kept + 1, len(values))


@njit(cache=True, nogil=True)
def top_k(low, high, pre, indices, values, counts):  # pragma: no cover (compiled)
    """Keep the largest positive entries of every row, as many as there are slots; ties go to the lower index.

    1. Split the row into groups and take the maximum of each.
    2. The k-th largest maximum is a lower bound of the k-th largest entry: k groups reach it.
    3. Look only into groups that reach the bound; they are few.

    Slots are filled in falling order of their values.
    """
    n = pre.shape[1]
    k = indices.shape[1]
    n_groups = min(n, max(GROUPS, 2 * k))
    for row in range(low, high):
        entries, slots, kept_values = pre[row], indices[row], values[row]
        maxima = np.empty(n_groups, pre.dtype)
        _group_maxima(entries, maxima)
        kept = 0
        bound = pre.dtype.type(0)
        for g in range(n_groups):
            if maxima[g] > bound:
                kept = _insert(g, maxima[g], slots, kept_values, kept)
                if kept == k:
                    bound = kept_values[k - 1]
        kept = 0
        least = bound
        for g in range(n_groups):
            if maxima[g] >= bound:
                for j in range(g, n, n_groups):
                    x = entries[j]
                    if x >= least and x > 0:
                        if kept == k and x == least and slots[k - 1] < j:
                            continue
                        kept = _insert(j, x, slots, kept_values, kept)
                        if kept == k:
                            least = kept_values[k - 1]
        slots[kept:] = 0
        kept_values[kept:] = 0
        counts[row] = kept


@njit(cache=True, nogil=True)
def count_above(low, high, pre, thresholds, counts):  # pragma: no cover (compiled)
    """Count the entries of every row that exceed the threshold of their column."""
    n = pre.shape[1]
    for row in range(low, high):
        found = 0
        for j in range(n):
            found += pre[row, j] > thresholds[j]
        counts[row] = found


@njit(cache=True, nogil=True)
def take_above(low, high, pre, thresholds, indices, values):  # pragma: no cover (compiled)
    """Fill the slots of every row with the entries that exceed the threshold of their column."""
    n = pre.shape[1]
    for row in range(low, high):
        slot = 0
        for j in range(n):
            if pre[row, j] > thresholds[j]:
                indices[row, slot] = j
                values[row, slot] = pre[row, j]
                slot += 1


@njit(cache=True, nogil=True)
def decode(low, high, indices, values, counts, w_dec, out):  # pragma: no cover (compiled)
    """Add every active latent's row of ``w_dec`` [latent, d], times its value, to ``out`` [row, d]."""
    d = w_dec.shape[1]
    for row in range(low, high):
        for slot in range(counts[row]):
            j = indices[row, slot]
            v = values[row, slot]
            for c in range(d):
                out[row, c] += v * w_dec[j, c]


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def dots(low, high, indices, counts, w, x, out):  # pragma: no cover (compiled)
    """Compute ``x[row] . w[latent]`` for every active latent, [row, slot]."""
    d = w.shape[1]
    for row in range(low, high):
        for slot in range(counts[row]):
            j = indices[row, slot]
            total = w.dtype.type(0)
            for c in range(d):
                total += w[j, c] * x[row, c]
            out[row, slot] = total


@njit(cache=True, nogil=True)
def scatter(low, high, indices, values, counts, x, out):  # pragma: no cover (compiled)
    """Add ``values * x[row]`` to columns of ``out`` [latent, d], in the row of every active latent."""
    for row in range(indices.shape[0]):
        for slot in range(counts[row]):
            j = indices[row, slot]
            v = values[row, slot]
            for c in range(low, high):
                out[j, c] += v * x[row, c]


@njit(cache=True, nogil=True)
def tally(indices, values, counts, out):  # pragma: no cover (compiled)
    """Add the values of every latent over all rows to ``out`` [latent]."""
    for row in range(indices.shape[0]):
        for slot in range(counts[row]):
            out[indices[row, slot]] += values[row, slot]


def empty_codes(n_rows: int, n_slots: int, dtype: np.dtype) -> tuple[NDArray, NDArray, NDArray]:
    """Make room for codes: indices, values, counts."""
    return (
        np.zeros((n_rows, n_slots), np.int32),
        np.zeros((n_rows, n_slots), dtype),
        np.zeros(n_rows, np.int32),
    )
