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
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from types import MappingProxyType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ArtifactError, one_line
from englishroom.ir.condition import Condition
from englishroom.ir.condition_text import condition_of, print_condition
from englishroom.ir.program import AnyTable, Block, Level, Origin, Program, Space, SparseTable, Table

_KINDS: Mapping[str, type] = MappingProxyType({kind.__name__: kind for kind in get_args(Block)})
_NUMBERS = re.compile(r"float(32|64)|int(32|64)")
_WHOLE = 2**63


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
        case Condition():
            return print_condition(value)
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


@dataclass(frozen=True)
class _Head:
    """The first line of the text form."""

    level: Level
    n_ctx: int


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
                    if table.name in self.tables:
                        raise ValueError(f"table {table.name} is given twice")
                    self.tables[table.name] = table
        head: _Head | None = None
        spaces: list[Space] = []
        blocks: list[Block] = []
        for i, call in calls:
            with _Line(i):
                match _kind(call):
                    case "Program":
                        if head is not None:
                            raise ValueError("a second line Program(...)")
                        head = self._make(_Head, call)
                    case "Space":
                        spaces.append(self._make(Space, call, "name", "size"))
                    case "Dense" | "Sparse":
                        pass
                    case kind if kind in _KINDS:
                        blocks.append(self._make(_KINDS[kind], call, "name", "space"))
                    case kind:
                        raise ValueError(f"unknown kind {kind}, expected one of {', '.join(_KINDS)}")
        if head is None:
            raise ArtifactError("program text: no line Program(level=..., n_ctx=...); restore the file")
        return Program(head.level, head.n_ctx, tuple(spaces), tuple(blocks))

    def _make(self, kind: type, call: ast.Call, *unnamed: str) -> Any:
        """Make what a line stands for, once each argument is known, given once and of its field's type."""
        if len(call.args) != len(unnamed):
            raise ValueError(f"{len(call.args)} unnamed arguments, expected {len(unnamed)}")
        given = list(zip(unnamed, call.args, strict=True)) + [(str(item.arg), item.value) for item in call.keywords]
        types, values = _types(kind), dict[str, Any]()
        for name, node in given:
            if name not in types or name in values:
                raise ValueError(f"argument {name} is {'given twice' if name in values else 'unknown'}")
            values[name] = self._value(node)
            if not _fits(values[name], types[name]):
                raise ValueError(f"argument {name} is of the wrong type")
            if types[name] is float:
                values[name] = float(values[name])
        for item in fields(kind):
            if item.name not in values and item.default is MISSING:
                raise ValueError(f"argument {item.name} is missing")
        return kind(**values)

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Tuple(elts=elements):
                return tuple(map(self._value, elements))
            case ast.Call(func=ast.Name(id="Table"), args=[ast.Constant(value=str(name))], keywords=[]):
                if name not in self.tables:
                    raise ValueError(f"table {name} is missing")
                return self.tables[name]
            case ast.Call(func=ast.Name(id="Origin"), args=[_, *_] as parts, keywords=[]):
                made_by, *sources = map(self._value, parts)
                if not _fits((made_by, *sources), tuple[str, ...]):
                    raise ValueError("an origin is told in words")
                return Origin(made_by, tuple(sources))
            case ast.Call(func=ast.Name(id="Condition")):
                return condition_of(node)
            case _:
                return ast.literal_eval(node)


class _Line:
    """Turn whatever goes wrong inside into one line that says where."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ValueError | TypeError | AttributeError | OverflowError | RecursionError):
            raise ArtifactError(one_line(f"program text, line {self.number}: {error}; restore the file")) from None


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


@functools.cache
def _types(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _fits(value: object, hint: Any) -> bool:
    """Say whether a value is of a type, whole numbers of 64 bits; words of a ``Literal`` are left to the verifier."""
    parts = get_args(hint)
    match get_origin(hint):
        case origin if origin is Literal:
            return isinstance(value, str)
        case origin if origin in (Union, UnionType):
            return any(_fits(value, part) for part in parts)
        case origin if origin is tuple:
            if not isinstance(value, tuple):
                return False
            wanted = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
            return len(value) == len(wanted) and all(map(_fits, value, wanted))
        case _:
            if isinstance(value, int) and not -_WHOLE <= value < _WHOLE:
                return False
            return type(value) is hint or (hint is float and type(value) is int)


def _numbers(text: str, dtype: str) -> NDArray:
    if not (isinstance(dtype, str) and _NUMBERS.fullmatch(dtype)):
        raise ValueError(f"numbers of type {dtype}, expected float32, float64, int32 or int64")
    convert = float if dtype.startswith("float") else int
    return np.array([convert(word) for word in text.split()], dtype=dtype)


def _table(call: ast.Call) -> AnyTable:
    def literals() -> Iterator[Any]:
        for node in call.args:
            yield ast.literal_eval(node)

    if call.keywords:
        raise ValueError(f"argument {call.keywords[0].arg} is unknown")
    if _kind(call) == "Dense":
        name, dtype, shape, numbers = literals()
        array = _numbers(numbers, dtype).reshape(shape)
        if not _fits(name, str) or array.shape != shape:
            raise ValueError("expected a name, a number type, a shape and the numbers")
        return Table(name, array)
    name, starts_type, columns_type, values_type, n_columns, starts, columns, values = literals()
    if not (_fits(name, str) and _fits(n_columns, int)):
        raise ValueError("expected a name, three number types, a width and the numbers")
    return SparseTable(
        name, _numbers(starts, starts_type), _numbers(columns, columns_type), _numbers(values, values_type), n_columns
    )
