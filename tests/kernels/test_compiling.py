"""Loops are compiled where nothing of it can be kept on disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import englishroom
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
