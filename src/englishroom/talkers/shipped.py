"""The talkers that ship inside the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

DEFAULT = "tiny-2l"


def shipped_names() -> list[str]:
    """List the names of the shipped talkers."""
    folder = _folder()
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def shipped_path(name: str) -> Path | None:
    """Return the folder of a shipped talker, or ``None`` for any other name."""
    path = _folder() / name
    return path if name in shipped_names() else None


def _folder() -> Path:
    return Path(str(resources.files("englishroom.talkers").joinpath("shipped_models")))
