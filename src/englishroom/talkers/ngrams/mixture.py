"""Read texts with a Kneser-Ney model, many positions at once.

1. The n-grams that end at a position are those that end one earlier, each lengthened by the token there: one lookup a
   length, for all positions together.
2. For the tokens that came, these n-grams themselves give the shares, and those that end one earlier the rests.
3. For whole distributions, start from the bigram rows of the different tokens read, scale them by what the longer
   contexts leave, and add the shares of the n-grams that go on from those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from englishroom.talkers.ngrams.kneser_ney import KneserNey
from englishroom.talkers.ngrams.lookup import Hashed, Ids, lengthen
from englishroom.talkers.ngrams.search import spans

CHUNK_NUMBERS = 2**20
"""Probabilities formed at once (4 MB in float32, which the processor's cache holds)."""
CHUNK_TOKENS = 2**17
"""Tokens looked up at once."""
Lookup = Callable[[Ids, NDArray[np.integer]], Ids]
Floats = NDArray[np.floating[Any]]


class Mixture:
    """A model made ready to read: shares and rests of all n-grams, in one precision.

    Attributes:
        shares, rests: by length from 1 on, as :meth:`~englishroom.talkers.ngrams.kneser_ney.Smoothed.weights` gives
            them; behind the last stands what id -1, an n-gram never seen, has: a share of 0, a rest of 1.
        unigrams: probabilities without any context, [d_vocab].
    """

    def __init__(self, model: KneserNey, dtype: DTypeLike) -> None:
        self.model = model
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        made = [level.weights(dtype) for level in model.levels]
        self.shares = [np.append(shares, self.dtype.type(0)) for shares, _ in made]
        self.rests = [np.append(rests, self.dtype.type(1)) for _, rests in made]
        self.unigrams = made[0][0] + made[0][1][0] / self.dtype.type(model.d_vocab)

    def token_log_probs(self, tokens: NDArray[np.integer]) -> Floats:
        """Compute the log-probability of each token but the first after those before it, [row, pos] -> [row, pos - 1].

        The first call hashes all n-grams.
        """
        n_rows, width = tokens.shape
        answers = np.empty((n_rows, max(0, width - 1)), self.dtype)
        rows = max(1, CHUNK_TOKENS // max(1, width))
        for row in range(0, n_rows, rows):
            for column in range(1, width, CHUNK_TOKENS):
                first = max(0, column - self.model.order + 1)
                part = tokens[row : row + rows, first : column + CHUNK_TOKENS]
                chances = self._token_probabilities(part)[:, column - first :]
                np.log(chances, out=answers[row : row + rows, column - 1 : column - 1 + CHUNK_TOKENS])
        return answers

    def _token_probabilities(self, tokens: NDArray[np.integer]) -> Floats:
        """Compute the probability of each token after those before it, [row, pos] -> [row, pos]; without the first."""
        ids = ngram_ids(tokens, self._hashed)
        chances = self.unigrams[ids[0]]
        for contexts, ngrams, shares, rests in zip(ids[:-1], ids[1:], self.shares[1:], self.rests[1:], strict=True):
            chances[1:] *= rests[contexts[:-1]]  # wrong for the first of each row, which has nothing before it
            chances[1:] += shares[ngrams[1:]]
        return chances.reshape(tokens.shape)

    def log_probs(self, tokens: NDArray[np.integer], n_last: int) -> Floats:
        """Compute log-probabilities after each of the last positions, [row, pos] -> [row, n_last, d_vocab]."""
        asked = np.arange(tokens.size).reshape(tokens.shape)[:, tokens.shape[1] - n_last :].reshape(-1)
        contexts = [ids[asked] for ids in ngram_ids(tokens, self._searched)]
        answers = np.empty((len(asked), self.model.d_vocab), self.dtype)
        step = max(1, CHUNK_NUMBERS // self.model.d_vocab)
        for start in range(0, len(asked), step):
            part = answers[start : start + step]
            self._mix([ids[start : start + step] for ids in contexts], part)
            np.log(part, out=part)
        return answers.reshape(len(tokens), n_last, self.model.d_vocab)

    @cached_property
    def _hashed(self) -> list[Lookup]:
        return [Hashed(level).find for level in self.model.levels[1:]]

    @cached_property
    def _searched(self) -> list[Lookup]:
        return [partial(lengthen, level) for level in self.model.levels[1:-1]]

    def _mix(self, contexts: Sequence[Ids], out: Floats) -> None:
        """Fill in probabilities, [pos, d_vocab], given the contexts of lengths 1 and up, each [pos]."""
        if self.model.order == 1:
            out[:] = self.unigrams
            return
        read, row = np.unique(contexts[0], return_inverse=True)
        rows = self.rests[1][read][:, None] * self.unigrams
        self._add(rows, 1, read, np.ones(len(read), self.dtype))
        np.take(rows, row, axis=0, out=out, mode="clip")  # any other mode makes a copy first
        scales = [np.ones(len(out), self.dtype)]  # what the longer contexts leave to each length, longest first
        for ids, rests in zip(contexts[:0:-1], self.rests[:1:-1], strict=True):
            scales.append(scales[-1] * rests[ids])
        out *= scales[-1][:, None]
        for i, scale in enumerate(scales[-2::-1], 2):
            self._add(out, i, contexts[i - 1], scale)

    def _add(self, out: Floats, i: int, contexts: Ids, scale: Floats) -> None:
        """Add the scaled shares of the n-grams of one length that go on from each row's context."""
        level, shares = self.model.levels[i], self.shares[i]
        known = np.flatnonzero(contexts >= 0)
        entries, lengths = spans(level.starts[contexts[known]], level.starts[contexts[known] + 1])
        cells = np.repeat(known * out.shape[1], lengths) + level.tokens[entries]
        out.reshape(-1)[cells] += shares[entries] * np.repeat(scale[known], lengths)


def ngram_ids(tokens: NDArray[np.integer], lookups: Sequence[Lookup]) -> list[Ids]:
    """Return the ids of the n-grams that end at each position, [row, pos] -> [row * pos] for every length from 1 on.

    Args:
        lookups: find the n-grams of 2 tokens, of 3, and so on.
    """
    flat = tokens.reshape(-1)
    found = [flat.astype(np.int32)]
    for lookup in lookups:
        ids = np.full(len(flat), -1, np.int32)
        ids[1:] = lookup(found[-1][:-1], flat[1:])
        ids[:: tokens.shape[1]] = -1  # the first of each row
        found.append(ids)
    return found
