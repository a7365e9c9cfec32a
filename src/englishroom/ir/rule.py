"""The rules of a program at the sparse level, one by one as a reader sees them, and how many there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from englishroom.ir.program import AnyTable, Block, Conditions, Fire, Looks, Program, Rules, SparseTable, tables_of


@final
@dataclass(frozen=True)
class Rule:
    """One rule, or one moved feature, as a reader sees it."""

    index: int
    reads: tuple[tuple[int, float], ...]
    bias: float
    threshold: float
    adds: tuple[tuple[int, float], ...]


def rule_count(program: Program) -> int:
    """Count what a program at the sparse level consists of: its rules, and the edges beside them.

    A row of a :class:`Rules` or :class:`Fire` block is one rule, and so are a moved feature of :class:`Looks` and a
    condition, however many features it reads and adds to, and whatever its tables share with others. Every number other
    than 0 in any other sparse table is one edge, in tables that several blocks hold once. Dense tables (biases,
    thresholds, gains, curves over distance) are not counted.
    """
    rules = [block for block in program.blocks if isinstance(block, Rules | Looks | Fire)]
    tables = {table.name: table for block in program.blocks for table in _tables_of_edges(block)}
    edges = sum(int(np.count_nonzero(t.values)) for t in tables.values() if isinstance(t, SparseTable))
    told = sum(len(block.conditions) for block in program.blocks if isinstance(block, Conditions))
    return sum(block.conditions.shape[0] for block in rules) + told + edges


def _tables_of_edges(block: Block) -> Iterator[AnyTable]:
    """Yield the tables of a block that are no part of its rules."""
    match block:
        case Rules() | Fire() | Conditions():
            return
        case Looks():
            yield from (block.queries, block.keys, block.lone_keys)
        case _:
            yield from tables_of(block)


def rule_at(block: Rules | Looks | Fire, index: int) -> Rule:
    """View one rule of a block: which features it reads, its bias and threshold, what it adds to which features.

    A rule that is a feature itself, as a moved feature is, adds to nothing else.
    """
    return Rule(
        index=index,
        reads=tuple(block.conditions.row(index)),
        bias=0.0 if block.biases is None else float(block.biases.values[index]),
        threshold=float(block.thresholds.values[index]),
        adds=tuple(block.effects.row(index)) if isinstance(block, Rules) else ((index, 1.0),),
    )
