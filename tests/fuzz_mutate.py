"""Damage to the files of an artefact, drawn at random: bytes, JSON values, tensors, cells of tables, and whole files.

An artefact is a mapping of names to bytes. A mutation changes it in place and says what it did.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

Files = dict[str, "bytes | Node"]
DEEP, LONG_NUMBER = "@@deep@@", "@@long number@@"
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 2**31 - 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**12, 10**400),
    *(0.0, -0.5, 0.5, 1e-320, 1e308, -1e308, float("nan"), float("inf"), -float("inf"), LONG_NUMBER),
    *("", " ", "nan", "0", "x" * 20_000, "../x", "/dev/zero", "/etc/passwd", "a/b", ".", "a\0b", "\x1b[31m", "\n"),
    *("\ud800", "\u05e9\u05dc\u05d5\u05dd", "\U0001f600" * 50, 'x\n""" + str(print("here")) + r"""\n#', "<script>"),
    *(
        [],
        {},
        [[]],
        [None],
        {"": None},
        [0] * 3000,
        {"type": "Sequence"},
        DEEP,
        "blocks.99999999999999999999.hook_mlp_out",
    ),
)
DTYPES = ("BF16", "F16", "F32", "F64", "F8_E4M3", "F8_E5M2", "C64", "I8", "I16", "I32", "I64", "U8", "BOOL", "X")
KINDS = ("folder", "fifo", "device", "loop", "outside")


class Node:
    """Something at a file's place that is no regular file."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def make(self, path: Path) -> None:
        match self.kind:
            case "folder":
                path.mkdir()
            case "fifo":
                os.mkfifo(path)
            case "device":
                path.symlink_to("/dev/zero")
            case "loop":
                path.symlink_to(path.name)
            case _:
                path.symlink_to("/etc/passwd")


