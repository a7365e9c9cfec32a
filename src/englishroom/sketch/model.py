"""A sketch as arrays: votes by key, word and kind, and what they make of texts.

The arithmetic is that of ``prelude.Sketch``, over many positions at once. Outputs are tokens, 0 to ``d_vocab - 1``, and
behind them kinds; a vote for a kind counts for every word of it. Copying votes by row and kind for the words at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from englishroom.kernels.compiling import compiled
from englishroom.sketch.keys import Readings

CHUNK = 256
"""Positions handled at once, so that what is in between stays in the cache."""


@dataclass(frozen=True)
class SketchVotes:
    """All numbers of a sketch.

    Attributes:
        kind: of every token, [d_vocab]; the last kind is that of all other words.
        n_kinds: with the last one.
        always: votes of every token, 0 for those that are in no list, [d_vocab].
        keys, outputs, weights: votes by key, sorted by key, [entry].
        copies: votes of copying, [row, kind].
    """

    kind: NDArray[np.int64]
    n_kinds: int
    always: NDArray[np.float64]
    keys: NDArray[np.int64]
    outputs: NDArray[np.int64]
    weights: NDArray[np.float64]
    copies: NDArray[np.float64]

    @property
    def d_vocab(self) -> int:
        return len(self.kind)

    def parameters(self) -> NDArray[np.float64]:
        """Return all numbers in a row."""
        return np.concatenate([self.always, self.weights, self.copies.reshape(-1)])

    def with_parameters(self, numbers: NDArray[np.float64]) -> SketchVotes:
        """Return the same sketch with other numbers."""
        a, b = self.d_vocab, self.d_vocab + len(self.weights)
        return replace(self, always=numbers[:a], weights=numbers[a:b], copies=numbers[b:].reshape(self.copies.shape))

    def free(self) -> NDArray[np.bool_]:
        """Say which numbers are votes of the sketch; the others stay 0."""
        return np.concatenate(
            [self.kind < self.n_kinds - 1, np.ones(len(self.weights), bool), self.copies.reshape(-1) != 0]
        )

    def with_entries(self, keys: NDArray, outputs: NDArray, weights: NDArray) -> SketchVotes:
        """Return the same sketch with other votes by key."""
        order = np.lexsort((outputs, keys))
        return replace(self, keys=keys[order], outputs=outputs[order], weights=weights[order])


@dataclass(frozen=True)
class SampledPositions:
    """Positions of texts: what gears see there, and what the talker says.

    Attributes:
        probabilities: the talker's, [position, d_vocab].
    """

    readings: Readings
    probabilities: NDArray[np.float32]

    @property
    def entropy(self) -> float:
        """Nats of the talker's own distributions, summed."""
        total = 0.0
        for low in range(0, len(self.probabilities), CHUNK):
            p = self.probabilities[low : low + CHUNK]
            total -= float((p * np.log(np.maximum(p, 1e-30))).sum(dtype=np.float64))
        return total


def answers(votes: SketchVotes, readings: Readings, dtype: type = np.float32) -> Iterator[tuple[int, NDArray]]:
    """Yield the first position of every chunk and its log-probabilities, [position, d_vocab]; the next overwrite it."""
    row_starts = _row_starts(votes, readings)
    always, weights, copies = (x.astype(dtype) for x in (votes.always, votes.weights, votes.copies))
    whole, scratch = np.empty((2, CHUNK, votes.d_vocab), dtype)
    by_kind = np.empty(votes.n_kinds, dtype)
    for low in range(0, readings.n_positions, CHUNK):
        high = min(low + CHUNK, readings.n_positions)
        logits = whole[: high - low]
        _add_votes(
            *(low, high, readings.starts, readings.seen, row_starts, votes.outputs, weights),
            *(readings.copy_starts, readings.copy_words, readings.copy_rows, copies, votes.kind, always),
            *(by_kind, logits),
        )
        logits -= logits.max(1, keepdims=True)
        logits -= np.log(np.exp(logits, out=scratch[: high - low]).sum(1, keepdims=True))
        yield low, logits


def loss_and_gradient(votes: SketchVotes, sample: SampledPositions) -> tuple[float, NDArray[np.float64]]:
    """Return the cross-entropy of the talker's distributions, summed, and its gradient by every number."""
    total, by_number = 0.0, _Sums.of(votes, sample.readings)
    for low, log in answers(votes, sample.readings):
        p = sample.probabilities[low : low + len(log)]
        total -= float(np.vdot(p, log))
        excess = np.exp(log, out=log)
        excess -= p
        by_number.add(low, excess)
    return total, by_number.joined()


def loss(votes: SketchVotes, sample: SampledPositions) -> float:
    """Return the cross-entropy of the talker's distributions, summed."""
    found = answers(votes, sample.readings)
    return -sum(float(np.vdot(sample.probabilities[low : low + len(log)], log)) for low, log in found)


