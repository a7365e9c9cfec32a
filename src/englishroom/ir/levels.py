"""What may stand at each level: which blocks, and how long the rows of their tables may be."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from typing import get_args

import numpy as np

from englishroom.ir import program as ir

_ALWAYS: tuple[type, ...] = (ir.Lookup, ir.Linear, ir.Sum, ir.Product, ir.Normalise, ir.Rotate, ir.Vote)
EXACT_BLOCKS: tuple[type, ...] = (*_ALWAYS, ir.Activate, ir.Attend)
SPARSE_BLOCKS: tuple[type, ...] = (*_ALWAYS, ir.Join, ir.Select, ir.Match, ir.Rules)
READABLE_BLOCKS: tuple[type, ...] = (ir.Lookup, ir.Looks, ir.Fire, ir.Votes, ir.Linear, ir.Vote)
"""What stands at the sparse level in programs that hold looks, rules that are features, or their votes."""

FEATURED_BLOCKS: tuple[type, ...] = tuple(kind for kind in get_args(ir.Block) if kind is not ir.Conditions)
EXPLAINED_BLOCKS: tuple[type, ...] = (ir.Lookup, ir.Conditions, ir.Votes, ir.Linear, ir.Vote)
"""What stands at the level of explanations alone."""

SPARSE_ROW_ENTRIES = 256
"""Entries that a row of a sparse table may have at the sparse level."""
SMALL_MATRIX = 1024
"""Size (rows times columns) of a matrix up to which more than half of it may be stored at the sparse level."""


def level_faults(program: ir.Program, block: ir.Block, made: Container[str], features: set[str]) -> Iterator[str]:
    """Yield what keeps a block, whose tables are whole, from its program's level.

    Args:
        made: variables made before it.
        features: those of a readable program that are features, and no votes; the block's is added if it is one.
    """
    level, kind = program.level, type(block).__name__
    if level == "exact":
        if not isinstance(block, EXACT_BLOCKS):
            yield f"a {kind} block does not stand at the exact level"
        if any(isinstance(table, ir.SparseTable) for table in ir.tables_of(block)):
            yield "a sparse table does not stand at the exact level"
    if level == "featured" and not isinstance(block, FEATURED_BLOCKS):
        yield f"a {kind} block does not stand at the featured level"
    if level in ("sparse", "explained"):
        if level == "explained" or program.is_readable:
            yield from _readable_faults(program, block, made, features)
        elif not isinstance(block, SPARSE_BLOCKS):
            yield f"a {kind} block does not stand at the sparse level"
        for table in ir.tables_of(block):
            is_distance = isinstance(block, ir.Match | ir.Looks) and table is block.distance
            if isinstance(table, ir.Table) and table.values.ndim > 1 and not is_distance:
                yield f"table {table.name} is a dense matrix, which does not stand at the {level} level"
            if isinstance(table, ir.SparseTable):
                yield from _long_rows(table, _is_of_lists(program, block))


def _readable_faults(program: ir.Program, block: ir.Block, made: Container[str], features: set[str]) -> Iterator[str]:
    """Hold a block of a readable program to its part: features are at least 0 and read features, votes add up."""
    words = program.blocks[-1].space
    explained = program.level == "explained"
    if not isinstance(block, EXPLAINED_BLOCKS if explained else READABLE_BLOCKS):
        of = "explanations alone" if explained else "looks, rules and votes"
        yield f"a {type(block).__name__} block does not stand in a program of {of}"
        return
    match block:
        case ir.Lookup():
            if block.space != words:
                features.add(block.name)
                least = block.table.values.min(initial=np.inf)
                if not least > 0:
                    yield f"table {block.table.name} holds {least:g}, expected strengths above 0"
        case ir.Conditions():
            features.add(block.name)
            if block.space == words:
                yield f"makes features in space {words}, which is that of votes for words"
        case ir.Looks() | ir.Fire() | ir.Votes():
            for name in block.reads:
                if name in made and name not in features:
                    yield f"reads {name}, which is votes, expected features"
            if not isinstance(block, ir.Votes):
                features.add(block.name)
                if block.space == words:
                    yield f"makes features in space {words}, which is that of votes for words"
        case ir.Linear():
            made_by = next((b for b in program.blocks if b.name == block.reads), None)
            if not isinstance(made_by, ir.Votes):
                yield f"reads {block.reads}, expected votes for word lists"
            if block.space != words:
                yield f"writes space {block.space}, expected {words}"
        case _:
            pass


def _is_of_lists(program: ir.Program, block: ir.Block) -> bool:
    """Say whether a block looks up the word lists that a word is in, which are short though there are many."""
    is_token = isinstance(block, ir.Lookup) and block.index == "token"
    return is_token and program.is_readable and block.space != program.blocks[-1].space


def _long_rows(table: ir.SparseTable, by_list: bool) -> Iterator[str]:
    """Hold a table to short rows, or short lists, so that a matrix in sparse clothing is no sparse program."""
    lengths = np.bincount(table.columns) if by_list else np.diff(table.starts) if table.starts.ndim == 1 else []
    longest, what = int(np.max(lengths, initial=0)), "a list" if by_list else "a row"
    if longest > SPARSE_ROW_ENTRIES:
        yield f"table {table.name} has {what} of {longest} entries, expected {SPARSE_ROW_ENTRIES} at most"
    size = math.prod(table.shape)
    if size > SMALL_MATRIX and table.n_entries > size // 2:
        yield f"table {table.name} stores {table.n_entries} of {size} entries, expected half of them at most"
