"""Write the programs of the shipped rooms anew, and what was measured in its present form, once either has changed:

python tests/write_shipped_room.py
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from englishroom.emit.python import Header, emit
from englishroom.ir.labels import load_labels
from englishroom.ir.room import load_program
from englishroom.names import MEMORY, ORIGINS, PROGRAM, SCORES, TABLES
from englishroom.pipeline.labelling import summary_lines_of
from englishroom.plain import from_json, to_json
from englishroom.store import read_room, write_room
from englishroom.talkers.shipped import DEFAULT, READABLE, shipped_room


def in_present_form(value: Any) -> Any:
    """Put underscores for the blanks of keys, and numbers for texts that stand for nan or an infinity."""
    if isinstance(value, dict):
        return {key.replace(" ", "_"): in_present_form(item) for key, item in value.items()}
    if isinstance(value, list):
        return [in_present_form(item) for item in value]
    return float(value) if value in ("nan", "inf", "-inf") else value


def write_anew(room: Path) -> None:
    """Emit the program of a room with the labels and the summary lines that it has, and convert its evidence."""
    stored = read_room(room)
    program, tokenizer = load_program(room)
    manifest = stored.manifest
    header = Header(manifest.target["name"], summary_lines_of(stored))
    emitted = emit(program, tokenizer, header, manifest.files[TABLES], load_labels(room, program))
    files = {PROGRAM: emitted.text.encode(), ORIGINS: json.dumps(emitted.origins, indent=0).encode()}
    for name in {SCORES, MEMORY} & stored.contents.keys():
        files[name] = to_json(in_present_form(from_json(stored.contents[name])))
    manifest = replace(manifest, evidence=in_present_form(manifest.evidence))
    write_room(room, (dict(stored.contents) | files).items(), lambda _folder: manifest)


if __name__ == "__main__":
    for shipped in (DEFAULT, READABLE):
        write_anew(shipped_room(shipped))
