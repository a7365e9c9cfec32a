"""Search for the shortest sketch that keeps a share of what a talker does, or for the best one of so many lines.

1. Grow, round after round, on the fitting text, beyond the length that is asked for or the share on the choosing text.
2. Prune back to the lines, refitting on the way; leave out gears that add less than the lines of their code cost.
3. Round the votes. Where a share is asked for, go on with 7 % fewer lines, as long as the share is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from englishroom.sketch.checkpoint import Growth, SearchPoint
from englishroom.sketch.model import SketchVotes
from englishroom.sketch.studio import Studio
from englishroom.sketch.votes import ExpectedCounts, grow, importance_of, prune, refit, round_votes
from englishroom.sketch.write import WIDTH
from englishroom.steps import silent

Keep = Callable[[Growth], None]
FIRST_VOTES = 200
GROWTH = 1.5
"""Votes added in a round, over those in the round before."""
OVERSHOOT = 1.5
"""How far to grow beyond the lines that are asked for before pruning back."""
MARGIN = 0.03
"""How far to grow beyond the share that is asked for, since rounding costs some of it."""
SHRINK = 0.93
"""Length of a sketch over that before it, while the shortest is searched for."""
PATIENCE = 2
"""Rounds without gain on the choosing text before growing ends."""
PRUNINGS = 4
LINE_CHARACTERS = 110
"""That leaving votes out saves for a line, about."""
GEAR_LINES = 5
"""Lines that a gear takes beside its table, about."""
POOR_SHARE = 0.1
"""Share of the votes that count as the poorest."""
LAST_ITERATIONS = 20


@dataclass(frozen=True)
class FittedSketch:
    """What a search came to.

    Attributes:
        votes: rounded.
        path: the rounded sketches that were measured, in their order.
        kept: whether the share that was asked for is kept on the choosing text; true where none was asked for.
    """

    votes: SketchVotes
    path: tuple[SearchPoint, ...]
    kept: bool


def search(studio: Studio, keep: Keep = silent, kept: Growth | None = None) -> FittedSketch:
    """Search for a sketch; see the steps above.

    Args:
        keep: called with how far the sketch has grown, after every round.
        kept: what was kept of a run before, to go on from.
    """
    ask = studio.ask
    tally = ExpectedCounts.of(studio.fit, studio.start(), studio.usable)
    growth = kept or Growth(studio.start(), FIRST_VOTES, studio.start(), margin=MARGIN)
    path = [*growth.path]
    best: SketchVotes | None = None
    while True:
        growth, at_end = _grown(growth, tally, studio, keep)
        trial = growth.best if growth.in_vain == PATIENCE else growth.votes
        lines = min(studio.lines(trial), ask.lines)
        while True:
            trial, rounded = _at(trial, studio, lines)
            point = _point(rounded, studio)
            path.append(point)
            if ask.share is None:
                return FittedSketch(rounded, tuple(path), True)
            if point.share < ask.share:
                break
            best, lines = rounded, int(min(lines, point.lines) * SHRINK)
        if best is not None:
            return FittedSketch(best, tuple(path), True)
        if at_end:
            return FittedSketch(rounded, tuple(path), False)
        while growth.share >= ask.share + growth.margin:
            growth = replace(growth, margin=growth.margin + MARGIN)
        growth = replace(growth, path=tuple(path))
        keep(growth)


def _grown(growth: Growth, tally: ExpectedCounts, studio: Studio, keep: Keep) -> tuple[Growth, bool]:
    """Grow until there are lines enough, or share enough, or the choosing text gains no more.

    Returns:
        How far it has grown, and whether more rounds would be in vain.
    """
    ask, goal = studio.ask, OVERSHOOT * studio.ask.lines
    while growth.lines < goal:
        if ask.share is not None and growth.share >= ask.share + growth.margin:
            return growth, False
        if growth.in_vain >= PATIENCE:
            break
        votes = refit(grow(growth.votes, tally, studio.costs, growth.n_new), studio.fit)
        lines, share, n_new = studio.lines(votes), studio.judge(votes, studio.choose).share, int(growth.n_new * GROWTH)
        studio.progress("growing, in lines", min(lines, int(goal)), int(goal))
        same = len(votes.weights) == len(growth.votes.weights)
        if share > growth.best_share and not same:
            growth = replace(growth, best=votes, best_share=share, in_vain=0)
        else:
            growth = replace(growth, in_vain=PATIENCE if same else growth.in_vain + 1)
        growth = replace(growth, votes=votes, n_new=n_new, lines=lines, share=share)
        keep(growth)
    return growth, True


def _at(votes: SketchVotes, studio: Studio, lines: int) -> tuple[SketchVotes, SketchVotes]:
    """Prune a sketch to so many lines; return it before and after rounding."""
    for done in range(PRUNINGS):
        studio.progress(f"pruning to {lines} lines", done, PRUNINGS + 1)
        excess = (studio.lines(votes) - lines) * LINE_CHARACTERS
        if excess > 0:
            votes = prune(votes, studio.fit, studio.costs, excess / (PRUNINGS - done))
        votes = refit(_without_poor_gears(votes, studio), studio.fit, LAST_ITERATIONS)
    while (excess := studio.lines(rounded := round_votes(votes, studio.fit)) - lines) > 0 and len(votes.weights):
        votes = prune(votes, studio.fit, studio.costs, excess * LINE_CHARACTERS)
    studio.progress(f"pruning to {lines} lines", PRUNINGS + 1, PRUNINGS + 1)
    return votes, rounded


def _without_poor_gears(votes: SketchVotes, studio: Studio) -> SketchVotes:
    """Leave out the gears that lose less a character, their code counted in, than the poorest votes do."""
    if not len(votes.weights):
        return votes
    importance, d_vocab, n_entries = importance_of(votes, studio.fit), votes.d_vocab, len(votes.weights)
    each, costs = importance[d_vocab : d_vocab + n_entries], studio.costs.of_entries(votes)
    bar = float(np.quantile(each / costs, POOR_SHARE)) / studio.fit.readings.n_positions
    gears = np.array([studio.fit.readings.keys[key][0] for key in votes.keys])
    kept, whole = np.ones(n_entries, bool), studio.judge(votes, studio.choose).kl
    for gear in sorted(set(gears)):
        others = gears != gear
        rest = votes.with_entries(votes.keys[others], votes.outputs[others], votes.weights[others])
        lost = studio.judge(rest, studio.choose).kl - whole
        if lost < bar * (costs[~others].sum() + GEAR_LINES * WIDTH):
            kept &= others
    return votes.with_entries(votes.keys[kept], votes.outputs[kept], votes.weights[kept])


def _point(votes: SketchVotes, studio: Studio) -> SearchPoint:
    lines = studio.lines(votes)
    return SearchPoint(lines, studio.tables(votes).n_entries, studio.judge(votes, studio.choose).share)
