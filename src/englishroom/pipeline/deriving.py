"""Rooms made of rooms: a program changed by passes, written with what is known of where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from englishroom.emit.python import Header
from englishroom.ir.labels import check_labels, labels_from_json
from englishroom.ir.program import Program
from englishroom.ir.tokenizer import Tokenizer
from englishroom.names import LABELS
from englishroom.passes.base import Record
from englishroom.pipeline.checking import lengthened, positions_to_emit
from englishroom.pipeline.writing import draft_room, plain_record, versions, write
from englishroom.plain import to_json
from englishroom.steps import Progress
from englishroom.store import Manifest, StoredRoom


def write_derived(
    source: StoredRoom,
    program: Program,
    tokenizer: Tokenizer,
    new: Sequence[Record],
    summary_lines: Sequence[str],
    measured: Mapping[str, Any],
    text: str,
    out: Path,
    progress: Progress,
    same_features: bool = True,
) -> Manifest:
    """Write a program that passes made of a room's as a room of its own, and check what was written.

    Args:
        new: what the passes did.
        summary_lines: lines for the header of ``program.py``.
        measured: further files, by name, as plain data.
        same_features: whether features are those of the room, so that its labels hold; ``englishroom label`` makes new
            ones.
        text: on whose beginning the written file is compared with the interpreter.

    Raises:
        EnglishRoomError: the written program says something else, or the place to write to will not do.
    """
    labels = None
    if LABELS in source.contents and same_features:
        labels = check_labels(labels_from_json(source.contents[LABELS]), program)
    before = source.manifest
    made_from = {"made_from": {"name": source.path.resolve().name, "sha256": before.sha256}}
    texts = {"texts": before.evidence["texts"]} if "texts" in before.evidence else {}
    records = [*before.records, *map(plain_record, new)]
    manifest = replace(before, level=program.level, records=records, evidence=made_from | texts, versions=versions())
    n_positions = positions_to_emit(program)
    beginning = [tokenizer.start_id, *tokenizer.encode(text)][:n_positions]
    read = lengthened(beginning, n_positions, len(tokenizer.pieces))
    header, files = Header(before.target["name"], tuple(summary_lines)), {n: to_json(v) for n, v in measured.items()}
    return write(draft_room(program, tokenizer, header, labels, read, manifest, files), out, progress, before)
