"""Loops are compiled where nothing of it can be kept on disk."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

import englishroom
from englishroom.kernels.compiling import compiled
from tiny import make_gpt2

TALK = """
import sys
import englishroom
from englishroom.cli import main
assert englishroom.__file__.startswith(sys.argv[1])
sys.exit(main(["talk", sys.argv[2], "Once", "--max-tokens", "3", "--no-check"]))
"""
PACKAGE = Path(englishroom.__file__).parent


def installed_where_nothing_can_be_written(folder: Path) -> dict[str, str]:
    """Copy the package to where no module has a place for compiled code beside it, and return an environment for it.

    A file in place of the folder ``__pycache__`` and a home that is no folder keep even an administrator out.
    """
    shutil.copytree(PACKAGE, folder / "englishroom", ignore=shutil.ignore_patterns("__pycache__"))
    for part in (folder / "englishroom").rglob("*/"):
        (part / "__pycache__").touch()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("NUMBA_", "XDG_"))}
    return kept | {"HOME": os.devnull, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def test_a_model_talks_without_a_writable_home_from_a_read_only_installation(tmp_path: Path):
    model = make_gpt2(tmp_path / "model")
    environment = installed_where_nothing_can_be_written(tmp_path / "installed")
    command = [sys.executable, "-c", TALK, str(tmp_path / "installed"), str(model)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Once")


def twice(x):  # pragma: no cover (compiled)
    return x + x


def kept(folder: Path, ending: str) -> list[Path]:
    return list(folder.rglob(f"*twice*.{ending}"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of its own for compiled code."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_was_compiled_is_kept_for_the_next_process(cache: Path):
    assert compiled()(twice)(4) == 8
    assert kept(cache, "nbi")
    assert kept(cache, "nbc")
    again = compiled()(twice)
    assert again(4) == 8
    assert sum(again.stats.cache_hits.values()) == 1


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [b"", b"\x80\x04no pickle", None])
def test_what_is_damaged_on_disk_is_compiled_anew(ending: str, damage: bytes | None, cache: Path):
    assert compiled()(twice)(4) == 8
    for path in kept(cache, ending):
        path.write_bytes(path.read_bytes()[:-9] if damage is None else damage)
    again = compiled()(twice)
    assert again(4) == 8
    assert not again.stats.cache_hits
    third = compiled()(twice)
    assert third(4) == 8
    assert sum(third.stats.cache_hits.values()) == 1


def test_what_cannot_be_written_is_not_kept(cache: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, "save", full)
    assert compiled()(twice)(4) == 8
    assert not kept(cache, "nbi")
