"""The hindsight oracle against hand-computed cases, and under different splits of the work."""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import replace

import numpy as np
import pytest

from englishroom.errors import ConfigError, InvalidTalkerError
from englishroom.evaluate.hindsight import HindsightScore, hindsight
from englishroom.evaluate.score import score
from englishroom.ir.tokenizer import Tokenizer
from englishroom.talkers.ngrams.encode import encode_documents
from englishroom.talkers.ngrams.talker import fit_ngrams
from englishroom.talkers.ngrams.template import template_rules
from programs import tokenizer_for

LETTERS = tokenizer_for(4)  # <s> a b c


class Fixed:
    """Answers by the last token alone: a row of probabilities for each."""

    def __init__(self, name: str, rows: list[list[float]], n_ctx: int = 8, tokenizer: Tokenizer = LETTERS) -> None:
        self.name, self.rows, self.n_ctx, self.tokenizer = name, np.array(rows), n_ctx, tokenizer

    def log_probs(self, tokens: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(self.rows[tokens])

    def stream(self) -> None:
        raise AssertionError("the oracle does not stream")


FLAT = [0.25] * 4
SURE = [[0.0, 0.7, 0.2, 0.1], [0.0, 0.1, 0.8, 0.1], [0.1, 0.1, 0.1, 0.7], [0.7, 0.1, 0.1, 0.1]]
TARGET = Fixed("target", [[0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.1, 0.1, 0.1, 0.7], FLAT])
RULES = [
    Fixed("sure", SURE),
    Fixed("flat", [FLAT] * 4),
    Fixed("odd", [[0.1, 0.7, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1], FLAT, [0.5, 0.3, 0.1, 0.1]]),
]


def alone(rules: list[Fixed], documents: list[str]) -> list[HindsightScore]:
    return [hindsight([rule], TARGET, documents) for rule in rules]


def test_hand_computed_picks() -> None:
    # abc: after <s> odd is the target itself; after a sure is nearest (0.1 off, flat 0.45); after b sure is the target
    result = hindsight(RULES, TARGET, ["abc"])
    assert (result.tokens, result.hindsight_hits) == (3, 3)
    assert result.hindsight_distance == pytest.approx(0 + 0.1 + 0)
    assert result.hindsight_nats == pytest.approx(-math.log(0.7) - math.log(0.8) - math.log(0.7))
    assert result.target_nats == pytest.approx(-3 * math.log(0.7))
    assert result.hindsight_top1_agreement == 1
    assert result.hindsight_nats_per_token == pytest.approx(result.hindsight_nats / 3)
    by_rule = alone(RULES, ["abc"])
    assert [one.hindsight_distance for one in by_rule] == pytest.approx([0.1 + 0.1 + 0, 0.45 * 3, 0 + 0.6 + 0.45])
    assert [one.hindsight_hits for one in by_rule] == [3, 0, 1]
    assert by_rule[1].hindsight_nats == pytest.approx(3 * math.log(4))


def test_of_equals_the_first_is_picked() -> None:
    # both are as far off after <s>, and give c, which comes, other chances
    first, second = Fixed("first", [[0.5, 0.25, 0.125, 0.125]] * 4), Fixed("second", [[0.125, 0.25, 0.125, 0.5]] * 4)
    distances = [one.hindsight_distance for one in alone([first, second], ["c"])]
    assert distances[0] == distances[1]
    assert hindsight([first, second], TARGET, ["c"]).hindsight_nats == pytest.approx(math.log(8))
    assert hindsight([second, first], TARGET, ["c"]).hindsight_nats == pytest.approx(math.log(2))


DOCUMENTS = ["abc", "cab", "c", "bbcabcaabc", "accb", "aabcabcabcabcab"]


@pytest.mark.parametrize("n_shards", [2, 3, 6])
def test_shards_add_up_to_the_whole(n_shards: int) -> None:
    whole = hindsight(RULES, TARGET, DOCUMENTS)
    parts = [hindsight(RULES, TARGET, DOCUMENTS[i::n_shards]) for i in range(n_shards)]
    assert vars(functools.reduce(operator.add, parts)) == pytest.approx(vars(whole))
    assert whole.tokens == score(TARGET, DOCUMENTS).tokens
    assert whole.target_nats == pytest.approx(score(TARGET, DOCUMENTS).nats)
    for rule, one in zip(RULES[1:], alone(RULES[1:], DOCUMENTS), strict=True):
        assert one.hindsight_nats == pytest.approx(score(rule, DOCUMENTS).nats)


def test_hindsight_is_never_farther_than_any_single_rule() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        rules = [Fixed(str(i), rng.dirichlet(np.ones(4), 4).tolist()) for i in range(4)]
        target = Fixed("target", rng.dirichlet(np.ones(4), 4).tolist())
        distance = hindsight(rules, target, DOCUMENTS).hindsight_distance
        single = [hindsight([rule], target, DOCUMENTS).hindsight_distance for rule in rules]
        assert distance <= min(single) + 1e-12
        assert distance < max(single)
        assert distance <= hindsight(rules[:2], target, DOCUMENTS).hindsight_distance + 1e-12


def test_counted_rules_come_nearer_with_every_template() -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abc"), rng.integers(3, 20), p=[0.6, 0.3, 0.1])) for _ in range(60)]
    target = fit_ngrams(texts, LETTERS, 3)
    distances = []
    for reach in (0, 1, 2):
        rules = template_rules(encode_documents(texts, LETTERS), LETTERS, reach)
        distances.append(hindsight(rules, replace_n_ctx(target, 16), texts[:10]).hindsight_distance)
    assert distances[0] > distances[1] > distances[2]
    assert [rule.name for rule in rules] == ["rule unigram", "rule x", "rule x.", "rule xx"]


def replace_n_ctx(talker, n_ctx: int):
    talker.n_ctx = n_ctx
    return talker


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="no rules to choose from; give at least one"):
        hindsight([], TARGET, ["abc"])
    with pytest.raises(ConfigError, match="the text has no token to score; give more text"):
        hindsight(RULES, TARGET, [])
    with pytest.raises(ConfigError, match=r"short: reads other tokens than target, or fewer at once \(4 against 8\)"):
        hindsight([*RULES, Fixed("short", SURE, n_ctx=4)], TARGET, ["abc"])
    with pytest.raises(ConfigError, match="other: reads other tokens than target"):
        hindsight([Fixed("other", SURE, tokenizer=replace(LETTERS, stop_ids=()))], TARGET, ["abc"])
    with pytest.raises(InvalidTalkerError, match="greedy: its probabilities"):
        hindsight([Fixed("greedy", [[0.9] * 4] * 4)], TARGET, ["abc"])
