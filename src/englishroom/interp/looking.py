"""Looks, in numpy: where they look and what they make of it, and effects followed through both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from englishroom.interp.pointwise import Rows, softmax
from englishroom.ir.program import AnyTable, Looks, Table


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
