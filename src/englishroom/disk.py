"""Files on disk: put in place whole or not at all, alone or several together, by one run at a time.

A file is written under a hidden name beside its place, flushed, and renamed into place. Several files that belong
together are all written so first; then a mark says that they are whole, and then they are renamed. Whoever comes after
a kill between two renames finds the mark, and goes on (:func:`finish`). What a killed run leaves behind has a hidden
name with ``.englishroom-`` in it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from englishroom.errors import ArtifactError, ConfigError

try:
    import fcntl
except ImportError:  # Windows
    raise ImportError("englishroom runs on Linux and macOS; on Windows, run it inside WSL") from None


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in its place at once, so that it is never seen half written.

    Raises:
        ArtifactError: the disk is full, or not writable; what stood there is untouched.
    """
    part = part_of(path)
    try:
        with translated(path, len(data)):
            clear_leftovers(path)
            write_flushed(part, data)
            part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_folder(path: Path, contents: Mapping[str, bytes]) -> None:
    """Write a new folder, or fill an empty one, whole or not at all.

    Args:
        contents: bytes by the files' names, which may lead into folders.

    Raises:
        ConfigError: there is something at ``path`` already.
        ArtifactError: the disk is full, or not writable; nothing is left behind.
    """
    if path.is_dir() and any(path.iterdir()):
        raise ConfigError(f"{path}: is a folder with other things in it; choose another one")
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path}: is a file; choose another place for the folder")
    part = part_of(path)
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_leftovers(path)
    try:
        with translated(path, sum(map(len, contents.values()))):
            for name, data in contents.items():
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                write_flushed(part / name, data)
            part.rename(path)
            flush_folder(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def replace_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Put several files of a folder in their places together; after a kill :func:`finish` puts those that are left.

    Raises:
        ArtifactError: the disk is full, or not writable; what stood there is untouched.
    """
    names, last = [*contents], folder / [*contents][-1]
    finish(folder, names)
    with locked(last, wait=True):
        parts = [_hidden(folder / name, "new") for name in names]
        try:
            for part, data in zip(parts, contents.values(), strict=True):
                with translated(folder / part.name, len(data)):
                    write_flushed(part, data)
            with translated(last):
                write_flushed(_hidden(last, "whole"), b"")
        except BaseException:
            with contextlib.suppress(OSError):
                for part in parts:
                    part.unlink(missing_ok=True)
            raise
        _put(folder, names)


def finish(folder: Path, names: Sequence[str]) -> None:
    """Put files in their places that a run had written whole when it was killed.

    Args:
        names: as :func:`replace_files` was given them.
    """
    last = folder / names[-1]
    if _hidden(last, "whole").exists():
        with locked(last, wait=True):
            _put(folder, names)


def _put(folder: Path, names: Sequence[str]) -> None:
    mark = _hidden(folder / names[-1], "whole")
    with translated(folder / names[-1]):
        for name in names if mark.exists() else ():
            part = _hidden(folder / name, "new")
            if part.exists():
                part.replace(folder / name)
        mark.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[None]:
    """Keep other runs from writing to a place; the lock ends with the process, however that ends.

    Args:
        wait: for the other run to end, instead of refusing.

    Raises:
        ConfigError: another run is writing there.
        ArtifactError: nothing can be written there.
    """
    path = path.resolve()
    lock = _hidden(path, "lock")
    with translated(path):
        handle = _take(lock, path, wait)
        while not _is_at(handle, lock):  # whoever held it before has removed it meanwhile
            os.close(handle)
            handle = _take(lock, path, wait)
    try:
        yield
    finally:
        try:
            with contextlib.suppress(OSError):
                lock.unlink(missing_ok=True)
        finally:
            os.close(handle)


def _take(lock: Path, path: Path, wait: bool) -> int:
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BaseException as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            raise ConfigError(
                f"{path}: another englishroom is writing there; wait until it ends, or choose another place"
            ) from None
        raise
    return handle


def _is_at(handle: int, lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), lock.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Wait until no other run holds a folder, which may be read-only, and hold it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def translated(path: Path, size: int = 0) -> Iterator[None]:
    """Turn what the system says while something is written into one line.

    Args:
        size: bytes that are to be written.
    """
    try:
        yield
    except OSError as error:
        why = "no space left on the disk" if error.errno == errno.ENOSPC else (error.strerror or str(error))
        needs = f"; it takes {size:,} bytes" if size else ""
        raise ArtifactError(
            f"{path}: cannot be written ({why}{needs}); what stood there is untouched, make room or choose another "
            "place, and give the command again"
        ) from None


def write_flushed(path: Path, data: bytes) -> None:
    """Write a file and flush it to the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    with contextlib.suppress(OSError):  # some file systems cannot
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def is_leftover(name: str) -> bool:
    """Say whether a file's name is one that a run gives to what it is writing."""
    return name.startswith(".") and ".englishroom-" in name


def make_folder(path: Path) -> None:
    """Make a folder, and those that it is in, where they are missing.

    Raises:
        ArtifactError: it cannot be made.
    """
    with translated(path):
        path.mkdir(parents=True, exist_ok=True)


def part_of(path: Path) -> Path:
    """Name what this process writes before it is whole; no other process uses the name."""
    return _hidden(path, f"part-{os.getpid()}")


def clear_leftovers(path: Path) -> None:
    """Remove what killed processes had written of a file or folder, where that is allowed."""
    mark = _hidden(path, "part-").name
    with contextlib.suppress(OSError):
        for part in path.parent.iterdir():
            pid = part.name.removeprefix(mark).partition("-")[0]
            if part.name.startswith(mark) and pid.isdecimal() and not _is_alive(int(pid)):
                if part.is_dir() and not part.is_symlink():
                    shutil.rmtree(part, ignore_errors=True)
                else:
                    part.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _hidden(path: Path, what: str) -> Path:
    return path.with_name(f".{path.name}.englishroom-{what}")
