"""From a readable room with explanations to the room of these alone, and what each of them costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from englishroom.disk import locked
from englishroom.emit.python import Header
from englishroom.errors import ConfigError
from englishroom.inside.explained_fit import fit, measured, read_both, voters, votes_of, with_votes
from englishroom.inside.replacing import Variables, estimated_costs, measured_costs
from englishroom.interp.condition_reader import ConditionReader
from englishroom.ir.labels import Labels, load_labels
from englishroom.ir.marks import marks_of
from englishroom.ir.program import Conditions, Program
from englishroom.ir.room import load_program
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.verify import require_valid
from englishroom.names import EXPLAINED
from englishroom.passes.base import Record, run_passes
from englishroom.passes.explained import ExplainedAlone
from englishroom.pipeline.checking import lengthened, positions_to_emit
from englishroom.pipeline.commands import ExplainedConfig
from englishroom.pipeline.labelling import fit_text, rows_of
from englishroom.pipeline.texts import open_again
from englishroom.pipeline.writing import draft_room, plain_record, versions, write
from englishroom.plain import to_json
from englishroom.steps import Progress, Say, silent
from englishroom.store import Manifest, check_apart, check_out, read_manifest

COST_ROWS, MEASURED_ROWS = 60, 12
"""Documents on which costs are estimated for all features, and measured for the most costly ones."""
BIAS_STEPS = 100
"""Steps in which biases alone are fitted."""


@dataclass(frozen=True)
class Cost:
    """What it costs to put the condition of one feature in its place.

    Attributes:
        estimated_nats: by how much KL(program‖explained) would rise, to second order.
        measured_nats: by how much it does; only for the features of the highest estimates.
    """

    feature: str
    estimated_nats: float
    measured_nats: float | None
    condition: str


def write_explained(config: ExplainedConfig, out: Path, say: Say = silent, progress: Progress = silent) -> Manifest:
    """Write the room of the explanations of a readable room.

    1. Put every feature's condition in its place, with its mean value where the condition holds.
    2. Fit the bias of each word, and then all votes, to what the program says on the text fitted on.
    3. Measure all three on held-out text, and what each condition costs alone; write the last.

    Raises:
        EnglishRoomError: the room has no explanations, or a setting, a text or the place to write to will not do.
    """
    config.validate()
    check_apart(str(config.room), out)
    with locked(check_out(out)):
        return _written(config, out, say, progress)


def _written(config: ExplainedConfig, out: Path, say: Say, progress: Progress) -> Manifest:
    program, tokenizer = load_program(config.room)
    if not program.is_readable:
        raise ConfigError(f"{config.room}: its program is not made of looks, rules and votes; give a readable room")
    labels, before = load_labels(config.room, program), read_manifest(config.room)
    if not labels.explanations:
        raise ConfigError(
            f"{config.room}: its features have no explanations; give englishroom explain-features {config.room} first"
        )
    text = fit_text(config.room, config.text, "--text", config.rows, progress)
    reported = before.evidence.get("texts", {}).get("report", {})
    held_out = open_again(
        {"name": config.held_out, "blank_lines": reported.get("blank_lines")}, tokenizer, progress, config.held_out_rows
    )
    if shared := len(set(text.documents) & set(held_out.documents)):
        raise ConfigError(
            f"--held-out: {held_out.name} shares {shared:,} documents with {text.name}, expected none; give another"
        )
    rows, held = (
        rows_of(one, program, tokenizer, n) for one, n in ((text, config.rows), (held_out, config.held_out_rows))
    )
    plain, records = explained(program, labels, tokenizer)
    chosen, measures = _fitted(config, program, plain, rows, held, progress)
    for name, found in measures.items():
        say(f"{name}: {found['nats_per_token']:.3f} nats a token, KL(program‖explained) {found['kl_nats']:.3f}")
    costs = costs_of(program, plain, labels, rows, config.measured, config.seed, progress)
    options = {"text": text.name, "sha256": text.sha256, "rows": config.rows, "steps": config.steps}
    record = Record("fit-explained", options | {"chosen": next(reversed(measures))})
    best = measures[next(reversed(measures))]
    lines = (
        "The program of its explanations alone: every moved feature and rule is replaced by a condition over the text.",
        f"On {held_out.name}: {best['nats_per_token']:.4f} nats a token, KL(program‖explained) {best['kl_nats']:.4f}.",
    )
    manifest = Manifest(
        schema_version=before.schema_version,
        level=chosen.level,
        target=before.target,
        config=config.plain(),
        seed=config.seed,
        records=[*before.records, *map(plain_record, (*records, record))],
        evidence={
            "made_from": {"name": config.room.resolve().name, "sha256": before.sha256},
            "texts": before.evidence.get("texts", {}),
            "nats_per_token": best["nats_per_token"],
            "kl_program_explained_nats": best["kl_nats"],
        },
        versions=versions(),
    )
    n_positions = positions_to_emit(chosen)
    read = lengthened(rows[0][:n_positions].tolist(), n_positions, len(tokenizer.pieces))
    files = {
        EXPLAINED: to_json(
            {"text": text.name, "held_out": held_out.name, "measures": measures, "costs": list(map(asdict, costs))}
        )
    }
    for cost in costs[: config.listed]:
        measured_cost = "" if cost.measured_nats is None else f", measured {cost.measured_nats:.5f}"
        say(f"{cost.feature}: costs {cost.estimated_nats:.5f} nats by estimate{measured_cost}: {cost.condition}")
    header = Header(f"the explanations of {before.target['name']}", lines)
    draft = draft_room(chosen, tokenizer, header, kept_labels(labels, chosen), read, manifest, files)
    return write(draft, out, progress, before)


def explained(program: Program, labels: Labels, tokenizer: Tokenizer) -> tuple[Program, Sequence[Record]]:
    """Put conditions in the place of features, each with its mean value where the condition holds."""
    told = {place: (one.condition, one.strength) for place, one in labels.explanations.items()}
    return run_passes(program, [ExplainedAlone(told, marks_of(tokenizer))])


def _fitted(
    config: ExplainedConfig,
    program: Program,
    plain: Program,
    rows: Sequence[NDArray[np.integer]],
    held: Sequence[NDArray[np.integer]],
    progress: Progress,
) -> tuple[Program, dict[str, dict[str, float]]]:
    """Return the explanations as fitted last, and what each way of fitting comes to on held-out text."""
    read = read_both(program, plain, rows, partial(progress, "reading the text"))
    own = votes_of(plain)
    found = {"mean values": own}
    if config.steps and voters(plain):
        steps = min(BIAS_STEPS, config.steps)
        biased = fit(read, own, steps, True, config.seed, partial(progress, "fitting biases"))
        fitted = fit(read, biased, config.steps, False, config.seed, partial(progress, "fitting votes"))
        found |= {"mean values, biases fitted": biased, "votes fitted": fitted}
    del read
    judged = read_both(program, plain, held, partial(progress, "reading the held-out text"))
    measures = {name: measured(judged, votes) for name, votes in found.items()}
    return require_valid(with_votes(plain, list(found.values())[-1]) if len(found) > 1 else plain), measures


def costs_of(
    program: Program,
    plain: Program,
    labels: Labels,
    rows: Sequence[NDArray[np.integer]],
    n_measured: int,
    seed: int,
    progress: Progress,
) -> list[Cost]:
    """Say by how much KL rises when each feature alone is replaced by its condition, the most costly first."""
    told = [block for block in plain.blocks if isinstance(block, Conditions)]
    readers = {block.name: (ConditionReader.of(block), block.values.values) for block in told}

    def replaced(tokens: NDArray[np.integer], _variables: Variables) -> Variables:
        seen = tokens[None]
        return {name: reader.read(seen, len(tokens), None)[0] * worth for name, (reader, worth) in readers.items()}

    estimates = estimated_costs(program, rows[:COST_ROWS], replaced, seed, partial(progress, "estimating costs"))
    every = [(float(nats), name, at) for name, found in estimates.items() for at, nats in enumerate(found)]
    every.sort(key=lambda one: (-one[0], *one[1:]))
    places = [(name, at) for _, name, at in every]
    measures = measured_costs(
        program, rows[:MEASURED_ROWS], replaced, places[:n_measured], partial(progress, "measuring costs")
    )
    known: Mapping[tuple[str, int], float] = dict(zip(places, measures, strict=False))
    conditions = {(block.name, at): str(one) for block in told for at, one in enumerate(block.conditions)}
    costs = [Cost(labels.of(name, at), nats, known.get((name, at)), conditions[name, at]) for nats, name, at in every]
    return sorted(costs[:n_measured], key=lambda cost: -(cost.measured_nats or 0.0)) + costs[n_measured:]


def kept_labels(labels: Labels, program: Program) -> Labels:
    """Keep the labels of the features that are left."""
    names = {block.name for block in program.blocks}
    return Labels({name: own for name, own in labels.features.items() if name in names}, labels.about)
