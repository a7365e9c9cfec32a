"""A room on disk: a folder with a manifest, written whole or not at all, and checked when it is read.

The folder is made under a hidden name beside its place, flushed, and renamed into place. A room that stood there before
is renamed aside first and removed last. Writers hold a lock on the parent folder meanwhile; readers rename nothing, and
look aside when the place is empty. So there is always the old room or the new one, never half of either.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from safetensors import SafetensorError

from englishroom.errors import ArtifactError, ConfigError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
FORMAT = "englishroom room"
_OURS = (MANIFEST, "__pycache__")  # importing program.py leaves the latter


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Manifest:
    """What a room says of itself.

    Attributes:
        schema_version: layout of the folder; another one is refused.
        level: level of the program in it.
        target: identity of the decompiled model: name, family, parameters, sha256 of its weights.
        config: settings of the run that made it.
        seed: seed of whatever was random.
        records: what each pass did, in order.
        evidence: what was measured, each with its unit in its name.
        versions: of englishroom, Python and the libraries that took part.
        files: name of every other file -> its sha256.
        sha256: hash of the manifest's own bytes, this value written as 64 zeros.
        format: says that this file is ours; other programs write a ``manifest.json`` too.
    """

    schema_version: int
    level: str
    target: dict[str, Any]
    config: dict[str, Any]
    seed: int
    records: list[dict[str, Any]]
    evidence: dict[str, Any]
    versions: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)
    sha256: str = "0" * 64
    format: str = FORMAT


@dataclass(frozen=True)
class StoredRoom:
    """A room read from disk: its manifest, and its files, already checked against their hashes."""

    path: Path
    manifest: Manifest
    contents: Mapping[str, bytes]

    def text(self, name: str) -> str:
        """Return a file as text."""
        return self.contents[name].decode("utf-8")

    def arrays(self, name: str) -> dict[str, NDArray]:
        """Return the arrays of a safetensors file, read-only."""
        try:
            return safetensors.numpy.load(self.contents[name])
        except SafetensorError as error:
            raise ArtifactError(f"{self.path / name}: damaged safetensors file ({error}); decompile again") from None


def arrays_to_bytes(arrays: Mapping[str, NDArray]) -> bytes:
    """Lay arrays out as a safetensors file, the same bytes for the same arrays."""
    return safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def sha256(data: bytes) -> str:
    """Hash bytes, as hex."""
    return hashlib.sha256(data).hexdigest()


def looks_like_room(path: Path) -> bool:
    """Say whether a path should be read as a room: it has a manifest, sound or not."""
    return (_place(path) / MANIFEST).is_file()


def write_room(path: Path, contents: Iterable[tuple[str, bytes]], describe: Callable[[Path], Manifest]) -> Manifest:
    """Write a room, replacing the one at ``path`` if there is one.

    Args:
        contents: name and bytes of every file but the manifest; each is let go once it is written.
        describe: given the unfinished folder, with every other file in it, returns the manifest. Whatever it raises
            stops the writing, so a room that fails its own measurement never takes its place.

    Raises:
        ConfigError: something else than a room stands at ``path``.
        ArtifactError: the disk is full or not writable; whatever stood at ``path`` is untouched.
    """
    path = check_out(path)
    part = path.parent / f"{_hidden(path)}part-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    hashes: dict[str, str] = {}
    try:
        with _translated(path):
            _clear_leftovers(path)
            part.mkdir()
        for name, data in contents:
            with _translated(path, len(data)):
                _write(part / name, data)
            hashes[name] = sha256(data)
            del data
        manifest = replace(describe(part), files=hashes, sha256="0" * 64)
        manifest = replace(manifest, sha256=sha256(_manifest_bytes(manifest)))
        with _translated(path):
            _write(part / MANIFEST, _manifest_bytes(manifest))
            _sync(part)
            with _locked(path.parent):
                _swap(part, path)
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
    _sync(path.parent)
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
            raise ConfigError(
                f"{path}: is a folder with other things in it ({strangers[0]}), not just a room; choose another --out"
            )
    elif path.exists():
        raise ConfigError(f"{path}: is a file; choose another --out")
    with _translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return path


def _strangers(folder: Path) -> list[str]:
    """List what is in a folder and is not of a sound room of ours."""
    names = sorted(entry.name for entry in folder.iterdir())
    try:
        known = _parse((folder / MANIFEST).read_bytes(), folder / MANIFEST).files
    except (OSError, ArtifactError):
        return names
    return [name for name in names if name not in known and name not in _OURS]


@contextlib.contextmanager
def _translated(path: Path, size: int = 0) -> Iterator[None]:
    """Turn what the system says while a room is written into one line."""
    try:
        yield
    except OSError as error:
        why = "no space left on the disk" if error.errno == errno.ENOSPC else (error.strerror or str(error))
        needs = f"; a file of it takes {size:,} bytes" if size else ""
        raise ArtifactError(
            f"{path}: cannot write the room ({why}{needs}); nothing was changed, make room or choose another --out"
        ) from None


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a room, without reading its files.

    Raises:
        ArtifactError: there is no room, or its manifest is damaged or of another version.
    """
    where = _place(path) / MANIFEST
    try:
        return _parse(where.read_bytes(), path / MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(
            f"{path}: not a room ({MANIFEST} is missing); make one with englishroom decompile"
        ) from None
    except OSError as error:
        raise ArtifactError(f"{path / MANIFEST}: cannot be read ({error.strerror})") from None


def _parse(raw: bytes, where: Path) -> Manifest:
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{where}: damaged ({error}); decompile again") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ArtifactError(f"{where}: not the manifest of a room; give a room, or make one with englishroom decompile")
    version = values.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{where}: schema version is {version!r}, expected {SCHEMA_VERSION}; "
            "use the englishroom that wrote it, or decompile again"
        )
    try:
        manifest = TypeAdapter(Manifest).validate_json(raw, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ArtifactError(f"{where}: {place}: {first['msg']}; decompile again") from None
    if sha256(raw.replace(manifest.sha256.encode(), b"0" * 64)) != manifest.sha256:
        raise ArtifactError(f"{where}: changed since the room was written; restore the file or decompile again")
    return manifest


def _manifest_bytes(manifest: Manifest) -> bytes:
    return json.dumps(asdict(manifest), indent=1, ensure_ascii=True, allow_nan=False).encode() + b"\n"


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
        with _locked(_resolved(path).parent):
            return _read_files(path, names)


def _read_files(path: Path, names: Sequence[str] | None) -> StoredRoom:
    manifest = read_manifest(path)
    contents: dict[str, bytes] = {}
    for name in sorted(manifest.files) if names is None else names:
        try:
            data = (_place(path) / name).read_bytes()
        except FileNotFoundError:
            raise ArtifactError(f"{path / name}: missing from the room; restore the file or decompile again") from None
        except OSError as error:
            raise ArtifactError(f"{path / name}: cannot be read ({error.strerror}); restore the file") from None
        if sha256(data) != manifest.files.get(name):
            raise ArtifactError(
                f"{path / name}: changed since the room was written (sha256 differs from {MANIFEST}); "
                "restore the file or decompile again"
            )
        contents[name] = data
    return StoredRoom(path, manifest, MappingProxyType(contents))


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot flush a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other writers out of a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # a loop of symbolic links is either, by version
        raise ConfigError(f"{path}: leads nowhere ({error}); choose another path") from None


def _hidden(path: Path) -> str:
    return f".{path.name}.englishroom-"


def _old(path: Path) -> Path:
    return path.parent / f"{_hidden(path)}old"


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


def _clear_leftovers(path: Path) -> None:
    """Remove unfinished rooms of writers that are gone."""
    mark = f"{_hidden(path)}part-"
    for part in path.parent.iterdir():
        pid = part.name.removeprefix(mark).partition("-")[0]
        if part.name.startswith(mark) and pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(part, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