def write(folder: Path, files: Files) -> None:
    """Write an artefact into a folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, Node):
            data.make(path)
        else:
            path.write_bytes(data)


def mutate(files: Files, chance: random.Random) -> str:
    """Damage an artefact in one to three places; return what was done, in words."""
    done = []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        sound = sorted(name for name, data in files.items() if not isinstance(data, Node))
        if not sound:
            break
        name = chance.choice(sound)
        if chance.random() < 0.06:
            done.append(_whole(files, name, chance))
            continue
        data = files[name]
        assert isinstance(data, bytes)
        kind = "pt" if name.startswith("pytorch_model") else name.rpartition(".")[2]
        how = _BY_KIND.get(kind, _text) if chance.random() < 0.8 else _bytes
        try:
            made, what = how(data, chance)
        except Exception:  # the file was damaged before, so that it cannot be taken apart again
            made, what = _bytes(data, chance)
        files[name] = made
        done.append(f"{name}: {what}")
    return "; ".join(done)


def _whole(files: Files, name: str, chance: random.Random) -> str:
    """Replace a file by something else, take it away, or give it another name."""
    choice = chance.choice((*KINDS, "absent", "swapped", "renamed", "empty"))
    if choice == "absent":
        del files[name]
    elif choice == "swapped":
        files[name] = files[chance.choice(sorted(files))]
    elif choice == "renamed":
        files[f"{name}{chance.choice(('.old', ' ', chr(0x202E), '.txt'))}"] = files.pop(name)
    elif choice == "empty":
        files[name] = b""
    else:
        files[name] = Node(choice)
    return f"{name}: {choice}"


def _bytes(data: bytes, chance: random.Random) -> tuple[bytes, str]:
    """Damage bytes anywhere."""
    made, size = bytearray(data), max(1, len(data))
    match choice := chance.choice(("flip", "flip", "cut", "add", "zero", "random", "double", "mark")):
        case "flip":
            for _ in range(chance.choice((1, 2, 8))):
                if made:
                    made[chance.randrange(len(made))] ^= 1 << chance.randrange(8)
        case "cut":
            del made[chance.randrange(size) :]
        case "add":
            made += chance.randbytes(chance.choice((1, 8, 100)))
        case "zero" | "random":
            at, length = chance.randrange(size), chance.choice((1, 4, 8, 64))
            made[at : at + length] = bytes(length) if choice == "zero" else chance.randbytes(length)
        case "double":
            at, length = chance.randrange(size), chance.choice((4, 64, 1000))
            made[at:at] = made[at : at + length]
        case _:
            made[:0] = chance.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\x00"))
    return bytes(made), choice


def _text(data: bytes, chance: random.Random) -> tuple[bytes, str]:
    """Damage text: replace a word or a number, or move lines about."""
    text = data.decode()
    words = list(re.finditer(r"-?\d[\d.e+-]*|\w+|[^\w\s]", text))
    lines = text.split("\n")
    at = chance.randrange(len(lines))
    match choice := chance.choice(("word", "word", "word", "drop", "double", "swap")):
        case "word" if words:
            found, value = chance.choice(words), _odd(chance)
            new = value if isinstance(value, str) else _dumped(value)
            other = chance.choice(words)
            new = other[0] if chance.random() < 0.4 else new
            return _encoded(f"{text[: found.start()]}{new}{text[found.end() :]}"), f"{found[0]!r:.40} -> {new!r:.40}"
        case "drop":
            del lines[at]
        case "double":
            lines.insert(chance.randrange(len(lines)), lines[at])
        case _:
            other = chance.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
    return _encoded("\n".join(lines)), f"{choice} line {at}"


def _odd(chance: random.Random) -> Any:
    value = chance.choice(ODD)
    return [value] * chance.choice((1, 2, 3)) if chance.random() < 0.1 else value


def _dumped(value: Any) -> str:
    """Write JSON, with what json cannot write put in afterwards."""
    text = json.dumps(value, indent=1)
    return text.replace(f'"{DEEP}"', "[" * 3000 + "]" * 3000).replace(f'"{LONG_NUMBER}"', "1" * 5000)


def _encoded(text: str) -> bytes:
    return text.replace(DEEP, "[" * 3000).replace(LONG_NUMBER, "1" * 5000).encode(errors="surrogatepass")


def _json(data: bytes, chance: random.Random) -> tuple[bytes, str]:
    """Damage a value of a JSON file, or a key."""
    values, what = _changed(json.loads(data), chance)
    return _dumped(values).encode(), what


def _yaml(data: bytes, chance: random.Random) -> tuple[bytes, str]:
    if b"*a0" in data:
        raise ValueError("references that multiply are not unfolded here either")
    values, what = _changed(yaml.safe_load(data), chance)
    if chance.random() < 0.2:  # references that multiply
        bomb = "\n".join(f"k{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else 'x'] * 9)}]" for i in range(9))
        return f"{yaml.safe_dump(values)}\n{bomb}\n".encode(), f"{what}, and references that multiply"
    return (_dumped(values) if chance.random() < 0.5 else yaml.safe_dump(values)).encode(), what


def _places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value, those inside long lists only now and then."""
    yield above
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for at, (key, one) in enumerate(inside):
        if at < 40 or at % 97 == 0:
            yield from _places(one, (*above, key))


def _changed(values: Any, chance: random.Random) -> tuple[Any, str]:
    depths: dict[int, list[tuple[Any, ...]]] = {}
    for place in _places(values):
        depths.setdefault(len(place), []).append(place)
    place = chance.choice(depths[chance.choice(sorted(depths))])  # few values near the root, and as often as the many
    if not place:
        return (value := _odd(chance)), f"all -> {value!r:.40}"
    holder = values
    for key in place[:-1]:
        holder = holder[key]
    key, where = place[-1], ".".join(map(str, place))
    choice = chance.choice(("set", "set", "set", "set", "drop", "add", "rename", "near"))
    if choice == "drop":
        del holder[key]
    elif choice == "add" and isinstance(holder, dict):
        holder[chance.choice(("more", "", "\x1b[2J", "x" * 5000, "../x"))] = _odd(chance)
    elif choice in ("add", "rename") and isinstance(holder, list):
        holder.insert(key, _odd(chance))
    elif choice == "rename":
        holder[str(_odd(chance))] = holder.pop(key)
    elif choice == "near" and isinstance(holder[key], int | float):
        holder[key] = chance.choice(
            (holder[key] + 1, holder[key] - 1, -holder[key], holder[key] * 2, float(holder[key]))
        )
    else:
        holder[key] = _odd(chance)
        return values, f"{where} -> {holder[key]!r:.40}"
    return values, f"{choice} {where}"


