"""What is measured at one token: pure functions of what talkers answer and of the token that came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LogProbs = NDArray[np.floating[Any]]
"""Natural-log probabilities, [token, d_vocab]."""
Numbers = NDArray[np.float64]
ROWS = 256
"""Positions handled at once, so that what is in between stays in the cache."""


@dataclass(frozen=True)
class Answers:
    """What a talker answers at every position of a batch, window after window.

    Attributes:
        log, p: log-probabilities and probabilities, [token, d_vocab].
        best, sure: the likeliest token and its probability, [token].
    """

    log: LogProbs
    p: NDArray[np.floating[Any]]
    best: NDArray[np.integer]
    sure: Numbers

    @classmethod
    def of(cls, log: LogProbs, p: NDArray[np.floating[Any]]) -> Answers:
        """Take log-probabilities and probabilities, [..., d_vocab] each."""
        log, p = log.reshape(-1, log.shape[-1]), p.reshape(-1, log.shape[-1])
        best = log.argmax(axis=1)
        return cls(log, p, best, p[np.arange(len(p)), best].astype(np.float64))


def nats(answers: LogProbs, targets: NDArray[np.integer]) -> Numbers:
    """Negative log-probability of the token that came, [token]."""
    return -np.take_along_axis(answers, targets[:, None], axis=1)[:, 0].astype(np.float64)


def agreement(best: NDArray[np.integer], other: NDArray[np.integer]) -> Numbers:
    """1 where the likeliest token is another talker's too, or the one that came, [token]."""
    return (best == other).astype(np.float64)


def kl_nats(first: LogProbs, second: LogProbs, probabilities: NDArray[np.floating[Any]] | None = None) -> Numbers:
    """KL(first ‖ second) in nats, [token]: what it costs to expect ``second`` where ``first`` is true.

    Args:
        probabilities: of ``first``, if known already.
    """
    found = np.empty(len(first))
    for start in range(0, len(first), ROWS):
        log = first[start : start + ROWS]
        p = np.exp(log) if probabilities is None else probabilities[start : start + ROWS]
        with np.errstate(invalid="ignore"):
            ratio = log - second[start : start + ROWS]
            sums = np.einsum("ij,ij->i", p, ratio)
            if not np.isfinite(sums).all():  # a probability of 0 costs nothing, whatever is expected
                sums = np.where(p > 0, p * ratio, 0).sum(axis=1)
        found[start : start + ROWS] = sums
    return found
