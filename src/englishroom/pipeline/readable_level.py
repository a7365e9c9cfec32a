"""From a target to a readable program: pieces and looks, the stream model, the wired model, pruning, program."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from englishroom.dictionaries.checkpoint import Resumable, fit_to_end
from englishroom.dictionaries.replacement import Replacement
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.errors import ConfigError
from englishroom.inside.trace import n_rules
from englishroom.ir.program import Fire, Looks, Program
from englishroom.ir.room import load_program
from englishroom.ir.tokenizer import Tokenizer
from englishroom.lower.rewired import rewired
from englishroom.lower.wired import run_as, write_readable
from englishroom.models.load import Target
from englishroom.names import LABELS, PROBES, READABILITY, SCORES
from englishroom.passes.base import Record
from englishroom.pipeline.config import DecompileConfig
from englishroom.pipeline.evidence import ReadableSummary
from englishroom.pipeline.explaining import with_conditions
from englishroom.pipeline.fitting import Fitting
from englishroom.pipeline.labelling import labels_and_silence
from englishroom.pipeline.measuring import Measuring, Texts, correlations_of, scored
from englishroom.pipeline.readability import readability_of
from englishroom.pipeline.writing import Decompilation
from englishroom.plain import to_json
from englishroom.readable.effects import effects_of
from englishroom.readable.look_fit import LookFit
from englishroom.readable.pieces import PiecesFit
from englishroom.readable.rounding import rounded
from englishroom.readable.smallest import Pool, Shrinking
from englishroom.readable.stream_fit import StreamFit
from englishroom.readable.stream_start import start_stream
from englishroom.readable.wiring import WiredModel
from englishroom.readable.wiring_fit import WiringFit
from englishroom.readable.wiring_start import start_wiring
from englishroom.readable.words_start import start_from_words, word_shape
from englishroom.steps import Progress, Say
from englishroom.store import read_manifest
from englishroom.work import Work

WORDS_AT_MOST = 64
"""Words of a vocabulary up to which ``--smallest`` starts from a feature for each word, in place of a stream model."""
FIT_ROWS, HELD_ROWS = 1000, 200
"""Documents on which a program is fitted that becomes as small as it can, and those on which its loss is measured."""
START_POSITIONS = 8_000
"""Positions of the fitting text on which scales, strengths and thresholds are measured."""
SAVE_EVERY_S = 60.0
Run = TypeVar("Run", bound=Resumable)


def readable(
    config: DecompileConfig, target: Target, tokenizer: Tokenizer, work: Work, say: Say, progress: Progress
) -> Decompilation:
    """Decompile a target into looks, moved features, rules and votes.

    1. Read the texts, or let the target tell them.
    2. Fit a dictionary to every head and a transcoder to every MLP, and looks to the attention of every head.
    3. Put them in place of the target's parts, and fit them together. Or go on from a room, in place of all this.
    4. Write the model as edges between features, and leave edges out while the rest is fitted; where asked, all that
       can be left out. A target of few words starts here, from a feature for each word.
    5. Round its numbers, write the program, and score it beside the target.
    6. Name its features on the fitting text, and silence its parts one by one on the reporting text.
    7. Measure how readable it is, beside programs that know nothing; search conditions of its features, if asked to.

    Raises:
        EnglishRoomError: a setting, a text, the target or the work folder will not do.
    """
    fitting = Fitting(config, target, tokenizer, work, say, progress)
    texts = fitting.texts()
    model = rounded(_fitted(fitting, texts))
    program, record = write_readable(model)
    records = [*_begun(config), record]
    labels = labels_and_silence(program, tokenizer, texts.fit, texts.report, progress)
    measuring = Measuring(Replacement(target.spec, target.weights, ()), target, tokenizer, texts, config, progress)
    kept, sizes = fitting.measured_on(texts), config.measure.readable
    measured = {
        SCORES: kept.once(SCORES, lambda: measuring.scores(program)),
        READABILITY: kept.once(
            READABILITY, lambda: readability_of(program, tokenizer, texts.report, sizes, config.seed, progress)
        ),
        PROBES: kept.once(PROBES, lambda: _probes(model, measuring)),
    }
    effects = correlations_of(measured[PROBES]["interventions"])
    summary = summary_of(measured, program, texts)
    correlations = {f"correlation_of_effects_{name}": value for name, value in effects.items()}
    summary = replace(summary, readability=summary.readability | correlations)
    if sizes.explain:
        labels, found, searched = with_conditions(
            program, tokenizer, labels, texts.fit, texts.report, config.seed, progress, kept.once
        )
        records, summary = [*records, searched], replace(summary, readability=summary.readability | found)
    for line in summary.summary_lines():
        say(line)
    files = {name: to_json(value) for name, value in measured.items()} | {LABELS: labels.to_json()}
    return Decompilation(program, records, ("wired model", partial(run_as, model)), summary, files)


def _fitted(fitting: Fitting, texts: Texts) -> WiredModel:
    """Fit everything, or go on with a fit that was killed."""
    target, config, seed = fitting.target, fitting.config.readable, fitting.config.seed
    rows = TokenRows.of(fitting.tokenizer, texts.fit.documents, target.spec.n_ctx)
    identity: dict[str, Any] = {"target": target.sha256, "text": texts.fit.sha256}
    smallest = config.smallest.tolerance > 0
    if smallest and config.start is None and target.spec.d_vocab <= WORDS_AT_MOST:
        return _shrunk(fitting, texts, rows, None, identity)
    counted = torch.bincount(torch.from_numpy(rows.tokens).long(), minlength=target.spec.d_vocab).float()
    first = torch.from_numpy(rows.batch(seed, 0, math.ceil(START_POSITIONS / rows.length)))
    to_end = partial(_to_end, fitting)

    def pruned(wired: WiredModel, sharp: bool) -> WiredModel:
        edges = sum(len(edges.columns) for edges in wired.edges.values())
        run = WiringFit(target, wired, rows, config.short, identity, config.half, seed, sharp)
        fitting.say(f"pruning {edges:,} edges in {run.n_steps:,} steps")
        found = to_end(run, "wiring", "pruning and refitting").result()
        return _shrunk(fitting, texts, rows, found, identity | {"short": asdict(config.short)}) if smallest else found

    if config.start is not None:
        program, identity["start"] = _start_of(config.start, target)
        return pruned(rewired(program, target.spec, config.stream), True)
    pieces = to_end(PiecesFit(target, rows, config.stream, identity, seed), "pieces", "fitting heads and MLPs apart")
    looks = to_end(LookFit(target, rows, config.stream, identity, seed), "looks", "fitting looks")
    stream = start_stream(target, looks.result(), pieces.result(), first, config.stream)
    together = StreamFit(target, stream, rows, config.stream, identity, config.half, seed)
    model = to_end(together, "stream", "fitting together").result()
    identity |= {"stream": asdict(config.stream)}
    return pruned(start_wiring(model, counted, first, config.short), False)


def _start_of(room: Path, target: Target) -> tuple[Program, str]:
    """Open the room to go on from; return its program, and the hash of its manifest.

    Raises:
        EnglishRoomError: it cannot be read, or is made of another model.
    """
    manifest = read_manifest(room)
    if manifest.target["sha256"] != target.sha256:
        raise ConfigError(
            f"--start-room: {room} is made of {manifest.target['name']}, expected {target.name}; give a room of it"
        )
    return load_program(room)[0], manifest.sha256


def _probes(model: WiredModel, measuring: Measuring) -> dict[str, Any]:
    """Switch off every head and every MLP, in target and program, and compare what that changes."""
    report = measuring.texts.report
    rows = measuring.rows(report, measuring.config.measure.probe_rows)
    found = effects_of(model, measuring.target, rows, partial(measuring.progress, "interventions"))
    about = {"text": report.name, "text_sha256": report.sha256, "rows": len(rows)}
    return about | {"interventions": list(map(asdict, found))}


def _begun(config: DecompileConfig) -> list[Record]:
    """Say which room the fit went on from, if any."""
    room = config.readable.start
    return [] if room is None else [Record("start", {"room": room.name, "sha256": read_manifest(room).sha256})]


def _to_end(fitting: Fitting, run: Run, name: str, step: str) -> Run:
    """Fit to the end, or go on with a fit that was killed."""

    def show(run: Run, _loss: float) -> None:
        fitting.progress(step, run.step, run.n_steps)

    fit_to_end(run, fitting.work.folder / f"{name}.pt", show, SAVE_EVERY_S)
    return run


def _shrunk(
    fitting: Fitting, texts: Texts, rows: TokenRows, model: WiredModel | None, identity: dict[str, Any]
) -> WiredModel:
    """Leave out all that a wired model can do without; where there is none yet, it starts from the words."""
    target, config, seed = fitting.target, fitting.config.readable, fitting.config.seed
    chosen = TokenRows.of(fitting.tokenizer, texts.choose.documents, target.spec.n_ctx)
    fit, held = (
        Pool.of(target, of, range(min(of.n_rows, most))) for of, most in ((rows, FIT_ROWS), (chosen, HELD_ROWS))
    )
    start = model or start_from_words(word_shape(target.spec), fit.follows(), seed)
    run = Shrinking(start, fit, held, config.smallest, identity, seed, from_words=model is None, say=fitting.say)
    fitting.say(f"leaving out what the program can do without, {config.smallest.tolerance:g} nats in all")
    return _to_end(fitting, run, "smallest", "leaving parts out").result()


def summary_of(measured: dict[str, Any], program: Program, texts: Texts) -> ReadableSummary:
    """Pick what the manifest and the header of the emitted file say."""
    return ReadableSummary(
        **scored(measured[SCORES], texts),
        rules=sum(n_rules(block) for block in program.blocks if isinstance(block, Fire)),
        moved_features=sum(n_rules(block) for block in program.blocks if isinstance(block, Looks)),
        readability=measured[READABILITY]["measures"],
    )
