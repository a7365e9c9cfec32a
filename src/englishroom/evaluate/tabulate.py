"""From talkers to their table: judge them side by side, then say how far each number can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from englishroom.data.texts import Text
from englishroom.evaluate.compute_recovered import ladder
from englishroom.evaluate.compute_recovered.training import training_compute_recovered
from englishroom.evaluate.description import describe
from englishroom.evaluate.greedy import continue_greedily, greedy_agreement, prompts_of
from englishroom.evaluate.metrics import Extra, Role
from englishroom.evaluate.score import Score, comparable, judge
from englishroom.evaluate.score_table import ScoreRow, ScoreTable, category_rows, make_row, with_loss_recovered
from englishroom.evaluate.sums import Judgement
from englishroom.steps import Progress
from englishroom.talker import Talker
from englishroom.talkers.ladder import LadderRun
from englishroom.talkers.record import Curve

GREEDY_ROLES = ("target", "talker", "quantised", "pruned")
"""Roles whose greedy text is worth comparing with the target's."""


@dataclass(frozen=True)
class ScoredTalker:
    """A talker that is to stand in the table."""

    talker: Talker
    role: Role
    name: str
    description_bits: float | None = None

    @classmethod
    def of(cls, talker: Talker, role: Role = "talker", name: str | None = None) -> ScoredTalker:
        """Describe a talker, too; it stands there under its own name unless another is given."""
        return cls(talker, role, name or talker.name, describe(talker).bits)


@dataclass(frozen=True)
class Known:
    """What is known of the target's training: its curve on this text, and the ladder's runs if they read its tokens."""

    curve: Curve | None = None
    ladder: Sequence[LadderRun] = ()


def tabulate(
    entries: Sequence[ScoredTalker],
    reference: Talker,
    text: Text,
    known: Known,
    greedy_prompts: int,
    seed: int,
    progress: Progress,
) -> ScoreTable:
    """Judge talkers against a reference on one text and make the table of their rows, in their order.

    Args:
        greedy_prompts: beginnings of documents from which greedy texts are compared; 0 leaves that out.
    """
    talkers = [entry.talker for entry in entries]
    judged = judge(talkers, text.documents, reference, categories=True, progress=partial(progress, "scoring"))
    agreed = _greedy(entries, reference, text.documents, greedy_prompts, progress)
    fit = _ladder(known.ladder, text.sha256, seed)
    own = [j for entry, j in zip(entries, judged, strict=True) if entry.talker is reference]
    at_target = Score.of(own[0]).nats_per_token if own else None
    rows: list[ScoreRow] = []
    for at, (entry, judgement) in enumerate(zip(entries, judged, strict=True)):
        progress("resampling documents", at, len(entries))
        compute = _compute(judgement, known.curve, fit, at_target, seed)
        extra = Extra(entry.role, entry.description_bits, agreed.get(entry.name), **compute)
        rows.append(make_row(entry.name, reference.name, judgement, extra, seed))
    progress("resampling documents", len(entries), len(entries))
    broken_down = [category_rows(entry.name, j, seed) for entry, j in zip(entries, judged, strict=True)]
    categories = [row for rows_of_one in broken_down for row in rows_of_one]
    lacking = f"{reference.name}: no training curve on this text, so no training compute recovered"
    settings = {"seed": seed, "notes": [] if known.curve else [lacking]}
    return ScoreTable(text.about() | {"bytes": text.n_bytes}, with_loss_recovered(rows), categories, settings)


def _greedy(
    entries: Sequence[ScoredTalker], reference: Talker, documents: Sequence[str], count: int, progress: Progress
) -> dict[str, float]:
    chosen = [e for e in entries if e.role in GREEDY_ROLES and comparable(e.talker, reference)]
    prompts = prompts_of(reference, documents, count)
    if not len(prompts) or not chosen:
        return {}
    told = continue_greedily(reference, prompts)
    found: dict[str, float] = {}
    for at, entry in enumerate(chosen):
        progress("greedy texts", at, len(chosen))
        theirs = told if entry.talker is reference else continue_greedily(entry.talker, prompts)
        found[entry.name] = greedy_agreement(told, theirs).share
    progress("greedy texts", len(chosen), len(chosen))
    return found


def _ladder(runs: Sequence[LadderRun], sha256: str, seed: int) -> ladder.LadderFit | None:
    rungs = ladder.rungs_on(runs, sha256)
    return ladder.fit_ladder(rungs, seed) if rungs else None


def _compute(
    judgement: Judgement, curve: Curve | None, fit: ladder.LadderFit | None, at_target: float | None, seed: int
) -> Mapping[str, Any]:
    """Say which share of compute reaches the talker's CE, where it reads the target's tokens."""
    increase = judgement.ce_increase
    if increase is None:
        return {}
    ce, error = Score.of(judgement).nats_per_token, float(increase.standard_errors(seed)[0])
    found: dict[str, Any] = {}
    if curve is not None:
        found["training"] = training_compute_recovered(curve, ce, error)
    if fit is not None and at_target is not None:
        found["ladder"] = ladder.ladder_compute_recovered(fit, ce, at_target, error, seed=seed)
        found["equivalent"] = ladder.equivalent_parameters(fit, ce, error, seed)
    return found
