"""Name the features of sparse programs, while rooms are made and afterwards, and tell their memory from the rest."""

from __future__ import annotations

import ast
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.data.texts import Text
from englishroom.disk import locked
from englishroom.emit.python import Header
from englishroom.errors import ConfigError, EnglishRoomError
from englishroom.inside.labelling import label
from englishroom.inside.memory import measure_memory
from englishroom.inside.silencing import parts_of, silent_nats
from englishroom.ir.labels import EXPLAINED_ON, MEASURED_ON, SILENT, Labels, load_labels
from englishroom.ir.program import Program
from englishroom.ir.room import load_program
from englishroom.ir.tokenizer import Tokenizer
from englishroom.names import PROGRAM
from englishroom.passes.base import Record
from englishroom.pipeline.checking import lengthened, positions_to_emit
from englishroom.pipeline.commands import LABEL_ROWS, LabelConfig, MemoryConfig
from englishroom.pipeline.config import OWN_SAMPLES
from englishroom.pipeline.opening import may_open_text, open_original
from englishroom.pipeline.presets import settings_of
from englishroom.pipeline.texts import open_again
from englishroom.pipeline.writing import draft_room, plain_record, write
from englishroom.steps import Progress, Say, silent
from englishroom.store import Manifest, StoredRoom, read_manifest, read_room
from englishroom.untrusted import parse_python

SILENCED_ROWS = 16
"""Documents on which parts of readable programs are silenced."""
SILENCED_ON = "silenced_on"
MEMORY_ROWS = 30
"""Documents on which means are taken, and as many on which nats are measured."""


def rows_of(text: Text, program: Program, tokenizer: Tokenizer, limit: int) -> list[NDArray[np.int64]]:
    """Return the first documents of a text as tokens, from the start token on, cut at the context."""
    return [
        np.array([tokenizer.start_id, *tokenizer.encode(document)][: program.n_ctx], np.int64)
        for document in text.documents[:limit]
    ]


def labels_of(
    program: Program, tokenizer: Tokenizer, text: Text, progress: Progress, n_rows: int = LABEL_ROWS
) -> Labels:
    """Name the features of a program on the beginning of a text that was fitted or chosen on."""
    rows = rows_of(text, program, tokenizer, n_rows)
    return label(program, tokenizer, rows, text.name, partial(progress, "naming features"))


def labels_and_silence(program: Program, tokenizer: Tokenizer, fit: Text, report: Text, progress: Progress) -> Labels:
    """Name the features of a readable program on the fitting text, and measure its parts on the reporting text.

    ``Labels.about`` gets by how much the answers change where each block, look and group of rules is silent.
    """
    labels = labels_of(program, tokenizer, fit, progress)
    rows = rows_of(report, program, tokenizer, SILENCED_ROWS)
    nats = silent_nats(program, parts_of(program, labels), rows, partial(progress, "silencing parts"))
    return Labels(labels.features, {**labels.about, SILENCED_ON: report.name, **nats})


def memory_of(program: Program, tokenizer: Tokenizer, fit: Text, report: Text, progress: Progress) -> dict[str, Any]:
    """Tell memory and algorithm apart, on the reporting text; means come from the fitting text."""
    fitted, held_out = (rows_of(text, program, tokenizer, MEMORY_ROWS) for text in (fit, report))
    about = {"text": report.name, "text_sha256": report.sha256, "means_from": fit.name}
    return about | measure_memory(program, fitted, held_out, partial(progress, "memory and algorithm"))


def memory_of_room(config: MemoryConfig, progress: Progress) -> dict[str, Any]:
    """Tell memory and algorithm apart in the program of a room.

    Raises:
        EnglishRoomError: there is no room, its program is not sparse, or a text will not do.
    """
    program, tokenizer = load_program(config.room)
    read = read_manifest(config.room).evidence.get("texts", {}).get("report", {}).get("blank_lines")
    held_out = open_again({"name": config.text, "blank_lines": read}, tokenizer, progress)
    fitted = fit_text(config.room, config.fit, "--fit", MEMORY_ROWS, progress)
    return memory_of(program, tokenizer, fitted, held_out, progress)


