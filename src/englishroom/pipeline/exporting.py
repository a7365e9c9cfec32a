"""From a room to folders that other tools read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from englishroom.dictionaries.formats import format_named, write_dictionaries
from englishroom.errors import ArtifactError
from englishroom.ir.room import load_program
from englishroom.lower.recover import dictionaries_of
from englishroom.models.spec import Family
from englishroom.store import read_manifest


def export(room: Path, out: Path, format: str) -> Iterator[str]:
    """Write the dictionaries of a featured room, and say what was written, a line a dictionary.

    Raises:
        EnglishRoomError: the room has none, the format cannot hold them, or the folder will not do.
    """
    format_named(format)
    target = read_manifest(room).target
    found = dictionaries_of(load_program(room)[0])
    family = target.get("spec", {}).get("family")
    if family not in get_args(Family):
        raise ArtifactError(f"{room}: does not say of which family its model is; decompile again")
    write_dictionaries(out, format, found, target["name"], family)
    for dictionary in found:
        spec = dictionary.spec
        yield f"{spec.name}: {spec.activation}, {spec.n_latents:,} latents, {spec.d_in} numbers in, {spec.d_out} out"
    yield f"wrote {out}"