def _safetensors(data: bytes, chance: random.Random) -> tuple[bytes, str]:
    """Damage a tensor, or what the header says of it."""
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    choice = chance.choice(("header", "size", "dtype", "shape", "drop", "rename", "numbers", "numbers", "metadata"))
    names = sorted(name for name in header if name != "__metadata__")
    if choice == "size":
        lie = chance.choice((0, 1, size - 1, size + 1, 2**20, 2**40, 2**63, 2**64 - 1))
        return lie.to_bytes(8, "little") + data[8:], f"header of {lie} bytes"
    if choice == "header" or not names:
        made, what = _changed(header, chance)
        return _laid(_dumped(made).encode(), body), f"header: {what}"
    if choice == "metadata":
        if "__metadata__" not in header:
            header["__metadata__"] = {"format": _odd(chance)}
            return _laid(_dumped(header).encode(), body), "metadata"
        key = chance.choice(sorted(header["__metadata__"]))
        made, what = _json(header["__metadata__"][key].encode(), chance)
        header["__metadata__"][key] = made.decode()
        return _laid(json.dumps(header).encode(), body), f"metadata: {what}"
    name = chance.choice(names)
    entry = header[name]
    low, high = entry["data_offsets"]
    parts = {other: body[slice(*header[other]["data_offsets"])] for other in names}
    if choice == "drop":
        del parts[name], header[name]
    elif choice == "rename":
        new = chance.choice(("x", "", "a:b:starts", f"module.{name}", f"{name}:starts", "lm_head.weight", "\x1b[0m"))
        parts[new], header[new] = parts.pop(name), header.pop(name)
    elif choice == "dtype":
        entry["dtype"] = chance.choice(DTYPES)
        if chance.random() < 0.7:  # with as many bytes as it then takes
            count = 1
            for axis in entry["shape"]:
                count *= axis
            width = {"8": 1, "L": 1, "_": 1, "I": 8, "U": 8}.get(entry["dtype"][-1], 0) or _width(entry["dtype"])
            parts[name] = (parts[name] * (1 + 8 * width))[: count * width]
    elif choice == "shape":
        entry["shape"] = chance.choice(
            ([], [0], [0, 5], [1], entry["shape"][::-1], [*entry["shape"], 1], [2**31, 0], [-1], [2**62, 4], [1] * 70)
        )
        if chance.random() < 0.6:
            entry["shape"] = entry["shape"] if min(entry["shape"], default=1) >= 0 else []
            count = 1
            for axis in entry["shape"]:
                count *= axis
            parts[name] = (parts[name] + bytes(64))[: min(count, 10**6) * _width(entry["dtype"])]
    else:
        numbers = (float("nan"), float("inf"), -1e30, 0.0, 1.0)
        fill = chance.choice((*(struct.pack("<f", n) for n in numbers), b"\xff" * 4, chance.randbytes(4)))
        at = chance.randrange(max(1, (high - low) // 4)) * 4
        length = chance.choice((4, 4, 8, high - low))
        part = parts[name]
        parts[name] = (
            part[:at] + (fill * (length // 4 + 1))[: max(0, min(length, len(part) - at))] + part[at + length :]
        )
    at = 0
    for other, part in parts.items():
        header[other]["data_offsets"] = [at, at + len(part)]
        at += len(part)
    return _laid(json.dumps(header).encode(), b"".join(parts.values())), f"{choice} of {name}"


def _width(dtype: str) -> int:
    """Return the bytes of a number of a safetensors dtype."""
    if dtype.startswith(("F8", "BOOL")) or dtype in ("I8", "U8", "X"):
        return 1
    return {"16": 2, "32": 4, "64": 8}[dtype[-2:]]


def _laid(header: bytes, body: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + body


def _parquet(data: bytes, chance: random.Random) -> tuple[bytes, str]:
    """Damage cells or columns of a Parquet table, or its metadata."""
    table = pq.read_table(io.BytesIO(data))
    metadata = dict(table.schema.metadata or {})
    choice = chance.choice(("cells", "cells", "cells", "cells", "drop", "type", "metadata", "rows", "order"))
    at = chance.randrange(table.num_columns)
    name = table.column_names[at]
    if choice == "metadata" and metadata:
        key = chance.choice(sorted(metadata))
        made, what = _json(metadata[key], chance)
        table = table.replace_schema_metadata({**metadata, key: made})
        choice = f"metadata: {what}"
    elif choice == "drop":
        table = table.drop_columns(name)
    elif choice == "type":
        kind = chance.choice((pa.string(), pa.int8(), pa.float16(), pa.binary(), pa.large_string(), pa.null()))
        table = table.set_column(at, name, pa.array([None] * len(table), kind))
    elif choice == "rows":
        table = table.slice(0, chance.choice((0, 1, max(0, len(table) - 1))))
    elif choice == "order":
        table = table.take(pa.array(chance.sample(range(len(table)), len(table))))
    else:
        values, kind = table.column(name).to_pylist(), table.schema.field(at).type
        rows = range(len(values)) if chance.random() < 0.5 else [chance.randrange(max(1, len(values)))]
        odd = _cell(kind, chance)
        for row in rows:
            if row < len(values):
                values[row] = odd
        table = table.set_column(at, table.schema.field(at), pa.array(values, kind))
        choice = f"cells of {name} -> {odd!r:.40}"
    stream = io.BytesIO()
    pq.write_table(table, stream, compression=chance.choice(("zstd", "none", "snappy")))
    return stream.getvalue(), choice


def _cell(kind: pa.DataType, chance: random.Random) -> Any:
    """Draw a value that a column can hold, and that should not stand there."""
    if chance.random() < 0.2:
        return None
    if pa.types.is_list(kind):
        return [_cell(kind.value_type, chance) for _ in range(chance.choice((0, 1, 2, 7, 300)))]
    if pa.types.is_integer(kind):
        wide = 2 ** (kind.bit_width - 1)
        return chance.choice((-1, 0, 1, 5, wide - 1, -wide, 10_000))
    if pa.types.is_floating(kind):
        return chance.choice((float("nan"), float("inf"), -float("inf"), -1.0, 1e30, 0.0))
    if pa.types.is_boolean(kind):
        return chance.random() < 0.5
    return chance.choice([text for text in ODD if isinstance(text, str) and "\ud800" not in text])


class _Called:
    """A value that runs code when it is unpickled, as no file here may."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return exec, ("raise SystemExit('code out of a pickle ran')",)


def _torch(data: bytes, chance: random.Random) -> tuple[bytes, str]:
    """Damage the tensors of a torch file, or put code into it."""
    choice = chance.choice(("pickle", "code", "value", "value", "dtype", "shape", "drop", "rename"))
    if choice == "pickle":
        return pickle.dumps(_Called()), choice
    tensors = torch.load(io.BytesIO(data), weights_only=True)
    name = chance.choice(sorted(tensors))
    if choice == "code":
        tensors[name] = _Called()
    elif choice == "drop":
        del tensors[name]
    elif choice == "rename":
        tensors[chance.choice((3, None, "x", "module." + name))] = tensors.pop(name)
    elif choice == "dtype":
        kinds = (torch.bfloat16, torch.complex64, torch.int64, torch.bool, torch.float8_e4m3fn, torch.float64)
        tensors[name] = tensors[name].to(chance.choice(kinds))
    elif choice == "shape":
        shape = chance.choice(((), (0,), (0, 3), (2**40,), (1, 1, 1)))
        tensors[name] = torch.zeros(1).expand(shape) if 0 not in shape and shape else torch.zeros(shape)
    else:
        sparse = torch.zeros(3, 3).to_sparse()
        nan = torch.full_like(tensors[name], float("nan"))
        tensors[name] = chance.choice((None, 3, "x", [1], {"a": 1}, sparse, nan))
    stream = io.BytesIO()
    torch.save(tensors, stream)
    return stream.getvalue(), f"{choice} of {name}"


def _llama2c(data: bytes, chance: random.Random) -> tuple[bytes, str]:
    """Damage a whole number of a header, which is where most of such a file is decided."""
    at = 4 * chance.randrange(min(9, max(1, len(data) // 4)))
    value = chance.choice((0, 1, -1, 2, 3, 2**20, 2**20 + 1, 2**31 - 1, -(2**31), 1000))
    return data[:at] + struct.pack("<i", value) + data[at + 4 :], f"number at {at} -> {value}"


_BY_KIND: dict[str, Callable[[bytes, random.Random], tuple[bytes, str]]] = {
    "json": _json,
    "yaml": _yaml,
    "safetensors": _safetensors,
    "parquet": _parquet,
    "pt": _torch,
    "pth": _torch,
    "bin": _llama2c,
    "xz": _bytes,
    "gz": _bytes,
    "npz": _bytes,
}
