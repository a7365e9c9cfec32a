"""Count the n-grams of a text with numpy: sort packed windows once, then shorten them.

1. Cut the vocabulary in ranges of first tokens with few enough positions each.
2. Pack the window of ``order`` tokens that begins at each of those positions into one number, and sort these numbers.
   What follows the end of a document is filled up with its start token, and never counted.
3. Runs of equal numbers are the longest n-grams and their counts. Dropping the last token leaves shorter numbers that
   are sorted already, whose runs are the n-grams one token shorter, and so on.
4. An n-gram is extended to the left by every token that an n-gram one longer puts before it: dropping the *first*
   token of these, and sorting once more, counts how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.steps import StepProgress, silent
from englishroom.talkers.ngrams.search import begins
from englishroom.talkers.text import TokenisedText

MAX_TOKENS = 2**31 - 2
GROUP = 2**21
"""Positions sorted at once (16 MB of packed windows), unless that made more groups than the next number."""
MOST_GROUPS = 16
"""The whole text is gone through for every group."""
Windows = NDArray[np.uint64]
"""Windows of tokens, the first in the highest bits."""
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Grams:
    """All n-grams of one length, in lexicographic order: the place of one in this order is its id.

    Those that begin alike stand side by side, so the n-grams that lengthen one by a token are a slice of the next
    length's. The last token of a document is followed by its end, which the start token stands for; an n-gram holds
    the start token as its first token (the beginning) or as its last (the end), nowhere else.

    Attributes:
        starts: where the slice of each n-gram one shorter begins, and the end of the last, [n_shorter + 1].
        tokens: last token of each, [n].
        counts: how often each occurs, [n].
        extensions: of each, how many different tokens stand before it in the text; of one that begins with the start
            token, before which nothing stands, its count, [n]. Empty at the longest length, where it is not known.
    """

    starts: Ints
    tokens: NDArray[np.uint16]
    counts: Ints
    extensions: Ints

    @cached_property
    def parents(self) -> Ints:
        """The id of each without its last token, [n]."""
        return np.repeat(np.arange(len(self.starts) - 1, dtype=np.int32), np.diff(self.starts))


@dataclass(frozen=True)
class NgramCounts:
    """The n-grams of a text, all lengths from 1 (every token of the vocabulary, seen or not) to ``order``."""

    d_vocab: int
    start_id: int
    grams: tuple[Grams, ...]

    @property
    def order(self) -> int:
        return len(self.grams)

    def spell(self, length: int) -> NDArray[np.uint16]:
        """Write out all n-grams of a length, [n, length]."""
        columns: list[NDArray[np.uint16]] = []
        ids: Ints | slice = slice(None)
        for grams in reversed(self.grams[:length]):
            columns.append(grams.tokens[ids])
            ids = grams.parents[ids]
        return np.stack(columns[::-1], axis=1)


def count_ngrams(
    text: TokenisedText, start_id: int, d_vocab: int, order: int = 5, progress: StepProgress = silent
) -> NgramCounts:
    """Count the n-grams of 1 to ``order`` tokens within documents.

    Args:
        text: documents, each after its start token; the end of each counts as its start token once more.
        order: longest length. A window but its first token fits 64 bits: at most 5 in a vocabulary of 65,536.
        progress: is told how many tokens are done, of how many.

    Raises:
        ConfigError: a setting is out of range, or the text does not fit the vocabulary and the start token.
    """
    bits = max(1, (d_vocab - 1).bit_length())
    _check(text, start_id, d_vocab, order, 1 + 64 // bits)
    occurrences = np.bincount(text.tokens, minlength=d_vocab)
    made = [_Made() for _ in range(order)]
    made[0].add(np.arange(d_vocab), occurrences)
    continued = np.zeros(d_vocab, np.int64)  # how many different tokens follow each token
    if order > 1:
        stream = np.concatenate([text.tokens, np.full(order, start_id, np.uint16)])
        done = 0
        for low, high in _ranges(occurrences, max(GROUP, len(text.tokens) // MOST_GROUPS), d_vocab):
            for first, windows in _sorted_windows(stream, low, high, start_id, bits, order):
                firsts, n_next = _count_sorted(windows, made, start_id, bits)
                continued[firsts.astype(np.int64) + first] = n_next
            done += int(occurrences[low:high].sum())
            progress(done, len(text.tokens))
        made[0].continued.append(continued)
    else:
        progress(len(text.tokens), len(text.tokens))
    return NgramCounts(d_vocab, start_id, tuple(_assembled(made, d_vocab, start_id)))


def _check(text: TokenisedText, start_id: int, d_vocab: int, order: int, longest: int) -> None:
    if not 1 <= d_vocab <= 2**16:
        raise ConfigError(f"a vocabulary of {d_vocab:,} tokens, expected 1 to 65,536; choose another tokenizer")
    if not 1 <= order <= longest:
        raise ConfigError(f"the order is {order}, expected 1 to {longest} for a vocabulary of {d_vocab:,} tokens")
    tokens, starts = text.tokens, text.starts
    if not len(starts) or len(tokens) > MAX_TOKENS:
        raise ConfigError(f"the text has {len(tokens):,} tokens in {len(starts):,} documents, expected 1 to 2**31 - 2")
    if tokens.dtype != np.uint16 or int(tokens.max()) >= d_vocab:
        raise ConfigError(f"the text holds {tokens.max()} ({tokens.dtype}), expected tokens 0..{d_vocab - 1} (uint16)")
    begins = np.flatnonzero(tokens == start_id)
    if not np.array_equal(begins, starts) or starts[0] != 0:
        raise ConfigError(
            f"the start token {start_id} stands {len(begins):,} times in the text, expected it at the beginning of "
            f"each of the {len(starts):,} documents and nowhere else; tokenise the text without special tokens"
        )


def _ranges(occurrences: NDArray[np.integer], limit: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut tokens in ranges (low, high) that occur at most ``limit`` times and hold at most ``most`` tokens.

    A token that occurs more often has a range of its own. Tokens that never occur may be left out.
    """
    low = high = total = 0
    for token in np.flatnonzero(occurrences).tolist():
        count = int(occurrences[token])
        if total and (total + count > limit or token - low >= most):
            yield low, high
            total = 0
        low, high, total = (low if total else token), token + 1, total + count
    if total:
        yield low, high


