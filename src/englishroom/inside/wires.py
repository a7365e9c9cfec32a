"""A readable program laid out as sums over features: which entries lead from what to which sum, on one text.

Every sum is written as its constant, ``bias + sum of w E[x]``, and ``w (x - E[x])`` over the entries that are kept: one
that is left out adds what it adds in the mean over a text. Entries that carry nothing on the text at hand, as what they
lead from is never on there, are 0 and in no sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Fire, Linear, Looks, Program, SparseTable, Votes

Array = NDArray[Any]


@dataclass(frozen=True)
class Wires:
    """The entries of one table of sums.

    Attributes:
        key: the block and the part of it that they make.
        order: the table's entries that carry something, ordered by what they lead to.
        targets: sums that they lead to.
        sources: features that they lead from, of all features of the program end to end.
        constants: each sum with all these entries at their means.
    """

    key: str
    table: str
    order: Array
    targets: Array
    sources: Array
    weights: Array
    constants: Array


Sums = tuple[SparseTable, Array, tuple[str, ...], bool]
"""A table of sums, their biases, the variables that it reads side by side, and whether each row of it is a sum."""


class Readable:
    """A readable program laid out to run with some of its entries.

    The features of all its variables stand end to end, block after block.

    Args:
        means: of every variable over a text, name -> [size].
    """

    def __init__(self, program: Program, means: Mapping[str, Array]) -> None:
        self.program, self.interpreter = program, Interpreter(program, np.float64)
        self.blocks = {block.name: block for block in program.blocks}
        sizes = [program.space(block.space).size for block in program.blocks]
        self.first = dict(zip(self.blocks, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
        self.sizes = dict(zip(self.blocks, sizes, strict=True))
        self.n = sum(sizes)
        self.means = np.concatenate([np.asarray(means[name], np.float64) for name in self.blocks])
        self.sums = {
            block.name: {part: self._laid_out(*of) for part, of in _parts_of(block)} for block in program.blocks
        }
        self.everywhere = self._everywhere()
        self.tables = {n: t for n, t in program.tables().items() if isinstance(t, SparseTable)}

    def _laid_out(self, table: SparseTable, bias: Array, reads: tuple[str, ...], flipped: bool) -> Wires:
        """Lay a table out; ``flipped`` tables have a row for each sum. Its constants are the biases."""
        places = np.concatenate([self.first[name] + np.arange(self.sizes[name]) for name in reads])
        rows, columns = table.rows(), table.columns.astype(np.int64)
        targets, sources = (rows, places[columns]) if flipped else (columns, places[rows])
        order = np.argsort(targets, kind="stable")
        order = order[table.values[order] != 0]
        return Wires("", table.name, order, targets[order], sources[order], table.values[order].astype(float), bias)

    def wires(self, variables: Mapping[str, Array]) -> dict[str, dict[str, Wires]]:
        """Return, by block and part, the entries that carry something where they are needed in a text."""
        somewhere = np.concatenate([(variables[name] != 0).any(0) for name in self.blocks])
        at_end = np.concatenate([variables[name][-1] != 0 for name in self.blocks])
        found: dict[str, dict[str, Wires]] = {}
        for name, parts in self.sums.items():
            found[name] = {}
            for part, whole in parts.items():
                last = name not in self.everywhere and (
                    part in ("sums", "queries") or isinstance(self.blocks[name], Fire)
                )
                used = (at_end if last else somewhere)[whole.sources]
                order, targets, sources, weights = (
                    of[used] for of in (whole.order, whole.targets, whole.sources, whole.weights)
                )
                means = np.bincount(targets, weights * self.means[sources], minlength=len(whole.constants))
                constants = whole.constants + means
                found[name][part] = Wires(f"{name}.{part}", whole.table, order, targets, sources, weights, constants)
        return found

    def _everywhere(self) -> set[str]:
        """Name the variables that are needed at earlier positions, since looks read them."""
        found: set[str] = set()
        for block in reversed(self.program.blocks):
            if isinstance(block, Looks) or block.name in found:
                found |= set(getattr(block, "reads", ())) if not isinstance(block, Linear) else {block.reads}
        return found

    def own(self, name: str) -> slice:
        return slice(self.first[name], self.first[name] + self.sizes[name])

    def columns(self, name: str, n: int) -> slice:
        """Say at which of n positions a variable is worked out."""
        return slice(None) if name in self.everywhere else slice(n - 1, n)


def _parts_of(block: Any) -> Iterator[tuple[str, Sums]]:
    """Yield the tables of sums of a block, each with the name of its part."""
    match block:
        case Looks():
            none = np.zeros(block.lone_keys.shape[0])
            yield "queries", (block.queries, block.query_biases.values, block.reads, True)
            yield "keys", (block.keys, block.key_biases.values, block.reads, True)
            yield "lone_keys", (block.lone_keys, none, block.reads, True)
            yield "conditions", (block.conditions, block.biases.values, block.reads, True)
        case Fire():
            yield "conditions", (block.conditions, block.biases.values, block.reads, True)
        case Votes(weights=weights, bias=bias):
            none = np.zeros(weights.n_columns)
            yield "sums", (weights, none if bias is None else bias.values, block.reads, False)
        case Linear(weight=SparseTable() as weight, bias=bias):
            none = np.zeros(weight.shape[0] if block.transposed else weight.n_columns)
            yield "sums", (weight, none if bias is None else bias.values, (block.reads,), block.transposed)
        case _:
            return


def above(block: Any, sums: Array, which: Array | slice = slice(None)) -> Array:
    """Keep sums that exceed their thresholds, [sum] or [sum, pos]."""
    thresholds = block.thresholds.values[which].astype(np.float64)
    return np.where(sums > thresholds.reshape(-1, *[1] * (sums.ndim - 1)), sums, 0.0)
