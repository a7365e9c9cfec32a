"""Greedy-text agreement, on texts that can be compared by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from englishroom.evaluate.greedy import GreedyAgreement, continue_greedily, greedy_agreement, prompts_of
from letters import LETTERS


class Successor:
    """Holds the letter after the current one for the likeliest; ends after so many letters."""

    name, tokenizer = "successor", LETTERS

    def __init__(self, n_ctx: int = 100, stop_after: int = 100) -> None:
        self.n_ctx, self.stop_after = n_ctx, stop_after

    def stream(self) -> Successor:
        return Successor(self.n_ctx, self.stop_after)

    read = 0

    def extend(self, tokens: np.ndarray) -> np.ndarray:
        self.read += tokens.shape[1]
        assert self.read <= self.n_ctx
        answer = np.full((*tokens.shape, 4), math.log(0.1))
        following = np.full_like(tokens, 3) if self.read >= self.stop_after else np.where(tokens >= 2, 0, tokens + 1)
        np.put_along_axis(answer, following[..., None], math.log(0.7), axis=2)
        return answer


def test_prompts_are_beginnings_that_are_long_enough() -> None:
    prompts = prompts_of(Successor(), ["ab", "abcabcabcabcabc", "cccccccccccc", "abcabcabcabc"], 2)
    assert prompts.tolist() == [[3, *[0, 1, 2] * 4], [3, *[2] * 12]]
    assert prompts_of(Successor(), ["ab"], 2).shape == (0, 13)


def test_short_contexts_are_prompted_by_half_of_them() -> None:
    for n_ctx, length in ((4, 2), (8, 4), (12, 6), (23, 11), (24, 12), (100, 12)):
        talker = Successor(n_ctx)
        prompts = prompts_of(talker, ["abcabcabcabcabc"], 2)
        assert prompts.shape == (1, 1 + length)
        told = continue_greedily(talker, prompts)
        assert greedy_agreement(told, told).share == 1
    nothing = np.empty((3, 0), np.int64)
    assert greedy_agreement(nothing, nothing) == GreedyAgreement(prompts=3)


def test_continuing() -> None:
    prompts = np.array([[3, 0, 1], [3, 2, 2]])
    assert continue_greedily(Successor(), prompts, 4).tolist() == [[2, 0, 1, 2], [0, 1, 2, 0]]
    assert continue_greedily(Successor(stop_after=4), prompts, 4).tolist() == [[2, -1, -1, -1], [0, -1, -1, -1]]
    assert continue_greedily(Successor(n_ctx=4), prompts, 10).tolist() == [[2, 0], [0, 1]], "the context is full"


def test_hand_computed_agreement() -> None:
    target = np.array([[1, 2, 3], [1, -1, -1], [1, 2, 3], [1, 2, -1]])
    talker = np.array([[1, 2, 3], [1, -1, -1], [1, 0, 3], [1, 2, 2]])
    found = greedy_agreement(target, talker)
    assert found == GreedyAgreement(agreed=3 + 2 + 1 + 2, told=3 + 2 + 3 + 3, same=2, prompts=4)
    assert found.share == pytest.approx(8 / 11)
    parts = [greedy_agreement(target[i : i + 1], talker[i : i + 1]) for i in range(4)]
    assert sum(parts, GreedyAgreement()) == found
    assert greedy_agreement(target[:, :2], talker) == greedy_agreement(target[:, :2], talker[:, :2])
    assert math.isnan(GreedyAgreement().share)
