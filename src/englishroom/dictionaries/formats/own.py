"""Our own files: ``dictionaries.json``, and a safetensors file for every dictionary, named by its hash.

The JSON is renamed into place last, so a folder always holds the old dictionaries or the new ones; files that nothing
names any more are removed after that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from englishroom.dictionaries.dictionary import Dictionary, DictionarySpec
from englishroom.dictionaries.formats.files import checked_tensors, make_dictionary, tensors_to_bytes
from englishroom.dictionaries.formats.format import DictionaryFormat
from englishroom.disk import make_folder, replace_file, translated
from englishroom.errors import ArtifactError, ConfigError
from englishroom.models.load import read_safetensors
from englishroom.store import sha256
from englishroom.untrusted import ARRAY_BYTES, first_fault, parse_json, read_bytes

MARKER = "dictionaries.json"
LISTING = "englishroom dictionaries"
SCHEMA_VERSION = 1
ADVICE = "restore the file"
_SPEC = TypeAdapter(DictionarySpec)


@with_config(ConfigDict(extra="forbid", strict=True))
@dataclass(frozen=True)
class ListedDictionary:
    """One dictionary of a folder.

    Attributes:
        spec: the fields of its :class:`DictionarySpec`.
        file: name of the file with its weights.
        sha256: hash of that file.
    """

    spec: dict[str, Any]
    file: str
    sha256: str


@with_config(ConfigDict(extra="forbid", strict=True))
@dataclass(frozen=True)
class Listing:
    """What ``dictionaries.json`` holds."""

    format: str
    schema_version: int
    target_name: str
    about: dict[str, Any]
    dictionaries: list[ListedDictionary]


@dataclass(frozen=True)
class StoredDictionaries:
    """Dictionaries read from disk.

    Attributes:
        target_name: of the model that they belong to.
        about: whatever their maker wrote down: seed, hash of the data, versions, settings.
    """

    dictionaries: tuple[Dictionary, ...]
    target_name: str
    about: Mapping[str, Any]


def save_dictionaries(
    path: Path, dictionaries: Sequence[Dictionary], target_name: str, about: Mapping[str, Any] | None = None
) -> None:
    """Write dictionaries to a folder, replacing those that it holds.

    Raises:
        ConfigError: ``path`` is a file, or ``about`` is not made of plain values.
        ArtifactError: the disk is full or not writable; the dictionaries that stood there are untouched.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path}: is a file; choose a path for a folder")
    contents = [tensors_to_bytes(d.weights) for d in dictionaries]
    entries = [
        ListedDictionary(asdict(d.spec), f"dictionary-{sha256(data)[:16]}.safetensors", sha256(data))
        for d, data in zip(dictionaries, contents, strict=True)
    ]
    listing = Listing(LISTING, SCHEMA_VERSION, target_name, dict(about or {}), entries)
    try:
        text = json.dumps(asdict(listing), indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: about cannot be written as JSON ({error}); give plain values") from None
    make_folder(path)
    for entry, data in zip(entries, contents, strict=True):
        if not (path / entry.file).is_file() or (path / entry.file).read_bytes() != data:
            replace_file(path / entry.file, data)
    replace_file(path / MARKER, text.encode())
    with translated(path):
        for stale in path.glob("dictionary-*.safetensors"):
            if stale.name not in {entry.file for entry in entries}:
                stale.unlink()


def load_dictionaries(path: Path) -> StoredDictionaries:
    """Read the dictionaries of a folder.

    Raises:
        ArtifactError: there are none, or a file is missing, damaged, changed, or of another version.
    """
    where = path / MARKER
    listing = _listing(where)
    names = {field.name for field in fields(DictionarySpec)}
    found = []
    for index, entry in enumerate(listing.dictionaries):
        at = path / entry.file
        if set(entry.spec) != names:
            raise ArtifactError(
                f"{where}: dictionary {index} has {sorted(entry.spec)}, expected {sorted(names)}; restore the file"
            )
        try:
            spec = _SPEC.validate_json(json.dumps(entry.spec), strict=True)
        except ValidationError as error:
            raise ArtifactError(f"{where}: dictionary {index}: {first_fault(error)}; {ADVICE}") from None
        if Path(entry.file).name != entry.file:
            raise ArtifactError(f"{where}: {entry.file!r} lies outside the folder; restore the file")
        if sha256(read_bytes(at, ADVICE, ARRAY_BYTES)) != entry.sha256:
            raise ArtifactError(f"{at}: changed since it was written (sha256 differs from {MARKER}); restore the file")
        weights = checked_tensors(read_safetensors(at), spec.shapes(), at)
        found.append(make_dictionary(vars(spec), weights, at))
    return StoredDictionaries(tuple(found), listing.target_name, MappingProxyType(listing.about))


def read(folder: Path) -> list[Dictionary]:
    """Read the dictionaries of a folder, without what is written about them."""
    return list(load_dictionaries(folder).dictionaries)


def _listing(where: Path) -> Listing:
    raw = read_bytes(where, ADVICE)
    values = parse_json(raw, TypeAdapter(dict[str, Any]), where, ADVICE)
    if values.get("format") != LISTING:
        raise ArtifactError(f"{where}: does not list dictionaries of englishroom; give a folder of dictionaries")
    if values.get("schema_version") != SCHEMA_VERSION:
        raise ArtifactError(
            f"{where}: schema version is {values.get('schema_version')!r}, expected {SCHEMA_VERSION}; "
            "use the englishroom that wrote it, or train again"
        )
    return parse_json(raw, TypeAdapter(Listing), where, ADVICE)


FORMAT = DictionaryFormat(
    "englishroom", MARKER, read, lambda path, found, model: save_dictionaries(path, found, model.name), holds_two=True
)
