"""The text form of a program: one line a block, written so that it parses back to an equal program.

    Program(level='exact', n_ctx=256)
    Space('resid', 160)
    Lookup('hook_embed', 'resid', index='token', table=Table('embed.W_E'), origin=Origin('lift', 'wte.weight'))
    ...
    Dense('embed.W_E', 'float32', (2048, 160), ...)

Every line is one call in Python's syntax, read with :mod:`ast` as data and never run. The numbers of tables stand in
the text (``print_program``) or in a mapping beside it (``print_code``, for rooms that keep them in safetensors).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ArtifactError
from englishroom.ir.program import AnyTable, Block, Origin, Program, Space, SparseTable, Table

_KINDS: Mapping[str, type] = MappingProxyType({kind.__name__: kind for kind in get_args(Block)})


def print_code(program: Program) -> str:
    """Write a program without the numbers of its tables, which are named only."""
    lines = [f"Program(level={program.level!r}, n_ctx={program.n_ctx})"]
    lines += [f"Space({space.name!r}, {space.size})" for space in program.spaces]
    lines += [_print_block(block) for block in program.blocks]
    return "\n".join(lines) + "\n"


def print_program(program: Program) -> str:
    """Write a program whole: its code, then every table with its numbers at full precision."""
    return print_code(program) + "".join(_print_table(table) + "\n" for table in program.tables().values())


def parse_code(text: str, tables: Mapping[str, AnyTable]) -> Program:
    """Read what :func:`print_code` wrote; ``tables`` holds the tables that it names.

    Raises:
        ArtifactError: a line is not of the text form, or names a table that is not there.
    """
    return _Parser(dict(tables)).parse(text)


def parse_program(text: str) -> Program:
    """Read what :func:`print_program` wrote.

    Raises:
        ArtifactError: a line is not of the text form, or names a table that is not there.
    """
    return parse_code(text, {})


def _print_block(block: Block) -> str:
    parts = [repr(block.name), repr(block.space)]
    for item in fields(block):
        if item.name not in ("name", "space", "origin"):
            parts.append(f"{item.name}={_print_value(getattr(block, item.name))}")
    parts.append(f"origin={_print_value(block.origin)}")
    return f"{type(block).__name__}({', '.join(parts)})"


def _print_value(value: object) -> str:
    match value:
        case Table() | SparseTable():
            return f"Table({value.name!r})"
        case Origin():
            return f"Origin({', '.join(map(repr, (value.made_by, *value.sources)))})"
        case tuple():
            inner = ", ".join(map(_print_value, value))
            return f"({inner},)" if len(value) == 1 else f"({inner})"
        case bool() | int() | str() | None:
            return repr(value)
        case float():
            return repr(float(value))
        case _:
            raise TypeError(f"no text form for {type(value).__name__}")


def _print_numbers(array: NDArray) -> str:
    kind = float if array.dtype.kind == "f" else int
    return "'" + " ".join(map(repr, map(kind, array.ravel().tolist()))) + "'"


def _print_table(table: AnyTable) -> str:
    match table:
        case Table(name, values):
            return f"Dense({name!r}, {values.dtype.name!r}, {values.shape!r}, {_print_numbers(values)})"
        case SparseTable(name, starts, columns, values, n_columns):
            return (
                f"Sparse({name!r}, {starts.dtype.name!r}, {columns.dtype.name!r}, {values.dtype.name!r}, {n_columns}, "
                f"{_print_numbers(starts)}, {_print_numbers(columns)}, {_print_numbers(values)})"
            )


class _Parser:
    def __init__(self, tables: dict[str, AnyTable]) -> None:
        self.tables = tables

    def parse(self, text: str) -> Program:
        lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
        calls = [(i, _call(i, line)) for i, line in lines]
        for i, call in calls:  # tables stand last but are read first
            if _kind(call) in ("Dense", "Sparse"):
                with _Line(i):
                    table = _table(call)
                    self.tables[table.name] = table
        head: dict[str, Any] | None = None
        spaces: list[Space] = []
        blocks: list[Block] = []
        for i, call in calls:
            with _Line(i):
                match _kind(call):
                    case "Program":
                        head = {str(item.arg): self._value(item.value) for item in call.keywords}
                    case "Space":
                        spaces.append(Space(*map(self._value, call.args)))
                    case "Dense" | "Sparse":
                        pass
                    case kind:
                        blocks.append(self._block(kind, call))
        if head is None or set(head) != {"level", "n_ctx"}:
            raise ArtifactError("program text: no line Program(level=..., n_ctx=...); restore the file")
        return Program(spaces=tuple(spaces), blocks=tuple(blocks), **head)

    def _block(self, kind: str, call: ast.Call) -> Block:
        if kind not in _KINDS:
            raise ValueError(f"unknown kind {kind}, expected one of {', '.join(_KINDS)}")
        name, space = map(self._value, call.args)
        return _KINDS[kind](
            name=name, space=space, **{str(item.arg): self._value(item.value) for item in call.keywords}
        )

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Tuple(elts=elements):
                return tuple(map(self._value, elements))
            case ast.Call(func=ast.Name(id="Table"), args=[ast.Constant(value=str(name))], keywords=[]):
                if name not in self.tables:
                    raise ValueError(f"table {name} is missing")
                return self.tables[name]
            case ast.Call(func=ast.Name(id="Origin"), args=[made_by, *sources], keywords=[]):
                return Origin(self._value(made_by), tuple(map(self._value, sources)))
            case _:
                return ast.literal_eval(node)


class _Line:
    """Turn whatever goes wrong inside into one line that says where."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ValueError | TypeError | AttributeError):
            raise ArtifactError(f"program text, line {self.number}: {error}; restore the file") from None


def _call(number: int, line: str) -> ast.Call:
    try:
        node = ast.parse(line.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        node = None
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        raise ArtifactError(f"program text, line {number}: not of the form Kind(...); restore the file")
    return node


def _kind(call: ast.Call) -> str:
    assert isinstance(call.func, ast.Name)
    return call.func.id


def _numbers(text: str, dtype: str) -> NDArray:
    kind = np.dtype(dtype)
    convert = float if kind.kind == "f" else int
    return np.array([convert(word) for word in text.split()], dtype=kind)


def _table(call: ast.Call) -> AnyTable:
    def literals() -> Iterator[Any]:
        for node in call.args:
            yield ast.literal_eval(node)

    if _kind(call) == "Dense":
        name, dtype, shape, numbers = literals()
        return Table(name, _numbers(numbers, dtype).reshape(shape))
    name, starts_type, columns_type, values_type, n_columns, starts, columns, values = literals()
    return SparseTable(
        name, _numbers(starts, starts_type), _numbers(columns, columns_type), _numbers(values, values_type), n_columns
    )
