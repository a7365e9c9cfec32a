"""Where heads and looks look, in numpy, and what looks make of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from englishroom.interp.pointwise import Rows, softmax
from englishroom.ir.program import AnyTable, Looks, Match, Table


class TableSource(Protocol):
    """Tables at some precision: an interpreter has them."""

    def dense(self, table: Table) -> Rows: ...

    def map(self, table: AnyTable, transposed: bool = False) -> Callable[[Rows], Rows]:
        """Return the function ``x -> x @ table`` (or its transpose) on rows."""
        ...


class LookParts(NamedTuple):
    """What looks make of ``x`` at each position.

    Attributes:
        queries, keys: of each match, [pos, match].
        lone_keys: [pos, look].
        there: the condition of each moved feature, if one looked at this position alone, [pos, moved].
    """

    queries: Rows
    keys: Rows
    lone_keys: Rows
    there: Rows


class Looking:
    """A block of looks made ready to run: its tables converted once."""

    def __init__(self, block: Looks, tables: TableSource) -> None:
        self._queries, self._keys, self._lone_keys, self._conditions = (
            tables.map(table, transposed=True)
            for table in (block.queries, block.keys, block.lone_keys, block.conditions)
        )
        self._query_biases, self._key_biases = tables.dense(block.query_biases), tables.dense(block.key_biases)
        self._distance = tables.dense(block.distance)
        self.matches, self.moved = slices(block.matches), slices(block.moved)

    def parts(self, x: Rows) -> LookParts:
        """Compute what looks make of x by itself, [pos, D]."""
        zero = x.dtype.type(0)
        queries = np.maximum(self._queries(x) + self._query_biases, zero)
        keys = np.maximum(self._keys(x) + self._key_biases, zero)
        return LookParts(queries, keys, self._lone_keys(x), self._conditions(x))

    def weights(
        self, queries: Rows, keys: Rows, lone_keys: Rows, back: NDArray[np.integer], ahead: Rows
    ) -> Sequence[Rows]:
        """Compute where each look looks, [..., new, seen].

        Args:
            queries: [..., new, match].
            keys: [..., seen, match].
            lone_keys: [..., seen, look].
            back: how far each position seen lies behind each new one, [new, seen].
            ahead: minus infinity where a new position may not look, else 0, [new, seen].
        """
        far = np.clip(back, 0, self._distance.shape[1] - 1)
        found = []
        for look, match in enumerate(self.matches):
            scores = queries[..., match] @ keys[..., match].swapaxes(-1, -2) + lone_keys[..., None, :, look]
            found.append(softmax(scores + (self._distance[look][far] + ahead)))
        return found


def slices(sizes: Sequence[int]) -> list[slice]:
    """Turn sizes of parts that stand one after the other into their places."""
    return [slice(low, high) for low, high in pairwise(accumulate(sizes, initial=0))]


def attention_weights(
    block: Match, queries: Rows, keys: Rows, apply: Callable[[AnyTable, Rows], Rows]
) -> Float[NDArray, "head here there"]:
    """Return where each head looks from each position: weights that add up to 1.

    Args:
        apply: multiplies a table from the right.
    """
    back, visible = positions_seen(len(keys), block.window)
    found = []
    for head, tables in enumerate(block.scores):
        scores = np.zeros(back.shape, queries.dtype)
        for start, table in zip(block.buckets, tables, strict=True):
            scores = np.where(back >= start, apply(table, queries) @ keys.T, scores)
        if block.distance is not None:
            scores = scores + block.distance.values[head][np.clip(back, 0, block.distance.shape[1] - 1)]
        found.append(softmax(np.where(visible, scores, -np.inf)))
    return np.stack(found)


def positions_seen(n: int, window: int | None) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return how far positions lie behind each other, and whether one may look at the other, [pos, pos]."""
    back = np.subtract.outer(np.arange(n), np.arange(n))
    return back, back >= 0 if window is None else (back >= 0) & (back < window)
