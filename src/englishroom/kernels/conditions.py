"""Loops of the search for conditions, compiled by numba.

*Atoms* are the simplest things that can be said of a position ("the word 2 back is ``the``", "``girl`` stands in this
sentence"), numbered relation by relation: relation r has the atoms ``firsts[r]`` to ``firsts[r + 1] - 1``. Those that
are true at position p lie in ``atoms[starts[p * R + r] : starts[p * R + r + 1]]``, R being the number of relations. The
positions at which atom a is true are ``places[ends[a] : ends[a + 1]]``.
"""

from __future__ import annotations

import math

import numpy as np

from englishroom.kernels.compiling import compiled


@compiled()
def list_atoms(tokens, began, next_at, first_earlier, flags, firsts, n_back, starts, atoms):  # pragma: no cover
    """List the atoms of every position; where ``atoms`` is empty, only count them into ``starts``.

    Relations are: the word here to ``n_back - 1`` back; the words from ``first_earlier[s]`` to the one before, each
    once; and one for each row of ``flags``, whose atoms are its numbers up to the one given (-1: none).
    """
    n_relations = len(firsts) - 1
    size, entry = len(atoms), 0
    for p in range(len(tokens)):
        for r in range(n_relations):
            if size == 0:
                starts[p * n_relations + r] = entry
            if r < n_back:
                if p - r >= began[p]:
                    if size:
                        atoms[entry] = firsts[r] + tokens[p - r]
                    entry += 1
            elif r < n_back + len(first_earlier):
                for place in range(first_earlier[r - n_back, p], p):
                    if next_at[place] >= p:
                        if size:
                            atoms[entry] = firsts[r] + tokens[place]
                        entry += 1
            else:
                for flag in range(flags[r - n_back - len(first_earlier), p] + 1):
                    if size:
                        atoms[entry] = firsts[r] + flag
                    entry += 1
    if size == 0:
        starts[len(tokens) * n_relations] = entry


@compiled()
def correlation(true, said, n_on, n):  # pragma: no cover
    """Return the Matthews correlation of what holds at ``said`` of n positions, ``true`` of them of the ``n_on``."""
    spread = float(said) * (n - said) * n_on * (n - n_on)
    return (float(n) * true - float(said) * n_on) / math.sqrt(spread) if spread > 0 else 0.0


@compiled()
def count_atoms(positions, relations, starts, atoms, counts):  # pragma: no cover
    """Add to ``counts`` [atom] at how many of some positions each atom is true."""
    for p in positions:
        for e in range(starts[p * relations], starts[(p + 1) * relations]):
            counts[atoms[e]] += 1


@compiled()
def grow(
    r, overlaps, is_active, on, n_on, true, said, sign, surprise, gain, limit, shortlist, firsts, starts, atoms, ends,
    places, all_counts, all_hits, chosen, listed,
):  # fmt: skip  # pragma: no cover
    """Grow the list of atoms of relation r whose positions raise the correlation most, atom by atom.

    What holds at ``said`` positions, ``true`` of them on, is joined by the active positions at which an atom of the
    list is true (``sign`` 1), or loses them (-1).

    Args:
        overlaps: whether a position can have several atoms of the list, which are then counted once.
        surprise: standard deviations by which the positions of an atom must be on more often than others, or less.
        gain: what an atom must add to the correlation.
        limit: most atoms of the list.
        shortlist: of the atoms that are best alone, how many are tried after the first.
        all_counts, all_hits: active positions at which each atom is true, and those of them that are on; changed.
        chosen: the atoms found, [slot].
        listed: scratch of zeros, [pos], left so.

    Returns:
        how many atoms were found, and the correlation.
    """
    n, n_relations, first = len(on), len(firsts) - 1, firsts[r]
    counts, hits = all_counts[first : firsts[r + 1]], all_hits[first : firsts[r + 1]]
    candidates, alone = np.empty(len(counts), np.int64), np.empty(len(counts))
    n_candidates = 0
    for a in range(len(counts)):
        usual = float(counts[a]) * n_on / n
        if counts[a] > 0 and sign * (hits[a] - usual) > surprise * math.sqrt(usual * (n - n_on) / n):
            candidates[n_candidates] = a
            alone[n_candidates] = -correlation(true + sign * hits[a], said + sign * counts[a], n_on, n)
            n_candidates += 1
    candidates = candidates[:n_candidates]
    if n_candidates > shortlist:
        candidates = candidates[np.argsort(alone[:n_candidates], kind="mergesort")[:shortlist]]
    best, size = correlation(true, said, n_on, n), 0
    while size < limit:
        taken, found = -1, best + gain
        for a in candidates:
            if counts[a] > 0:
                score = correlation(true + sign * hits[a], said + sign * counts[a], n_on, n)
                if score > found:
                    taken, found = a, score
        if taken < 0:
            break
        chosen[size] = first + taken
        size += 1
        best = found
        true += sign * hits[taken]
        said += sign * counts[taken]
        counts[taken] = 0
        if not overlaps:
            continue
        for at in range(ends[first + taken], ends[first + taken + 1]):
            p = places[at]
            if is_active[p] and not listed[p]:
                listed[p] = 1
                for e in range(starts[p * n_relations + r], starts[p * n_relations + r + 1]):
                    a = atoms[e] - first
                    if a != taken:
                        counts[a] -= 1
                        hits[a] -= on[p]
    if overlaps:
        for slot in range(size):
            for at in range(ends[chosen[slot]], ends[chosen[slot] + 1]):
                listed[places[at]] = 0
    return size, best
