"""The talkers that ship inside the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from englishroom.data.overlap import MARKS_FILE
from englishroom.errors import ArtifactError

DEFAULT = "tiny-2l"
SHIPPED_MARKS = "shipped_fit_documents.npz"
READABLE = "tiny-2l-readable"
ROOMS = "shipped_rooms"


def shipped_names() -> list[str]:
    """List the names of the shipped talkers."""
    folder = _folder()
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def shipped_path(name: str) -> Path | None:
    """Return the folder of a shipped talker, or ``None`` for any other name."""
    path = _folder() / name
    return path if name in shipped_names() else None


def shipped_room(name: str = DEFAULT) -> Path:
    """Return the folder of a room that ships: of the default model, or the readable one of the same, ``READABLE``.

    Raises:
        ArtifactError: this installation has none.
    """
    path = _folder().with_name(ROOMS) / name
    if not path.is_dir():
        raise ArtifactError(f"{path}: no shipped room; name one, or make one with englishroom decompile")
    return path


def marks_path(folder: Path) -> Path | None:
    """Return the file of the marks of a model's training documents, or ``None`` where there is none.

    The shipped models were trained on the same text, so their marks ship once.
    """
    own = folder / MARKS_FILE
    if folder.parent == _folder():
        own = _folder().with_name(SHIPPED_MARKS)
    return own if own.exists() else None


def _folder() -> Path:
    return Path(str(resources.files("englishroom.talkers").joinpath("shipped_models")))
