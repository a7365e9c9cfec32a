"""A room on disk: a folder with a manifest, written whole or not at all, and checked when it is read.

The folder is made under a hidden name beside its place, flushed, and renamed into place. A room that stood there before
is renamed aside first and removed last. Writers hold a lock on the parent folder meanwhile; readers rename nothing, and
look aside when the place is empty. So there is always the old room or the new one, never half of either.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import TypeAdapter

from englishroom.disk import clear_leftovers, flush_folder, locked_folder, part_of, translated, write_flushed
from englishroom.errors import ArtifactError, ConfigError
from englishroom.manifest import NO_HASH, Manifest, is_plain, manifest_to_bytes, parse_manifest
from englishroom.manifest import SCHEMA_VERSION as SCHEMA_VERSION
from englishroom.names import MANIFEST
from englishroom.untrusted import ARRAY_BYTES, TEXT_BYTES, parse_arrays, parse_plain, parse_text, read_bytes
from englishroom.written import remember, written_here

_OURS = (MANIFEST, "__pycache__")  # importing program.py leaves the latter
_NUMBERS = (".safetensors", ".parquet")
_ADVICE = "restore the file or decompile again"


@dataclass(frozen=True)
class StoredRoom:
    """A room read from disk: its manifest, and its files, already checked against their hashes."""

    path: Path
    manifest: Manifest
    contents: Mapping[str, bytes]

    def text(self, name: str) -> str:
        """Return a file as text."""
        return parse_text(self.contents[name], self.path / name, "decompile again")

    def json(self, name: str, kind: TypeAdapter[Any]) -> Any:
        """Return what a JSON file of a stated form holds, as plain data."""
        return parse_plain(self.contents[name], self.path / name, "decompile again", kind)

    def arrays(self, name: str) -> dict[str, NDArray]:
        """Return the arrays of a safetensors file."""
        return parse_arrays(self.contents[name], self.path / name, "decompile again")


def arrays_to_bytes(arrays: Mapping[str, NDArray]) -> bytes:
    """Lay arrays out as a safetensors file, the same bytes for the same arrays."""
    return safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def sha256(data: bytes) -> str:
    """Hash bytes, as hex."""
    return hashlib.sha256(data).hexdigest()


def looks_like_room(path: Path) -> bool:
    """Say whether a path should be read as a room: it has a manifest, sound or not."""
    return (_place(path) / MANIFEST).is_file()


def write_room(
    path: Path,
    contents: Iterable[tuple[str, bytes]],
    describe: Callable[[Path], Manifest],
    made_of: Manifest | None = None,
) -> Manifest:
    """Write a room, replacing the one at ``path`` if there is one.

    Args:
        contents: name and bytes of every file but the manifest; each is let go once it is written.
        describe: given the unfinished folder, with every other file in it, returns the manifest. Whatever it raises
            stops the writing, so a room that fails its own measurement never takes its place.
        made_of: the room that it takes names of models and texts from; it counts as written here where that one does.

    Raises:
        ConfigError: something else than a room stands at ``path``, or the name of a file is a path.
        ArtifactError: the disk is full or not writable; whatever stood at ``path`` is untouched.
    """
    path = check_out(path)
    part = path.parent / f"{part_of(path).name}-{uuid.uuid4().hex[:8]}"
    hashes: dict[str, str] = {}
    try:
        with translated(path):
            clear_leftovers(path)
            part.mkdir()
        for name, data in contents:
            if not is_plain(name):
                raise ConfigError(f"{path}: a file of a room cannot be called {name!r}")
            with translated(path, len(data)):
                write_flushed(part / name, data)
            hashes[name] = sha256(data)
            del data
        manifest = replace(describe(part), files=hashes, sha256=NO_HASH)
        manifest = replace(manifest, sha256=sha256(manifest_to_bytes(manifest)))
        with translated(path):
            write_flushed(part / MANIFEST, manifest_to_bytes(manifest))
            flush_folder(part)
            with locked_folder(path.parent):
                _swap(part, path)
        if made_of is None or written_here(made_of.sha256):
            remember(manifest.sha256)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return manifest


def _swap(part: Path, path: Path) -> None:
    """Put a finished folder in its place, under the lock."""
    _recover(path)
    check_out(path)
    try:
        if path.exists():
            shutil.rmtree(_old(path), ignore_errors=True)  # of a writer that died just before removing it
            path.rename(_old(path))
        part.rename(path)
    finally:
        _recover(path)
    flush_folder(path.parent)
    shutil.rmtree(_old(path), ignore_errors=True)


def check_out(path: Path) -> Path:
    """Refuse a place that holds anything else than a room, before any work is done for it.

    Returns:
        The place, symbolic links followed.

    Raises:
        ConfigError: a file, the folder one is in, or a folder with other things in it stands there.
        ArtifactError: the place cannot be written to.
    """
    path = _resolved(path)
    if Path.cwd().is_relative_to(path):
        raise ConfigError(f"{path}: is the folder you are in, or holds it; choose another --out")
    if path.is_dir():
        strangers = _strangers(path)
        if strangers:
            raise ConfigError(f"{path}: holds other things than a room ({strangers[0]}); choose another --out")
    elif path.exists():
        raise ConfigError(f"{path}: is a file; choose another --out")
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return path


def _strangers(folder: Path) -> list[str]:
    """List what is in a folder and is not of a sound room of ours."""
    names = sorted(entry.name for entry in folder.iterdir())
    try:
        known = parse_manifest(_read(folder, MANIFEST, folder), folder / MANIFEST).files
    except ArtifactError:
        return names
    return [name for name in names if name not in known and name not in _OURS]


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a room, without reading its files.

    Raises:
        ArtifactError: there is no room, or its manifest is damaged or of another version.
    """
    place = _place(path)
    if not os.path.lexists(place / MANIFEST):
        raise ArtifactError(f"{path}: not a room ({MANIFEST} is missing); make one with englishroom decompile")
    return parse_manifest(_read(place, MANIFEST, path), path / MANIFEST)


