"""Modified Kneser-Ney smoothing (Chen & Goodman 1998), interpolated down to the uniform distribution.

1. The longest n-grams count as often as they occur, shorter ones as often as different tokens stand before them: what
   matters where a longer context fails is in how many contexts a token is at home. N-grams that begin with the start
   token keep the number of their occurrences, since nothing can stand before them.
2. Every length has three discounts, for counts of 1, of 2, and of 3 and more, from how many n-grams count 1, 2, 3, 4:
   Y = n_1 / (n_1 + 2 n_2), D_i = i - (i + 1) Y n_(i+1) / n_i.
3. P(token | context) = share + rest * P(token | context without its first token), where
   share = (c(context token) - D(c(context token))) / c(context), or 0 where the n-gram was not seen,
   rest = sum of D(c(context other)) over all other tokens seen after the context / c(context),
   and in the end, below the unigrams, every token has the same chance. A context never seen has a rest of 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from englishroom.errors import ConfigError
from englishroom.talkers.ngrams.counts import Ints, NgramCounts

Discounts = tuple[float, float, float]
"""What is taken off a count of 1, of 2, and of 3 or more."""
FALLBACK: Discounts = (0.5, 1.0, 1.5)
"""Discounts of a length with too few n-grams to estimate them from."""


@dataclass(frozen=True)
class SmoothedOrder:
    """The n-grams of one length, as the smoothing counts them.

    Attributes:
        starts, tokens: as in :class:`~englishroom.talkers.ngrams.counts.Grams`.
        counts: occurrences, or different tokens before, [n]; 0 only for tokens never seen.
    """

    starts: Ints
    tokens: NDArray[np.uint16]
    counts: Ints
    discounts: Discounts

    def weights(self, dtype: DTypeLike = np.float64) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Compute the share of every n-gram, [n], and the rest of every context, [n_shorter]."""
        discount = np.array([0.0, *self.discounts])[np.minimum(self.counts, 3)]
        summed = np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])
        totals = np.diff(summed[self.starts])  # [n_shorter]
        held = np.zeros(len(totals))
        for count, each in enumerate(self.discounts, 1):
            alike = self.counts == count if count < 3 else self.counts >= 3
            summed = np.concatenate([[0], np.cumsum(alike, dtype=np.int64)])  # whole numbers, so exact
            held += each * np.diff(summed[self.starts])
        seen = totals > 0
        rests = np.ones(len(totals), dtype)
        rests[seen] = held[seen] / totals[seen]
        shares = np.empty(len(self.counts), dtype)
        np.divide(self.counts - discount, np.repeat(np.maximum(totals, 1), np.diff(self.starts)), out=shares)
        return shares, rests


@dataclass(frozen=True)
class KneserNey:
    """A fitted model: the n-grams of every length from 1 to the order, with their discounts."""

    d_vocab: int
    start_id: int
    levels: tuple[SmoothedOrder, ...]

    @property
    def order(self) -> int:
        return len(self.levels)


def fit_kneser_ney(counts: NgramCounts, order: int | None = None) -> KneserNey:
    """Fit a model of an order (by default the longest length counted); one counting serves all orders up to its own.

    Raises:
        ConfigError: the order is beyond what was counted.
    """
    order = counts.order if order is None else order
    if not 1 <= order <= counts.order:
        raise ConfigError(f"the order is {order}, expected 1 to {counts.order}; count longer n-grams")
    levels: list[SmoothedOrder] = []
    for length, grams in enumerate(counts.grams[:order], 1):
        adjusted = grams.counts if length == order else grams.extensions
        levels.append(SmoothedOrder(grams.starts, grams.tokens, adjusted, estimate_discounts(adjusted)))
    return KneserNey(counts.d_vocab, counts.start_id, tuple(levels))


def estimate_discounts(counts: Ints) -> Discounts:
    """Estimate the discounts of one length from its counts; :data:`FALLBACK` where they leave (0, count].

    That happens on texts so small, or so artificial, that no n-gram counts 1, 2 or 3.
    """
    n_1, n_2, n_3, n_4 = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].tolist()
    if not (n_1 and n_2 and n_3):
        return FALLBACK
    y = n_1 / (n_1 + 2 * n_2)
    found = (1 - 2 * y * n_2 / n_1, 2 - 3 * y * n_3 / n_2, 3 - 4 * y * n_4 / n_3)
    return found if all(0 < each <= i for i, each in enumerate(found, 1)) else FALLBACK
