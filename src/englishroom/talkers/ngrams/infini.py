"""Unbounded n-grams in the manner of infini-gram (Liu et al. 2024), on top of a talker that looks back less far.

1. Find the longest ending of what was read that occurs anywhere in the text (:mod:`.suffix_array`).
2. Count which tokens followed it there.
3. P(token) = w * count(token) / count + (1 - w) * P_base(token). The weight depends on how long the match is and how
   often it occurred, and is fitted on other documents than were counted. Matches that are no longer than what the base
   looks back at have a weight of 0.

Infini-gram itself answers with the counts alone, which leaves most of what may come next without any chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.data.corpus import document_marks, text_hash
from englishroom.errors import ConfigError
from englishroom.ir.tokenizer import Tokenizer
from englishroom.talker import TalkerStream
from englishroom.talkers.ngrams.base import Base
from englishroom.talkers.ngrams.encode import encode_documents
from englishroom.talkers.ngrams.search import slices_of, spans
from englishroom.talkers.ngrams.suffix_array import Matches, SuffixArray
from englishroom.talkers.text import TokenisedText

LENGTHS = 8
"""Kinds of length that matches are told apart by: the shortest that counts, one more ... and all that are longer."""
COUNTS = 4
"""Kinds of count that they are told apart by: 1, 2-3, 4-7, 8 and more."""
HIGHEST = 0.999
"""Weights stay below, so that every token keeps a chance."""
ROUNDS = 50
"""Of fitting; the likelihood has one peak, and each round climbs."""
CHUNK_OCCURRENCES = 2**21
"""Occurrences looked at together (16 MB a column)."""


@dataclass(frozen=True)
class InfiniTalker:
    """A talker that goes by the longest match, mixed with a base.

    Attributes:
        array: the text, its places sorted.
        base: what answers where no match is long enough, and keeps a share everywhere.
        weights: of the counts, by kind of length and of count, [LENGTHS, COUNTS], 0 to below 1.
        shortest: the shortest match that counts, at least 1.
        limit: occurrences looked at. Of an interval with more, so many are taken at equal distances in sorted order;
            the shares found are off by about ``0.5 / sqrt(limit)`` at most (one standard error of a random sample).
        text_sha256, fit_marks: what was counted, as in :class:`~englishroom.talkers.ngrams.talker.NgramTalker`.
    """

    array: SuffixArray
    base: Base
    weights: NDArray[np.float64]
    shortest: int
    limit: int = 4096
    text_sha256: str = ""
    fit_marks: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))

    def __post_init__(self) -> None:
        if self.shortest < 1 or self.limit < 1:
            raise ConfigError(f"shortest match {self.shortest}, occurrences {self.limit}: expected 1 or more of both")
        if self.array.start_id != self.base.tokenizer.start_id:
            raise ConfigError(
                f"the text begins with token {self.array.start_id}, the tokenizer of {self.base.name} starts from "
                f"{self.base.tokenizer.start_id}; give a text of that tokenizer, every document after its start token"
            )

    @property
    def name(self) -> str:
        return f"infini-gram on {self.base.name}"

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that it answers by; the order of the places follows from the text."""
        own: dict[str, NDArray[Any]] = {"text": self.array.tokens, "weights": self.weights}
        return own | dict(self.base.arrays())

    @property
    def tokenizer(self) -> Tokenizer:
        return self.base.tokenizer

    @property
    def n_ctx(self) -> int:
        return self.base.n_ctx

    def log_probs(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        return self.mixed(self.base.log_probs(tokens), self.array.longest(tokens))

    def stream(self) -> InfiniReading:
        return InfiniReading(self, self.base.stream())

    def mixed(self, answers: NDArray[Any], found: Matches) -> NDArray[Any]:
        """Mix the base's answers [batch, pos, d_vocab] with what followed the matches [batch, pos]."""
        answers = np.array(answers)
        flat = answers.reshape(-1, answers.shape[-1])
        length, low, high = (part.reshape(-1) for part in found)
        at = np.flatnonzero(length >= self.shortest)
        if not len(at):
            return answers
        weight = self.weights[kinds(length[at], (high - low)[at], self.shortest)]
        flat[at] += np.log1p(-weight)[:, None].astype(flat.dtype)
        intervals, which = np.unique(np.stack([low[at], high[at]]), axis=1, return_inverse=True)
        order = np.argsort(which, kind="stable")  # positions of one interval side by side
        first = np.searchsorted(which[order], np.arange(intervals.shape[1] + 1))
        for part in slices_of(np.minimum(intervals[1] - intervals[0], self.limit), CHUNK_OCCURRENCES):
            starts, followers, shares = self._shares(*intervals[:, part])
            mine = order[first[part.start] : first[part.stop]]
            entries, lengths = spans(starts[which[mine] - part.start], starts[which[mine] - part.start + 1])
            cells = np.repeat(at[mine] * flat.shape[1], lengths) + followers[entries]
            with np.errstate(divide="ignore"):
                added = np.log(shares[entries] * np.repeat(weight[mine], lengths))
            flat.reshape(-1)[cells] = np.logaddexp(flat.reshape(-1)[cells], added)
        return answers

    def _shares(
        self, low: NDArray[np.int64], high: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Count what follows in each interval.

        Returns:
            Where the row of each interval begins, [n + 1], and the rows: different followers and their shares.
        """
        counts = high - low
        seen = np.minimum(counts, self.limit)
        step, _ = spans(np.zeros_like(seen), seen)
        rows = np.repeat(np.arange(len(low)), seen)
        places = low[rows] + step * counts[rows] // seen[rows]
        d_vocab = len(self.tokenizer.pieces)
        pairs, times = np.unique(rows * d_vocab + self.array.followers[places], return_counts=True)
        owners = pairs // d_vocab
        starts = np.searchsorted(owners, np.arange(len(low) + 1))
        return starts, pairs - owners * d_vocab, times / seen[owners]


@dataclass
class InfiniReading:
    """Texts being read, a batch in step; all that was read is kept."""

    talker: InfiniTalker
    base: TalkerStream
    read: NDArray[np.integer] | None = None

    def extend(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        before = 0 if self.read is None else self.read.shape[1]
        self.read = tokens if self.read is None else np.concatenate([self.read, tokens], axis=1)
        return self.talker.mixed(self.base.extend(tokens), self.talker.array.longest(self.read, before))


def fit_infini(
    documents: Sequence[str], choose: Sequence[str], base: Base, shortest: int = 5, limit: int = 4096
) -> InfiniTalker:
    """Fit a talker: sort ``documents``, and fit the weights on ``choose``, which must be other documents.

    Args:
        base: counted on ``documents`` too.
        shortest: the shortest match that counts: the order of an n-gram base, since shorter ones tell it nothing.

    Raises:
        ConfigError: a text cannot be encoded, the texts overlap, or a setting is out of range.
    """
    marks = document_marks(documents)
    if np.isin(document_marks(choose), marks).any():
        raise ConfigError("documents to choose weights on are among those counted; hold other ones out")
    array = SuffixArray.build(encode_documents(documents, base.tokenizer).tokens)
    weights = fit_weights(array, base, encode_documents(choose, base.tokenizer), shortest)
    return InfiniTalker(array, base, weights, shortest, limit, text_hash(documents), marks)


def fit_weights(array: SuffixArray, base: Base, choose: TokenisedText, shortest: int) -> NDArray[np.float64]:
    """Fit the weight of each kind of match by expectation maximisation, [LENGTHS, COUNTS].

    Each kind counts as one token more of the weight that all together have, so that rare ones have a weight as well.
    """
    kind, share, chance = [], [], []
    for start, stop in zip(choose.starts, [*choose.starts[1:], len(choose.tokens)], strict=True):
        tokens = np.append(choose.tokens[start:stop], array.start_id).astype(np.int64)[None]  # the end is predicted too
        found = array.longest(tokens[:, :-1])
        together = array.occurrences(tokens, found.length + 1, first=1)
        length, low, high, both = (part[0] for part in (*found, together))
        at = np.flatnonzero(length >= shortest)
        kind.append(np.ravel_multi_index(kinds(length[at], (high - low)[at], shortest), (LENGTHS, COUNTS)))
        share.append(both[at] / (high - low)[at])
        chance.append(np.exp(base.log_probs(tokens[:, :-1])[0, at, tokens[0, 1:][at]].astype(np.float64)))
    which, shares, chances = map(np.concatenate, (kind, share, chance))
    if not len(which):
        return np.zeros((LENGTHS, COUNTS))
    sizes = np.bincount(which, minlength=LENGTHS * COUNTS)
    weights = np.full(LENGTHS * COUNTS, 0.5)
    for _ in range(ROUNDS):
        ours = weights[which] * shares
        credit = ours / (ours + (1 - weights[which]) * chances)
        weights = (np.bincount(which, credit, LENGTHS * COUNTS) + credit.mean()) / (sizes + 1)
        weights = np.minimum(weights, HIGHEST)
    return weights.reshape(LENGTHS, COUNTS)


def kinds(
    length: NDArray[np.int64], count: NDArray[np.int64], shortest: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort matches into kinds of length and of count."""
    doublings = np.frexp(count.astype(np.float64))[1].astype(np.int64) - 1  # exact, as a logarithm would not be
    return np.clip(length - shortest, 0, LENGTHS - 1), np.minimum(doublings, COUNTS - 1)
