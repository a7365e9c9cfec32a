"""Sort words into kinds that are used alike, so that one vote can speak for many words.

The kinds of a word and of the next one should tell as much as possible of each other (Brown et al. 1992, "Class-based
n-gram models"), counted in the talker's own probabilities:

1. The likeliest words begin a kind each; the others join, one by one, where they fit best.
2. Every word moves to the kind where it raises the mutual information most, until a sweep moves few.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SWEEPS = 12
STEADY_SHARE = 0.005
"""Sweeps end when fewer words than this share move."""


def sort_into_kinds(follows: NDArray[np.floating], words: NDArray[np.integer], n_kinds: int) -> NDArray[np.int64]:
    """Return the kind of every word, -1 for those that are in none.

    Args:
        follows: how much of each word is expected after each, [d_vocab, d_vocab].
        words: those to sort, likeliest first.
        n_kinds: how many kinds there are to be at most; some may run empty, and are not numbered.
    """
    sorting = _Sorting(follows[np.ix_(words, words)].astype(np.float64), min(n_kinds, len(words)))
    for word in range(len(words)):
        sorting.place(word, word if word < n_kinds else None)
    for _ in range(SWEEPS):
        if sum(map(sorting.move, range(len(words)))) < STEADY_SHARE * len(words):
            break
    found = np.full(len(follows), -1)
    found[words] = np.unique(sorting.kind, return_inverse=True)[1]
    return found


class _Sorting:
    """Words in kinds, and how much of each kind is expected after each."""

    def __init__(self, follows: NDArray[np.float64], n_kinds: int) -> None:
        self.follows, self.before_it = follows, np.ascontiguousarray(follows.T)
        self.kind = np.full(len(follows), -1)
        self.between = np.zeros((n_kinds, n_kinds))

    def move(self, word: int) -> bool:
        """Take a word out and put it where it fits best; say whether that is another kind than before."""
        before = self.kind[word]
        out, back, own = self._flows(word)
        self.between[before] -= out
        self.between[:, before] -= back
        self.between[before, before] += own
        self.kind[word] = -1
        self.place(word)
        return bool(self.kind[word] != before)

    def place(self, word: int, chosen: int | None = None) -> None:
        """Put a word into a kind, by default where the mutual information is highest."""
        out, back, own = self._flows(word)
        if chosen is None:
            chosen = int(self._gains(out, back, own).argmax())
        self.kind[word] = chosen
        self.between[chosen] += out
        self.between[:, chosen] += back
        self.between[chosen, chosen] += own

    def _flows(self, word: int) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Return what is expected of every kind after a word, of it after every kind, and of it after itself.

        The last stands in the first two as well where the word is in a kind.
        """
        placed, out, back = self.kind >= 0, np.zeros(len(self.between)), np.zeros(len(self.between))
        np.add.at(out, self.kind[placed], self.follows[word, placed])
        np.add.at(back, self.kind[placed], self.before_it[word, placed])
        return out, back, float(self.follows[word, word])

    def _gains(self, out: NDArray[np.float64], back: NDArray[np.float64], own: float) -> NDArray[np.float64]:
        """Return what the mutual information gains, but for a constant, if a word joined each kind, [kind]."""
        between = self.between
        change = (_xlogx(between + out) - _xlogx(between)).sum(1)
        change += (_xlogx(between + back[:, None]) - _xlogx(between)).sum(0)
        corner = np.diag(between)
        change += _xlogx(corner + out + back + own) - _xlogx(corner + out) - _xlogx(corner + back) + _xlogx(corner)
        # What follows each kind, and what stands before each, grows too.
        others_out, others_back = between.sum(1), between.sum(0)
        for sums, more in ((others_out, out.sum() + own), (others_back, back.sum() + own)):
            change -= _xlogx(sums + more) - _xlogx(sums)
        return change


def _xlogx(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x * np.log(np.maximum(x, 1e-12))