def _read(place: Path, name: str, path: Path) -> bytes:
    """Read a file of the room at ``place``, which the user calls ``path``; nothing outside it is read."""
    file = place / name
    if file.is_symlink() and not _resolved(file).is_relative_to(place):
        raise ArtifactError(f"{path / name}: is a link that leads out of the room; {_ADVICE}")
    return read_bytes(file, _ADVICE, ARRAY_BYTES if file.suffix in _NUMBERS else TEXT_BYTES, path / name)


def read_room(path: Path, names: Sequence[str] | None = None) -> StoredRoom:
    """Read files of a room (by default all), checking each against its hash.

    What does not fit together is read once more with writers kept out, in case one was just putting a new room there.

    Raises:
        ArtifactError: there is no room, or a file is missing or changed.
    """
    try:
        return _read_files(path, names)
    except ArtifactError:
        if not _resolved(path).parent.is_dir():
            raise
        with locked_folder(_resolved(path).parent):
            return _read_files(path, names)


def _read_files(path: Path, names: Sequence[str] | None) -> StoredRoom:
    manifest = read_manifest(path)
    contents: dict[str, bytes] = {}
    for name in sorted(manifest.files) if names is None else names:
        if name not in manifest.files:
            raise ArtifactError(f"{path / name}: the room has no such file; {_ADVICE}")
        data = _read(_place(path), name, path)
        if sha256(data) != manifest.files[name]:
            raise ArtifactError(
                f"{path / name}: changed since the room was written (sha256 differs from {MANIFEST}); {_ADVICE}"
            )
        contents[name] = data
    return StoredRoom(path, manifest, MappingProxyType(contents))


def check_apart(made_from: str | Path, out: Path) -> None:
    """Refuse a place to write to that is what is read, or lies in it.

    Raises:
        ConfigError: it is, or lies in it.
    """
    if not Path(made_from).exists():  # a name of a shipped model, or of one on the hub
        return
    if _resolved(out).is_relative_to(_resolved(Path(made_from))):
        raise ConfigError(f"{out}: is {made_from} itself, which is read, or lies in it; choose another --out")


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # a loop of symbolic links is either, by version
        raise ConfigError(f"{path}: leads nowhere ({error}); choose another path") from None


def _old(path: Path) -> Path:
    return path.parent / f".{path.name}.englishroom-old"


def _place(path: Path) -> Path:
    """Say where the room of a path lies: there, or aside where a writer died between its two renames."""
    path = _resolved(path)
    old = _old(path)
    return old if not path.exists() and old.is_dir() and not path.exists() else path


def _recover(path: Path) -> None:
    """Put back a room that was moved aside and not replaced."""
    old = _old(path)
    if old.is_dir() and not path.exists():
        old.rename(path)
