"""Rooms made of rooms: a program changed by passes, written with what is known of where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from englishroom.emit.python import Heading, emit
from englishroom.evaluate.talkers.program import EmittedTalker, ProgramTalker
from englishroom.ir.labels import check_labels, labels_from_json
from englishroom.ir.program import Program
from englishroom.ir.room import pack
from englishroom.ir.tokenizer import Tokenizer
from englishroom.names import LABELS, ORIGINS, PROGRAM, TABLES
from englishroom.passes.base import Record
from englishroom.pipeline.checking import check_emitted, lengthened, positions_to_emit
from englishroom.pipeline.measuring import json_bytes
from englishroom.pipeline.steps import Progress
from englishroom.pipeline.writing import versions
from englishroom.store import Manifest, StoredRoom, sha256, write_room


def write_derived(
    source: StoredRoom,
    program: Program,
    tokenizer: Tokenizer,
    records: Sequence[Record],
    facts: Sequence[str],
    measured: Mapping[str, Any],
    text: str,
    out: Path,
    progress: Progress,
    same_features: bool = True,
) -> Manifest:
    """Write a program that passes made of a room's as a room of its own, and check what was written.

    Args:
        facts: lines for the header of ``program.py``.
        measured: further files, by name, as plain data.
        same_features: whether features are those of the room, so that its labels hold; ``englishroom label`` makes new
            ones.
        text: on whose beginning the written file is compared with the interpreter.

    Raises:
        EnglishRoomError: the written program says something else, or the place to write to will not do.
    """
    labels = None
    files = pack(program, tokenizer)
    if LABELS in source.contents and same_features:
        labels = check_labels(labels_from_json(source.contents[LABELS]), program)
        files[LABELS] = source.contents[LABELS]
    heading = Heading(source.manifest.target["name"], tuple(facts))
    emitted = emit(program, tokenizer, heading, sha256(files[TABLES]), labels)
    files |= {PROGRAM: emitted.text.encode(), ORIGINS: json.dumps(emitted.origins, indent=0).encode()}
    files |= {name: json_bytes(value) for name, value in measured.items()}
    n_positions = positions_to_emit(program)
    beginning = [tokenizer.start_id, *tokenizer.encode(text)][:n_positions]
    read = lengthened(beginning, n_positions, len(tokenizer.pieces))
    expected = ProgramTalker("program", program, tokenizer, np.float64).log_probs(np.array([read.tokens]))[0]

    def describe(folder: Path) -> Manifest:
        reading = EmittedTalker(folder / PROGRAM, tokenizer, program.n_ctx)
        made_from = {"name": source.path.resolve().name, "sha256": source.manifest.sha256}
        evidence: dict[str, Any] = {"made_from": made_from, **check_emitted(reading, read, expected, progress)}
        if "texts" in source.manifest.evidence:
            evidence["texts"] = source.manifest.evidence["texts"]
        new = [json.loads(json.dumps(asdict(record))) for record in records]
        return replace(
            source.manifest,
            level=program.level,
            records=[*source.manifest.records, *new],
            evidence=evidence,
            versions=versions(),
        )

    return write_room(out, files.items(), describe, source.manifest)
