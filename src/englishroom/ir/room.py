"""A program and its tokenizer as the files of a room, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ArtifactError, InvalidProgramError
from englishroom.ir.program import AnyTable, Program, SparseTable, Table
from englishroom.ir.text import parse_code, print_code
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.tokenizer_json import tokenizer_from_json, tokenizer_to_json
from englishroom.ir.verify import require_valid
from englishroom.names import CODE, TABLES, TOKENIZER
from englishroom.store import arrays_to_bytes, read_room

_PARTS = ("starts", "columns", "values", "shape")


def pack(program: Program, tokenizer: Tokenizer) -> dict[str, bytes]:
    """Write a program and its tokenizer as the contents of three files."""
    return {
        CODE: print_code(program).encode(),
        TABLES: arrays_to_bytes(stored_arrays(program.tables())),
        TOKENIZER: tokenizer_to_json(tokenizer).encode(),
    }


def load_program(path: Path) -> tuple[Program, Tokenizer]:
    """Read the program and the tokenizer of a room.

    Raises:
        ArtifactError: there is no room, or one of its files is missing, changed or damaged.
    """
    room = read_room(path, (CODE, TABLES, TOKENIZER))
    tokenizer = tokenizer_from_json(room.contents[TOKENIZER], str(path / TOKENIZER))
    try:
        tables = _tables(room.arrays(TABLES))
    except ValueError as error:
        raise ArtifactError(f"{path / TABLES}: {error}; decompile again") from None
    try:
        program = require_valid(parse_code(room.text(CODE), tables))
    except ArtifactError as error:
        raise ArtifactError(f"{path / CODE}: {error}") from None
    except InvalidProgramError as error:
        raise ArtifactError(f"{path / CODE}: {error}; decompile again") from None
    if room.manifest.level != program.level:
        raise ArtifactError(
            f"{path / CODE}: the program is {program.level}, the manifest says {room.manifest.level}; decompile again"
        )
    if len(tokenizer.pieces) != program.d_vocab:
        raise ArtifactError(
            f"{path / TOKENIZER}: {len(tokenizer.pieces)} tokens, the program has {program.d_vocab}; decompile again"
        )
    return program, tokenizer


def stored_arrays(tables: Mapping[str, AnyTable]) -> dict[str, NDArray]:
    """Lay tables out as named arrays; a sparse table takes four, ``name:starts`` and so on, the last its shape."""
    arrays: dict[str, NDArray] = {}
    for name, table in tables.items():
        if isinstance(table, Table):
            arrays[name] = table.values
        else:
            parts = (table.starts, table.columns, table.values, np.array(table.shape, dtype=np.int64))
            arrays |= {f"{name}:{part}": array for part, array in zip(_PARTS, parts, strict=True)}
    return arrays


def _tables(arrays: Mapping[str, NDArray]) -> dict[str, AnyTable]:
    """Put tables together again from their arrays.

    Raises:
        ValueError: the parts of a sparse table do not make one.
    """
    tables: dict[str, AnyTable] = {}
    for key, array in arrays.items():
        name, _, part = key.partition(":")  # no table's own name has a colon in it
        if all(f"{name}:{p}" in arrays for p in _PARTS):
            if part == "starts":
                starts, columns, values, shape = (arrays[f"{name}:{p}"] for p in _PARTS)
                if shape.shape != (2,) or shape.dtype.kind != "i" or starts.shape != (int(shape[0]) + 1,):
                    raise ValueError(f"{name}:shape does not say how many rows and columns {name} has")
                tables[name] = SparseTable(name, starts, columns, values, int(shape[1]))
        else:
            tables[key] = Table(key, array)
    return tables