def _sorted_windows(
    stream: NDArray[np.uint16], low: int, high: int, start_id: int, bits: int, order: int
) -> Iterator[tuple[int, Windows]]:
    """Yield (first, windows), sorted, for all windows with first tokens from low to below high, written less ``first``.

    The first token has as many bits as the others leave it; where these are too few for the range, the range is cut.
    """
    places = np.flatnonzero(stream[: len(stream) - order] - np.uint16(low) < high - low)
    firsts = stream[places]
    span = 2 ** min(64 - bits * (order - 1), 16)
    cuts = [(low, slice(None))]
    if high - low > span:
        by_first = np.argsort(firsts, kind="stable")
        places, firsts = places[by_first], firsts[by_first]
        occurrences = np.bincount(firsts - np.uint16(low), minlength=high - low)
        ends = np.concatenate([[0], np.cumsum(occurrences)]).tolist()
        cuts = [(low + a, slice(ends[a], ends[b])) for a, b in _ranges(occurrences, len(places), span)]
    for first, cut in cuts:
        at = places[cut]
        windows = (firsts[cut] - np.uint16(first)).astype(np.uint64)
        ended = np.zeros(len(at), bool)
        for _ in range(order - 1):
            at = at + 1
            after = stream[at]
            after[ended] = start_id
            ended = after == start_id
            windows = windows << np.uint64(bits) | after
        windows.sort()
        yield first, windows


@dataclass
class _Made:
    """The n-grams of one length in the making, an array for every group of first tokens.

    Attributes:
        continued: how many n-grams one longer begin with each.
        tails: each without its first token.
    """

    tokens: list[NDArray[np.uint16]] = field(default_factory=list)
    counts: list[Ints] = field(default_factory=list)
    continued: list[NDArray[np.integer]] = field(default_factory=list)
    tails: list[Windows] = field(default_factory=list)

    def add(self, tokens: NDArray[np.integer], counts: NDArray[np.integer]) -> None:
        self.tokens.append(tokens.astype(np.uint16))
        self.counts.append(counts.astype(np.int32))


def _count_sorted(windows: Windows, made: list[_Made], start_id: int, bits: int) -> tuple[Windows, NDArray[np.integer]]:
    """Add the n-grams of sorted windows; return their first tokens and how many different tokens follow each."""
    mask = np.uint64(2**bits - 1)
    at = run_starts(windows)
    grams, counts = windows[at], run_lengths(at, len(windows))
    n_next: NDArray[np.integer] | None = None
    for length in range(len(made), 1, -1):
        ends_document = grams & mask == start_id
        if n_next is not None:
            n_next[ends_document] = 0  # what follows in the window is filling
        kept = np.arange(len(grams))
        if length > 2:
            kept = np.flatnonzero(grams >> np.uint64(bits) & mask != start_id)  # of others the last token is filling
        own = made[length - 1]
        own.add(grams[kept] & mask, counts[kept])
        own.tails.append(grams[kept] & np.uint64(2 ** (bits * (length - 1)) - 1))
        if n_next is not None:
            own.continued.append(n_next[kept])
        shorter = grams >> np.uint64(bits)
        at = run_starts(shorter)
        n_next = run_lengths(at, len(shorter))
        grams, counts = shorter[at], np.add.reduceat(counts, at)
    assert n_next is not None
    return grams, n_next


def _assembled(made: list[_Made], d_vocab: int, start_id: int) -> Iterator[Grams]:
    starts = np.array([0, d_vocab], np.int32)
    begin = (start_id, start_id + 1)  # the ids of the n-grams that begin with the start token
    for i, own in enumerate(made):
        tokens, counts = np.concatenate(own.tokens), np.concatenate(own.counts)
        extensions = np.zeros(0, np.int32)
        if i + 1 < len(made):
            tails = np.concatenate(made[i + 1].tails)
            made[i + 1].tails.clear()
            extensions = counts.copy()
            if i == 0:
                extensions[:] = np.bincount(tails.astype(np.uint16), minlength=d_vocab)
            else:
                tails.sort()
                before = run_lengths(run_starts(tails), len(tails))
                extensions[: begin[0]], extensions[begin[1] :] = before[: begin[0]], before[begin[0] :]
        yield Grams(starts, tokens, counts, extensions)
        if i + 1 < len(made):
            starts = np.concatenate([[0], np.cumsum(np.concatenate(own.continued), dtype=np.int64)]).astype(np.int32)
            begin = (int(starts[begin[0]]), int(starts[begin[1]]))
        own.tokens.clear()
        own.counts.clear()
        own.continued.clear()


def run_starts(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return where runs of equal values begin, [run]."""
    return np.flatnonzero(begins(values))


def run_lengths(starts: NDArray[np.int64], n_values: int) -> NDArray[np.int64]:
    """Return how long runs are, given where they begin, [run]."""
    return np.diff(starts, append=n_values)
