"""How metrics are summed: sums that add up under any sharding, means and intervals taken last."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.evaluate.per_token import Numbers

BINS = 15
"""Bins of confidence, of equal width."""
DRAWS = 1000
"""Resamplings of documents behind an interval."""


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
        own = np.concatenate([np.zeros((len(values), 1), np.int64), categories], axis=1)
        cells = documents[:, None] * self.sums.shape[1] + own
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


@dataclass
class Judgement:
    """All that was measured of one talker on one text; judgements of parts of the documents add up.

    Attributes:
        bytes: of every document in UTF-8, [document].
        sums: by key of the metrics that are taken at every token (see :mod:`englishroom.evaluate.metrics`).
        calibration: how sure it is, and how often right.
    """

    bytes: NDArray[np.int64]
    sums: dict[str, MetricSums] = field(default_factory=dict)
    calibration: Calibration = field(default_factory=Calibration.empty)

    def __add__(self, other: Judgement) -> Judgement:
        if self.sums.keys() != other.sums.keys():
            raise ConfigError("judgements by different metrics cannot be added; measure both with the same reference")
        return Judgement(
            self.bytes,
            {key: sums + other.sums[key] for key, sums in self.sums.items()},
            self.calibration + other.calibration,
        )

    @property
    def ce_increase(self) -> MetricSums | None:
        """The sums of nats above the reference's, token by token, or ``None`` where there was none."""
        return self.sums["nats_per_token"] - self.sums["target_nats"] if "target_nats" in self.sums else None
