"""A room on disk: a folder with a manifest, written whole or not at all, and checked when it is read.

The folder is made under another name beside its place, flushed, and moved there with one rename. A room that stood
there before is moved aside first and removed last; if the process dies in between, the next reader or writer moves it
back. So there is always the old room or the new one, never half of either.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
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


def is_room(path: Path) -> bool:
    """Say whether a folder is a room (after putting an interrupted replacement right)."""
    _recover(path)
    return (path / MANIFEST).is_file()


def write_room(path: Path, contents: Mapping[str, bytes], describe: Callable[[Path], Manifest]) -> Manifest:
    """Write a room, replacing the one at ``path`` if there is one.

    Args:
        contents: every file but the manifest.
        describe: given the unfinished folder, with every other file in it, returns the manifest. Whatever it raises
            stops the writing, so a room that fails its own measurement never takes its place.

    Raises:
        ConfigError: something else than a room stands at ``path``.
        ArtifactError: the disk is full or not writable; whatever stood at ``path`` is untouched.
    """
    path = path.resolve()
    check_out(path)
    part = path.parent / f".{path.name}.part-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(path)
        part.mkdir()
        for name, data in contents.items():
            _write(part / name, data)
        manifest = replace(describe(part), files={name: sha256(data) for name, data in contents.items()})
        manifest = replace(manifest, sha256=sha256(_manifest_bytes(manifest)))
        _write(part / MANIFEST, _manifest_bytes(manifest))
        _sync(part)
        old = _old(path)
        if path.exists():
            path.rename(old)
        part.rename(path)
        _sync(path.parent)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        _recover(path)
        size = sum(map(len, contents.values()))
        why = "no space left on the disk" if error.errno == errno.ENOSPC else (error.strerror or str(error))
        raise ArtifactError(
            f"{path}: cannot write the room ({why}; it needs over {size:,} bytes); nothing was changed, "
            "make room or choose another --out"
        ) from None
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(_old(path), ignore_errors=True)
    return manifest


def check_out(path: Path) -> None:
    """Refuse a place that holds something else than a room, before any work is done for it."""
    _recover(path)
    if path.is_dir():
        if any(path.iterdir()) and not (path / MANIFEST).is_file():
            raise ConfigError(f"{path}: is a folder with other things in it, not a room; choose another --out")
    elif path.exists():
        raise ConfigError(f"{path}: is a file; choose another --out")


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a room, without reading its files.

    Raises:
        ArtifactError: there is no room, or its manifest is damaged or of another version.
    """
    _recover(path)
    where = path / MANIFEST
    try:
        raw = where.read_bytes()
        values = json.loads(raw)
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(
            f"{path}: not a room ({MANIFEST} is missing); make one with englishroom decompile"
        ) from None
    except ValueError as error:
        raise ArtifactError(f"{where}: damaged ({error}); decompile again") from None
    version = values.get("schema_version") if isinstance(values, dict) else None
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


def read_room(path: Path, names: Sequence[str]) -> StoredRoom:
    """Read files of a room, checking each against its hash.

    Raises:
        ArtifactError: there is no room, or a file is missing or changed.
    """
    manifest = read_manifest(path)
    contents: dict[str, bytes] = {}
    for name in names:
        try:
            data = (path / name).read_bytes()
        except FileNotFoundError:
            raise ArtifactError(f"{path / name}: missing from the room; restore the file or decompile again") from None
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


def _old(path: Path) -> Path:
    return path.parent / f".{path.name}.old"


def _recover(path: Path) -> None:
    """Put back a room that was moved aside by a writer that died before its own room was in place."""
    old = _old(path)
    if old.is_dir() and not path.exists():
        with contextlib.suppress(OSError):
            old.rename(path)


def _clear_leftovers(path: Path) -> None:
    """Remove unfinished rooms of writers that are gone."""
    for part, pid in _parts(path):
        if not _alive(pid):
            shutil.rmtree(part, ignore_errors=True)
    if path.exists():
        shutil.rmtree(_old(path), ignore_errors=True)


def _parts(path: Path) -> Iterator[tuple[Path, int]]:
    mark = f".{path.name}.part-"
    for part in path.parent.iterdir():
        pid = part.name.removeprefix(mark).partition("-")[0]
        if part.name.startswith(mark) and pid.isdigit():
            yield part, int(pid)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
