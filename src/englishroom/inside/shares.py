"""Shares of a log-probability among the features that vote, for every token of a text at once.

What ``--explain`` prints token by token (``emit.prelude.explaining``), in numpy: the log-probability of a token is a
baseline, what the constants alone would make it, and the sum of the shares of the features. As all votes are turned up
together from nothing, a feature is credited with what it adds on the way (Aumann and Shapley 1974; integrated
gradients). Its vote is linear, so that its share is its vote for the token less its mean vote for all tokens, under the
mean of the distributions on the way, which Gauss and Legendre integrate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.interp.pointwise import log_softmax
from englishroom.interp.recorded_run import RecordedRun
from englishroom.ir.program import Match, Rules

CLOSE_NATS = 1e-9
"""By how much shares may fail to add up before more nodes are taken."""
MOST_NODES = 512
Rows = NDArray[Any]


@dataclass(frozen=True)
class Shares:
    """Shares of the log-probabilities of tokens.

    Attributes:
        of: variable -> share of each rule (or looked-up feature), [pos, rule].
        heads: outputs of heads that nothing turned into features -> share of each source position, [head, pos, source].
        baseline: log-probability if the constants alone voted, [pos].
        unexplained: what is missing for all to add up to the log-probability, [pos].
    """

    of: Mapping[str, Rows]
    heads: Mapping[str, Rows]
    baseline: Rows
    unexplained: Rows


def shares(reading: RecordedRun, tokens: NDArray[np.integer]) -> Shares:
    """Split the log-probability of a token at every position of a text.

    Args:
        tokens: the token said after each position, [pos].
    """
    at = np.arange(len(tokens))
    log_probs, alone = reading.log_probs[at, tokens], reading.votes_alone()
    votes = sum((reading.variables[name] for name in reading.program.vote.reads), np.zeros(()))
    baseline = log_softmax(alone)[at, tokens]
    against = _against(alone, votes - alone, tokens, log_probs - baseline)
    back = reading.back(against, "additions")
    of: dict[str, Rows] = {}
    heads: dict[str, Rows] = {}
    for name in reading.sources():
        block, gradient = reading.blocks[name], back.get(name)
        if gradient is None:
            continue
        if isinstance(block, Rules):
            of[name] = reading.rules[name].passed * reading.apply(block.effects, gradient, transposed=True)
        elif isinstance(block, Match):
            values, mixes = reading.variables[block.values], reading.unmixed(block, gradient)
            pairs = zip(reading.weights[name], mixes, strict=True)
            heads[name] = np.stack([weights * (mix @ values.T) for weights, mix in pairs])
        else:
            of[name] = reading.variables[name] * gradient
    added = sum((part.sum(1) for part in of.values()), baseline) + sum(part.sum((0, 2)) for part in heads.values())
    return Shares(of, heads, baseline, log_probs - added)


def _against(alone: Rows, turned: Rows, tokens: NDArray[np.integer], wanted: Rows) -> Rows:
    """Return one at the token less the mean distribution on the way from the constants' votes to all votes."""
    at, nodes = np.arange(len(tokens)), 16
    while True:
        mean = np.zeros_like(turned)
        for place, weight in zip(*np.polynomial.legendre.leggauss(nodes), strict=True):
            mean -= weight / 2 * np.exp(log_softmax(alone + (1 + place) / 2 * turned))
        mean[at, tokens] += 1.0
        if nodes >= MOST_NODES or np.abs((mean * turned).sum(1) - wanted).max() < CLOSE_NATS:
            return mean
        nodes *= 2
