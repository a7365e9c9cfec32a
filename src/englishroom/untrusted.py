"""Read what may be damaged, hostile or of another program: bounded, typed, and one short error for whatever is wrong.

1. ``read_bytes`` reads a regular file of a bounded size. It never waits on a pipe and opens no device.
2. ``parse_json``, ``parse_arrays``, ``parse_python`` and ``parse_text`` turn bytes into values of a stated form, in
   memory that the size of the file bounds: no number in a file says how much to allocate.

Every fault is an ``ArtifactError`` that names the file, says what was found and what was expected, and ends in the
advice of the caller. It is of bounded length, whatever the file holds.
"""

from __future__ import annotations

import ast
import functools
import json
import math
import os
import reprlib
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

import numpy as np
import safetensors
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from pydantic_core import SchemaValidator

from englishroom.errors import ArtifactError, bounded, one_line
from englishroom.plain import restored

T = TypeVar("T")
TEXT_BYTES = 2**28
"""Most bytes of a file of text: JSON, code, labels."""
ARRAY_BYTES = 2**35
"""Most bytes of a file of numbers; no machine that runs this has memory for more."""
JSON_DEPTH = 60
"""How deep lists and objects of a JSON file may stand in each other."""
JSON_KEYS = 2**19
"""Keys of one object of a JSON file; the largest vocabularies have half as many."""
_WHOLE = 2**63
_DTYPES: Mapping[str, type[np.generic]] = MappingProxyType(
    {
        "F64": np.float64,
        "F32": np.float32,
        "F16": np.float16,
        "I64": np.int64,
        "I32": np.int32,
        "I16": np.int16,
        "I8": np.int8,
        "U64": np.uint64,
        "U32": np.uint32,
        "U16": np.uint16,
        "U8": np.uint8,
        "BOOL": np.bool_,
    }
)
_ANY = TypeAdapter(Any)


def read_bytes(path: Path, advice: str, limit: int = TEXT_BYTES, called: str | Path | None = None) -> bytes:
    """Read a regular file.

    Args:
        advice: what to do about any fault, the end of the message: "restore the file".
        limit: most bytes that it may have.
        called: what messages call it, by default its path.

    Raises:
        ArtifactError: it is missing, cannot be read, is no regular file, or is too large.
    """
    where = path if called is None else called
    try:
        _check(os.stat(path), where, advice, limit)  # noqa: PTH116  before it is opened: that alone may set a device off
        with open(path, "rb", opener=_open) as file:
            about = os.fstat(file.fileno())
            _check(about, where, advice, limit)
            data = file.read(about.st_size + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"{where}: missing; {advice}") from None
    except (OSError, ValueError) as error:  # a name with a null character is the latter
        raise ArtifactError(
            f"{where}: cannot be read ({getattr(error, 'strerror', None) or error}); {advice}"
        ) from None
    if len(data) != about.st_size:
        raise ArtifactError(f"{where}: changed while it was read; {advice}")
    return data


def require_file(path: Path, advice: str, limit: int = ARRAY_BYTES) -> Path:
    """Return a path that a library may open by itself: that of a regular file of a bounded size.

    Raises:
        ArtifactError: as :func:`read_bytes` does.
    """
    try:
        _check(os.stat(path), path, advice, limit)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"{path}: missing; {advice}") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); {advice}") from None
    return path


