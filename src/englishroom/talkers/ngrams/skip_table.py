"""Count skip-trigrams: a token A some way before a token B, and what comes after B.

1. Write every triple (A, B, next) of a range of distances as one number, and sort: equal ones are runs.
2. A triple that came ``n`` times, of ``N`` that begin with the pair (A, B), has the share ``(n - discount) / N``. Those
   are kept that came twice or more and whose share is above the chance of ``next`` after B alone, by the bigrams.
3. The gain of a pair is what its kept triples say that the bigrams do not: the sum of
   ``share * log(share / chance after B)``, in nats. Pairs of less than :data:`LEAST_GAIN_NATS` are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from englishroom.talkers.ngrams.search import begins, context_limits
from englishroom.talkers.ngrams.talker import NgramTalker
from englishroom.talkers.text import TokenisedText

LEAST_GAIN_NATS = 0.15
GAINS_NATS = (0.22, 0.32, 0.46, 0.67, 1.0, 1.4, 2.1, 3.1, 4.5)
"""Bounds between kinds of gain, about the square root of two apart."""
TOTALS = (16, 256)
"""Bounds between kinds of N."""
KINDS = (len(GAINS_NATS) + 1) * (len(TOTALS) + 1)


@dataclass(frozen=True)
class SkipTable:
    """What comes after B where A stands ``nearest`` to ``farthest`` tokens before B.

    Attributes:
        pairs: A times ``d_vocab`` plus B, sorted, [n_pairs].
        starts: where the row of each pair begins, and the end of the last, [n_pairs + 1].
        tokens, counts: the rows, tokens in order: what comes after the pair more often than after B alone.
        totals: N of each pair, [n_pairs].
        kinds: how much the pair tells, 0 to ``KINDS - 1``: by gain, then by N, [n_pairs].
        discount: taken off every count; the share of a token is ``(count - discount) / N``.
        n_counted: triples counted, of how many different ones.
    """

    nearest: int
    farthest: int
    pairs: NDArray[np.int64]
    starts: NDArray[np.int64]
    tokens: NDArray[np.int32]
    counts: NDArray[np.int32]
    totals: NDArray[np.int32]
    kinds: NDArray[np.uint8]
    discount: float
    n_counted: tuple[int, int]

    @cached_property
    def rests(self) -> NDArray[np.float64]:
        """What the shares of each pair leave to the bigrams, [n_pairs]."""
        summed = np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])
        return 1 - (np.diff(summed[self.starts]) - self.discount * np.diff(self.starts)) / self.totals


def ranges_of(window: int) -> list[tuple[int, int]]:
    """Cut the distances 1 to ``window`` in ranges (nearest, farthest) that double: 1, 2, 3-4, 5-8 ..."""
    found, nearest, farthest = [], 1, 1
    while nearest <= window:
        found.append((nearest, min(farthest, window)))
        nearest, farthest = farthest + 1, 2 * farthest
    return found


def count_skips(text: TokenisedText, bigrams: NgramTalker, nearest: int, farthest: int, budget: int) -> SkipTable:
    """Count the table of a range of distances.

    Args:
        budget: triples to count at most; of a text with more, every second document is read, or every third ...
    """
    keys = _triples(text, bigrams.tokenizer.start_id, len(bigrams.tokenizer.pieces), nearest, farthest, budget)
    d_vocab = len(bigrams.tokenizer.pieces)
    first = np.flatnonzero(begins(keys))
    counts = np.diff(first, append=len(keys))
    triples = keys[first]
    n_counted = len(keys), len(triples)
    del keys, first
    pairs = triples // d_vocab
    new = begins(pairs)
    row = np.cumsum(new) - 1
    totals, discount = np.bincount(row, counts), _discount(counts)
    pairs, often = pairs[new], np.flatnonzero(counts > 1)
    row, counts, tokens = row[often], counts[often], triples[often] % d_vocab
    shares = (counts - discount) / totals[row]
    after_b = bigrams.token_log_probs(np.stack([pairs[row] % d_vocab, tokens], axis=1))[:, 0].astype(np.float64)
    gains = shares * (np.log(shares) - after_b)
    gain = np.bincount(row, np.maximum(gains, 0), len(pairs))
    kept = (gains > 0) & (gain[row] >= LEAST_GAIN_NATS)
    row, counts, tokens = row[kept], counts[kept].astype(np.int32), tokens[kept].astype(np.int32)
    starts = np.append(np.flatnonzero(begins(row)), len(row))
    row = row[starts[:-1]]
    by_gain, by_total = np.digitize(gain[row], GAINS_NATS), np.digitize(totals[row], TOTALS)
    kinds = (by_gain * (len(TOTALS) + 1) + by_total).astype(np.uint8)
    return SkipTable(
        nearest, farthest, pairs[row], starts, tokens, counts, totals[row].astype(np.int32), kinds, discount, n_counted
    )


def _triples(
    text: TokenisedText, start_id: int, d_vocab: int, nearest: int, farthest: int, budget: int
) -> NDArray[np.int64]:
    """Write down all triples within documents, sorted; the end of a document counts as its start token."""
    tokens = text.tokens.astype(np.int64)
    after = np.append(tokens[1:], start_id)
    limits = context_limits(tokens[None], start_id)[0]
    every = -(-len(tokens) * (farthest - nearest + 1) // budget)
    read = np.cumsum(limits == 1) % every == 0
    found = []
    for distance in range(nearest, farthest + 1):
        at = np.flatnonzero((limits > distance) & read)
        found.append((tokens[at - distance] * d_vocab + tokens[at]) * d_vocab + after[at])
    keys = np.concatenate(found)
    keys.sort()
    return keys


def _discount(counts: NDArray[np.integer]) -> float:
    """Estimate what to take off every count: n1 / (n1 + 2 n2) (Ney, Essen & Kneser 1994), 0.5 without any of them."""
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return once / (once + 2 * twice) if once else 0.5
