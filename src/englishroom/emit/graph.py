"""A program as plain data, for explanations: its blocks as dicts that the prelude's ``explaining`` walks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from englishroom.emit.prelude import asking, explaining, removing, telling
from englishroom.emit.source import Code
from englishroom.errors import ConfigError
from englishroom.ir.program import AnyTable, Block, Program, SparseTable, Table, reads_of

MODULES = (explaining, removing, telling, asking)
"""What an emitted program needs to explain itself."""
MAIN = "main"
"""Its command line: that of ``asking``, which takes the place of that of ``talking``."""
_RENAMED = {"distance": "distances"}
_LEFT_OUT = ("name", "space", "origin", "reads", "queries", "keys", "values")


def graph(program: Program, spell: Callable[[AnyTable], Any]) -> list[dict[str, Any]]:
    """Lay a program out as a list of dicts: ``name``, ``kind``, ``reads``, ``size``, and the other fields.

    Args:
        spell: what stands for a table.

    Raises:
        ConfigError: the program is not at the sparse level, or it is readable.
    """
    require_sparse(program, "explained")
    return [_laid_out(block, program.space(block.space).size, spell) for block in program.blocks]


def require_sparse(program: Program, what: str) -> None:
    """Refuse programs at other levels, and readable ones.

    Raises:
        ConfigError: the program is not at the sparse level, or it is readable.
    """
    if program.is_readable:
        raise ConfigError(
            f"the program is made of looks, rules and votes, and such programs cannot be {what} yet; give a room of "
            "the older form"
        )
    if program.level != "sparse":
        raise ConfigError(
            f"the program is at the {program.level} level, and only sparse programs can be {what}; give a room made "
            "with englishroom decompile --level sparse"
        )


def _laid_out(block: Block, size: int, spell: Callable[[AnyTable], Any]) -> dict[str, Any]:
    kind = type(block).__name__.lower()
    laid: dict[str, Any] = {"name": block.name, "kind": kind, "reads": reads_of(block), "size": size}
    for item in fields(block):
        if item.name not in _LEFT_OUT:
            laid[_RENAMED.get(item.name, item.name)] = _spelled(getattr(block, item.name), spell)
    return laid


def _spelled(value: Any, spell: Callable[[AnyTable], Any]) -> Any:
    if isinstance(value, Table | SparseTable):
        return spell(value)
    if isinstance(value, tuple):
        return [_spelled(part, spell) for part in value]
    return value


def rows_of(table: AnyTable) -> list[Any]:
    """Spell a table out as emitted programs do: rows of (column, value), or plain numbers."""
    if isinstance(table, Table):
        return table.values.astype(float).tolist()
    pairs = list(zip(table.columns.tolist(), table.values.astype(float).tolist(), strict=True))
    starts = table.starts.tolist()
    return [pairs[low:high] for low, high in itertools.pairwise(starts)]


def source(program: Program, tables_sha256: str) -> str:
    """Write the function that lays a program out from the file beside it, for an emitted program to explain itself."""
    lines = [
        "",
        "",
        "def blocks_of_program():",
        '    """Read the tables and lay the program out as data, which is what explanations walk."""',
        f'    TABLES.update(load_tables(__file__, "{tables_sha256}"))',
        "    laid = [",
    ]
    for block in graph(program, lambda table: Code(f"{_reader(table)}({table.name!r})")):
        lines.append(f"        {{{', '.join(f'{key!r}: {value!r}' for key, value in block.items())}}},")
    return "\n".join([*lines, "    ]", "    TABLES.clear()", "    return laid"])


def _reader(table: AnyTable) -> str:
    return "rows" if isinstance(table, Table) else "sparse_rows"
