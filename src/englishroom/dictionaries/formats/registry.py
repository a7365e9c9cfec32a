"""Read dictionaries of whatever format stands at a path, and write them in a chosen one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.formats import circuit_tracer, dictionary_learning, own, saelens, sparsify
from englishroom.dictionaries.formats.files import natural, write_folder
from englishroom.errors import ArtifactError, ConfigError, UnsupportedModelError
from englishroom.models.spec import Family

Format = Literal["englishroom", "saelens", "sparsify", "dictionary_learning", "circuit_tracer"]
FORMATS: tuple[Format, ...] = get_args(Format)

_READERS: Mapping[Format, tuple[str, Callable[[Path], list[Dictionary]]]] = MappingProxyType(
    {
        "englishroom": (own.MARKER, own.read),
        "saelens": (saelens.MARKER, saelens.read),
        "sparsify": (sparsify.MARKER, sparsify.read),
        "dictionary_learning": (dictionary_learning.MARKER, dictionary_learning.read),
        "circuit_tracer": (circuit_tracer.MARKER, circuit_tracer.read),
    }
)
"""Format -> the file by which a folder of it is known, and its reader."""


def detect_format(path: Path) -> tuple[Format, list[Path]]:
    """Say which format a folder is of, and which folders in it (or itself) hold dictionaries, in order of their names.

    Raises:
        ConfigError: there is no such folder.
        ArtifactError: it holds dictionaries of no known format, or of several.
    """
    if not path.is_dir():
        raise ConfigError(f"{path}: no such folder; give a folder of dictionaries")
    for format_, (marker, _) in _READERS.items():
        if (path / marker).is_file():
            return format_, [path]
    found: dict[Format, list[Path]] = {
        format_: sorted((p.parent for p in path.rglob(marker)), key=lambda p: natural(p.relative_to(path).as_posix()))
        for format_, (marker, _) in _READERS.items()
    }
    found = {format_: folders for format_, folders in found.items() if folders}
    if not found:
        markers = ", ".join(f"{marker} ({format_})" for format_, (marker, _) in _READERS.items())
        raise ArtifactError(f"{path}: holds no dictionaries; expected, there or in its folders, {markers}")
    if len(found) > 1:
        raise ArtifactError(f"{path}: holds dictionaries of {' and '.join(found)}; give the folder of one of them")
    return next(iter(found.items()))


def read_dictionaries(path: Path) -> list[Dictionary]:
    """Read the dictionaries of a folder, or of the folders in it, whatever their format.

    Raises:
        ConfigError: there is no such folder.
        UnsupportedModelError: one is of a kind that a :class:`Dictionary` cannot hold exactly.
        ArtifactError: files are damaged, missing, or contradict each other.
    """
    format_, folders = detect_format(path)
    return [dictionary for folder in folders for dictionary in _READERS[format_][1](folder)]


def write_dictionaries(
    path: Path, format: Format, dictionaries: Sequence[Dictionary], target_name: str, family: Family = "gpt2"
) -> None:
    """Write dictionaries to a folder in one format, all of them or none.

    Args:
        path: where nothing stands yet, or (``englishroom``) dictionaries that are replaced.
        target_name: name of the model that they belong to.
        family: of that model, whose modules name the folders of ``sparsify``.

    Raises:
        ConfigError: there is nothing to write, no such format, or something else stands at ``path``.
        UnsupportedModelError: the format cannot hold one of them exactly.
        ArtifactError: the disk is full or not writable.
    """
    if not dictionaries:
        raise ConfigError(f"{path}: no dictionaries to write; give at least one")
    places = [(d.spec.reads, d.spec.writes[0]) for d in dictionaries]
    if format != "englishroom" and len(set(places)) < len(places):
        twice = next(d.spec.name for d, place in zip(dictionaries, places, strict=True) if places.count(place) > 1)
        raise UnsupportedModelError(f"{twice}: two dictionaries stand there, {format} holds one; write them apart")
    match format:
        case "englishroom":
            return own.save_dictionaries(path, dictionaries, target_name)
        case "saelens":
            files = saelens.contents(dictionaries, target_name)
        case "sparsify":
            files = sparsify.contents(dictionaries, family)
        case "dictionary_learning":
            files = dictionary_learning.contents(dictionaries, target_name)
        case "circuit_tracer":
            files = circuit_tracer.contents(dictionaries, target_name)
        case _:
            raise ConfigError(f"format {format!r} is not known; known: {', '.join(FORMATS)}")
    write_folder(path, files)
    return None
