"""The hindsight oracle against hand-computed cases, and under different splits of the work."""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import replace

import numpy as np
import pytest

from englishroom.errors import ConfigError, InvalidTalkerError
from englishroom.evaluate.hindsight import DISTANCES, Distance, hindsight
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


def test_hand_computed_picks() -> None:
    # abc: after <s> odd is the target itself; after a sure is nearest (0.1 off, flat 0.45); after b sure is the target
    result = hindsight(RULES, TARGET, ["abc"])
    assert result.rules == ("sure", "flat", "odd")
    assert (result.tokens, result.picks, result.hindsight_hits) == (3, (2, 0, 1), 3)
    assert result.hindsight_distance == pytest.approx(0 + 0.1 + 0)
    assert result.hindsight_nats == pytest.approx(-math.log(0.7) - math.log(0.8) - math.log(0.7))
    assert result.target_nats == pytest.approx(-3 * math.log(0.7))
    assert result.rule_distances == pytest.approx((0.1 + 0.1 + 0, 0.45 * 3, 0 + 0.6 + 0.45))
    assert result.rule_hits == (3, 0, 1)
    assert result.rule_nats[1] == pytest.approx(3 * math.log(4))
    assert result.hindsight_top1_agreement == 1
    assert result.single_rule_top1_agreement == ("sure", 1)
    assert result.hindsight_mean_distance == pytest.approx(0.1 / 3)
    assert result.hindsight_nats_per_token == pytest.approx(result.hindsight_nats / 3)


def test_hand_computed_picks_by_kl() -> None:
    # after <s> and after a the rule "sure" gives nothing to a token that the target expects, so its KL is infinite
    result = hindsight(RULES, TARGET, ["abc"], "kl_target_rule")
    after_a = 0.7 * math.log(0.7 / 0.25) + 0.3 * math.log(0.1 / 0.25)  # of flat; of odd it is 0.6 log 7
    assert after_a < 0.6 * math.log(7)
    assert result.picks == (1, 1, 1)
    assert result.hindsight_distance == pytest.approx(after_a)
    assert result.rule_distances[0] == math.inf
    assert result.hindsight_hits == 2


def test_of_equals_the_first_is_picked() -> None:
    twice = [RULES[1], Fixed("flat again", [FLAT] * 4)]
    assert hindsight(twice, TARGET, ["abc", "c"]).picks == (4, 0)


DOCUMENTS = ["abc", "cab", "c", "bbcabcaabc", "accb", "aabcabcabcabcab"]


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("n_shards", [2, 3, 6])
def test_shards_add_up_to_the_whole(distance: Distance, n_shards: int) -> None:
    whole = hindsight(RULES, TARGET, DOCUMENTS, distance)
    parts = [hindsight(RULES, TARGET, DOCUMENTS[i::n_shards], distance) for i in range(n_shards)]
    added = functools.reduce(operator.add, parts)
    for name, value in vars(whole).items():
        other = getattr(added, name)
        assert other == (value if isinstance(value, str | int) or name == "rules" else pytest.approx(value)), name
    assert whole.tokens == score(TARGET, DOCUMENTS).tokens
    assert whole.target_nats == pytest.approx(score(TARGET, DOCUMENTS).nats)
    for rule, nats in zip(RULES[1:], whole.rule_nats[1:], strict=True):
        assert nats == pytest.approx(score(rule, DOCUMENTS).nats)


@pytest.mark.parametrize("distance", DISTANCES)
def test_hindsight_is_never_farther_than_any_single_rule(distance: Distance) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        rules = [Fixed(str(i), rng.dirichlet(np.ones(4), 4).tolist()) for i in range(4)]
        target = Fixed("target", rng.dirichlet(np.ones(4), 4).tolist())
        result = hindsight(rules, target, DOCUMENTS, distance)
        assert result.hindsight_distance <= min(result.rule_distances) + 1e-12
        assert result.hindsight_distance < max(result.rule_distances)
        assert sum(result.picks) == result.tokens
        fewer = hindsight(rules[:2], target, DOCUMENTS, distance)
        assert result.hindsight_distance <= fewer.hindsight_distance + 1e-12


def test_counted_rules_come_nearer_with_every_template() -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abc"), rng.integers(3, 20), p=[0.6, 0.3, 0.1])) for _ in range(60)]
    target = fit_ngrams(texts, LETTERS, 3)
    by_reach = []
    for reach in (0, 1, 2):
        rules = template_rules(encode_documents(texts, LETTERS), LETTERS, reach)
        by_reach.append(hindsight(rules, replace_n_ctx(target, 16), texts[:10]))
    distances = [result.hindsight_mean_distance for result in by_reach]
    assert distances[0] > distances[1] > distances[2]
    assert by_reach[2].rules == ("rule unigram", "rule x", "rule x.", "rule xx")
    assert by_reach[2].picks[3] == max(by_reach[2].picks)


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
    with pytest.raises(ConfigError, match="the distance is 'l2', expected one of total_variation, kl_target_rule"):
        hindsight(RULES, TARGET, ["abc"], "l2")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="other rules or by another distance cannot be added"):
        hindsight(RULES, TARGET, ["abc"]) + hindsight(RULES[:1], TARGET, ["abc"])
    with pytest.raises(InvalidTalkerError, match="greedy: its probabilities"):
        hindsight([Fixed("greedy", [[0.9] * 4] * 4)], TARGET, ["abc"])
