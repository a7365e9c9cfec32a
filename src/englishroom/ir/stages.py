"""Which blocks of a program together add up features, and of which variables these features are.

The language spells "add up the features that are on, then divide by how loud they are" in up to six blocks: variables
side by side, their sums, their loudness, both side by side, a norm whose form is the square of the loudness alone, and
rules. A :class:`Stage` is such a run of blocks seen as one, so that whoever emits, names or weighs what features do
need not take it apart again. Blocks that no stage covers stand for themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from englishroom.ir.program import Block, Join, Linear, Normalise, Program, Rules, SparseTable, reads_of


@dataclass(frozen=True)
class Part:
    """A variable among those that a stage reads: its features are rows ``first`` to ``first + size - 1`` there."""

    variable: str
    first: int
    size: int


@dataclass(frozen=True)
class Stage:
    """Blocks that together add up features, and divide the sums by a loudness where there is one.

    Attributes:
        name: the variable it makes.
        blocks: names of the blocks it stands for, in order; their other variables are read by no one else.
        parts: what it reads, in the order of its rows.
        adds: the block that holds what each feature adds: a map of features to sums, or rules.
        loudness: the map of features to the loudness that divides the sums.
        norm: the norm that divides by it.
    """

    name: str
    blocks: tuple[str, ...]
    parts: tuple[Part, ...]
    adds: Linear | Rules
    loudness: Linear | None = None
    norm: Normalise | None = None

    @property
    def n_features(self) -> int:
        return sum(part.size for part in self.parts)

    def entries(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.floating]]:
        """List what is added: feature among those read, column (sum or rule), weight."""
        table = self.adds.conditions if isinstance(self.adds, Rules) else self.adds.weight
        assert isinstance(table, SparseTable)
        rows = np.repeat(np.arange(table.shape[0]), np.diff(table.starts))
        columns = table.columns.astype(np.intp)
        by_column = isinstance(self.adds, Rules) or self.adds.transposed
        return (columns, rows, table.values) if by_column else (rows, columns, table.values)

    def loud(self) -> tuple[NDArray[np.floating], float]:
        """Return what each feature adds to the loudness, and the loudness of nothing; zeros where it has none."""
        weights, alone = np.zeros(self.n_features), 0.0
        if self.loudness is not None:
            table = self.loudness.weight
            assert isinstance(table, SparseTable)
            weights[np.repeat(np.arange(table.shape[0]), np.diff(table.starts))] = table.values
            alone = 0.0 if self.loudness.bias is None else float(self.loudness.bias.values[0])
        return weights, alone


def stages_of(program: Program) -> dict[str, Stage]:
    """Find the stages of a program, by the variable that each makes, in order."""
    finder = _Finder(program)
    found = {block.name: stage for block in program.blocks if (stage := finder.stage(block)) is not None}
    taken = {name for stage in found.values() for name in stage.blocks if name != stage.name}
    return {name: stage for name, stage in found.items() if name not in taken}


class _Finder:
    def __init__(self, program: Program) -> None:
        self.by_name: dict[str, Block] = {block.name: block for block in program.blocks}
        self.sizes = {block.name: program.space(block.space).size for block in program.blocks}
        self.readers: dict[str, set[str]] = {name: set() for name in self.by_name}
        for block in program.blocks:
            for name in reads_of(block):
                self.readers[name].add(block.name)

    def stage(self, block: Block) -> Stage | None:
        match block:
            case Normalise():
                return self._divided_sums(block)
            case Rules():
                return self._divided_features(block) or self._plain(block)
            case Linear(weight=SparseTable()):
                return self._plain(block)
            case _:
                return None

    def _plain(self, block: Linear | Rules) -> Stage:
        return Stage(block.name, (*self._joins(block.reads, {block.name}), block.name), self._parts(block.reads), block)

    def _divided_sums(self, norm: Normalise) -> Stage | None:
        """Find sums and a loudness of the same features, side by side, below a norm."""
        pair = self._pair(norm)
        if pair is None:
            return None
        sums, loudness = pair
        if (
            not isinstance(sums, Linear)
            or not isinstance(sums.weight, SparseTable)
            or sums.transposed
            or sums.reads != loudness.reads
            or self.readers[sums.name] != {norm.reads}
        ):
            return None
        read = sums.reads
        blocks = (*self._joins(read, {sums.name, loudness.name}), sums.name, loudness.name, norm.reads, norm.name)
        return Stage(norm.name, blocks, self._parts(read), sums, loudness, norm)

    def _divided_features(self, rules: Rules) -> Stage | None:
        """Find features and their loudness, side by side, below a norm that rules alone read."""
        norm = self.by_name[rules.reads]
        if not isinstance(norm, Normalise) or norm.bias is not None or self.readers[norm.name] != {rules.name}:
            return None
        pair = self._pair(norm)
        if pair is None or pair[0].name != pair[1].reads:
            return None
        read, loudness = pair[0].name, pair[1]
        if (rules.conditions.columns == self.sizes[read]).any():  # a rule that reads the loudness itself
            return None
        blocks = (*self._joins(read, {norm.reads, loudness.name}), loudness.name, norm.reads, norm.name, rules.name)
        return Stage(rules.name, blocks, self._parts(read), rules, loudness, norm)

    def _pair(self, norm: Normalise) -> tuple[Block, Linear] | None:
        """Return what a norm divides and by what, where it divides by its last coordinate."""
        form, both = norm.form, self.by_name[norm.reads]
        last = self.sizes[norm.reads] - 1
        if form is None or norm.gain is not None or not isinstance(both, Join) or len(both.reads) != 2:
            return None
        if form.n_entries != 1 or form.values[0] != 1 or form.columns[0] != last or form.starts[last] != 0:
            return None
        what, loudness = (self.by_name[name] for name in both.reads)
        if not isinstance(loudness, Linear) or not isinstance(loudness.weight, SparseTable) or loudness.transposed:
            return None
        alone = self.readers[loudness.name] == {both.name} and self.readers[both.name] == {norm.name}
        return (what, loudness) if alone and self.sizes[loudness.name] == 1 else None

    def _joins(self, variable: str, readers: set[str]) -> tuple[str, ...]:
        """Name the join that makes a variable, where no one but the stage reads it."""
        join = isinstance(self.by_name[variable], Join)
        return (variable,) if join and self.readers[variable] <= readers else ()

    def _parts(self, variable: str) -> tuple[Part, ...]:
        block = self.by_name[variable]
        names = block.reads if isinstance(block, Join) else (variable,)
        first, parts = 0, []
        for name in names:
            parts.append(Part(name, first, self.sizes[name]))
            first += self.sizes[name]
        return tuple(parts)
