"""Rooms whose files fit their hashes but not their parsers: one error each, and no memory that a number asks for."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from englishroom.errors import ArtifactError
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import (
    Attend,
    Linear,
    Lookup,
    Program,
    Rotate,
    Space,
    SparseTable,
    Table,
    Vote,
)
from englishroom.ir.room import load_program, pack
from englishroom.ir.verify import verify
from englishroom.names import CODE, TABLES, TOKENIZER
from englishroom.store import SCHEMA_VERSION, Manifest, read_room, write_room
from forged import put, put_arrays, safetensors_of, sign
from programs import full_program, tokenizer_for

Arrays = dict[str, NDArray[Any]]


@pytest.fixture
def room(tmp_path: Path) -> Path:
    program = full_program("sparse")
    manifest = Manifest(SCHEMA_VERSION, "sparse", {"name": "t"}, {}, 0, [], {}, {})
    write_room(tmp_path / "room", pack(program, tokenizer_for(program.d_vocab)).items(), lambda _folder: manifest)
    load_program(tmp_path / "room")
    return tmp_path / "room"


def refused(room: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        load_program(room)
    message = str(caught.value)
    assert str(room) in message
    assert len(message) < 1500
    return message


@pytest.mark.parametrize("name", [CODE, TOKENIZER])
@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"", b"\0" * 100, b"[" * 10**5, b"9" * 10**5])
def test_text_that_is_none(room: Path, name: str, data: bytes) -> None:
    assert name in refused(put(room, name, data))


@pytest.mark.parametrize(("dtype", "width"), [("BF16", 2), ("F8_E4M3", 1), ("F8_E5M2", 1), ("C64", 8)])
def test_tables_of_number_types_that_numpy_lacks(room: Path, dtype: str, width: int) -> None:
    arrays = read_room(room, (TABLES,)).arrays(TABLES)
    key = next(iter(arrays))
    views = {name: (f"{a.dtype.kind.upper()}{8 * a.itemsize}", a.shape, a.tobytes()) for name, a in arrays.items()}
    views[key] = (dtype, arrays[key].shape, bytes(arrays[key].size * width))
    assert f"{TABLES}: {key} holds numbers of type {dtype}" in refused(put(room, TABLES, safetensors_of(views)))


def changed(room: Path, change: Callable[[str, NDArray[Any]], Any], part: str) -> Path:
    """Change every array of a part of the sparse tables, or every dense table for the part "dense"."""
    arrays = read_room(room, (TABLES,)).arrays(TABLES)
    put_arrays(
        room,
        {name: change(name, a) if (name.partition(":")[2] or "dense") == part else a for name, a in arrays.items()},
    )
    return room


CHANGES: Mapping[str, Callable[[str, NDArray[Any]], Any]] = {
    "0-d": lambda _name, a: np.array(1, a.dtype),
    "empty": lambda _name, a: a[:0],
    "short": lambda _name, a: a[:1],
    "nan": lambda _name, a: np.full(a.shape, np.nan),
    "matrix": lambda _name, a: a[None],
    "float": lambda _name, a: a.astype(np.float16),
    "truth": lambda _name, a: a.astype(np.bool_),
    "huge": lambda _name, a: np.full(a.shape, 2**62).astype(a.dtype),
    "negative": lambda _name, a: -a - 1,
    "unsigned": lambda _name, a: a.astype(np.uint64),
}


@pytest.mark.parametrize("part", ["starts", "columns", "shape", "dense", "values"])
@pytest.mark.parametrize("change", CHANGES)
def test_arrays_of_another_shape_or_kind(room: Path, part: str, change: str) -> None:
    if (part, change) in {("dense", "huge"), ("values", "huge"), ("dense", "negative"), ("values", "negative")}:
        return  # other numbers, which a program may hold
    assert "; " in refused(changed(room, CHANGES[change], part))


def test_row_starts_that_overflow_while_they_are_summed(room: Path) -> None:
    def around(_name: str, starts: NDArray[Any]) -> NDArray[Any]:
        most = np.iinfo(np.int64).max
        rising = [0, most // 2, most, *(-most + most // 2 * i for i in range(3))]
        return np.resize(np.array([*rising, starts[-1]], np.int64), len(starts)) if len(starts) > 1 else starts

    assert "row starts" in refused(changed(room, around, "starts"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("n_ctx=", "n_ctx=" + "9" * 400),
        ("eps=", "eps=" + "9" * 400),
        ("k=", "k=" + "9" * 30),
        ("Space('vocab', ", "Space('vocab', " + "9" * 400),
        ("window=", "window=" + "9" * 30 + " #"),
        ("buckets=(0, ", "buckets=(0, " + "9" * 30),
        ("Program(", "Program(" + "(" * 150 + ")" * 150 + ","),
        ("Program(", "Program(" + "-" * 5000 + "1,"),
    ],
)
def test_numbers_of_the_code_that_nothing_holds(room: Path, old: str, new: str) -> None:
    code = (room / CODE).read_text()
    if old not in code:
        pytest.skip(f"no {old} in this program")
    assert CODE in refused(put(room, CODE, code.replace(old, new, 1).encode()))


def test_a_tokenizer_with_a_number_of_400_digits(room: Path) -> None:
    values = json.loads((room / TOKENIZER).read_bytes())
    for name in ("start_id", "stop_ids", "scores", "byte_ids"):
        old = values[name]
        huge = int("9" * 400)
        text = json.dumps(values | {name: huge if isinstance(old, int) else [huge, *old[1:]]})
        assert TOKENIZER in refused(put(room, TOKENIZER, text.encode()))


def test_a_manifest_that_says_another_level(room: Path) -> None:
    assert "the program is sparse, the manifest says exact" in refused(sign(room, level="exact"))


def wide(size: int, n_ctx: int = 4) -> Program:
    """Make a program that maps a vocabulary to a space and back by tables without an entry."""
    two, none = np.ones((2, 1), np.float32), np.zeros(0, np.float32)
    out = SparseTable("out", np.zeros(2, np.int64), np.zeros(0, np.int64), none, size)
    back = Table("back", np.ones((1, 2), np.float32))
    blocks = (
        Lookup(name="embed", space="one", index="token", table=Table("E", two)),
        Linear(name="wide", space="wide", reads="embed", weight=out),
        Linear(name="logits", space="vocab", reads="embed", weight=back),
        Vote(name="log_probs", space="vocab", reads=("logits",)),
    )
    return Program("featured", n_ctx, (Space("vocab", 2), Space("one", 1), Space("wide", size)), blocks)


def test_a_space_is_no_larger_than_what_is_stored() -> None:
    assert verify(wide(2**16)) == []
    faults = verify(wide(10**12))
    assert len(faults) == 1
    assert "space wide has size 1000000000000, expected at most 65536: the numbers of all tables" in faults[0]


def test_a_context_takes_memory_as_it_is_read() -> None:
    table = Table("E", np.ones((3, 4), np.float32))
    blocks = (
        Lookup(name="embed", space="resid", index="token", table=table),
        Rotate(name="turned", space="resid", reads="embed", n_heads=2, theta=100.0),
        Attend(
            name="z",
            space="resid",
            queries="turned",
            keys="turned",
            values="embed",
            n_heads=2,
            n_kv_heads=2,
            scale=0.5,
        ),
        Linear(name="logits", space="vocab", reads="z", weight=table, transposed=True),
        Vote(name="log_probs", space="vocab", reads=("logits",)),
    )
    program = Program("exact", 10**12, (Space("vocab", 3), Space("resid", 4)), blocks)
    assert verify(program) == []
    tracemalloc.start()
    tokens = np.arange(300)[None] % 3
    stream = Interpreter(program, np.float64).stream()
    said = np.concatenate([stream.extend(tokens[:, at : at + 1])[0] for at in range(300)])
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()
    assert np.abs(said - Interpreter(program, np.float64).log_probs(tokens)[0]).max() < 1e-12