def relabel(config: LabelConfig, say: Say = silent, progress: Progress = silent) -> Manifest:
    """Name the features of a sparse room after what is seen on a text, and write its program with these names.

    ``labels.json``, ``program.py`` and ``origins.json`` change, and with them the manifest; the program does not.

    Raises:
        EnglishRoomError: there is no sparse room, a setting or the text will not do, or the program as written says
            something else.
    """
    config.validate()
    with locked(config.room):
        return _relabelled(config, say, progress)


def _relabelled(config: LabelConfig, say: Say, progress: Progress) -> Manifest:
    """Name features in a room that no other run writes to."""
    room = config.room
    program, tokenizer = load_program(room)
    if program.level != "sparse":
        raise ConfigError(f"{room}: its program is {program.level}; features are named in sparse rooms only")
    chosen = fit_text(room, config.text, "--text", config.rows, progress)
    labels = labels_of(program, tokenizer, chosen, progress, config.rows)
    known = load_labels(room, program)
    kept_about = {
        key: value
        for key, value in known.about.items()
        if key in (EXPLAINED_ON, MEASURED_ON, SILENCED_ON) or key.startswith(SILENT)
    }
    labels = labels.explained(known.explanations, kept_about)
    stored = read_room(room)
    manifest = stored.manifest
    n_positions = positions_to_emit(program)
    beginning = rows_of(chosen, program, tokenizer, 1)[0][:n_positions].tolist()
    read = lengthened(beginning, n_positions, len(tokenizer.pieces))
    record = Record("label", {"text": chosen.name, "sha256": chosen.sha256, "rows": config.rows})
    kept = [other for other in manifest.records if other["made_by"] != record.made_by]
    header = Header(manifest.target["name"], summary_lines_of(stored))
    changed = replace(manifest, records=[*kept, plain_record(record)])
    draft = draft_room(program, tokenizer, header, labels, read, changed, stored.contents)
    written = write(draft, room, progress, manifest)
    gap = written.evidence["emitted_vs_program_nats"]
    say(f"program.py says what the program says, within {gap:.2g} nats on {len(read.tokens)} positions")
    return written


def summary_lines_of(stored: StoredRoom) -> tuple[str, ...]:
    """Read back the summary lines that the header of a room's program states."""
    if PROGRAM not in stored.contents:
        return ()
    tree = parse_python(stored.contents[PROGRAM], stored.path / PROGRAM, "decompile again")
    told = ast.get_docstring(tree, clean=False) or ""
    lines = told.split("\n")
    if "" not in lines[5:]:
        return ()
    return tuple(lines[5 : lines.index("", 5)])


def fit_text(room: Path, text: str | None, flag: str, limit: int, progress: Progress) -> Text:
    """Open the text to name features on, and refuse the one that the room is judged on.

    By default it is the beginning of what the room was fitted on: the texts that its settings name, or what its model
    told, which is told again.
    """
    manifest = read_manifest(room)
    texts = manifest.evidence.get("texts", {})
    fitted = str(texts.get("fit", {}).get("name", ""))
    read = texts.get("fit", {}).get("blank_lines", "collapse")
    program, tokenizer = load_program(room)
    if text is None and not fitted:
        raise ConfigError(f"{room}: does not say what it was fitted on; give {flag}")
    if text is None and fitted.startswith(OWN_SAMPLES):
        from englishroom.pipeline.fitting import sampled_again

        try:
            talker = open_original(room, manifest, program.n_ctx, None)
        except EnglishRoomError as error:
            raise ConfigError(f"{room}: was fitted on {fitted}, and needs the model ({error}); give {flag}") from None
        return sampled_again(talker, manifest.seed, limit, progress, read)
    names = (settings_of(manifest).texts.fit or (fitted,)) if text is None else (text,)
    documents: list[str] = []
    for name in names:
        if text is None and not may_open_text(manifest, name):
            raise ConfigError(f"{room}: was not written here, so its text {name} is not read unasked; give {flag}")
        found = open_again({"name": name, "blank_lines": read}, tokenizer, progress)
        if found.sha256 == texts.get("report", {}).get("sha256"):
            raise ConfigError(f"{name}: is the text that the room is judged on; give {flag} another one")
        if len(names) == 1:
            return replace(found, documents=found.documents[:limit])
        documents += found.documents[: limit - len(documents)]
        if len(documents) == limit:
            break
    return Text.of(" + ".join(names), documents, read)
