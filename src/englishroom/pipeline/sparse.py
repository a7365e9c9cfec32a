"""From a target to a sparse program: transcoders, the sparse model that starts from them, pruning, program."""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from englishroom.dictionaries.replacement import Replacement
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.inside.memory import summary_lines as memory_lines
from englishroom.inside.trace import trace_of
from englishroom.ir.program import Program
from englishroom.ir.tokenizer import Tokenizer
from englishroom.lower.sparsify import run_as, sparsify
from englishroom.models.load import Target
from englishroom.names import LABELS, MEMORY, SCORES, TRACE
from englishroom.pipeline.config import DecompileConfig
from englishroom.pipeline.evidence import SparseSummary
from englishroom.pipeline.fitting import Fitting
from englishroom.pipeline.labelling import labels_of, memory_of, rows_of
from englishroom.pipeline.measuring import Measuring, Texts, scored
from englishroom.pipeline.writing import Decompilation
from englishroom.plain import to_json
from englishroom.sparse.fit import SparseFit, fit_sparse
from englishroom.sparse.model import SparseModel
from englishroom.sparse.saved import started_once
from englishroom.sparse.start import start
from englishroom.steps import Progress, Say
from englishroom.work import Work

START_POSITIONS = 25_000
"""Positions of the fitting text on which scales are fitted and edges are chosen."""


def sparse(
    config: DecompileConfig, target: Target, tokenizer: Tokenizer, work: Work, say: Say, progress: Progress
) -> Decompilation:
    """Decompile a target as far as it goes, and write it as a sparse program.

    1. Read the texts, or let the target tell them.
    2. Fit a dictionary for the output of every attention and a transcoder for every MLP, all of them together.
    3. Start a sparse model from the edges that the target's weights imply between features.
    4. Leave edges out while the rest is refitted to the target's answers.
    5. Write the program, score it beside the target, and count what works at a position.
    6. Tell its memory from its algorithm, and name its features.

    Raises:
        EnglishRoomError: a setting, a text, the target or the work folder will not do.
    """
    fitting = Fitting(config, target, tokenizer, work, say, progress)
    texts = fitting.texts()
    replacement, kept = fitting.fitted(texts), fitting.measured_on(texts)
    model = _fitted(fitting, replacement, texts)
    program, record = sparsify(model)
    measuring = Measuring(replacement, target, tokenizer, texts, config, progress)
    measured = {
        SCORES: kept.once(SCORES, lambda: measuring.scores(program)),
        TRACE: kept.once(TRACE, lambda: _trace(program, fitting, texts)),
        MEMORY: kept.once(MEMORY, lambda: memory_of(program, tokenizer, texts.fit, texts.report, progress)),
    }
    summary = summary_of(measured, texts)
    for line in (*summary.summary_lines(), *memory_lines(measured[MEMORY])):
        say(line)
    files = {name: to_json(value) for name, value in measured.items()}
    labels = kept.once(LABELS, lambda: labels_of(program, tokenizer, texts.fit, progress).to_json().decode())
    files[LABELS] = labels.encode()
    return Decompilation(program, [record], ("sparse model", partial(run_as, model)), summary, files)


def _fitted(fitting: Fitting, replacement: Replacement, texts: Texts) -> SparseModel:
    """Start a sparse model and refit it, or go on with a fit that was killed."""
    target, config = fitting.target, fitting.config
    rows = TokenRows.of(fitting.tokenizer, texts.fit.documents, target.spec.n_ctx)
    counted = torch.bincount(torch.from_numpy(rows.tokens).long(), minlength=target.spec.d_vocab).float()
    fitting.say("starting a sparse model")
    first = torch.from_numpy(rows.batch(config.seed, 0, math.ceil(START_POSITIONS / rows.length)))
    identity = {"target": target.sha256, "text": texts.fit.sha256, "start": asdict(config.start), "seed": config.seed}
    model = started_once(
        fitting.work.folder / "start.pt",
        identity,
        lambda: start(replacement, first, counted, config.start, config.seed, fitting.progress),
    )
    run = SparseFit(target, model, rows, config.sparse, identity, config.seed)
    fitting.say(f"pruning {model.n_edges:,} edges to about {run.config.edges:,}, in {run.n_steps:,} steps")

    def show(run: SparseFit, _loss: float) -> None:
        fitting.progress("pruning and refitting", run.step, run.n_steps)

    return fit_sparse(run, fitting.work.folder / "sparse.pt", show)


def _trace(program: Program, fitting: Fitting, texts: Texts) -> dict[str, Any]:
    """Count what works at a position of the reporting text, and what each rule reads."""
    tokens = rows_of(texts.report, program, fitting.tokenizer, fitting.config.measure.probe_rows)
    each = partial(fitting.progress, "counting what works")
    return trace_of(program, texts.report.name, tokens, each)


def summary_of(measured: dict[str, Any], texts: Texts) -> SparseSummary:
    """Pick what the manifest and the header of the emitted file say."""
    trace, reads = measured[TRACE], ("reads_per_rule", "reads_per_rule_that_fired", "reads_per_number")
    return SparseSummary(
        **scored(measured[SCORES], texts),
        rules=trace["rules"],
        rules_fired_mean=trace["rules_fired"]["mean"],
        rules_that_fired=trace["rules_that_fired"],
        entries_used_mean=trace["edges_used"]["mean"],
        reads_per_rule_most=trace["reads_per_rule"]["most"],
        **{f"{name}_{at}": trace[name][at] for name in reads for at in ("median", "p95")},
    )
