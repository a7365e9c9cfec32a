"""Catch talkers that would fool the measure: whose answers are no probabilities, or look ahead."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import InvalidTalkerError
from englishroom.talker import Talker

SUM_TOLERANCE = 2e-3
"""How far the probabilities of a position may be from 1 in sum; float32 over 50,000 tokens stays below 1e-4."""
LOOK_TOLERANCE_NATS = 1e-2
"""How far an answer may move when other tokens come later, or other texts stand beside; rounding stays below 1e-4."""
FLOOR_NATS = -20.0
"""Log-probabilities below this count as equal."""
FIRST, EVERY = 4, 8
"""Batches at the beginning that are all examined for looking ahead, and then every which."""


class Examiner:
    """Examines the answers of one talker, batch after batch."""

    def __init__(self, talker: Talker, seed: int = 0) -> None:
        self._talker = talker
        self._chance = np.random.default_rng(seed)
        self._batches = 0

    def examine(self, tokens: NDArray[np.integer], answers: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Check the answers to tokens [batch, pos], [batch, pos, d_vocab], and return their probabilities.

        Every position has to be a distribution. In the first batches and then every eighth, one text is read again by
        itself, cut at a random place and followed by random tokens: its answers up to there must stay.

        Raises:
            InvalidTalkerError: they are no probabilities, or look ahead, or depend on the texts beside.
        """
        name, d_vocab = self._talker.name, len(self._talker.tokenizer.pieces)
        expected = (*tokens.shape, d_vocab)
        if answers.shape != expected:
            raise InvalidTalkerError(f"{name}: found answers of shape {answers.shape}, expected {expected}")
        probabilities = np.exp(answers)
        sums = probabilities.sum(axis=2).reshape(-1)
        off = np.abs(sums - 1)
        if not (off <= SUM_TOLERANCE).all():  # also true of nan
            at = int(np.argmax(np.where(np.isnan(off), np.inf, off)))
            raise InvalidTalkerError(
                f"{name}: its probabilities at position {at % tokens.shape[1]} sum to {sums[at]:.4g}, "
                "expected 1; it must return normalised natural-log probabilities"
            )
        if self._batches < FIRST or self._batches % EVERY == 0:
            self._look_ahead(tokens, answers)
        self._batches += 1
        return probabilities

    def _look_ahead(self, tokens: NDArray[np.integer], answers: NDArray[np.floating[Any]]) -> None:
        row = int(self._chance.integers(len(tokens)))
        last = int(self._chance.integers(tokens.shape[1]))
        other = tokens[row : row + 1].copy()
        other[0, last + 1 :] = self._chance.integers(answers.shape[2], size=tokens.shape[1] - last - 1)
        again = self._talker.log_probs(other)[0, : last + 1]
        before = answers[row, : last + 1]
        moved = np.abs(np.maximum(again, FLOOR_NATS) - np.maximum(before, FLOOR_NATS)).max(axis=1)
        if not (moved <= LOOK_TOLERANCE_NATS).all():
            at = int(np.argmax(moved > LOOK_TOLERANCE_NATS))
            raise InvalidTalkerError(
                f"{self._talker.name}: its answer at position {at} moves by {moved[at]:.2g} nats when the tokens after "
                f"position {last} or the texts beside it change, expected the same answer; it must not look ahead"
            )
