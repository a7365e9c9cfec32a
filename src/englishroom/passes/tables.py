"""Put other tables into a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from englishroom.ir.program import AnyTable, Block, Origin, Program, SparseTable, Table


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
