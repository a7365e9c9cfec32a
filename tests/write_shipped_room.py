"""Write the program of the shipped room anew, once what emitted files look like has changed:

python tests/write_shipped_room.py
"""

from __future__ import annotations

import json
from pathlib import Path

from englishroom.emit.python import Header, emit
from englishroom.ir.labels import load_labels
from englishroom.ir.room import load_program
from englishroom.names import ORIGINS, PROGRAM, TABLES
from englishroom.pipeline.labelling import summary_lines_of
from englishroom.store import read_room, write_room
from englishroom.talkers.shipped import shipped_room


def write_anew(room: Path) -> None:
    """Emit the program of a room with the labels and the summary lines that it has."""
    stored = read_room(room)
    program, tokenizer = load_program(room)
    manifest = stored.manifest
    header = Header(manifest.target["name"], summary_lines_of(stored))
    emitted = emit(program, tokenizer, header, manifest.files[TABLES], load_labels(room, program))
    files = {PROGRAM: emitted.text.encode(), ORIGINS: json.dumps(emitted.origins, indent=0).encode()}
    write_room(room, (dict(stored.contents) | files).items(), lambda _folder: manifest)


if __name__ == "__main__":
    write_anew(shipped_room())