def expected_counts(votes: SketchVotes, sample: SampledPositions) -> NDArray[np.float64]:
    """Return how much the talker expects, in all, of what every number votes for where it votes."""
    by_number = _Sums.of(votes, sample.readings)
    for low in range(0, sample.readings.n_positions, CHUNK):
        by_number.add(low, sample.probabilities[low : low + CHUNK])
    return by_number.joined()


@dataclass(frozen=True)
class _Sums:
    """Sums, over positions, of what every number votes for."""

    votes: SketchVotes
    readings: Readings
    row_starts: NDArray[np.int64]
    by_word: NDArray[np.float64]
    by_entry: NDArray[np.float64]
    by_copy: NDArray[np.float64]

    @classmethod
    def of(cls, votes: SketchVotes, readings: Readings) -> _Sums:
        zeros = np.zeros(votes.d_vocab), np.zeros(len(votes.weights)), np.zeros(votes.copies.shape)
        return cls(votes, readings, _row_starts(votes, readings), *zeros)

    def add(self, low: int, values: NDArray[np.float32]) -> None:
        """Add the values of a chunk, [position, d_vocab]."""
        readings, votes = self.readings, self.votes
        self.by_word[:] += np.ones(len(values), np.float32) @ values
        _sum_votes(
            *(low, low + len(values), readings.starts, readings.seen, self.row_starts, votes.outputs),
            *(readings.copy_starts, readings.copy_words, readings.copy_rows, votes.kind),
            *(np.empty(votes.n_kinds), values, self.by_entry, self.by_copy),
        )

    def joined(self) -> NDArray[np.float64]:
        """Return the sums as in ``SketchVotes.parameters``."""
        return np.concatenate([self.by_word, self.by_entry, self.by_copy.reshape(-1)])


def _row_starts(votes: SketchVotes, readings: Readings) -> NDArray[np.int64]:
    return np.searchsorted(votes.keys, np.arange(len(readings.keys) + 1))


def kinds_of(by_token: NDArray, votes: SketchVotes) -> NDArray:
    """Sum numbers of tokens by their kind, [row, d_vocab] -> [row, kind]."""
    return by_token @ (votes.kind[:, None] == np.arange(votes.n_kinds)).astype(by_token.dtype)


@compiled()
def _add_votes(
    low, high, starts, seen, begins, outputs, weights, copy_starts, words, copy_rows, copies, kind, always, by_kind, out
):  # pragma: no cover (compiled)
    """Add up all votes at positions ``low`` to ``high - 1``."""
    d_vocab = len(always)
    for i in range(low, high):
        row = out[i - low]
        row[:] = always
        by_kind[:] = 0
        for at in range(starts[i], starts[i + 1]):
            key = seen[at]
            for e in range(begins[key], begins[key + 1]):
                if outputs[e] < d_vocab:
                    row[outputs[e]] += weights[e]
                else:
                    by_kind[outputs[e] - d_vocab] += weights[e]
        for at in range(copy_starts[i], copy_starts[i + 1]):
            row[words[at]] += copies[copy_rows[at], kind[words[at]]]
        for token in range(d_vocab):
            row[token] += by_kind[kind[token]]


@compiled()
def _sum_votes(
    low, high, starts, seen, begins, outputs, copy_starts, words, copy_rows, kind, by_kind, values, by_entry, by_copy
):  # pragma: no cover (compiled)
    """Add the values of everything that is voted for at positions ``low`` to ``high - 1``."""
    d_vocab = values.shape[1]
    for i in range(low, high):
        row = values[i - low]
        by_kind[:] = 0
        for token in range(d_vocab):
            by_kind[kind[token]] += row[token]
        for at in range(starts[i], starts[i + 1]):
            key = seen[at]
            for e in range(begins[key], begins[key + 1]):
                by_entry[e] += row[outputs[e]] if outputs[e] < d_vocab else by_kind[outputs[e] - d_vocab]
        for at in range(copy_starts[i], copy_starts[i + 1]):
            word = words[at]
            by_copy[copy_rows[at], kind[word]] += row[word]


@compiled(fastmath=True)
def add_to_keys(low, high, starts, seen, place, by_token, out):  # pragma: no cover (compiled)
    """Add numbers of tokens at every position to those of each key seen there, where it has a place."""
    for i in range(low, high):
        for at in range(starts[i], starts[i + 1]):
            p = place[seen[at]]
            if p >= 0:
                out[p] += by_token[i - low]


@compiled()
def add_to_copies(low, high, copy_starts, words, copy_rows, kind, by_token, out):  # pragma: no cover (compiled)
    """Add numbers of the words that may be said again to those of their row and kind."""
    for i in range(low, high):
        for at in range(copy_starts[i], copy_starts[i + 1]):
            word = words[at]
            out[copy_rows[at], kind[word]] += by_token[i - low, word]
