"""The manifest of a room: what it says of itself, read strictly.

A manifest is checked in four steps: that it is one of this version; that it has every key, and what readers ask of it
has the form that they expect; that the names of its files are no paths; that its own bytes were not changed.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NotRequired

from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict

import englishroom
from englishroom.errors import ArtifactError
from englishroom.names import MANIFEST
from englishroom.plain import restored, storable
from englishroom.untrusted import parse_json

SCHEMA_VERSION = 1
FORMAT = "englishroom room"
NO_HASH = "0" * 64
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_OPEN = ConfigDict(extra="allow", strict=True)
"""Holds for the forms inside a form, too."""


class TextForm(TypedDict):
    """How a manifest names a text."""

    name: str
    sha256: str
    documents: int
    blank_lines: NotRequired[Literal["collapse", "keep"]]


class TargetForm(TypedDict):
    """How a manifest names the decompiled model."""

    name: str
    sha256: NotRequired[str]
    parameters: NotRequired[int]
    spec: NotRequired[dict[str, Any]]


@with_config(ConfigDict(extra="forbid", strict=True))
class RecordForm(TypedDict):
    """How a manifest tells what a pass did."""

    made_by: str
    options: dict[str, Any]
    rewrites: list[str]
    seconds: float
    cost_nats: float | str | dict[str, str] | None


class EvidenceForm(TypedDict):
    """What readers ask of the evidence in a manifest; it holds more."""

    texts: NotRequired[dict[str, TextForm]]


@with_config(_OPEN)
class _Forms(TypedDict):
    level: Literal["exact", "featured", "sparse", "explained"]
    target: TargetForm
    records: list[RecordForm]
    evidence: EvidenceForm


@with_config(ConfigDict(extra="forbid", strict=True))
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
    sha256: str = NO_HASH
    format: str = FORMAT


_OBJECT, _MANIFEST, _FORMS = TypeAdapter(dict[str, Any]), TypeAdapter(Manifest), TypeAdapter(_Forms)


def parse_manifest(raw: bytes, where: Path) -> Manifest:
    """Read the bytes of a manifest.

    Args:
        where: what messages call it.

    Raises:
        ArtifactError: it is damaged, changed, of another version, or names a file outside its room.
    """
    values = parse_json(raw, _OBJECT, where, "decompile again")
    if values.get("format") != FORMAT:
        raise ArtifactError(f"{where}: not the manifest of a room; give a room, or make one with englishroom decompile")
    version = values.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{where}: schema version is {version!r}, expected {SCHEMA_VERSION}; "
            "use the englishroom that wrote it, or decompile again"
        )
    manifest = parse_json(raw, _MANIFEST, where, "decompile again")
    parse_json(raw, _FORMS, where, "decompile again")
    for name in manifest.files:
        if not is_plain(name):
            raise ArtifactError(f"{where}: files: {name!r} is not the plain name of a file; decompile again")
    unsigned = raw.replace(manifest.sha256.encode(), NO_HASH.encode()) if len(manifest.sha256) == 64 else b""
    if hashlib.sha256(unsigned).hexdigest() != manifest.sha256:
        raise ArtifactError(f"{where}: changed since the room was written; restore the file or decompile again")
    return replace(manifest, records=restored(manifest.records), evidence=restored(manifest.evidence))


def is_plain(name: str) -> bool:
    """Say whether a name is that of a file in the room itself: no path, and not the manifest."""
    return _PLAIN.fullmatch(name) is not None and name != MANIFEST


def manifest_to_bytes(manifest: Manifest) -> bytes:
    """Write what ``parse_manifest`` reads, but for the hash, which the caller puts in."""
    return json.dumps(storable(asdict(manifest)), indent=1, ensure_ascii=True, allow_nan=False).encode() + b"\n"


def versions_of(*packages: str) -> dict[str, str]:
    """Return the versions of englishroom, of Python and of packages, for what records them."""
    found = {"englishroom": englishroom.__version__, "python": platform.python_version()}
    return found | {name: metadata.version(name) for name in packages}
