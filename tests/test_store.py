"""Rooms on disk: whole or not at all, and checked when read."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from englishroom.errors import ArtifactError, ConfigError
from englishroom.store import (
    SCHEMA_VERSION,
    Manifest,
    arrays_to_bytes,
    check_out,
    looks_like_room,
    read_manifest,
    read_room,
    write_room,
)
from forged import sign

CONTENTS = {"a.txt": b"one", "b.bin": bytes(range(256))}


def manifest(seed: int = 0) -> Manifest:
    return Manifest(SCHEMA_VERSION, "exact", {"name": "t"}, {}, seed, [], {"x_nats": 1.5e-7}, {"python": "3"})


def test_round_trip(tmp_path: Path) -> None:
    written = write_room(tmp_path / "room", CONTENTS.items(), lambda _folder: manifest(7))
    assert read_manifest(tmp_path / "room") == written
    assert written.seed == 7
    stored = read_room(tmp_path / "room", ["a.txt", "b.bin"])
    assert dict(stored.contents) == CONTENTS
    assert stored.text("a.txt") == "one"


def test_arrays_round_trip_in_every_precision(tmp_path: Path) -> None:
    arrays = {
        "x": np.arange(6, dtype=np.float32).reshape(2, 3),
        "y": np.array([1e-300, -0.0]),
        "z": np.array([3], np.int64),
    }
    write_room(tmp_path / "room", {"t.safetensors": arrays_to_bytes(arrays)}.items(), lambda _folder: manifest())
    again = read_room(tmp_path / "room", ["t.safetensors"]).arrays("t.safetensors")
    assert set(again) == set(arrays)
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype
        assert again[name].tobytes() == array.tobytes()


def test_describe_sees_the_files_and_may_refuse(tmp_path: Path) -> None:
    room = tmp_path / "room"
    write_room(room, CONTENTS.items(), lambda _folder: manifest(1))
    seen: dict[str, bytes] = {}

    def refuse(folder: Path) -> Manifest:
        seen.update({path.name: path.read_bytes() for path in folder.iterdir()})
        raise ConfigError("not good enough")

    with pytest.raises(ConfigError, match="not good enough"):
        write_room(room, {"a.txt": b"two"}.items(), refuse)
    assert seen == {"a.txt": b"two"}
    assert read_manifest(room).seed == 1
    assert [path.name for path in tmp_path.iterdir()] == ["room"]


def test_a_new_room_replaces_the_old_one_whole(tmp_path: Path) -> None:
    write_room(tmp_path / "room", CONTENTS.items(), lambda _folder: manifest(1))
    write_room(tmp_path / "room", {"c.txt": b"new"}.items(), lambda _folder: manifest(2))
    assert sorted(path.name for path in (tmp_path / "room").iterdir()) == ["c.txt", "manifest.json"]
    assert read_manifest(tmp_path / "room").seed == 2
    assert [path.name for path in tmp_path.iterdir()] == ["room"]


def test_places_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is a file"):
        check_out(tmp_path / "file")
    with pytest.raises(ConfigError, match="other things than a room"):
        check_out(tmp_path)
    check_out(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_out(tmp_path / "empty")
    assert not looks_like_room(tmp_path / "empty")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="room: cannot be written"):
        write_room(tmp_path / "file" / "room", CONTENTS.items(), lambda _folder: manifest())


def test_leftovers_of_dead_writers_are_cleared_and_of_living_ones_kept(tmp_path: Path) -> None:
    import os

    dead, alive = (
        tmp_path / ".room.englishroom-part-99999999-abc",
        tmp_path / f".room.englishroom-part-{os.getpid()}-abc",
    )
    dead.mkdir()
    alive.mkdir()
    write_room(tmp_path / "room", CONTENTS.items(), lambda _folder: manifest())
    assert not dead.exists()
    assert alive.exists()


def test_numbers_that_json_has_not_come_back_as_numbers(tmp_path: Path) -> None:
    made = Manifest(**vars(manifest()) | {"evidence": {"x_nats": math.nan, "rows": [{"y_nats": math.inf}]}})
    write_room(tmp_path / "room", CONTENTS.items(), lambda _folder: made)
    found = read_manifest(tmp_path / "room").evidence
    assert math.isnan(found["x_nats"])
    assert found["rows"][0]["y_nats"] == math.inf


@pytest.mark.parametrize("name", ["../x", "/etc/hostname", "a/b", "a\\b", "..", ".hidden", "", "manifest.json", "a\n"])
def test_names_of_files_that_are_paths_are_refused(tmp_path: Path, name: str) -> None:
    room = tmp_path / "room"
    write_room(room, CONTENTS.items(), lambda _folder: manifest())
    (tmp_path / "x").write_bytes(b"outside")
    sign(room, files={name: hashlib.sha256(b"outside").hexdigest()})
    with pytest.raises(ArtifactError, match=r"manifest\.json: files: .* is not the plain name of a file; decompile"):
        read_room(room)
    with pytest.raises(ConfigError, match="a file of a room cannot be called"):
        write_room(tmp_path / "other", {name: b""}.items(), lambda _folder: manifest())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["room", "x"]
    assert (tmp_path / "x").read_bytes() == b"outside"


def test_what_stands_in_for_a_file_is_neither_waited_on_nor_read(tmp_path: Path) -> None:
    room = tmp_path / "room"
    write_room(room, CONTENTS.items(), lambda _folder: manifest())
    (tmp_path / "outside").write_bytes(b"one")
    stand_ins = {
        "is a pipe, expected a file": os.mkfifo,
        "is a link that leads out of the room": lambda path: path.symlink_to(tmp_path / "outside"),
        "a.txt: is a link that leads out": lambda path: path.symlink_to("/dev/zero"),
        "is a folder, expected a file": Path.mkdir,
        "missing; restore the file or decompile again": lambda _path: None,
        "expected at most": lambda path: (path.touch(), os.truncate(path, 2**40)),
    }
    for message, make in stand_ins.items():
        (room / "a.txt").unlink(missing_ok=True)
        make(room / "a.txt")
        with pytest.raises(ArtifactError, match=message):
            read_room(room, ["a.txt"])
        (room / "a.txt").rmdir() if message.startswith("is a folder") else None


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_manifest_that_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "manifest.json")
    assert not looks_like_room(tmp_path)
    with pytest.raises(ArtifactError, match=r"manifest\.json: is a"):
        read_manifest(tmp_path)
    with pytest.raises(ConfigError, match="other things than a room"):
        check_out(tmp_path)


def test_a_file_that_the_manifest_does_not_list_is_not_read(tmp_path: Path) -> None:
    write_room(tmp_path / "room", CONTENTS.items(), lambda _folder: manifest())
    with pytest.raises(ArtifactError, match=r"c\.txt: the room has no such file"):
        read_room(tmp_path / "room", ["c.txt"])


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"target": []}, "target: Input should be an object"),
        ({"target": {"name": 3}}, "target.name: Input should be a valid string, found 3"),
        ({"target": {"spec": "x"}}, "target.spec: Input should be an object"),
        ({"records": {"made_by": "x"}}, "records: Input should be a valid array"),
        ({"records": ["x"]}, "records.0: Input should be an object"),
        ({"records": [{"made_by": "x"}]}, "records.0.options: Field required"),
        ({"records": [{"made_by": "x", "options": {}, "rewrites": [], "seconds": 0, "more": 1}]}, "records.0"),
        ({"level": "deep"}, "level: Input should be 'exact', 'featured', 'sparse' or 'explained', found 'deep'"),
        ({"evidence": {"texts": []}}, "evidence.texts: Input should be an object"),
        ({"evidence": {"texts": {"fit": {"name": "x"}}}}, "evidence.texts.fit.sha256: Field required"),
        ({"seed": int("9" * 401)}, "a whole number of 401 digits"),
        ({"evidence": {"x_nats": float("nan")}}, "NaN is no number of JSON"),
        ({"files": {"a.txt": 3}}, "files.a.txt: Input should be a valid string, found 3"),
        ({"target": ...}, "target: Field required"),
        ({"more": 1}, "more: Unexpected"),
    ],
)
def test_a_manifest_of_another_form_is_one_error(tmp_path: Path, changes: dict[str, Any], found: str) -> None:
    tmp_path = tmp_path / "room"
    write_room(tmp_path, CONTENTS.items(), lambda _folder: manifest())
    sign(tmp_path, **changes)
    with pytest.raises(ArtifactError, match=rf"manifest\.json: .*{re.escape(found)}"):
        read_manifest(tmp_path)
