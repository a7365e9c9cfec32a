"""What was written here is known by its hash, and nothing is where nothing can be kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from englishroom.store import SCHEMA_VERSION, Manifest, write_room
from englishroom.written import LIST, remember, written_here

ONE, OTHER = "1" * 64, "2" * 64


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENGLISHROOM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_remembered_is_known(cache: Path) -> None:
    assert not written_here(ONE)
    remember(ONE)
    assert written_here(ONE)
    assert not written_here(OTHER)
    remember(OTHER)
    assert (cache / LIST).read_text() == f"{ONE}\n{OTHER}\n"


def test_the_folder_is_the_own_one_or_the_user_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENGLISHROOM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "common"))
    remember(ONE)
    assert (tmp_path / "common" / "englishroom" / LIST).exists()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    remember(OTHER)
    assert (tmp_path / "home" / ".cache" / "englishroom" / LIST).read_text() == f"{OTHER}\n"


@pytest.mark.parametrize("place", ["file/in/a/file", "/proc/none"])
def test_where_nothing_can_be_kept_nothing_is_known(tmp_path: Path, monkeypatch, place: str) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ENGLISHROOM_CACHE", str(tmp_path / place))
    remember(ONE)
    assert not written_here(ONE)


def test_rooms_count_as_written_here_unless_they_are_made_of_one_that_is_not(tmp_path: Path) -> None:
    def manifest(_folder: Path) -> Manifest:
        return Manifest(SCHEMA_VERSION, "exact", {"name": "t"}, {}, 0, [], {}, {})

    own = write_room(tmp_path / "own", [], manifest)
    foreign = Manifest(SCHEMA_VERSION, "exact", {"name": "t"}, {}, 0, [], {}, {}, sha256=OTHER)
    assert written_here(own.sha256)
    later = write_room(tmp_path / "later", [("x", b"1")], manifest, own)
    assert written_here(later.sha256)
    assert not written_here(write_room(tmp_path / "more", [("x", b"2")], manifest, foreign).sha256)