def parse_text(data: bytes, where: str | Path, advice: str) -> str:
    """Decode UTF-8.

    Raises:
        ArtifactError: the bytes are none.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{where}: not UTF-8 (byte {error.start}: {error.reason}); {advice}") from None


def parse_json(data: bytes | str, kind: TypeAdapter[T], where: str | Path, advice: str) -> T:
    """Read JSON of a stated form.

    Infinities and nan stand there as ``plain`` writes them, and come back as numbers; bare ones, whole numbers beyond
    64 bits, half surrogates and deep nesting are refused in every form.

    Args:
        kind: of pydantic; where it is not strict, "1" passes for 1.

    Raises:
        ArtifactError: no JSON, or JSON of another form; names the first fault alone.
    """
    return _parsed(data, kind, where, advice)[0]


def parse_plain(data: bytes | str, where: str | Path, advice: str, kind: TypeAdapter[Any] = _ANY) -> Any:
    """Read JSON as plain data in the order of the file, once it has a stated form; see :func:`parse_json`.

    Raises:
        ArtifactError: no JSON, or JSON of another form.
    """
    return _parsed(data, kind, where, advice)[1]


def _parsed(data: bytes | str, kind: TypeAdapter[T], where: str | Path, advice: str) -> tuple[T, Any]:
    """Return what JSON holds in its form, and plainly."""
    text = parse_text(data, where, advice) if isinstance(data, bytes) else data
    try:
        if text.count(":") > JSON_KEYS:  # every unknown key would be a fault of its own
            _check_depth(json.loads(text))
        found: T = restored(_failing_fast(kind).validate_json(text))
        plain = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_no_number)
        _check_depth(plain)
    except ValidationError as error:
        raise ArtifactError(f"{where}: {first_fault(error)}; {advice}") from None
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else bounded(str(error), 200)
        raise ArtifactError(f"{where}: no JSON that can be read ({why}); {advice}") from None
    return found, restored(plain)


def parse_arrays(data: bytes, where: str | Path, advice: str) -> dict[str, NDArray[Any]]:
    """Read the arrays of a safetensors file.

    Raises:
        ArtifactError: damaged, or with a number type that numpy lacks.
    """
    arrays: dict[str, NDArray[Any]] = {}
    try:
        views = safetensors.deserialize(data)
    except (safetensors.SafetensorError, ValueError, OverflowError) as error:
        raise ArtifactError(f"{where}: damaged safetensors file ({bounded(str(error), 200)}); {advice}") from None
    for name, view in views:
        dtype = _DTYPES.get(view["dtype"])
        if dtype is None:
            raise ArtifactError(
                f"{where}: {bounded(name, 80)} holds numbers of type {view['dtype']}, expected one of "
                f"{', '.join(_DTYPES)}; {advice}"
            )
        try:
            arrays[name] = np.frombuffer(view["data"], dtype).reshape(view["shape"])
        except (ValueError, OverflowError) as error:
            raise ArtifactError(f"{where}: {bounded(name, 80)}: {bounded(str(error), 200)}; {advice}") from None
    return arrays


def parse_python(data: bytes, where: str | Path, advice: str) -> ast.Module:
    """Read Python as a tree, without running it.

    Raises:
        ArtifactError: no Python.
    """
    try:
        return ast.parse(parse_text(data, where, advice))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = bounded(str(error), 200) or "nested too deeply"
        raise ArtifactError(f"{where}: no Python that can be read ({why}); {advice}") from None


@functools.lru_cache(maxsize=64)
def _failing_fast(kind: TypeAdapter[Any]) -> SchemaValidator:
    """Return what validates a form and stops at the first fault of a list; all faults of a file would fill memory."""
    return SchemaValidator(_stopping(kind.core_schema))


def _stopping(schema: Any) -> Any:
    if isinstance(schema, dict):
        stops = {"fail_fast": True} if schema.get("type") in ("list", "tuple") else {}
        return {key: _stopping(value) for key, value in schema.items()} | stops
    return [_stopping(value) for value in schema] if isinstance(schema, list) else schema


def first_fault(error: ValidationError) -> str:
    """Say in one short line where the first fault is, what was expected there, and what was found."""
    fault = error.errors(include_url=False, include_context=False)[0]
    place = bounded(".".join(map(str, fault["loc"])), 120) or "the whole text"
    found = (
        "" if fault["type"] in ("missing", "json_invalid") else f", found {bounded(reprlib.repr(fault['input']), 200)}"
    )
    return one_line(f"{place}: {bounded(fault['msg'], 200)}{found}")


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


def _check(about: os.stat_result, where: str | Path, advice: str, limit: int) -> None:
    """Refuse all but regular files of bounded size."""
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    if not stat.S_ISREG(about.st_mode):
        kind = kinds.get(stat.S_IFMT(about.st_mode), "device")
        raise ArtifactError(f"{where}: is a {kind}, expected a file; {advice}")
    if about.st_size > limit:
        raise ArtifactError(f"{where}: has {about.st_size:,} bytes, expected at most {limit:,}; {advice}")


def _check_depth(value: Any) -> None:
    """Refuse what is nested too deeply, and objects of too many keys."""
    level = [value]
    for _ in range(JSON_DEPTH + 1):
        level = [part for part in level if isinstance(part, dict | list)]
        if not level:
            return
        if (widest := max(len(part) if isinstance(part, dict) else 0 for part in level)) > JSON_KEYS:
            raise ValueError(f"an object of {widest:,} keys, expected at most {JSON_KEYS:,}")
        level = [item for part in level for item in (part.values() if isinstance(part, dict) else part)]
    raise RecursionError


def _whole(digits: str) -> int:
    if len(digits) > 20 or not -_WHOLE <= int(digits) < _WHOLE:
        raise ValueError(f"a whole number of {len(digits)} digits, expected 64 bits at most")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("a number too large for 64 bits")
    return value


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")
