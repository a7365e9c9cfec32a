"""Work that is kept between runs, so that the same command goes on after a kill.

A :class:`Work` is a folder and what everything in it belongs to: the settings, the hashes of the target and of the
texts; the version of englishroom is added. Every file says in its first line what it belongs to, and the hash of the
rest. What belongs to something else is never taken up: a result is made again, a fit is refused by name.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import englishroom
from englishroom.disk import is_leftover, make_folder, replace_file, translated
from englishroom.errors import ArtifactError, ConfigError, EnglishRoomError
from englishroom.plain import from_json, storable, to_json

FORMAT = "englishroom work"
MARK = "identity"
"""Name of the file that says what a whole folder belongs to."""


@dataclass(frozen=True)
class Kept:
    """One file of kept work.

    Attributes:
        identity: what it belongs to, as plain data.
    """

    path: Path
    identity: Mapping[str, Any]

    def write(self, data: bytes) -> None:
        """Keep bytes, whole or not at all.

        Raises:
            ArtifactError: the disk is full or not writable.
        """
        make_folder(self.path.parent)
        about = {"format": FORMAT, "identity": _normal(self.identity), "sha256": hashlib.sha256(data).hexdigest()}
        replace_file(self.path, to_json(about, indent=None) + data)

    def read(self) -> bytes | None:
        """Return what was kept for the same identity, or ``None`` where there is nothing or it is of another.

        Raises:
            ArtifactError: the file is damaged.
        """
        found = self._parts()
        return None if found is None or found[0] != _normal(self.identity) else found[1]

    def take_up(self) -> bytes | None:
        """Return what was kept, or ``None`` where there is nothing.

        Raises:
            ArtifactError: the file is damaged.
            ConfigError: it belongs to something else.
        """
        found, wanted = self._parts(), _normal(self.identity)
        if found is None:
            return None
        if found[0] != wanted:
            raise ConfigError(
                f"{self.path}: belongs to work with another {_difference(found[0], wanted)}; choose another --out, or "
                f"delete the {'folder' if self.path.name == MARK else 'file'} to start over"
            )
        return found[1]

    def _parts(self) -> tuple[Any, bytes] | None:
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ArtifactError(f"{self.path}: cannot be read ({error.strerror})") from None
        first, _, data = raw.partition(b"\n")
        try:
            about = json.loads(first)
            sound = about["format"] == FORMAT and about["sha256"] == hashlib.sha256(data).hexdigest()
            identity = about["identity"]
        except (ValueError, TypeError, KeyError, RecursionError):
            sound, identity = False, None
        if not sound:
            raise ArtifactError(f"{self.path}: damaged, or not kept by this version; delete it to start over")
        return identity, data


class Work:
    """A folder of kept work.

    Args:
        identity: what all of it belongs to, as plain data: settings, hashes of target and texts.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self.identity = dict(identity)

    def of(self, **more: Any) -> Work:
        """Return the same folder for what belongs to more than that: to texts that were read since, for example."""
        return Work(self.folder, self.identity | more)

    def file(self, name: str) -> Kept:
        """Return one of its files."""
        return Kept(self.folder / name, self.identity)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Return plain data that was made for the same identity before, or make it and keep it."""
        kept = self.file(name)
        data = kept.read()
        if data is None:
            data = to_json(make())
            kept.write(data)
        return from_json(data)

    @contextmanager
    def held(self) -> Iterator[Work]:
        """Make the folder, or see that what is in it belongs to this work; the caller has locked its place.

        Where what is done meanwhile is refused before anything was kept, no folder is left behind.

        Raises:
            ConfigError: it belongs to something else.
            ArtifactError: it cannot be written.
        """
        shutil.rmtree(self._gone, ignore_errors=True)  # of a run that was killed while it removed its work
        mark = self.file(MARK)
        if self.folder.is_dir() and not mark.path.is_file():
            others = [entry.name for entry in self.folder.iterdir() if not is_leftover(entry.name)]
            if others:
                raise ConfigError(f"{self.folder}: is not kept work; move it away, or choose another --out")
        if mark.take_up() is None:
            mark.write(b"")
        try:
            yield self
        except EnglishRoomError:
            if all(entry == mark.path or is_leftover(entry.name) for entry in self.folder.iterdir()):
                self.remove()
            raise

    def remove(self) -> None:
        """Remove all that is kept."""
        with translated(self.folder):
            self.folder.rename(self._gone)
        shutil.rmtree(self._gone, ignore_errors=True)

    @property
    def _gone(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.englishroom-gone")


def _normal(identity: Mapping[str, Any]) -> Any:
    """Add the version to an identity, and bring it into the form that it has when it is read."""
    whole = dict(identity) | {"englishroom": englishroom.__version__}
    return json.loads(json.dumps(storable(whole), default=str, sort_keys=True))


def _difference(found: Any, wanted: Any) -> str:
    """Name what two identities differ in: settings by their names, all else by its part."""
    names = []
    for key in sorted({*found, *wanted}) if isinstance(found, dict) else ():
        here, there = found.get(key), wanted.get(key)
        if here != there and isinstance(here, dict) and isinstance(there, dict):
            names += [name for name in sorted({*here, *there}) if here.get(name) != there.get(name)]
        elif here != there:
            names.append(key)
    return ", ".join(names[:6]) or "identity"
