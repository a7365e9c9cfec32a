"""Where conditions hold, over many rows of tokens at once; the meaning is ``condition.holds``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from englishroom.ir.condition import Condition, InQuotes, IntoSentence, Reach, Repeated, Term, Word, WordAt, WordEarlier
from englishroom.ir.marks import Marks

Positions = NDArray[np.int64]
"""For each position of all rows, end to end, another one: [pos]."""


@dataclass(frozen=True)
class ReadRows:
    """Rows of tokens end to end, with what conditions ask of the text up to each position.

    Attributes:
        tokens: of all rows, [pos].
        d_vocab: size of the vocabulary.
        began: where the row of a position begins.
        sentence: where its sentence begins.
        opened: where the quote opened that it is inside of; outside quotes the position itself.
        inside: whether it is inside quotes.
        repeated: whether its token stands before it in its row.
    """

    tokens: NDArray[np.int64]
    d_vocab: int
    began: Positions
    sentence: Positions
    opened: Positions
    inside: NDArray[np.bool_]
    repeated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def here(self) -> Positions:
        """The positions themselves."""
        return np.arange(len(self.tokens))

    def first(self, reach: Reach) -> Positions:
        """Return, for each position, the first that an earlier word may stand at; itself where there is none."""
        match reach:
            case "text":
                return self.began
            case "sentence":
                return self.sentence
            case "quote":
                return self.opened
            case _:
                return np.maximum(self.began, self.here - reach)


def read_rows(rows: Sequence[NDArray[np.integer]], marks: Marks) -> ReadRows:
    """Lay rows of tokens end to end and find their sentences, quotes and repeated words."""
    lengths = np.array([len(row) for row in rows], np.int64)
    tokens = np.concatenate([np.zeros(0, np.int64), *(np.asarray(row, np.int64) for row in rows)])
    here, firsts = np.arange(len(tokens)), np.cumsum(lengths) - lengths
    began = np.repeat(firsts, lengths)
    is_first = here == began
    starts = is_first.copy()
    starts[1:] |= marks.ends[tokens[:-1]]
    sentence = _last(starts)
    outside, inside = marks.inside_after[:, tokens]
    fixed = is_first | (outside == inside)  # here nothing before matters: each row begins outside quotes
    turns = np.cumsum(outside & ~inside & ~fixed)
    at = _last(fixed)
    is_inside = outside[at] ^ ((turns - turns[at]) % 2 == 1)
    opens = is_inside & (is_first | ~np.concatenate([[False], is_inside[:-1]]))
    opened = np.where(is_inside, _last(opens), here)
    d_vocab = len(marks.ends)
    _, first_seen = np.unique(began * d_vocab + tokens, return_index=True)
    repeated = np.ones(len(tokens), bool)
    repeated[first_seen] = False
    return ReadRows(tokens, d_vocab, began, sentence, opened, is_inside, repeated)


def _last(marked: NDArray[np.bool_]) -> Positions:
    """Return the last marked position up to each; 0 before the first."""
    return np.maximum.accumulate(np.where(marked, np.arange(len(marked)), 0)) if len(marked) else np.zeros(0, np.int64)


def where_holds(condition: Condition, rows: ReadRows) -> NDArray[np.bool_]:
    """Say for every position of all rows whether a condition holds there, [pos]."""
    found = np.zeros(len(rows), bool)
    for terms in condition.alternatives:
        found |= np.logical_and.reduce([_where(term, rows) for term in terms])
    return found


def _where(term: Term, rows: ReadRows) -> NDArray[np.bool_]:
    match term:
        case WordAt(words, back):
            at = rows.here - back
            found = (at >= rows.began) & _is_of(words, rows)[np.maximum(at, 0)]
        case WordEarlier(words, reach):
            behind = np.where(_is_of(words, rows), rows.here, -1)
            last = np.maximum.accumulate(np.concatenate([[-1], behind]))[:-1]
            found = last >= rows.first(reach)
        case InQuotes():
            found = rows.inside
        case IntoSentence(least):
            found = rows.here - rows.sentence >= least
        case Repeated():
            found = rows.repeated
        case _:
            assert_never(term)
    return ~found if term.negated else found


def _is_of(words: Sequence[Word], rows: ReadRows) -> NDArray[np.bool_]:
    """Say at which positions a word of a list stands."""
    member = np.zeros(rows.d_vocab, bool)
    member[[word.token for word in words]] = True
    return member[rows.tokens]
