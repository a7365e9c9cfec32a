"""What each gear adds: in the order in which they add most, and when it alone is left out of the whole sketch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from englishroom.sketch.keys import COPYING
from englishroom.sketch.model import SampledPositions, SketchVotes
from englishroom.sketch.studio import Studio
from englishroom.sketch.votes import refit
from englishroom.steps import StepProgress, silent

REFITS = 6
"""Iterations in which the votes of the gears at hand make up for those that are missing."""


@dataclass(frozen=True)
class GearRow:
    """One gear of a sketch.

    Attributes:
        gear: its name; ``words`` is the list of words with what they always have.
        entries: votes in its table.
        adds_nats: how much KL(talker‖sketch) falls when it joins the gears above it, votes refitted at either step.
        left_out_nats: how much it rises when this gear alone is left out of the sketch, the others as they are;
            ``None`` for the list of words, without which there is none.
    """

    gear: str
    entries: int
    adds_nats: float
    left_out_nats: float | None


def rank_gears(
    votes: SketchVotes, studio: Studio, report: SampledPositions, progress: StepProgress = silent
) -> list[GearRow]:
    """Rank the gears of a sketch, each next one that which lowers the divergence on the choosing text most.

    The order is chosen with votes as they are, on the choosing text; the figures are of the reporting text.
    """
    names = studio.fit.readings.keys
    entries = dict.fromkeys(studio.ask.gears, 0)
    for key in votes.keys:
        entries[names[key][0]] += 1
    if COPYING in entries:
        entries[COPYING] = int((votes.copies != 0).sum())
    left = [gear for gear, n in entries.items() if n]
    whole = studio.judge(votes, report)
    used: list[str] = []
    before = studio.judge(refit(_with(votes, studio, used), studio.fit, REFITS), report).kl
    listed = int((votes.kind < votes.n_kinds - 1).sum())
    rows = [GearRow("words", listed, whole.unigram_kl - before, None)]
    total = len(left)
    while left:
        progress(len(used), total)
        best = min(left, key=lambda gear: studio.judge(_with(votes, studio, [*used, gear]), studio.choose).kl)
        left.remove(best)
        used.append(best)
        now = studio.judge(refit(_with(votes, studio, used), studio.fit, REFITS) if left else votes, report).kl
        others = [gear for gear in entries if gear != best]
        without = studio.judge(_with(votes, studio, others), report).kl
        rows.append(GearRow(best, entries[best], before - now, without - whole.kl))
        before = now
    progress(total, total)
    return rows


def _with(votes: SketchVotes, studio: Studio, gears: list[str]) -> SketchVotes:
    """Return a sketch with some of its gears alone."""
    names = studio.fit.readings.keys
    kept = np.array([names[key][0] in gears for key in votes.keys], bool)
    copies = votes.copies if COPYING in gears else np.zeros_like(votes.copies)
    return replace(votes.with_entries(votes.keys[kept], votes.outputs[kept], votes.weights[kept]), copies=copies)
