"""Know again what was written here: rooms and sketches that englishroom made for this user on this machine.

A sketch is code, and a room names the model and the texts that it was made of, which may be any path or hub name.
Anyone can write either. So sketches are run, and what rooms name is opened, without asking only where this user wrote
them: the sha256 of every room's manifest and of every ``sketch.py`` is kept, one a line, in ``written.txt`` in the
folder ``ENGLISHROOM_CACHE``, or else ``englishroom`` in ``XDG_CACHE_HOME`` or ``~/.cache``. Where none can be written
to, nothing counts as written here.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LIST = "written.txt"


def remember(sha256: str) -> None:
    """Note that something with this hash was written here."""
    with contextlib.suppress(OSError, RuntimeError):
        path = _list()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="ascii") as file:  # a line at once, so that writers side by side do no harm
            file.write(f"{sha256}\n")


def written_here(sha256: str) -> bool:
    """Say whether something with this hash was written here."""
    try:
        return sha256 in _list().read_text(encoding="ascii").splitlines()
    except (OSError, RuntimeError, ValueError):
        return False


def _list() -> Path:
    """Return where the list lies.

    Raises:
        RuntimeError: the user has no home.
    """
    own, common = os.environ.get("ENGLISHROOM_CACHE"), os.environ.get("XDG_CACHE_HOME")
    folder = Path(own) if own else (Path(common) if common else Path.home() / ".cache") / "englishroom"
    return folder / LIST
