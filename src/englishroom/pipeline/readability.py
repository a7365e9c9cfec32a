"""Measure how readable the program of a room is, and keep that in its manifest."""

from __future__ import annotations

from dataclasses import replace

from englishroom.disk import locked
from englishroom.errors import ConfigError
from englishroom.inside.readability import Readability, ReadabilityMeasure, measure_readability
from englishroom.ir.room import load_program
from englishroom.passes.base import Record
from englishroom.pipeline.commands import ReadabilityConfig
from englishroom.pipeline.labelling import rows_of
from englishroom.pipeline.texts import open_again
from englishroom.pipeline.writing import plain_record
from englishroom.steps import Progress, silent
from englishroom.store import read_room, write_room

EXPLANATIONS = ("explanation_mcc", ("explanation_mcc_shifted", "explanation_mcc_shuffled"))
"""What explain-features measured, and its nulls; the larger one stands beside it."""


def readability_of_room(config: ReadabilityConfig, progress: Progress = silent) -> Readability:
    """Measure how readable the program of a room is; the manifest gets what was measured, with its nulls.

    How good explanations are stands beside it, where ``explain-features`` measured that.

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
        rows = rows_of(text, program, tokenizer, config.max_documents)
        found = measure_readability(program, rows, config.positions, config.seed, progress)
        options = {"text": text.name, "sha256": text.sha256, "documents": len(rows)}
        record = Record("readability", options | {name: getattr(config, name) for name in ("positions", "seed")})
        records = [other for other in manifest.records if other["made_by"] != record.made_by]
        changed = replace(
            manifest,
            records=[*records, plain_record(record)],
            evidence=manifest.evidence | found.evidence(),
        )
        write_room(config.room, stored.contents.items(), lambda _folder: changed, manifest)
    return replace(found, measures=(*found.measures, *explanations_of(changed.evidence)))


def explanations_of(evidence: dict[str, float]) -> list[ReadabilityMeasure]:
    """Return how good explanations are, where that is known."""
    name, nulls = EXPLANATIONS
    known = [evidence[null] for null in nulls if null in evidence]
    return [ReadabilityMeasure(name, evidence[name], max(known, default=None))] if name in evidence else []
