"""Which word lists are written into the sum that reads them: those that no other sum reads, and nothing votes for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from englishroom.ir.program import Block, Fire, Looks, Lookup, Program, SparseTable, Votes, reads_of, tables_of

Owner = tuple[str, str, int]
"""A sum: its block, which of the tables of the block it is a row of, and which row."""
SUMS = ("conditions", "queries", "keys", "lone_keys", "weights")
"""Fields of blocks whose rows, or columns of votes, read features."""


@dataclass(frozen=True)
class OwnWords:
    """Word lists that stand in the line of the sum that reads them.

    Attributes:
        taken: by variable, which of its lists those are, [list].
        words: of each sum that has such lists, its words: pairs (token, weight).
        values: by variable of which some lists do, the numbers of its table.
    """

    taken: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    words: Mapping[Owner, list[tuple[int, float]]] = field(default_factory=dict)
    values: Mapping[str, tuple[NDArray[np.floating]]] = field(default_factory=dict)

    def all_of(self, variable: str) -> bool:
        """Say whether all lists of a variable stand in the lines of sums."""
        return variable in self.taken and bool(self.taken[variable].all())


def own_words(program: Program, stands_here: Callable[[Block], bool]) -> OwnWords:
    """Find the lists that one sum alone reads, with weight 1 or -1, and all of whose strengths are above 0.

    Args:
        stands_here: whether the tables of a block are written into the file.
    """
    taken: dict[str, NDArray[np.bool_]] = {}
    words: dict[Owner, list[tuple[int, float]]] = {}
    values: dict[str, tuple[NDArray[np.floating]]] = {}
    uses = [table.name for block in program.blocks for table in tables_of(block)]
    for block in program.blocks:
        if not isinstance(block, Lookup) or block.index != "token" or not isinstance(block.table, SparseTable):
            continue
        if not stands_here(block) or uses.count(block.table.name) > 1 or block.space == program.vote.space:
            continue
        readers = [other for other in program.blocks if block.name in reads_of(other)]
        if not all(isinstance(reader, Looks | Fire | Votes) for reader in readers):
            continue
        strengths = block.table.csr().T.tocsr()
        strengths.sort_indices()
        count = np.zeros(strengths.shape[0], int)
        owner: list[Owner | None] = [None] * len(count)
        weight = np.zeros(len(count))
        for own, at, value in _reads(program, block.name, readers):
            count[at] += 1
            owner[at], weight[at] = own, value
        for at in np.flatnonzero((count == 1) & (abs(weight) == 1)).tolist():
            own, members = owner[at], slice(strengths.indptr[at], strengths.indptr[at + 1])
            found = strengths.data[members]
            if own is None or not len(found) or not (found > 0).all() or not stands_here(_named(readers, own[0])):
                continue
            taken.setdefault(block.name, np.zeros(len(count), bool))[at] = True
            pairs = zip(strengths.indices[members].tolist(), (found.astype(float) * weight[at]).tolist(), strict=True)
            words.setdefault(own, []).extend(pairs)
        if block.name in taken:
            values[block.name] = (block.table.values,)
    return OwnWords(taken, words, values)


def _named(blocks: list[Block], name: str) -> Block:
    return next(block for block in blocks if block.name == name)


def _reads(program: Program, variable: str, readers: list[Block]) -> Iterator[tuple[Owner | None, int, float]]:
    """Yield every entry that reads a list: the sum, none where these are votes, the list, and its weight."""
    for block in readers:
        first, reads = 0, reads_of(block)
        for name in reads:
            size = program.space(next(b.space for b in program.blocks if b.name == name)).size
            if name == variable:
                for part in SUMS:
                    table = getattr(block, part, None)
                    if isinstance(table, SparseTable):
                        yield from _entries(table, block, part, first, size)
            first += size


def _entries(
    table: SparseTable, block: Block, part: str, first: int, size: int
) -> Iterator[tuple[Owner | None, int, float]]:
    rows = table.rows()
    if isinstance(block, Votes):  # a row of votes is a feature
        for row in rows[(rows >= first) & (rows < first + size)].tolist():
            yield None, row - first, 0.0
        return
    own = np.flatnonzero((table.columns >= first) & (table.columns < first + size))
    for row, column, value in zip(rows[own].tolist(), table.columns[own].tolist(), table.values[own], strict=True):
        yield (block.name, part, row), column - first, float(value)
