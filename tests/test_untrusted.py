"""Readers of files that may be damaged or hostile: typed, bounded, one short error."""

from __future__ import annotations

import json
import os
import socket
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from englishroom.errors import ArtifactError
from englishroom.untrusted import parse_arrays, parse_json, parse_plain, parse_python, parse_text, read_bytes


@dataclass(frozen=True)
class Form:
    name: str
    value: float


def test_regular_files_are_read_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert read_bytes(tmp_path / "file", "restore it") == b"content"
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for name, what in (
            ("fifo", "is a pipe"),
            ("folder", "is a folder"),
            ("socket", "is a socket"),
            ("/dev/zero", "is a device"),
            ("none", "missing"),
            ("file/x", "missing"),
            ("a\0b", "cannot be read"),
        ):
            with pytest.raises(ArtifactError, match=f"{what}.*; restore it$"):
                read_bytes(tmp_path / name, "restore it")


def test_the_size_of_a_file_is_bounded_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)  # a sparse file, which takes no space
    with pytest.raises(ArtifactError, match=r"large: has 1,099,511,627,776 bytes, expected at most 100; restore it"):
        read_bytes(tmp_path / "large", "restore it", 100)
    with pytest.raises(ArtifactError, match="expected at most 268,435,456"):
        read_bytes(tmp_path / "large", "restore it")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b'{"name": "x", "value": NaN}', "NaN is no number of JSON"),
        (b'{"name": "x", "value": Infinity}', "Infinity is no number of JSON"),
        (b'{"name": "x", "value": 1e999}', "too large for 64 bits"),
        (b'{"name": "x", "value": ' + b"9" * 400 + b"}", "a whole number of 400 digits"),
        (b'{"name": "x", "value": ' + b"9" * 9000 + b"}", "number out of range"),
        (b'{"name": "\\ud800", "value": 1}', "hex escape"),
        (b'{"name": "\xff", "value": 1}', "not UTF-8"),
        (b"[" * 70 + b"]" * 70, "Input should be an object"),
        (b"[" * 10**6, "recursion limit exceeded"),
        (b'{"name": "x"', "Invalid JSON"),
        (b"", "Invalid JSON"),
        (b'{"name": "x"}', "value: Field required"),
        (b'{"name": 3, "value": 1}', "name: Input should be a valid string, found 3"),
    ],
)
def test_json_of_another_form_is_one_error(data: bytes, found: str) -> None:
    with pytest.raises(ArtifactError, match=rf"^f\.json: .*({found}).*; restore it$"):
        parse_json(data, TypeAdapter(Form), "f.json", "restore it")


def test_json_of_the_stated_form_is_read() -> None:
    assert parse_json(b'{"name": "x", "value": 3}', TypeAdapter(Form), "f", "") == Form("x", 3.0)
    assert parse_plain(json.dumps([1, -(2**63), {"a": [None, 1.5e300]}]), "f", "") == [
        1,
        -(2**63),
        {"a": [None, 1.5e300]},
    ]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"[NaN]", "NaN is no number of JSON"),
        (b"[-Infinity]", "-Infinity is no number"),
        (b"[1e999]", "too large"),
        (b"[" + b"9" * 400 + b"]", "400 digits"),
        (b"[" * 70 + b"]" * 70, "nested too deeply"),
    ],
)
def test_plain_json_is_bounded_too(data: bytes, found: str) -> None:
    with pytest.raises(ArtifactError, match=rf"^f\.json: no JSON that can be read \(.*{found}.*\); restore it$"):
        parse_plain(data, "f.json", "restore it")


def test_a_file_of_faults_takes_no_memory_for_each_of_them() -> None:
    many = b'{"name": [' + b"1," * 10**6 + b'1], "value": 1}'
    kind = TypeAdapter(dict[str, list[str] | int])
    tracemalloc.start()
    with pytest.raises(ArtifactError, match=r"name\.list\[str\]\.0: Input should be a valid string, found 1"):
        parse_json(many, kind, "f.json", "restore it")
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


def test_an_object_of_endless_keys_is_refused_before_its_form_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("englishroom.untrusted.JSON_KEYS", 100)
    keys = ",".join(f'"key{i}": 1' for i in range(101))
    with pytest.raises(ArtifactError, match=r"an object of 101 keys, expected at most 100\); restore it"):
        parse_json(f'{{"name": {{{keys}}}}}', TypeAdapter(Form), "f.json", "restore it")


def test_messages_are_short_and_one_line_whatever_a_file_holds() -> None:
    huge = json.dumps({"name": ["x\n\x1b[2J" * 10**6], "y" * 10**6: 1, "value": 1})
    with pytest.raises(ArtifactError) as caught:
        parse_json(huge, TypeAdapter(Form), "f.json", "restore it")
    assert len(str(caught.value)) < 500


def _safetensors(header: object, data: bytes) -> bytes:
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + data


def test_arrays_are_read_in_every_number_type_that_numpy_has() -> None:
    data = _safetensors({"x": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}}, np.float32([1, 2]).tobytes())
    found = parse_arrays(data, "t", "")["x"]
    assert found.dtype == np.float32
    assert found.tolist() == [[1], [2]]


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "C64"])
def test_number_types_that_numpy_lacks_are_refused(dtype: str) -> None:
    size = {"BF16": 2, "C64": 8}.get(dtype, 1)
    data = _safetensors({"x": {"dtype": dtype, "shape": [1], "data_offsets": [0, size]}}, bytes(size))
    with pytest.raises(ArtifactError, match=f"^t: (x holds numbers of type {dtype}|damaged).*; restore it$"):
        parse_arrays(data, "t", "restore it")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        b"\xff" * 100,
        _safetensors([], b""),
        _safetensors({"x": {"dtype": "F32", "shape": [10**18, 10**18], "data_offsets": [0, 0]}}, b""),
        _safetensors({"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, bytes(8)),
        _safetensors({"x": {"dtype": "F32", "shape": [0] * 100, "data_offsets": [0, 0]}}, b""),
        _safetensors({"x": {"dtype": "F32", "shape": [2**63, 0], "data_offsets": [0, 0]}}, b""),
    ],
)
def test_damaged_safetensors_are_one_error(data: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"^t: .*; restore it$"):
        parse_arrays(data, "t", "restore it")


@pytest.mark.parametrize("text", ["def", "x = \0", "(" * 500, "-" * 10**5 + "1", "x = '\ud800'"])
def test_what_is_no_python_is_one_error(text: str) -> None:
    with pytest.raises(ArtifactError, match=r"^p.py: .*; restore it$"):
        parse_python(text.encode("utf-8", "surrogatepass"), "p.py", "restore it")


def test_text_that_is_no_utf8_is_one_error() -> None:
    with pytest.raises(ArtifactError, match=r"^t: not UTF-8 .byte 1"):
        parse_text(b"a\xff", "t", "restore it")
