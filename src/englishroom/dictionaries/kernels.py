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

GUESS = 0.94
"""Share of the usual least kept entry that is guessed as a bound."""
LANES = 16
"""Numbers that a processor compares at once; groups come in multiples of it."""


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
def _kth_largest(entries, k):  # pragma: no cover (compiled)
    """Return the k-th largest entry (Hoare's selection); the entries change places."""
    low, high = 0, len(entries) - 1
    while low < high:
        pivot = entries[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while entries[i] > pivot:
                i += 1
            while entries[j] < pivot:
                j -= 1
            if i <= j:
                entries[i], entries[j] = entries[j], entries[i]
                i += 1
                j -= 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            break
    return entries[k - 1]


@njit(cache=True, nogil=True)
def top_k(low, high, pre, indices, values, counts):  # pragma: no cover (compiled)
    """Keep the largest positive entries of every row, as many as there are slots; ties go to the lower index.

    1. Split the row into groups and take the maximum of each.
    2. Guess a bound from the rows before, and gather the entries that reach it, from groups whose maximum does.
    3. If they are too few, the k-th largest maximum is a sure bound: k groups reach it. Gather again.
    4. Select among the few that were gathered.

    Slots are filled in an order of no meaning, the same for the same entries whatever was guessed.
    """
    n = pre.shape[1]
    k = indices.shape[1]
    zero = pre.dtype.type(0)
    # what is looked at: all maxima, about three times, and all entries of k groups
    balanced = int(np.sqrt(n * k / 3.0)) // LANES * LANES
    n_groups = min(n, max(2 * k, balanced, 4 * LANES))
    maxima = np.empty(n_groups, pre.dtype)
    scratch = np.empty(n + 1, pre.dtype)
    places = np.empty(n + 1, np.int32)
    guess = zero
    for row in range(low, high):
        entries = pre[row]
        _group_maxima(entries, maxima)
        bound = guess
        found = _gather(entries, maxima, bound, places, scratch)
        if found < k and bound > 0:
            scratch[:n_groups] = maxima
            bound = max(_kth_largest(scratch[:n_groups], k), zero) if n_groups >= k else zero
            found = _gather(entries, maxima, bound, places, scratch)
        least = max(_kth_largest(scratch[:found], k), zero) if found >= k else zero
        kept = 0
        for i in range(found):  # fewer than k exceed the least that is kept, so the last slot is free until the end
            slot = min(kept, k - 1)
            indices[row, slot] = places[i]
            values[row, slot] = entries[places[i]]
            kept += entries[places[i]] > least
        if kept < k and least > 0:
            for j in np.sort(places[:found]):
                if kept < k and entries[j] == least:
                    indices[row, kept] = j
                    values[row, kept] = least
                    kept += 1
        indices[row, kept:] = 0
        values[row, kept:] = 0
        counts[row] = kept
        aim = pre.dtype.type(GUESS) * least
        guess = aim if guess == 0 else guess + pre.dtype.type(0.2) * (aim - guess)


@njit(cache=True, nogil=True)
def _gather(entries, maxima, bound, places, gathered):  # pragma: no cover (compiled)
    """Gather the entries that reach a bound, and where they stand; return how many do."""
    n_groups = len(maxima)
    found = 0
    for g in range(n_groups):
        if maxima[g] >= bound:
            for j in range(g, len(entries), n_groups):
                places[found] = j  # written over by the next unless this one counts
                gathered[found] = entries[j]
                found += entries[j] >= bound
    return found


@njit(cache=True, nogil=True)
def keep_top(low, high, shortlist, pre, indices, values, counts):  # pragma: no cover (compiled)
    """Keep the largest positive entries of a shortlist: ``pre`` [row, entry] of the latents ``shortlist`` names."""
    n, k = pre.shape[1], indices.shape[1]
    scratch = np.empty(n, pre.dtype)
    for row in range(low, high):
        entries = pre[row]
        scratch[:] = entries
        least = max(_kth_largest(scratch, k), pre.dtype.type(0)) if n > k else pre.dtype.type(0)
        kept = 0
        for strict in (True, False):  # those above the least first, then as many equal to it as there is room for
            for i in range(n):
                x = entries[i]
                if kept < k and x > 0 and (x > least if strict else x == least):
                    indices[row, kept] = shortlist[row, i]
                    values[row, kept] = x
                    kept += 1
        indices[row, kept:] = 0
        values[row, kept:] = 0
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
