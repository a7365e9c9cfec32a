"""Work that is kept: taken up by the same work alone, whole or not at all, and removed without a trace."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path

import pytest

from englishroom.errors import ArtifactError, ConfigError
from englishroom.work import Kept, Work

IDENTITY = {"config": {"seed": 0, "lines": (1, 2)}, "target": "a" * 64}


def test_a_result_is_made_once_for_an_identity(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, float]:
        made.append(1)
        return {"nats": math.nan, "count": len(made)}

    work = Work(tmp_path / "work", IDENTITY)
    for _ in range(2):
        found = work.once("scores.json", make)
        assert math.isnan(found["nats"])
        assert found["count"] == 1
    assert work.of(texts={"report": "b"}).once("scores.json", make)["count"] == 2  # the text's documents changed
    assert Work(tmp_path / "work", IDENTITY | {"target": "c"}).once("scores.json", make)["count"] == 3


def test_another_version_never_takes_work_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Kept(tmp_path / "fit.pt", IDENTITY)
    file.write(b"state")
    assert file.read() == file.take_up() == b"state"
    monkeypatch.setattr("englishroom.__version__", "99")
    assert file.read() is None
    with pytest.raises(ConfigError, match=r"fit.pt: belongs to work with another englishroom; choose another --out"):
        file.take_up()


def test_what_differs_is_named(tmp_path: Path) -> None:
    Kept(tmp_path / "fit.pt", IDENTITY).write(b"state")
    other = {"config": {"seed": 1, "lines": (1, 2)}, "target": "b" * 64}
    with pytest.raises(ConfigError, match="belongs to work with another seed, target;"):
        Kept(tmp_path / "fit.pt", other).take_up()


@pytest.mark.parametrize("damage", [b"", b"{", b'{"format": 1}\n', b"[]\nabc", b"\x80\x04\n"])
def test_damaged_work_is_refused_in_one_line(damage: bytes, tmp_path: Path) -> None:
    file = Kept(tmp_path / "fit.pt", IDENTITY)
    file.path.write_bytes(damage)
    for take in (file.read, file.take_up):
        with pytest.raises(ArtifactError, match=r"fit.pt: damaged, or not kept by this version; delete it"):
            take()
    file.write(b"the whole state")
    file.path.write_bytes(file.path.read_bytes()[:-3])
    with pytest.raises(ArtifactError, match="damaged"):
        file.read()


def test_a_folder_of_other_work_or_of_other_things_is_refused(tmp_path: Path) -> None:
    with Work(tmp_path / "room.work", IDENTITY).held() as work:
        work.once("a.json", lambda: 1)
    with (
        pytest.raises(ConfigError, match=r"identity: belongs to work with another seed"),
        Work(tmp_path / "room.work", {**IDENTITY, "config": {"seed": 1, "lines": (1, 2)}}).held(),
    ):
        pass
    (tmp_path / "thesis.work").mkdir()
    (tmp_path / "thesis.work" / "chapter1").write_text("years")
    with (
        pytest.raises(ConfigError, match=r"thesis.work: is not kept work; move it away"),
        Work(tmp_path / "thesis.work", IDENTITY).held(),
    ):
        pass


def test_what_is_refused_before_anything_is_kept_leaves_no_folder(tmp_path: Path) -> None:
    work = Work(tmp_path / "room.work", IDENTITY)
    with pytest.raises(ConfigError, match="no text"), work.held():
        raise ConfigError("no text")
    assert list(tmp_path.iterdir()) == []
    with work.held():
        work.once("a.json", lambda: 1)
    with pytest.raises(ConfigError, match="no text"), work.held():
        raise ConfigError("no text")
    assert (tmp_path / "room.work" / "a.json").is_file()


def test_removal_that_is_killed_midway_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(tmp_path / "room.work", IDENTITY)
    with work.held():
        work.once("a.json", lambda: 1)
    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", lambda *_a, **_k: (tmp_path / ".room.work.englishroom-gone/identity").unlink())
        work.remove()
    with work.held():
        assert work.once("a.json", lambda: 2) == 2
    work.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Kept(tmp_path / "fit.pt", IDENTITY)
    file.write(b"old")

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ArtifactError, match=r"fit.pt: cannot be written \(no space left on the disk; it takes"):
        file.write(b"new")
    assert file.read() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["fit.pt"]
