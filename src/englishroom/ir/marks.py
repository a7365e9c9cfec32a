"""Which tokens end a sentence, and which open or close quotes: told by the texts of tokens, here and nowhere else.

A token ends a sentence where its text has a full stop, an exclamation or question mark or a line end, and where it is
special (the start token). A straight quotation mark turns inside into outside and back; curly ones and guillemets open
or close; a line end and a special token close. Marks that a vocabulary cuts into bytes are not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from englishroom.ir.table import SparseTable
from englishroom.ir.tokenizer import Tokenizer

ENDS = frozenset(".!?\n…")
MARKS = 4
"""Things that a token can do: end a sentence; open quotes, close them, or turn them."""
OPENS, CLOSES, TURNS = frozenset("“«"), frozenset("”»\n"), '"'


@dataclass(frozen=True)
class Marks:
    """What each token of a vocabulary does to sentences and quotes.

    Attributes:
        ends: whether a sentence ends with the token, [d_vocab].
        inside_after: whether the text behind the token is inside quotes, where before it it was outside, and where it
            was inside, [2, d_vocab].
    """

    ends: NDArray[np.bool_]
    inside_after: NDArray[np.bool_]


def marks_of(tokenizer: Tokenizer) -> Marks:
    """Tell what the tokens of a vocabulary do to sentences and quotes."""
    texts = [piece.decode("utf-8", "replace") for piece in tokenizer.pieces]
    special = set(tokenizer.specials)
    ends = [number in special or not ENDS.isdisjoint(text) for number, text in enumerate(texts)]
    inside_after = [
        [number not in special and _inside_after(text, inside) for number, text in enumerate(texts)]
        for inside in (False, True)
    ]
    return Marks(np.array(ends, bool), np.array(inside_after, bool))


def marks_table(marks: Marks, name: str = "marks") -> SparseTable:
    """Write marks as a table of tokens by what they do: end a sentence; open quotes, close them, or turn them."""
    outside, inside = marks.inside_after
    columns = np.stack([marks.ends, outside & inside, ~outside & ~inside, outside & ~inside], axis=1)
    starts = np.append(0, np.cumsum(columns.sum(1)))
    at = np.nonzero(columns)[1]
    return SparseTable(name, starts, at, np.ones(len(at), np.float32), MARKS)


def marks_in(table: SparseTable) -> Marks:
    """Read what :func:`marks_table` wrote."""
    ends, opens, closes, turns = (table.dense() != 0).T
    return Marks(ends, np.stack([opens | turns, ~(closes | turns)]))


def _inside_after(text: str, inside: bool) -> bool:
    """Say whether the text behind a token is inside quotes."""
    for character in text:
        if character in OPENS:
            inside = True
        elif character in CLOSES:
            inside = False
        elif character == TURNS:
            inside = not inside
    return inside
