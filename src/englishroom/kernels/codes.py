"""Sparse arithmetic of dictionaries on the CPU, compiled by numba.

A batch of sparse codes is three arrays: ``indices`` [row, slot] and ``values`` [row, slot] of the latents that are
active, and ``counts`` [row], how many slots of each row are used. Work is proportional to the active latents, not to
all of them.

Every kernel does a range ``low`` to ``high`` of its work and holds no lock (see ``kernels.threads``): rows
where each row is written once, latents where many rows add to one latent. Sums have one order, and the same answer,
whatever the number of threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from englishroom.kernels.compiling import compiled

GUESS = 0.9
"""Share of the usual least kept entry that is guessed as a bound."""
LANES = 16
"""Numbers that a processor compares at once; groups come in multiples of it."""
RANKED = 192
"""Entries up to which each is compared with each other to find the k-th largest."""


@compiled()
def _group_maxima(entries, maxima):  # pragma: no cover (compiled)
    """Take the maximum of every ``len(maxima)``-th entry from each of the first ones on."""
    n_groups = len(maxima)
    maxima[:] = entries[:n_groups]
    for start in range(n_groups, len(entries), n_groups):
        part = entries[start : start + n_groups]
        for g in range(len(part)):
            maxima[g] = part[g] if part[g] > maxima[g] else maxima[g]


@compiled(fastmath={"nnan", "nsz"})
def _kth_largest(entries, k, spare, ranks):  # pragma: no cover (compiled)
    """Return the k-th largest entry.

    Few entries are ranked, each compared with each other: more comparisons, but many at once and none to guess wrong.
    Many are selected from (Hoare).

    Args:
        spare, ranks: room for as many entries, which is written over.
    """
    n = len(entries)
    if n <= RANKED:
        ranks[:n] = 0
        for j in range(n):
            x = entries[j]
            for i in range(n):
                ranks[i] += x > entries[i]
        least = entries.dtype.type(np.inf)
        for i in range(n):
            x = entries[i] if ranks[i] < k else least
            least = min(x, least)
        return least
    spare[:n] = entries
    low, high = 0, n - 1
    while low < high:
        pivot = spare[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while spare[i] > pivot:
                i += 1
            while spare[j] < pivot:
                j -= 1
            if i <= j:
                spare[i], spare[j] = spare[j], spare[i]
                i += 1
                j -= 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            break
    return spare[k - 1]


@compiled()
def top_k(low, high, pre, lowest, indices, values, counts):  # pragma: no cover (compiled)
    """Keep the largest entries of every row above ``lowest``, as many as there are slots; ties go to the lower index.

    1. Split the row into groups and take the maximum of each.
    2. Guess a bound from the rows before, and gather the entries that reach it, from groups whose maximum does.
    3. If they are too few, the k-th largest maximum is a sure bound: k groups reach it. Gather again.
    4. Select among the few that were gathered.

    Slots are filled in an order of no meaning, the same for the same entries whatever was guessed.
    """
    n = pre.shape[1]
    k = indices.shape[1]
    # what is looked at: all maxima and all entries of k groups
    balanced = int(np.sqrt(n * k)) // LANES * LANES
    n_groups = min(n, max(2 * k, balanced, 4 * LANES))
    maxima = np.empty(n_groups, pre.dtype)
    groups = np.empty(n_groups + 1, np.int32)
    gathered = np.empty(n + 1, pre.dtype)
    places = np.empty(n + 1, np.int32)
    spare = np.empty(n, pre.dtype)
    ranks = np.empty(n, np.int32)
    guess = lowest
    for row in range(low, high):
        entries = pre[row]
        _group_maxima(entries, maxima)
        found = _gather(entries, maxima, guess, groups, places, gathered)
        if found < k and guess > lowest:
            bound = max(_kth_largest(maxima, k, spare, ranks), lowest) if n_groups >= k else lowest
            found = _gather(entries, maxima, bound, groups, places, gathered)
        least = max(_kth_largest(gathered[:found], k, spare, ranks), lowest) if found >= k else lowest
        counts[row] = _keep(gathered[:found], places, least, lowest, indices[row], values[row])
        if least > lowest:
            aim = least - pre.dtype.type(1 - GUESS) * abs(least)
            guess = aim if guess == lowest else max(lowest, guess + pre.dtype.type(0.2) * (aim - guess))


@compiled()
def _keep(entries, places, least, lowest, indices, values):  # pragma: no cover (compiled)
    """Fill slots with the entries above ``least``, then with those equal to it unless it is ``lowest``, in order.

    Returns:
        How many slots were filled.
    """
    k = len(indices)
    kept, equal = 0, 0
    for i in range(len(entries)):  # fewer than k exceed the least, so the last slot is free until the end
        indices[kept] = places[i]
        values[kept] = entries[i]
        kept += entries[i] > least
        equal += entries[i] == least
    if least > lowest:
        after = -1
        while kept < k and equal > 0:
            chosen = np.int32(2**31 - 1)
            for i in range(len(entries)):
                if entries[i] == least and places[i] > after and places[i] < chosen:
                    chosen = places[i]
            indices[kept] = chosen
            values[kept] = least
            after = chosen
            kept += 1
            equal -= 1
    indices[kept:] = 0
    values[kept:] = 0
    return kept


@compiled()
def _gather(entries, maxima, bound, groups, places, gathered):  # pragma: no cover (compiled)
    """Gather the entries that reach a bound, and where they stand; return how many do.

    What does not count is written too, and written over by the next, so that there is no branch to guess wrong.
    """
    n_groups = len(maxima)
    listed = 0
    for g in range(n_groups):
        groups[listed] = g
        listed += maxima[g] >= bound
    found = 0
    for i in range(listed):
        for j in range(groups[i], len(entries), n_groups):
            places[found] = j
            gathered[found] = entries[j]
            found += entries[j] >= bound
    return found


@compiled()
def keep_top(low, high, shortlist, listed, pre, lowest, indices, values, counts):  # pragma: no cover (compiled)
    """Keep the largest entries above ``lowest`` of a shortlist: ``pre`` [row, entry] of the latents it names.

    Args:
        listed: entries of each row that count; they come first.
    """
    n, k = pre.shape[1], indices.shape[1]
    spare, ranks = np.empty(n, pre.dtype), np.empty(n, np.int32)
    for row in range(low, high):
        entries = pre[row, : listed[row]]
        least = max(_kth_largest(entries, k, spare, ranks), lowest) if len(entries) > k else lowest
        counts[row] = _keep(entries, shortlist[row], least, lowest, indices[row], values[row])


@compiled()
def count_above(low, high, pre, thresholds, counts):  # pragma: no cover (compiled)
    """Count the entries of every row that exceed the threshold of their column."""
    n = pre.shape[1]
    for row in range(low, high):
        found = 0
        for j in range(n):
            found += pre[row, j] > thresholds[j]
        counts[row] = found


@compiled()
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


@compiled()
def decode(low, high, indices, values, counts, w_dec, out):  # pragma: no cover (compiled)
    """Add every active latent's row of ``w_dec`` [latent, d], times its value, to ``out`` [row, d]."""
    d = w_dec.shape[1]
    for row in range(low, high):
        for slot in range(counts[row]):
            j = indices[row, slot]
            v = values[row, slot]
            for c in range(d):
                out[row, c] += v * w_dec[j, c]


