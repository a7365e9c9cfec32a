"""Comparing two talkers, on texts where the answer is known."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from englishroom.errors import ConfigError
from englishroom.evaluate.compare import compare
from englishroom.evaluate.talk import TalkOptions
from letters import LETTERS, Flat, Successor


class Telling(Successor):
    """Tells as well as scores."""

    def stream(self) -> Telling:
        return self

    def extend(self, tokens: np.ndarray) -> np.ndarray:
        return self.log_probs(tokens)


class TellingBack(Telling):
    """Expects the letter before the current one."""

    name = "predecessor"

    def log_probs(self, tokens: np.ndarray) -> np.ndarray:
        answer = np.full((*tokens.shape, 4), math.log(0.1))
        following = np.where(tokens == 3, 0, (tokens + 2) % 3)
        np.put_along_axis(answer, following[..., None], math.log(0.7), axis=2)
        return answer


def test_tokens_categories_and_totals() -> None:
    documents = ["abcabc", "acbacb", "abcacb"]
    found = compare(Telling(64), TellingBack(64), documents, top=2)
    size = math.log(7)  # between probabilities 0.7 and 0.1
    # after the first letters, which both expect, the first is right 5, 0 and 3 times, the second 0, 5 and 2 times
    assert found.gain == pytest.approx((7 - 8) * size / 18)
    assert found.nats_per_token[0] - found.nats_per_token[1] == pytest.approx(found.gain)
    assert [row.gain for row in found.second_better] == pytest.approx([size, size])
    assert [row.gain for row in found.first_better] == pytest.approx([-size, -size])
    assert {row.document for row in found.second_better} == {1, 2}, "one token a document"
    assert {row.document for row in found.first_better} == {0, 2}
    row = next(row for row in found.second_better if row.document == 1)
    assert documents[1][: row.position - 1] == row.before
    assert documents[1][row.position - 1] == row.token
    assert row.expected[1] == row.token != row.expected[0]
    position = [row for row in found.categories if row.category == "position: tokens 1-15"]
    assert [(row.tokens, row.share) for row in position] == [(18, pytest.approx(1))]
    assert found.interval[0] < found.gain < found.interval[1]


def test_kl_names_its_direction_whichever_has_the_shorter_context() -> None:
    for contexts in ((8, 64), (64, 8)):
        found = compare(Successor(contexts[0]), Flat(contexts[1]), ["abcabcabcabc", "ccab"])
        entropy = -0.7 * math.log(0.7) - 0.3 * math.log(0.1)
        mean_log = (math.log(0.7) + 3 * math.log(0.1)) / 4
        assert found.kl_nats == (pytest.approx(math.log(4) - entropy), pytest.approx(-math.log(4) - mean_log))


def test_stories_from_the_same_prompts_and_seeds() -> None:
    story = TalkOptions(greedy=True, max_tokens=6)
    found = compare(Telling(64), TellingBack(64), ["abc"], prompts=["ab", ""], seed=5, story=story)
    assert [(s.prompt, s.seed, s.first, s.second, s.alike) for s in found.stories] == [
        ("ab", 5, "cabcab", "acbacb", 0),
        ("", 6, "abcabc", "acbacb", 1),
    ]
    drawn = compare(Telling(64), Telling(64), ["abc"], prompts=["a"], story=TalkOptions(max_tokens=30))
    assert drawn.stories[0].first == drawn.stories[0].second
    assert drawn.gain == 0
    assert drawn.second_better == []


def test_other_vocabularies_are_refused() -> None:
    class Other(Successor):
        tokenizer = dataclasses.replace(LETTERS, prefix_space=True)

    with pytest.raises(ConfigError, match="different vocabularies, so their tokens cannot be compared one by one"):
        compare(Successor(8), Other(8), ["abc"])
