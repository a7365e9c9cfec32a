"""The hindsight oracle of Nguyen 2024: at every position the rule that comes closest to the target's own answer.

No program could make this choice, since it looks at the answer: the figures are an upper bound on what *some* choice
among the rules could reach, and no talker's score. Everything here says so in its name.

1. Feed the target's windows to the target and to every rule.
2. At every scored position measure how far each rule's distribution is from the target's.
3. Pick the nearest rule, the first of equals, and sum what the picked one says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.evaluate import per_token
from englishroom.evaluate.honesty import Examiner
from englishroom.evaluate.score import batches, comparable, cut_windows, encode, pad
from englishroom.talker import Talker

Distance = Literal["total_variation", "kl_target_rule"]
DISTANCES: tuple[Distance, ...] = ("total_variation", "kl_target_rule")


@dataclass(frozen=True)
class HindsightScore:
    """Sums over scored positions; adding two is right under any split of the documents.

    Attributes:
        distance: what the choice goes by: ``total_variation`` (half the absolute difference, 0 to 1), or
            ``kl_target_rule``, KL(target ‖ rule) in nats.
        rules: names of the rules; whatever has one entry per rule is in this order.
        tokens: scored positions.
        hindsight_hits: positions at which the picked rule's likeliest token is the target's.
        hindsight_distance: summed distance of the picked rules.
        hindsight_nats: summed negative log-probability that the picked rules gave the token that came.
        target_nats: the same of the target.
        picks: how often each rule was picked.
        rule_hits, rule_distances, rule_nats: the same sums for every rule by itself, without any choice.
    """

    distance: Distance
    rules: tuple[str, ...]
    tokens: int
    hindsight_hits: int
    hindsight_distance: float
    hindsight_nats: float
    target_nats: float
    picks: tuple[int, ...]
    rule_hits: tuple[int, ...]
    rule_distances: tuple[float, ...]
    rule_nats: tuple[float, ...]

    def __add__(self, other: HindsightScore) -> HindsightScore:
        if (self.distance, self.rules) != (other.distance, other.rules):
            raise ConfigError("hindsight scores of other rules or by another distance cannot be added; use the same")
        return replace(
            self,
            tokens=self.tokens + other.tokens,
            hindsight_hits=self.hindsight_hits + other.hindsight_hits,
            hindsight_distance=self.hindsight_distance + other.hindsight_distance,
            hindsight_nats=self.hindsight_nats + other.hindsight_nats,
            target_nats=self.target_nats + other.target_nats,
            picks=_added(self.picks, other.picks),
            rule_hits=_added(self.rule_hits, other.rule_hits),
            rule_distances=_added(self.rule_distances, other.rule_distances),
            rule_nats=_added(self.rule_nats, other.rule_nats),
        )

    @property
    def hindsight_top1_agreement(self) -> float:
        return self.hindsight_hits / self.tokens

    @property
    def hindsight_mean_distance(self) -> float:
        return self.hindsight_distance / self.tokens

    @property
    def hindsight_nats_per_token(self) -> float:
        return self.hindsight_nats / self.tokens

    @property
    def single_rule_top1_agreement(self) -> tuple[str, float]:
        """The rule that agrees most often when it answers everywhere, and how often: the figure without hindsight."""
        best = max(range(len(self.rules)), key=self.rule_hits.__getitem__)
        return self.rules[best], self.rule_hits[best] / self.tokens


def _added(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a + b for a, b in zip(ours, theirs, strict=True))


def hindsight(
    rules: Sequence[Talker],
    target: Talker,
    documents: Sequence[str],
    distance: Distance = "total_variation",
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> HindsightScore:
    """Pick, at every position of the documents, the rule nearest to the target, knowing the target's answer.

    Args:
        rules: talkers of the target's tokenizer that can read its windows.

    Raises:
        ConfigError: there is no rule or nothing to score, or a rule reads other tokens or shorter windows.
        InvalidTalkerError: somebody's answers are no probabilities, or look ahead.
    """
    _check(rules, target, distance)
    cut = [window for at, tokens in enumerate(encode(target, documents)) for window in cut_windows(target, at, tokens)]
    if not cut:
        raise ConfigError("the text has no token to score; give more text")
    judges = [Examiner(talker) for talker in (target, *rules)]
    done, n_tokens = 0, sum(len(window.tokens) for window in cut)
    total: HindsightScore | None = None
    for batch in batches(cut, len(target.tokenizer.pieces)):
        tokens, scored = pad(batch, target.tokenizer.start_id)
        part = _batch((target, *rules), judges, tokens, scored, distance)
        total = part if total is None else total + part
        done += sum(len(window.tokens) for window in batch)
        progress(done, n_tokens)
    assert total is not None
    return total


def _check(rules: Sequence[Talker], target: Talker, distance: Distance) -> None:
    if distance not in DISTANCES:
        raise ConfigError(f"the distance is {distance!r}, expected one of {', '.join(DISTANCES)}")
    if not rules:
        raise ConfigError("no rules to choose from; give at least one")
    for rule in rules:
        if not comparable(rule, target):
            raise ConfigError(
                f"{rule.name}: reads other tokens than {target.name}, or fewer at once ({rule.n_ctx} against "
                f"{target.n_ctx}); count rules with the target's tokenizer and at least its context"
            )


def _batch(
    talkers: Sequence[Talker],
    examiners: Sequence[Examiner],
    tokens: NDArray[np.int64],
    scored: NDArray[np.bool_],
    distance: Distance,
) -> HindsightScore:
    """Score one batch; the first talker is the target."""
    kept = scored.reshape(-1)
    came = tokens[:, 1:].reshape(-1)
    truth, likely = _answers(talkers[0], examiners[0], tokens[:, :-1])
    target_nats, best = per_token.nats(truth, came)[kept], truth.argmax(axis=1)
    rules = talkers[1:]
    shape = len(rules), len(target_nats)
    distances, nats, hits = np.empty(shape), np.empty(shape), np.empty(shape, dtype=bool)
    for i, rule in enumerate(rules):
        answers, chances = _answers(rule, examiners[i + 1], tokens[:, :-1])
        if distance == "total_variation":
            apart = total_variation(likely, chances)
        else:
            apart = per_token.kl_nats(truth, answers, likely)
        distances[i], nats[i] = apart[kept], per_token.nats(answers, came)[kept]
        hits[i] = (answers.argmax(axis=1) == best)[kept]
    picked, rows = distances.argmin(axis=0), np.arange(shape[1])
    return HindsightScore(
        distance,
        tuple(rule.name for rule in rules),
        shape[1],
        int(hits[picked, rows].sum()),
        float(distances[picked, rows].sum()),
        float(nats[picked, rows].sum()),
        float(target_nats.sum()),
        tuple(np.bincount(picked, minlength=len(rules)).tolist()),
        tuple(hits.sum(axis=1).tolist()),
        tuple(distances.sum(axis=1).tolist()),
        tuple(nats.sum(axis=1).tolist()),
    )


def _answers(
    talker: Talker, examiner: Examiner, tokens: NDArray[np.int64]
) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Return log-probabilities and probabilities, [window * pos, d_vocab] each."""
    log = talker.log_probs(tokens)
    chances = examiner.examine(tokens, log)
    return log.reshape(-1, log.shape[-1]), chances.reshape(-1, log.shape[-1])


def total_variation(ours: NDArray[np.floating[Any]], theirs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Half the summed absolute difference of probabilities, [token, d_vocab] each -> [token], 0 to 1."""
    found = np.empty(len(ours))
    for start in range(0, len(ours), per_token.ROWS):
        part = slice(start, start + per_token.ROWS)
        found[part] = np.abs(theirs[part] - ours[part]).sum(axis=1, dtype=np.float64) / 2
    return found
