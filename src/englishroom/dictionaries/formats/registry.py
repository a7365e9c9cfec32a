"""Read dictionaries of whatever format stands at a path, and write them in a chosen one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.formats import circuit_tracer, dictionary_learning, own, saelens, sparsify
from englishroom.dictionaries.formats.files import natural
from englishroom.dictionaries.formats.format import CodedModel, DictionaryFormat
from englishroom.errors import ArtifactError, ConfigError, UnsupportedModelError
from englishroom.models.spec import Family

FORMATS: tuple[DictionaryFormat, ...] = (
    own.FORMAT,
    saelens.FORMAT,
    sparsify.FORMAT,
    dictionary_learning.FORMAT,
    circuit_tracer.FORMAT,
)
"""Every format that is read and written; a folder is looked through for their markers in this order."""


def format_named(name: str) -> DictionaryFormat:
    """Return the format of a name.

    Raises:
        ConfigError: there is none.
    """
    for found in FORMATS:
        if found.name == name:
            return found
    raise ConfigError(f"--format is {name}, expected {', '.join(known.name for known in FORMATS)}")


def detect_format(path: Path) -> tuple[DictionaryFormat, list[Path]]:
    """Say which format a folder is of, and which folders in it (or itself) hold dictionaries, in order of their names.

    Raises:
        ConfigError: there is no such folder.
        ArtifactError: it holds dictionaries of no known format, or of several.
    """
    if not path.is_dir():
        raise ConfigError(f"{path}: no such folder; give a folder of dictionaries")
    for known in FORMATS:
        if (path / known.marker).is_file():
            return known, [path]
    found = [(known, sorted((p.parent for p in path.rglob(known.marker)), key=_in(path))) for known in FORMATS]
    found = [(known, folders) for known, folders in found if folders]
    if not found:
        markers = ", ".join(f"{known.marker} ({known.name})" for known in FORMATS)
        raise ArtifactError(f"{path}: holds no dictionaries; expected, there or in its folders, {markers}")
    if len(found) > 1:
        names = " and ".join(known.name for known, _ in found)
        raise ArtifactError(f"{path}: holds dictionaries of {names}; give the folder of one of them")
    return found[0]


def read_dictionaries(path: Path) -> list[Dictionary]:
    """Read the dictionaries of a folder, or of the folders in it, whatever their format.

    Raises:
        ConfigError: there is no such folder.
        UnsupportedModelError: one is of a kind that a :class:`Dictionary` cannot hold exactly.
        ArtifactError: files are damaged, missing, or contradict each other.
    """
    known, folders = detect_format(path)
    return [dictionary for folder in folders for dictionary in known.read(folder)]


def write_dictionaries(
    path: Path, format: str, dictionaries: Sequence[Dictionary], target_name: str, family: Family = "gpt2"
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
    chosen = format_named(format)
    if not dictionaries:
        raise ConfigError(f"{path}: no dictionaries to write; give at least one")
    places = [(d.spec.reads, d.spec.writes[0]) for d in dictionaries]
    if not chosen.holds_two and len(set(places)) < len(places):
        twice = next(d.spec.name for d, place in zip(dictionaries, places, strict=True) if places.count(place) > 1)
        raise UnsupportedModelError(f"{twice}: two dictionaries stand there, {format} holds one; write them apart")
    chosen.write(path, dictionaries, CodedModel(target_name, family))


def _in(path: Path) -> Callable[[Path], list[tuple[int, str]]]:
    """Return the key that sorts folders by their names in ``path``, numbers by their size."""
    return lambda folder: natural(folder.relative_to(path).as_posix())
