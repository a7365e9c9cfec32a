"""What is measured at every token, and how it is summed: pure functions, and sums that add up under any sharding.

A metric maps log-probabilities to one number a token. Its :class:`MetricSums` keeps a sum and a count per document and
category; tallies of parts of a text add up to that of the whole, and means are taken last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ConfigError

LogProbs = NDArray[np.floating[Any]]
"""Natural-log probabilities, [token, d_vocab]."""
Numbers = NDArray[np.float64]
ROWS = 256
"""Positions handled at once, so that what is in between stays in the cache."""
BINS = 15
"""Bins of confidence, of equal width."""
DRAWS = 1000
"""Resamplings of documents behind an interval."""


def nats(answers: LogProbs, targets: NDArray[np.integer]) -> Numbers:
    """Negative log-probability of the token that came, [token]."""
    return -np.take_along_axis(answers, targets[:, None], axis=1)[:, 0].astype(np.float64)


def top1(best: NDArray[np.integer], targets: NDArray[np.integer]) -> Numbers:
    """1 where the token that came is the likeliest, [token]."""
    return (best == targets).astype(np.float64)


def agreement(best: NDArray[np.integer], other: NDArray[np.integer]) -> Numbers:
    """1 where two talkers hold the same token for the likeliest, [token]."""
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


@dataclass(frozen=True)
class MetricSums:
    """Sums and counts of one metric, each [document, category]; the first category holds every token."""

    sums: Numbers
    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, n_documents: int, n_categories: int = 1) -> MetricSums:
        """Return a tally of nothing."""
        shape = (n_documents, n_categories)
        return cls(np.zeros(shape), np.zeros(shape, np.int64))

    def add(self, values: Numbers, documents: NDArray[np.integer], categories: NDArray[np.integer]) -> None:
        """Take in values, [token], of the documents [token] and the categories [token, several] that they belong to.

        Every token joins the first category by itself; a category of -1 is none.
        """
        n_categories = self.sums.shape[1]
        cells = documents[:, None] * n_categories + np.concatenate(
            [np.zeros((len(values), 1), np.int64), categories], axis=1
        )
        kept = np.concatenate([np.ones((len(values), 1), bool), categories >= 0], axis=1)
        spread = np.broadcast_to(values[:, None], cells.shape)[kept]
        size = self.sums.size
        self.sums.reshape(-1)[:] += np.bincount(cells[kept], spread, size)
        self.counts.reshape(-1)[:] += np.bincount(cells[kept], minlength=size)

    def __add__(self, other: MetricSums) -> MetricSums:
        return MetricSums(self.sums + other.sums, self.counts + other.counts)

    def __sub__(self, other: MetricSums) -> MetricSums:
        """Return the tally of differences, token by token, of two metrics over the same tokens."""
        if not np.array_equal(self.counts, other.counts):
            raise ConfigError("metrics over different tokens cannot be subtracted; measure both on the same windows")
        return MetricSums(self.sums - other.sums, self.counts)

    @property
    def total(self) -> float:
        return float(self.sums[:, 0].sum())

    @property
    def count(self) -> int:
        return int(self.counts[:, 0].sum())

    @property
    def mean(self) -> float:
        return self.total / self.count

    def means(self) -> Numbers:
        """Mean per category, [category]; nan where a category is empty."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.sums.sum(axis=0) / self.counts.sum(axis=0)

    def intervals(self, seed: int = 0, share: float = 0.95, per: Numbers | None = None) -> Numbers:
        """Bootstrap the means over documents, [category, 2] (low, high).

        Args:
            share: how much of the resampled means the interval holds.
            per: what to divide by instead of the counts, [document] (bytes, for example).
        """
        return np.quantile(self._resampled(seed, per), [(1 - share) / 2, (1 + share) / 2], axis=0).T

    def standard_errors(self, seed: int = 0) -> Numbers:
        """Bootstrap the standard error of the means over documents, [category]."""
        return self._resampled(seed, None).std(axis=0)

    def _resampled(self, seed: int, per: Numbers | None) -> Numbers:
        """Draw documents with replacement and take the means, [draw, category]."""
        n_documents = len(self.sums)
        generator = np.random.default_rng(seed)
        below = self.counts.astype(np.float64) if per is None else np.broadcast_to(per[:, None], self.sums.shape)
        means = np.empty((DRAWS, self.sums.shape[1]))
        for at in range(DRAWS):  # one draw at a time: weights of all draws would not fit for a million documents
            weight = np.bincount(generator.integers(n_documents, size=n_documents), minlength=n_documents)
            with np.errstate(invalid="ignore", divide="ignore"):
                means[at] = (weight @ self.sums) / (weight @ below)
        return means


@dataclass(frozen=True)
class Calibration:
    """How sure a talker is of its likeliest token, and how often it is right, by bins of confidence, each [bin]."""

    confidence: Numbers
    hits: Numbers
    counts: NDArray[np.int64]

    @classmethod
    def empty(cls) -> Calibration:
        """Return the calibration of nothing."""
        return cls(np.zeros(BINS), np.zeros(BINS), np.zeros(BINS, np.int64))

    @classmethod
    def of(cls, sure: Numbers, hits: Numbers) -> Calibration:
        """Sort tokens into bins by the probability of the likeliest, [token], 0 to 1; hits as of :func:`top1`."""
        bins = np.clip((sure * BINS).astype(np.int64), 0, BINS - 1)
        confidence, right = (np.bincount(bins, values, BINS).astype(np.float64) for values in (sure, hits))
        return cls(confidence, right, np.bincount(bins, None, BINS).astype(np.int64))

    def __add__(self, other: Calibration) -> Calibration:
        return Calibration(self.confidence + other.confidence, self.hits + other.hits, self.counts + other.counts)

    @property
    def expected_error(self) -> float:
        """Mean gap between confidence and accuracy, weighted by the tokens of each bin (ECE; Guo et al. 2017)."""
        return float(np.abs(self.confidence - self.hits).sum() / self.counts.sum())
