"""Scores against hand-computed cases, and under different splits of the work."""

from __future__ import annotations

import functools
import itertools
import math
import operator

import numpy as np
import pytest

from englishroom.data.corpus import windows
from englishroom.errors import ConfigError, InvalidTalkerError
from englishroom.evaluate import score as score_module
from englishroom.evaluate.score import Score, cut_windows, encode, judge, score
from englishroom.evaluate.sums import Judgement
from letters import Flat, Successor


def test_hand_computed_score() -> None:
    result = score(Successor(8), ["abca", "cc"])
    # abca: all four expected; cc: c after the start is not, c after c is not
    assert result.tokens == 6
    assert result.hits == 4
    assert result.bytes == 6
    assert result.documents == 2
    assert result.nats == pytest.approx(-4 * math.log(0.7) - 2 * math.log(0.1))
    assert result.nats_per_token == pytest.approx(result.nats / 6)
    assert result.bits_per_byte == pytest.approx(result.nats / 6 / math.log(2))
    assert result.top1 == pytest.approx(4 / 6)


@pytest.mark.parametrize("n_ctx", [2, 3, 5, 64])
@pytest.mark.parametrize("batch_tokens", [1, 7, 4096])
def test_the_same_under_any_context_and_batch(monkeypatch: pytest.MonkeyPatch, n_ctx: int, batch_tokens: int) -> None:
    monkeypatch.setattr(score_module, "BATCH_TOKENS", batch_tokens)
    documents = ["abcabcaabbcc", "c", "ab", "bcabcabcabcabcabc"]
    whole = score(Successor(1000), documents)
    cut = score(Successor(n_ctx), documents)  # this talker needs one token of context only
    assert (cut.tokens, cut.bytes, cut.hits) == (whole.tokens, whole.bytes, whole.hits)
    assert cut.nats == pytest.approx(whole.nats)


def test_scores_add() -> None:
    talker = Successor(8)
    parts = score(talker, ["abca"]) + score(talker, ["cc"])
    whole = score(talker, ["abca", "cc"])
    assert parts == Score(pytest.approx(whole.nats), whole.tokens, whole.bytes, whole.hits, whole.documents)


