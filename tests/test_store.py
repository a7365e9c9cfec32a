"""Rooms on disk: whole or not at all, and checked when read."""

from __future__ import annotations

from pathlib import Path

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
    with pytest.raises(ConfigError, match="other things in it"):
        check_out(tmp_path)
    check_out(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_out(tmp_path / "empty")
    assert not looks_like_room(tmp_path / "empty")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="cannot write the room"):
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


def test_numbers_that_json_has_not_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    bad = Manifest(SCHEMA_VERSION, "exact", {}, {}, 0, [], {"x_nats": float("nan")}, {})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_room(tmp_path / "room", CONTENTS.items(), lambda _folder: bad)
    assert list(tmp_path.iterdir()) == []
