"""Measure how readable a program is, while its room is made or afterwards, and keep that in the room."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from englishroom.data.texts import Text
from englishroom.disk import locked
from englishroom.errors import ConfigError
from englishroom.evaluate.readability_metrics import READABILITY_METRICS
from englishroom.inside.readability import measure_readability
from englishroom.ir.program import Program
from englishroom.ir.room import load_program
from englishroom.ir.tokenizer import Tokenizer
from englishroom.names import READABILITY
from englishroom.passes.base import Record
from englishroom.pipeline.commands import ReadabilityConfig
from englishroom.pipeline.config import MeasureReadableConfig
from englishroom.pipeline.labelling import rows_of
from englishroom.pipeline.texts import open_again
from englishroom.pipeline.writing import plain_record
from englishroom.plain import to_json
from englishroom.steps import Progress, silent
from englishroom.store import read_room, write_room


def readability_of(
    program: Program, tokenizer: Tokenizer, text: Text, sizes: MeasureReadableConfig, seed: int, progress: Progress
) -> dict[str, Any]:
    """Measure a readable program on the beginning of a text; return what ``readability.json`` holds."""
    rows = rows_of(text, program, tokenizer, sizes.readability_documents)
    found = measure_readability(program, rows, sizes.readability_positions, seed, progress)
    about = {"text": text.name, "text_sha256": text.sha256, "documents": len(rows), "seed": seed}
    return about | asdict(found)


def readability_of_room(config: ReadabilityConfig, progress: Progress = silent) -> dict[str, Any]:
    """Measure how readable the program of a room is; its manifest and ``readability.json`` get what was measured.

    Returns:
        What ``readability.json`` holds. Where ``explain-features`` measured how good explanations are, that stands
        among its measures.

    Raises:
        EnglishRoomError: there is no readable room, or a setting or the text will not do.
    """
    config.validate()
    with locked(config.room):
        program, tokenizer = load_program(config.room)
        if not program.is_readable:
            raise ConfigError(
                f"{config.room}: its program is {program.level}, and not made of looks, rules and votes; readability "
                "is measured in rooms that englishroom decompile --level readable made"
            )
        stored = read_room(config.room)
        manifest = stored.manifest
        reported = manifest.evidence.get("texts", {}).get("report", {})
        about = {"name": config.text, "blank_lines": reported.get("blank_lines")}
        text = open_again(about, tokenizer, progress, config.max_documents)
        sizes = MeasureReadableConfig(config.max_documents, config.positions)
        found = readability_of(program, tokenizer, text, sizes, config.seed, progress)
        options = {"text": text.name, "sha256": text.sha256, "documents": found["documents"]}
        record = Record("readability", options | {name: getattr(config, name) for name in ("positions", "seed")})
        records = [other for other in manifest.records if other["made_by"] != record.made_by]
        changed = replace(
            manifest, records=[*records, plain_record(record)], evidence=manifest.evidence | found["measures"]
        )
        files = dict(stored.contents) | {READABILITY: to_json(found)}
        write_room(config.room, files.items(), lambda _folder: changed, manifest)
    return found | {"measures": found["measures"] | measured_elsewhere(changed.evidence)}


def measured_elsewhere(evidence: dict[str, Any]) -> dict[str, Any]:
    """Return the measures that other commands take, with their nulls, where an evidence has them."""
    keys = [key for metric in READABILITY_METRICS if metric.nulls for key in (metric.key, *metric.nulls)]
    return {key: evidence[key] for key in keys if key in evidence}
