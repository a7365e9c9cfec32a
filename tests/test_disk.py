"""Files put on disk together: all or none, whenever a run is killed; and by one run at a time."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from englishroom import disk
from englishroom.disk import finish, locked, replace_file, replace_files, write_folder
from englishroom.errors import ArtifactError, ConfigError

OLD = {"a.txt": b"old a", "b.txt": b"old b", "c.json": b"old c"}
NEW = {"a.txt": b"new a", "b.txt": b"new b", "c.json": b"new c"}


class Killed(BaseException):
    pass


def held_by(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.mark.parametrize("step", ["write_flushed", "replace", "unlink"])
@pytest.mark.parametrize("after", [False, True])
def test_files_change_together_whenever_a_run_is_killed(
    step: str, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = disk if step == "write_flushed" else Path
    real = getattr(owner, step)
    for at in itertools.count():
        folder = tmp_path / f"{at}"
        folder.mkdir()
        replace_files(folder, OLD)
        calls = itertools.count()

        def killed(*given: object, calls: itertools.count = calls, at: int = at, **named: object) -> object:
            now = next(calls)
            if now == at and not after:
                raise Killed
            found = real(*given, **named) if now <= at else None  # the dead do nothing more
            if now == at:
                raise Killed
            return found

        with monkeypatch.context() as patched:
            patched.setattr(owner, step, killed)
            try:
                replace_files(folder, NEW)
                done = True
            except Killed:
                done = False
        finish(folder, list(NEW))
        assert held_by(folder) in (OLD, NEW), f"killed at {step} {at}"
        if done:
            assert at >= {"write_flushed": 4, "replace": 3, "unlink": 2}[step]
            assert held_by(folder) == NEW
            break
        replace_files(folder, NEW)
        assert held_by(folder) == NEW


def test_a_full_disk_leaves_all_files_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_files(tmp_path, OLD)
    real, calls = disk.write_flushed, itertools.count()

    def full(path: Path, data: bytes) -> None:
        if next(calls) == 2:
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(disk, "write_flushed", full)
    with pytest.raises(ArtifactError, match=r"c.json.*: cannot be written \(no space left on the disk; it takes 5"):
        replace_files(tmp_path, NEW)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == OLD


@pytest.mark.parametrize("write", [replace_file, lambda path, data: write_folder(path, {"file": data})])
def test_what_dead_processes_left_is_cleared_and_the_rest_kept(
    write: Callable[[Path, bytes], None], tmp_path: Path
) -> None:
    dead, dead_folder = tmp_path / ".a.englishroom-part-99999999", tmp_path / ".a.englishroom-part-99999998-x"
    kept = [
        tmp_path / f".a.englishroom-part-{os.getppid()}",
        tmp_path / ".b.englishroom-part-99999999",
        tmp_path / ".a.englishroom-part-x",
    ]
    for path in (dead, *kept):
        path.write_bytes(b"half")
    (dead_folder / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".a.englishroom-part-99999997").symlink_to(tmp_path / "elsewhere")
    write(tmp_path / "a", b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "a", tmp_path / "elsewhere", *kept])


def test_what_others_left_and_keep_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / ".a.englishroom-part-99999999"
    left.write_bytes(b"half")
    unlink = Path.unlink

    def refused(path: Path, missing_ok: bool = False) -> None:
        if path == left:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refused)
    replace_file(tmp_path / "a", b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "empty", {"a": b"1", "deep/b": b"2"})
    assert (tmp_path / "empty" / "deep" / "b").read_bytes() == b"2"
    with pytest.raises(ConfigError, match="empty: is a folder with other things in it; choose another one"):
        write_folder(tmp_path / "empty", {})
    write = disk.write_flushed

    def full(path: Path, data: bytes) -> None:
        if data == b"2":
            raise OSError(errno.ENOSPC, "full")
        write(path, data)

    monkeypatch.setattr(disk, "write_flushed", full)
    with pytest.raises(ArtifactError, match=r"out: cannot be written \(no space left on the disk; it takes 2 bytes"):
        write_folder(tmp_path / "out", {"a": b"1", "deep/b": b"2"})
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"missing/a: cannot be written \(No such file or directory"):
        replace_file(tmp_path / "missing" / "a", b"")
    with pytest.raises(ArtifactError, match=r"cannot be written \(No such file or directory"), locked(tmp_path / "x/y"):
        pass


def test_one_run_at_a_time(tmp_path: Path) -> None:
    place = tmp_path / "room"
    with locked(place):
        with pytest.raises(ConfigError, match=r"room: another englishroom is writing there; wait"), locked(place):
            pass
        with locked(tmp_path / "other"):
            pass
    with locked(place):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from englishroom.disk import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read(1); os._exit(9)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "room")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="another englishroom"), locked(tmp_path / "room"):
            pass
        process.stdin.write("x")
        process.stdin.close()
        assert process.wait() == 9
    with locked(tmp_path / "room"):
        pass


def test_where_files_cannot_be_locked_the_system_is_named() -> None:
    code = "import sys; sys.modules['fcntl'] = None; from englishroom.cli import main; sys.exit(main(['talk']))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr == "error: englishroom runs on Linux and macOS; on Windows, run it inside WSL\n"
