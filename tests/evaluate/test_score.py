"""Scores against hand-computed cases, and under different splits of the work."""

from __future__ import annotations

import math

import numpy as np
import pytest

from englishroom.data.corpus import windows
from englishroom.errors import ConfigError
from englishroom.evaluate import score as score_module
from englishroom.evaluate.score import Score, encode_windows, score
from englishroom.ir.tokenizer import Tokenizer

LETTERS = Tokenizer(
    kind="byte_bpe",
    pieces=(b"a", b"b", b"c", b"<|endoftext|>"),
    merges=(),
    scores=(),
    byte_ids=tuple({97: 0, 98: 1, 99: 2}.get(byte, -1) for byte in range(256)),
    specials=(3,),
    start_id=3,
    stop_ids=(3,),
    prefix_space=False,
)


class Successor:
    """Gives probability 0.7 to the letter after the current one (a after c and at the start), 0.1 to the others."""

    name, tokenizer = "successor", LETTERS

    def __init__(self, n_ctx: int) -> None:
        self.n_ctx = n_ctx
        self.seen: list[tuple[int, ...]] = []

    def log_probs(self, tokens: np.ndarray) -> np.ndarray:
        assert tokens.shape[1] <= self.n_ctx
        self.seen += [tuple(row) for row in tokens.tolist()]
        answer = np.full((*tokens.shape, 4), math.log(0.1))
        following = np.where(tokens >= 2, 0, tokens + 1)
        np.put_along_axis(answer, following[..., None], math.log(0.7), axis=2)
        return answer

    def stream(self) -> None:
        raise AssertionError("scoring does not stream")


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
    cut = encode_windows(Successor(4), ["abcabcabc"])
    assert [window.tokens[0] for window in cut] == [3, 1, 0, 2][: len(cut)]
    assert cut[0].scored_from == 1


def test_text_outside_the_vocabulary() -> None:
    with pytest.raises(ConfigError, match="no token for byte 0x64"):
        score(Successor(8), ["abcd"])