def test_every_token_is_scored_once_with_half_a_context_before_it() -> None:
    for length in range(1, 40):
        for n_ctx in range(2, 12):
            scored: list[int] = []
            for start, scored_from, stop in windows(range(length), n_ctx):
                assert stop - start <= n_ctx + 1
                assert scored_from - start >= min(scored_from, n_ctx // 2)
                scored += range(scored_from, stop)
            assert scored == list(range(1, length)), (length, n_ctx)


def test_windows_start_with_the_start_token_only_at_the_document() -> None:
    talker = Successor(4)
    cut = list(cut_windows(talker, 0, encode(talker, ["abcabcabc"])[0]))
    assert [window.tokens[0] for window in cut] == [3, 1, 0, 2][: len(cut)]
    assert cut[0].scored_from == 1


def test_text_outside_the_vocabulary() -> None:
    with pytest.raises(ConfigError, match="no token for byte 0x64"):
        score(Successor(8), ["abcd"])


def test_hand_computed_comparison_with_a_reference() -> None:
    target, flat = Successor(8), Flat(8)
    own, other = judge([target, flat], ["abca", "cc"], reference=target)
    assert own.sums["kl_target_talker"].mean == 0
    assert own.sums["top1_agreement"].mean == 1
    assert own.ce_increase is not None
    assert own.ce_increase.total == 0
    entropy = -0.7 * math.log(0.7) - 0.3 * math.log(0.1)
    assert other.sums["kl_target_talker"].mean == pytest.approx(math.log(4) - entropy)
    mean_log = (math.log(0.7) + 3 * math.log(0.1)) / 4
    assert other.sums["kl_talker_target"].mean == pytest.approx(-math.log(4) - mean_log)
    assert other.sums["nats_per_token"].mean == pytest.approx(math.log(4))
    assert other.sums["target_nats"].mean == pytest.approx(own.sums["nats_per_token"].mean)
    assert other.ce_increase is not None
    assert other.ce_increase.mean == pytest.approx(math.log(4) - own.sums["nats_per_token"].mean)
    # the first of equals is token a: it is the target's likeliest after c and at the start, at 4 of 6 positions
    assert other.sums["top1_agreement"].mean == pytest.approx(4 / 6)
    # 6 answers with confidence 0.7, of which 4 are right
    assert own.calibration.expected_error == pytest.approx(0.7 - 4 / 6)
    assert other.calibration.expected_error == pytest.approx(abs(0.25 - 2 / 6))


@pytest.mark.parametrize("cuts", [[0, 2, 4], [0, 1, 2, 3, 4], [0, 3, 4]])
@pytest.mark.parametrize("n_ctx", [3, 64])
def test_sharded_judgements_add_up_to_the_whole(cuts: list[int], n_ctx: int) -> None:
    documents = ["abcabcaabbcc", "c", "ab", "bcabcabcabcabcabc"]
    talkers = [Flat(n_ctx), Successor(n_ctx)]

    def judged(part: range | None) -> list[Judgement]:
        return judge(talkers, documents, reference=talkers[1], categories=True, part=part)

    whole = judged(None)
    shards = [judged(range(a, b)) for a, b in itertools.pairwise(cuts)]
    for index, expected in enumerate(whole):
        summed = functools.reduce(operator.add, (shard[index] for shard in shards))
        for name, tally in expected.sums.items():
            assert np.array_equal(summed.sums[name].counts, tally.counts), name
            assert np.allclose(summed.sums[name].sums, tally.sums), name
        assert np.allclose(summed.calibration.confidence, expected.calibration.confidence)
        assert np.array_equal(summed.calibration.counts, expected.calibration.counts)
        assert Score.of(summed).bits_per_byte == pytest.approx(Score.of(expected).bits_per_byte)


def test_talkers_of_other_vocabularies_or_shorter_contexts_are_judged_by_themselves() -> None:
    target = Successor(8)
    longer, shorter = Flat(100), Flat(4)
    judged = judge([longer, shorter], ["abcaabbccabc"], reference=target)
    assert "kl_target_talker" in judged[0].sums
    assert "kl_target_talker" not in judged[1].sums
    assert judged[1].ce_increase is None
    assert judged[1].sums["nats_per_token"].mean == pytest.approx(judged[0].sums["nats_per_token"].mean)
    with pytest.raises(ConfigError, match="different metrics cannot be added"):
        _ = judged[0] + judged[1]


class Peeking(Successor):
    """Looks at the token that it is asked to predict."""

    name = "peeking"

    def log_probs(self, tokens: np.ndarray) -> np.ndarray:
        answer = super().log_probs(tokens)
        known = np.full((*tokens.shape, 4), math.log(0.01))
        np.put_along_axis(known[:, :-1], tokens[:, 1:, None], math.log(0.97), axis=2)
        answer[:, :-1] = known[:, :-1]
        return answer


class Boasting(Successor):
    """Says that everything was likely."""

    name = "boasting"

    def log_probs(self, tokens: np.ndarray) -> np.ndarray:
        return np.full((*tokens.shape, 4), math.log(0.9))


class Boasting1(Successor):
    """Boasts at one position of one text only."""

    name = "boasting once"

    def log_probs(self, tokens: np.ndarray) -> np.ndarray:
        answer = super().log_probs(tokens)
        answer[-1, -1] += 0.1
        return answer


class Whispering(Successor):
    """Looks at the texts beside it."""

    name = "whispering"

    def log_probs(self, tokens: np.ndarray) -> np.ndarray:
        answer = super().log_probs(tokens)
        return answer if len(tokens) == 1 else np.roll(answer, 1, axis=2)


class Silent(Successor):
    name = "silent"

    def log_probs(self, tokens: np.ndarray) -> np.ndarray:
        return np.full((*tokens.shape, 4), np.nan)


class Narrow(Successor):
    name = "narrow"

    def log_probs(self, tokens: np.ndarray) -> np.ndarray:
        return super().log_probs(tokens)[..., :3]


@pytest.mark.parametrize(
    ("talker", "said"),
    [
        (Peeking, r"peeking: its answer at position \d+ moves by .* must not look ahead"),
        (Boasting, r"boasting: its probabilities at position 0 sum to 3.6, expected 1"),
        (Boasting1, r"boasting once: its probabilities at position \d+ sum to 1.105"),
        (Whispering, r"whispering: its answer at position \d+ moves by .* the texts beside it"),
        (Silent, r"silent: its probabilities at position 0 sum to nan"),
        (Narrow, r"narrow: found answers of shape \(2, 12, 3\), expected \(2, 12, 4\)"),
    ],
)
def test_the_measure_cannot_be_fooled(talker: type[Successor], said: str) -> None:
    documents = ["abcabcaabbca", "bcabccabcabc"]
    with pytest.raises(InvalidTalkerError, match=said):
        score(talker(64), documents)
    with pytest.raises(InvalidTalkerError, match=said):
        judge([talker(64)], documents, reference=Successor(64))


def test_looking_ahead_now_and_then_is_caught_over_many_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sometimes(Peeking):
        calls = 0

        def log_probs(self, tokens: np.ndarray) -> np.ndarray:
            self.calls += 1
            return super().log_probs(tokens) if self.calls > 20 else Successor.log_probs(self, tokens)

    monkeypatch.setattr(score_module, "BATCH_TOKENS", 30)
    with pytest.raises(InvalidTalkerError, match="must not look ahead"):
        score(Sometimes(64), ["abcabcaabbca"] * 200)
