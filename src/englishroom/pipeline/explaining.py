"""Explain the features of a sparse room by conditions, and keep them in the room."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from englishroom.data.texts import Text
from englishroom.disk import locked
from englishroom.errors import ConfigError
from englishroom.inside.explanations import Explanations, Once, explain, weighted_mean
from englishroom.ir.labels import EXPLAINED_ON, MEASURED_ON, Labels, load_labels
from englishroom.ir.program import Program
from englishroom.ir.room import load_program
from englishroom.ir.tokenizer import Tokenizer
from englishroom.names import CODE, LABELS, TABLES
from englishroom.passes.base import Record
from englishroom.pipeline.commands import ExplainFeaturesConfig
from englishroom.pipeline.labelling import fit_text, rows_of
from englishroom.pipeline.texts import open_again
from englishroom.pipeline.writing import plain_record
from englishroom.steps import Progress, silent
from englishroom.store import read_manifest, read_room, write_room
from englishroom.work import Work


def explain_features(config: ExplainFeaturesConfig, progress: Progress = silent) -> Explanations:
    """Search a condition for every feature of a sparse room, measure it on held-out text, and write it into the room.

    ``labels.json`` changes, and with it the manifest, whose evidence gets ``explanation_mcc`` and its nulls. What is
    found is kept beside the room until all is done, so that the same command goes on after a kill.

    Raises:
        EnglishRoomError: there is no sparse room with labels, or a setting or a text will not do.
    """
    config.validate()
    with locked(config.room):
        program, tokenizer = load_program(config.room)
        if program.level != "sparse":
            raise ConfigError(
                f"{config.room}: its program is {program.level}; features are explained in sparse rooms only"
            )
        labels = load_labels(config.room, program)
        if not labels.features:
            raise ConfigError(f"{config.room}: its features have no labels; give englishroom label {config.room} first")
        manifest = read_manifest(config.room)
        reported = manifest.evidence.get("texts", {}).get("report", {})
        text = fit_text(config.room, config.text, "--text", config.rows, progress)
        held_out = open_again(
            {"name": config.held_out, "blank_lines": reported.get("blank_lines")},
            tokenizer,
            progress,
            config.held_out_rows,
        )
        if shared := len(set(text.documents) & set(held_out.documents)):
            raise ConfigError(
                f"--held-out: {held_out.name} shares {shared:,} documents with {text.name}, expected none; give another"
            )
        rows, held_rows = (
            rows_of(one, program, tokenizer, n) for one, n in ((text, config.rows), (held_out, config.held_out_rows))
        )
        identity = {
            "program": manifest.files[CODE],
            "tables": manifest.files[TABLES],
            "text": text.sha256,
            "rows": config.rows,
            "search": config.search.plain(),
            "features": config.features,
        }
        work = Work(config.room.with_name(f"{config.room.name}.explaining"), identity)
        with work.held():
            found = explain(
                program, tokenizer, labels, rows, held_rows, config.search, config.features, config.nulls, config.seed,
                progress, work.once,
            )  # fmt: skip
        work.remove()
        about = {EXPLAINED_ON: text.name, MEASURED_ON: held_out.name}
        stored = read_room(config.room)
        files = dict(stored.contents) | {LABELS: labels.explained(found.by_place, about).to_json()}
        record = _record(config, text, held_out)
        records = [other for other in manifest.records if other["made_by"] != record.made_by]
        changed = replace(
            manifest,
            records=[*records, plain_record(record)],
            evidence=manifest.evidence | evidence_of(found),
        )
        write_room(config.room, files.items(), lambda _folder: changed, manifest)
    return found


def with_conditions(
    program: Program,
    tokenizer: Tokenizer,
    labels: Labels,
    text: Text,
    held_out: Text,
    seed: int,
    progress: Progress,
    once: Once,
) -> tuple[Labels, dict[str, float], Record]:
    """Explain the features of a program whose room is being made, as ``explain-features`` does unless told otherwise.

    Returns:
        the labels with conditions, the evidence on them, and what was done.
    """
    usual = ExplainFeaturesConfig(Path(), seed=seed)
    rows, held_rows = (
        rows_of(one, program, tokenizer, n) for one, n in ((text, usual.rows), (held_out, usual.held_out_rows))
    )
    found = explain(
        program, tokenizer, labels, rows, held_rows, usual.search, None, usual.nulls, seed, progress, once
    )  # fmt: skip
    about = {EXPLAINED_ON: text.name, MEASURED_ON: held_out.name}
    return labels.explained(found.by_place, about), evidence_of(found), _record(usual, text, held_out)


def _record(config: ExplainFeaturesConfig, text: Text, held_out: Text) -> Record:
    options = {
        "text": text.name,
        "sha256": text.sha256,
        "held_out": held_out.name,
        "held_out_sha256": held_out.sha256,
    }
    counted = {name: getattr(config, name) for name in ("rows", "held_out_rows", "features", "nulls", "seed")}
    return Record("explain-features", options | counted | config.search.plain())


def evidence_of(found: Explanations) -> dict[str, float]:
    """Return how good explanations are, weighted by importance, with both nulls."""
    weights = [feature.importance for feature in found.features]
    return {
        "explanation_mcc": weighted_mean([feature.explanation.mcc for feature in found.features], weights),
        "explanation_mcc_shuffled": weighted_mean([feature.mcc_shuffled for feature in found.features], weights),
        "explanation_mcc_shifted": weighted_mean(found.mcc_shifted, [1.0] * len(found.mcc_shifted)),
    }
