"""Put other tables into a program, or keep a part of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.ir.program import AnyTable, Block, Origin, Program, SparseTable, Table

Mask = NDArray[np.bool_]


def with_tables(program: Program, changed: Mapping[str, AnyTable], made_by: str) -> Program:
    """Replace tables by name, in every block that holds them; such a block is then made by ``made_by``, of itself."""
    return replace(program, blocks=tuple(_block(block, changed, made_by) for block in program.blocks))


def _block(block: Block, changed: Mapping[str, AnyTable], made_by: str) -> Block:
    new = {item.name: _value(getattr(block, item.name), changed) for item in fields(block)}
    touched = {name: value for name, value in new.items() if value is not getattr(block, name)}
    if not touched:
        return block
    return replace(block, **touched, origin=Origin(made_by, block.origin.sources))


def _value(value: Any, changed: Mapping[str, AnyTable]) -> Any:
    """Replace a table, or the tables in tuples; anything that holds none of them comes back as it is."""
    if isinstance(value, Table | SparseTable):
        return changed.get(value.name, value)
    if isinstance(value, tuple):
        parts = tuple(_value(part, changed) for part in value)
        return value if all(new is old for new, old in zip(parts, value, strict=True)) else parts
    return value


def cut(table: Any, *sides: Mask | None) -> Any:
    """Keep some rows and some columns of a table; ``None`` keeps all."""
    if table is None or all(side is None or side.all() for side in sides):
        return table
    if isinstance(table, Table):
        values = table.values
        for axis, side in enumerate(sides):
            values = values if side is None else np.compress(side, values, axis=axis)
        return Table(table.name, values)
    return _cut_sparse(table, *sides)


def _cut_sparse(table: SparseTable, rows: Mask | None, columns: Mask | None) -> SparseTable:
    """Keep some rows and some columns of a sparse table."""
    rows = np.ones(table.shape[0], bool) if rows is None else rows
    columns = np.ones(table.n_columns, bool) if columns is None else columns
    at = table.rows()
    kept = rows[at] & columns[table.columns]
    counts = np.bincount(at[kept], minlength=len(rows))[rows]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(table.starts.dtype)
    places = (np.cumsum(columns) - 1)[table.columns[kept]].astype(table.columns.dtype)
    return SparseTable(table.name, starts, places, table.values[kept], int(columns.sum()))
