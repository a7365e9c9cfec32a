"""Arithmetic of edges, from features that are on to what they add to, compiled by numba.

Edges lie source by source: those of source j are ``starts[j]`` to ``starts[j + 1] - 1``, each with the column that it
adds to and a weight. A batch of features that are on is three arrays as in :mod:`englishroom.kernels.codes`. Work is
proportional to the edges of features that are on. Columns are cast to unsigned numbers, so that no index is
taken to count from the end.
"""

from __future__ import annotations

import numpy as np

from englishroom.kernels.compiling import compiled

FAST = {"contract", "reassoc", "nnan", "nsz"}


@compiled(fastmath=FAST)
def add(low, high, indices, values, counts, starts, columns, weights, out):  # pragma: no cover (compiled)
    """Add what every feature that is on adds to ``out`` [row, column]."""
    for row in range(low, high):
        sums = out[row]
        for slot in range(counts[row]):
            j, v = indices[row, slot], values[row, slot]
            for e in range(starts[j], starts[j + 1]):
                sums[np.uint32(columns[e])] += v * weights[e]


@compiled(fastmath=FAST)
def gradients(
    low, high, indices, values, counts, starts, columns, weights, grad, by_value, by_weight
):  # pragma: no cover (compiled)
    """Compute the gradients of the values, [row, slot], and weights, [edge], of a range of sources, from that of sums.

    Row by row, so that a row's gradient stays in cache; source by source it takes ten times as long.
    """
    for row in range(len(counts)):
        given = grad[row]
        for slot in range(counts[row]):
            j, v = indices[row, slot], values[row, slot]
            if j < low or j >= high:
                continue
            own, added = weights[starts[j] : starts[j + 1]], by_weight[starts[j] : starts[j + 1]]
            where = columns[starts[j] : starts[j + 1]]
            total = weights.dtype.type(0)
            for e in range(len(own)):
                g = given[np.uint32(where[e])]
                total += own[e] * g
                added[e] += v * g
            by_value[row, slot] = total


BLOCK = 128
"""Rows that are worked on at once where all features are on, so that what is read again is still in cache."""


@compiled(fastmath=FAST)
def gather(low, high, starts, columns, weights, given, out):  # pragma: no cover (compiled)
    """Add, for a range of rows, ``weights * given[column]`` to ``out[source]``; both lie [feature, row]."""
    for first in range(low, high, BLOCK):
        last = min(high, first + BLOCK)
        for j in range(len(starts) - 1):
            sums = out[j, first:last]
            for e in range(starts[j], starts[j + 1]):
                w, part = weights[e], given[columns[e], first:last]
                for i in range(len(sums)):
                    sums[i] += w * part[i]


@compiled(fastmath=FAST)
def spread(low, high, starts, columns, weights, given, out):  # pragma: no cover (compiled)
    """Add, for a range of rows, ``weights * given[source]`` to ``out[column]``; both lie [feature, row]."""
    for first in range(low, high, BLOCK):
        last = min(high, first + BLOCK)
        for j in range(len(starts) - 1):
            part = given[j, first:last]
            for e in range(starts[j], starts[j + 1]):
                w, sums = weights[e], out[columns[e], first:last]
                for i in range(len(part)):
                    sums[i] += w * part[i]


@compiled(fastmath=FAST)
def pair_gradients(low, high, starts, columns, by_source, by_column, out):  # pragma: no cover (compiled)
    """Compute, for the edges of a range of sources, the product of both ends over all rows, [edge]."""
    n_rows = by_source.shape[1]
    for first in range(0, n_rows, BLOCK):
        last = min(n_rows, first + BLOCK)
        for j in range(low, high):
            part = by_source[j, first:last]
            for e in range(starts[j], starts[j + 1]):
                other = by_column[columns[e], first:last]
                total = out.dtype.type(0)
                for i in range(len(part)):
                    total += part[i] * other[i]
                out[e] += total
