"""Which entries of a program's sparse tables carry something at a position: those whose source is on there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from englishroom.ir.program import Block, Fire, Linear, Looks, Lookup, Rules, SparseTable, Votes

Rows = NDArray[np.floating]


def entries_used(
    blocks: Iterable[Block], variables: Mapping[str, Rows], tokens: NDArray[np.integer]
) -> dict[str, NDArray[np.int64]]:
    """Count, table by table, the entries that carry something at each position of a text, [pos].

    An entry of a lookup carries something where its row is looked up; any other where the feature that it leads from
    is on. Looks make queries, keys and what they move of the position at hand once, and keep the latter two: so they
    are counted there, not wherever they are looked at. A table that several blocks hold is counted for each.
    """
    found: dict[str, NDArray[np.int64]] = {}

    def count(table: SparseTable, on: NDArray[np.bool_], source: int) -> None:
        at = (table.rows() if source == 0 else table.columns)[table.values != 0]
        entries = np.bincount(at, minlength=table.shape[source])
        used = (on @ entries.astype(np.float64)).astype(np.int64)
        found[table.name] = found.get(table.name, 0) + used

    for block in blocks:
        match block:
            case Lookup(table=SparseTable() as table, index=index):
                chosen = tokens if index == "token" else np.arange(len(tokens))
                own = np.bincount(table.rows()[table.values != 0], minlength=table.shape[0])[chosen]
                found[table.name] = found.get(table.name, 0) + own
            case Linear(weight=SparseTable() as table, reads=read):
                count(table, variables[read] != 0, 1 if block.transposed else 0)
            case Rules(conditions=table, reads=read):
                count(table, variables[read] != 0, 1)
            case Looks() | Fire():
                on = np.concatenate([variables[name] != 0 for name in block.reads], axis=1)
                looks = (block.queries, block.keys, block.lone_keys) if isinstance(block, Looks) else ()
                for table in (*looks, block.conditions):
                    count(table, on, 1)
            case Votes(reads=reads, weights=table):
                count(table, np.concatenate([variables[name] != 0 for name in reads], axis=1), 0)
            case _:
                pass
    return found
