"""Refit a sparse program that is made smaller: with fewer edges, or with its weights rounded to fewer numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from englishroom.dictionaries.token_rows import TokenRows
from englishroom.ir.program import Program
from englishroom.lower.reopen import reopen
from englishroom.lower.sparsify import sparsify
from englishroom.models.load import Target
from englishroom.passes.base import Record
from englishroom.passes.quantise import Bits
from englishroom.pipeline.threads import threads_for
from englishroom.sparse.config import SparseConfig
from englishroom.sparse.fit import SparseFit, fit_sparse
from englishroom.sparse.model import SparseModel
from englishroom.sparse.prune import fan_in
from englishroom.steps import Progress, silent

RATE = 0.01
"""Peak rate of a refit; what stands is fitted already."""
BATCH = 2
MERGED = 0.95
"""Correlation from which features are merged when edges are left out."""


@dataclass(frozen=True)
class Smaller:
    """What a program is made to be, and for how long it is refitted.

    Attributes:
        bits: how many numbers its weights are rounded to.
        keep: share of its edges that stay, of those that rules read and of all others.
        tokens: of text that the refit reads.
    """

    bits: Bits
    keep: float
    tokens: int


def refit(
    program: Program,
    target: Target,
    rows: TokenRows,
    smaller: Smaller,
    checkpoint: Path,
    identity: dict[str, Any],
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[Program, list[Record]]:
    """Make a sparse program smaller while it is refitted to its target; goes on from ``checkpoint`` where it exists.

    Raises:
        ConfigError: the program is not of the form that is written by ``sparsify``.
    """
    model = reopen(program)
    run = SparseFit(target, model, rows, _config(model, smaller), identity, seed)

    def show(run: SparseFit, _loss: float) -> None:
        progress("refitting", run.step, run.n_steps)

    with threads_for(target.spec):
        fitted = fit_sparse(run, checkpoint, show)
    made, record = sparsify(fitted)
    options = {"edges": fitted.n_edges, **asdict(smaller), "rate": RATE, "seed": seed, "merged": run.n_merged}
    return made, [Record("refit", options, record.rewrites, record.seconds)]


def _config(model: SparseModel, smaller: Smaller) -> SparseConfig:
    """Describe the refit: bounds are those that the model keeps, times the share of edges that stays."""
    shape, keep = model.shape, smaller.keep
    common = {"tokens": smaller.tokens, "batch": BATCH, "rate": RATE, "numbers": None, "bits": smaller.bits}
    if keep == 1:
        return SparseConfig(**common, prunings=0, rounded=1.0)
    stages = [stage for stage in range(shape.n_stages) if shape.has_rules(stage)]
    reads = torch.cat([fan_in(model, stage) for stage in stages]).numpy()
    others = model.n_edges - int(reads.sum())
    bounds = {"reads": np.median(reads), "fan_in": np.quantile(reads, 0.95), "most": reads.max()}
    return SparseConfig(
        **common,
        edges=max(1, round(keep * others)),
        first_edges=others,
        dense_reads=int(reads.max()),
        **{name: max(1, round(keep * float(value))) for name, value in bounds.items()},
        prunings=6,
        pruned=0.5,
        merge=MERGED,
        rounded=0.3,
    )
