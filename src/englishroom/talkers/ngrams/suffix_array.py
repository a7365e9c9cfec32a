"""Find every earlier occurrence of a context of any length, for many contexts at once.

The suffix array is that of the text read backwards: all places of the text, sorted by the token before them, then by
the one before that, and so on. The places before which a context stands are then one interval, an interval lies within
those of all shorter endings of the context, and the longest ending that occurs at all belongs to a neighbour of the
place where the context itself would be sorted in (Manber and Myers 1993; Liu et al. 2024 use the array of the text
read forwards). The array is made by libdivsufsort.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import pydivsufsort
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.talkers.ngrams.search import context_limits

SAMPLED = 64
"""One in so many places, in sorted order, has its nearest tokens packed into a number, to begin every search with."""
CHUNK = 4
"""Tokens compared at once."""

Ints = NDArray[np.integer]
Tokens = NDArray[np.uint16 | np.int32]


class Matches(NamedTuple):
    """Of each context: how many of its last tokens occur together, and the interval of places after them.

    Attributes:
        length: tokens matched.
        low, high: interval in sorted order; ``high - low`` is the number of occurrences.
    """

    length: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]


@dataclass(frozen=True)
class SuffixArray:
    """A text whose places are sorted by what stands before them.

    Attributes:
        tokens: the text; every document begins with the start token, [n].
        places: 1..n, where place i is after i tokens, in sorted order, [n].
        followers: the token at each place in that order, [n]; at the end of the text the start token.
        keys: nearest tokens of every ``SAMPLED``-th place in that order, packed, [n / SAMPLED].
        bits: of one token in a key.
    """

    tokens: Tokens
    places: Ints
    followers: Tokens
    keys: NDArray[np.int64]
    bits: int

    @classmethod
    def build(cls, tokens: Ints) -> Self:
        """Sort the places of a text.

        Args:
            tokens: documents one after the other, each after the start token, [n].

        Raises:
            ConfigError: there are no tokens.
        """
        if not len(tokens):
            raise ConfigError("the text has no tokens to count; give more text")
        tokens = np.array(tokens, dtype=np.uint16 if tokens.max() < 2**16 else np.int32)
        backwards = np.ascontiguousarray(tokens[::-1])
        places = len(tokens) - pydivsufsort.divsufsort(backwards)
        return cls.of(tokens, places)

    @classmethod
    def of(cls, tokens: Tokens, places: Ints) -> Self:
        """Complete a text and its sorted places."""
        n = len(tokens)
        followers = tokens[np.where(places < n, places, 0)]  # documents come in turn, so the first token is the start
        bits = (int(tokens.max()) + 2).bit_length()  # 0 is for no token, the highest for tokens the text has not
        sampled = places[::SAMPLED].astype(np.int64)
        keys = _pack(tokens, sampled, sampled, bits)
        for array in (tokens, places, followers, keys):
            array.setflags(write=False)
        return cls(tokens, places, followers, keys, bits)

    @property
    def start_id(self) -> int:
        return int(self.tokens[0])

    def count(self, queries: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """Count how often each sequence of tokens occurs in the text; the empty one occurs everywhere.

        Returns:
            Occurrences, [n_queries].
        """
        lengths = np.array([len(query) for query in queries], dtype=np.int64)
        flat = np.array([*(token for query in queries for token in query), 0], dtype=np.int64)
        ends = np.cumsum(lengths)
        return self._bound(flat, ends, lengths, after=True) - self._bound(flat, ends, lengths, after=False)

    def occurrences(self, tokens: Ints, lengths: Ints, first: int = 0) -> NDArray[np.int64]:
        """Count how often the last tokens at each position occur together.

        Args:
            tokens: texts, [batch, pos].
            lengths: how many tokens to look back at, the position's own included, [batch, pos - first].
            first: position from which on answers are wanted.

        Returns:
            Occurrences, [batch, pos - first].
        """
        ends = (np.arange(tokens.size).reshape(tokens.shape) + 1)[:, first:].reshape(-1)
        text, flat = tokens.reshape(-1).astype(np.int64), lengths.reshape(-1)
        found = self._bound(text, ends, flat, after=True) - self._bound(text, ends, flat, after=False)
        return found.reshape(lengths.shape)

    def longest(self, tokens: Ints, first: int = 0) -> Matches:
        """Find, after each token of each row, the longest ending of what was read that occurs in the text.

        Nothing before the last start token is looked at, so no match crosses the beginning of a document.

        Args:
            tokens: texts, [batch, pos].
            first: position from which on answers are wanted.

        Returns:
            Matches, [batch, pos - first] each; a length of 0 matches every place.
        """
        limits = context_limits(tokens, self.start_id)[:, first:]
        ends = (np.arange(tokens.size).reshape(tokens.shape) + 1)[:, first:]
        found = self._longest(tokens.reshape(-1).astype(np.int64), ends.reshape(-1), limits.reshape(-1))
        return Matches(*(part.reshape(limits.shape) for part in found))

    def _longest(self, text: Ints, ends: Ints, limits: Ints) -> Matches:
        at = self._bound(text, ends, limits, after=False)
        none = np.zeros(len(ends), dtype=np.int64)
        lengths = none
        for neighbour in (at - 1, at):
            inside = (neighbour >= 0) & (neighbour < len(self.places))
            places = np.where(inside, self.places[np.clip(neighbour, 0, len(self.places) - 1)], 0)
            lengths = np.maximum(lengths, self._common(text, ends, limits, places, none))
        low, high = (self._bound(text, ends, lengths, after=after) for after in (False, True))
        return Matches(lengths, low, high)

    def _bound(self, text: Ints, ends: Ints, lengths: Ints, after: bool) -> NDArray[np.int64]:
        """Return the first place in order whose context is not before (``after``: is beyond) each query.

        Args:
            text: flat tokens; query i is the ``lengths[i]`` tokens before index ``ends[i]``, read backwards.
            after: whether contexts that begin with the query count as before it.
        """
        low, high = self._narrow(text, ends, lengths, after)
        known_low, known_high = np.zeros_like(low), np.zeros_like(low)  # tokens in common with the bounds
        active = np.flatnonzero(low < high)
        while len(active):
            middle = (low[active] + high[active]) >> 1
            end, length, place = ends[active], lengths[active], self.places[middle].astype(np.int64)
            known = np.minimum(known_low[active], known_high[active])
            common = self._common(text, end, length, place, known)
            ours = self.tokens[np.maximum(place - 1 - common, 0)]
            theirs = text[np.maximum(end - 1 - common, 0)]
            beyond = np.where(common == length, not after, (common < place) & (ours > theirs))
            up, down = active[~beyond], active[beyond]
            low[up], known_low[up] = middle[~beyond] + 1, common[~beyond]
            high[down], known_high[down] = middle[beyond], common[beyond]
            active = active[low[active] < high[active]]
        return low

    def _narrow(
        self, text: Ints, ends: Ints, lengths: Ints, after: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bound the answer of :meth:`_bound` by the sampled keys."""
        per = 63 // self.bits
        key = _pack(text, ends, lengths, self.bits)
        unread = np.maximum(per - lengths, 0)  # tokens of a key that the query leaves open
        if after:  # the last key that begins with the query
            key += np.left_shift(1, unread * self.bits, dtype=np.int64) - 1
        low = np.searchsorted(self.keys, key, side="left")
        high = np.searchsorted(self.keys, key, side="right")
        if after:  # a key holds all of a shorter query, so places whose keys begin with it are before the answer
            low = np.where(unread > 0, high, low)
        n = len(self.places)
        return np.maximum((low - 1) * SAMPLED + 1, 0), np.where(high < len(self.keys), high * SAMPLED, n)

    def _common(self, text: Ints, ends: Ints, lengths: Ints, places: Ints, known: Ints) -> NDArray[np.int64]:
        """Count the tokens that queries and the contexts of places have in common, ``known`` of them already."""
        common = known.astype(np.int64)
        limit = np.minimum(lengths, places)
        active = np.flatnonzero(common < limit)
        while len(active):
            reached = common[active, None] + np.arange(CHUNK)
            ours = self.tokens[np.maximum(places[active, None] - 1 - reached, 0)]
            theirs = text[np.maximum(ends[active, None] - 1 - reached, 0)]
            differs = (ours != theirs) | (reached >= limit[active, None])
            run = np.where(differs.any(axis=1), differs.argmax(axis=1), CHUNK)
            common[active] += run
            active = active[run == CHUNK]
        return common


def _pack(text: Ints, ends: Ints, lengths: Ints, bits: int) -> NDArray[np.int64]:
    """Pack the tokens before each end into a number, the nearest highest; numbers sort as the contexts do."""
    packed = np.zeros(len(ends), dtype=np.int64)
    for back in range(63 // bits):
        token = np.minimum(text[np.maximum(ends - 1 - back, 0)].astype(np.int64) + 1, 2**bits - 1)
        packed = (packed << bits) | np.where(back < lengths, token, 0)
    return packed