@compiled(fastmath={"contract", "reassoc"})
def dots(low, high, indices, counts, w, b, x, out):  # pragma: no cover (compiled)
    """Compute ``x[row] . w[latent] + b[latent]`` for every active latent, [row, slot]."""
    d = w.shape[1]
    for row in range(low, high):
        for slot in range(counts[row]):
            j = indices[row, slot]
            total = b[j]
            for c in range(d):
                total += w[j, c] * x[row, c]
            out[row, slot] = total


@compiled()
def sort_by_latent(indices, counts, starts, flat):  # pragma: no cover (compiled)
    """List the used slots latent by latent, rows in order.

    Args:
        starts: where each latent's slots begin in the list, [latent + 1]; filled.
        flat: places of the slots in the flattened codes, row by row; filled, [used slot].
    """
    n_rows, width = indices.shape
    starts[:] = 0
    for row in range(n_rows):
        for slot in range(counts[row]):
            starts[indices[row, slot] + 1] += 1
    for j in range(len(starts) - 1):
        starts[j + 1] += starts[j]
    ends = starts[:-1].copy()
    for row in range(n_rows):
        for slot in range(counts[row]):
            j = indices[row, slot]
            flat[ends[j]] = row * width + slot
            ends[j] += 1


@compiled()
def scatter(low, high, starts, flat, values, x, out):  # pragma: no cover (compiled)
    """Add ``values * x[row]``, over the rows where a latent is active, to its row of ``out`` [latent, d].

    Gathering the rows of one latent keeps its sum in cache; adding row by row to all latents takes four times as long.
    """
    width, d = values.shape[1], x.shape[1]
    for j in range(low, high):
        for e in range(starts[j], starts[j + 1]):
            row = flat[e] // width
            v = values[row, flat[e] - row * width]
            for c in range(d):
                out[j, c] += v * x[row, c]


@compiled()
def tally(indices, values, counts, out):  # pragma: no cover (compiled)
    """Add the values of every latent over all rows to ``out`` [latent]."""
    for row in range(indices.shape[0]):
        for slot in range(counts[row]):
            out[indices[row, slot]] += values[row, slot]


@compiled()
def fire(indices, values, counts, out):  # pragma: no cover (compiled)
    """Count the rows in which each latent is above zero, adding to ``out`` [latent]."""
    for row in range(indices.shape[0]):
        for slot in range(counts[row]):
            out[indices[row, slot]] += values[row, slot] > 0


def empty_codes(n_rows: int, n_slots: int, dtype: np.dtype) -> tuple[NDArray, NDArray, NDArray]:
    """Make room for codes: indices, values, counts."""
    return (np.zeros((n_rows, n_slots), np.int32), np.zeros((n_rows, n_slots), dtype), np.zeros(n_rows, np.int32))
