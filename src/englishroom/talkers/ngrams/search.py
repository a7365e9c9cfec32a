"""Small searches that counting talkers share, over many positions at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


def context_limits(tokens: NDArray[np.integer], start_id: int) -> NDArray[np.int64]:
    """Count the tokens of a document read so far, its start token included, [batch, pos] -> [batch, pos]."""
    positions = np.arange(tokens.shape[1])
    starts = np.maximum.accumulate(np.where(tokens == start_id, positions, 0), axis=1)
    return positions - starts + 1


def find(keys: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index of each wanted number in sorted ones, -1 where it is not among them."""
    if not len(keys):
        return np.full(len(wanted), -1, dtype=np.int64)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, -1)


def spans(starts: NDArray[np.integer], stops: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List the numbers of every half-open span, one span after the other, and the length of each."""
    lengths = (stops - starts).astype(np.int64)
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths), lengths


def slices_of(lengths: NDArray[np.integer], limit: int) -> list[slice]:
    """Cut things of some length in runs of at most about ``limit`` together, at least one thing each."""
    group = np.cumsum(lengths) // limit
    cuts = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(lengths)]
    return [slice(low, high) for low, high in pairwise(cuts) if low < high]


def begins(keys: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Say of sorted numbers which are the first of their kind."""
    first = np.ones(len(keys), dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    return first
