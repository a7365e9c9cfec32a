"""The hindsight oracle of Nguyen 2024: at every position the rule that comes closest to the target's own answer.

No program could make this choice, since it looks at the answer: the figures are an upper bound on what *some* choice
among the rules could reach, and no talker's score. Everything here says so in its name.

1. Feed the target's windows to the target and to every rule.
2. At every scored position measure how far each rule's distribution is from the target's.
3. Pick the nearest rule, the first of equals, and sum what the picked one says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.evaluate import per_token
from englishroom.evaluate.honesty import Examiner
from englishroom.evaluate.score import answers, batches, comparable, cut_windows, encode, pad
from englishroom.steps import StepProgress, silent
from englishroom.talker import Talker


@dataclass(frozen=True)
class HindsightScore:
    """Sums over scored positions; adding two is right under any split of the documents.

    Attributes:
        tokens: scored positions.
        hindsight_hits: positions at which the picked rule's likeliest token is the target's.
        hindsight_distance: summed distances of the picked rules: half the absolute difference of probabilities, 0 to 1.
        hindsight_nats: summed loss of the picked rules.
        target_nats: the target's own loss on the same positions.
    """

    tokens: int = 0
    hindsight_hits: int = 0
    hindsight_distance: float = 0.0
    hindsight_nats: float = 0.0
    target_nats: float = 0.0

    def __add__(self, other: HindsightScore) -> HindsightScore:
        return HindsightScore(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def hindsight_top1_agreement(self) -> float:
        return self.hindsight_hits / self.tokens

    @property
    def hindsight_nats_per_token(self) -> float:
        return self.hindsight_nats / self.tokens


def hindsight(
    rules: Sequence[Talker], target: Talker, documents: Sequence[str], progress: StepProgress = silent
) -> HindsightScore:
    """Pick, at every position of the documents, the rule nearest to the target, knowing the target's answer.

    Args:
        rules: talkers of the target's tokenizer that can read its windows.

    Raises:
        ConfigError: there is no rule or nothing to score, or a rule reads other tokens or shorter windows.
        InvalidTalkerError: somebody's answers are no probabilities, or look ahead.
    """
    _check(rules, target)
    cut = [window for at, tokens in enumerate(encode(target, documents)) for window in cut_windows(target, at, tokens)]
    if not cut:
        raise ConfigError("the text has no token to score; give more text")
    judges = [Examiner(talker) for talker in (target, *rules)]
    done, n_tokens = 0, sum(len(window.tokens) for window in cut)
    total = HindsightScore()
    for batch in batches(cut, len(target.tokenizer.pieces)):
        tokens, scored = pad(batch, target.tokenizer.start_id)
        total += _batch((target, *rules), judges, tokens, scored)
        done += sum(len(window.tokens) for window in batch)
        progress(done, n_tokens)
    return total


def _check(rules: Sequence[Talker], target: Talker) -> None:
    if not rules:
        raise ConfigError("no rules to choose from; give at least one")
    for rule in rules:
        if not comparable(rule, target):
            raise ConfigError(
                f"{rule.name}: reads other tokens than {target.name}, or fewer at once ({rule.n_ctx} against "
                f"{target.n_ctx}); count rules with the target's tokenizer and at least its context"
            )


def _batch(
    talkers: Sequence[Talker], examiners: Sequence[Examiner], tokens: NDArray[np.int64], scored: NDArray[np.bool_]
) -> HindsightScore:
    """Score one batch; the first talker is the target."""
    kept = scored.reshape(-1)
    came = tokens[:, 1:].reshape(-1)
    truth = answers(talkers[0], tokens[:, :-1], examiners[0])
    target_nats = per_token.nats(truth.log, came)[kept]
    rules = talkers[1:]
    shape = len(rules), len(target_nats)
    distances, nats, hits = np.empty(shape), np.empty(shape), np.empty(shape, dtype=bool)
    for i, rule in enumerate(rules):
        found = answers(rule, tokens[:, :-1], examiners[i + 1])
        distances[i], nats[i] = total_variation(truth.p, found.p)[kept], per_token.nats(found.log, came)[kept]
        hits[i] = (found.best == truth.best)[kept]
    picked, rows = distances.argmin(axis=0), np.arange(shape[1])
    return HindsightScore(
        shape[1],
        int(hits[picked, rows].sum()),
        float(distances[picked, rows].sum()),
        float(nats[picked, rows].sum()),
        float(target_nats.sum()),
    )


def total_variation(ours: NDArray[np.floating[Any]], theirs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Half the summed absolute difference of probabilities, [token, d_vocab] each -> [token], 0 to 1."""
    found = np.empty(len(ours))
    for start in range(0, len(ours), per_token.ROWS):
        part = slice(start, start + per_token.ROWS)
        found[part] = np.abs(theirs[part] - ours[part]).sum(axis=1, dtype=np.float64) / 2
    return found
