"""Sort the tokens of a text into categories that a reader knows, to say where a talker got worse.

Every token has one label in each of six ways of sorting: what kind of piece it is, whether it belongs to a name,
whether its word is new to the story, whether it stands inside quotes, how far into the story, and how frequent it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from englishroom.ir.tokenizer import Tokenizer

WAYS: dict[str, tuple[str, ...]] = {
    "kind": (
        "word",
        "capitalised word",
        "part of a word",
        "punctuation",
        "quotation mark",
        "line end",
        "digit",
        "other",
    ),
    "name": ("name", "no name"),
    "mention": ("first mention", "repeated"),
    "speech": ("inside quotes", "outside quotes"),
    "position": ("tokens 1-15", "tokens 16-63", "tokens 64-127", "tokens 128 on"),
    "frequency": ("10 most frequent", "next 90", "next 900", "rarer"),
}
"""Way of sorting -> its categories.

A word begins after a space or at a line's beginning. A *name* is a word that begins with a capital inside a sentence (I
excepted), or has before in its document. A *mention* is of the whole word, in any case, within its document.
"""
LABELS = ("all", *(f"{way}: {label}" for way, labels in WAYS.items() for label in labels))
"""Every category, the one of all tokens first."""
_STARTS = dict(zip(WAYS, np.cumsum([1, *map(len, WAYS.values())])[:-1].tolist(), strict=True))
_ENDS = ".!?"
_QUOTES = '"“”'


@dataclass(frozen=True)
class _Pieces:
    """What can be said of a token by itself, each [d_vocab]."""

    kind: NDArray[np.int64]
    opens: NDArray[np.bool_]
    capital: NDArray[np.bool_]
    ends: NDArray[np.bool_]
    quotes: NDArray[np.int64]
    texts: list[str]


class Sorter:
    """Sorts the tokens of documents; made once for a tokenizer and a text."""

    def __init__(self, tokenizer: Tokenizer, documents: Sequence[Sequence[int]]) -> None:
        """Prepare for documents of tokens; how frequent a token is, is counted in them."""
        self._pieces = _describe(tokenizer)
        n = len(tokenizer.pieces)
        counts = np.zeros(n, np.int64)
        for tokens in documents:
            counts += np.bincount(np.asarray(tokens, np.int64), minlength=n)
        rank = np.empty(n, np.int64)
        rank[np.argsort(-counts, kind="stable")] = np.arange(n)
        self._frequency = np.searchsorted([10, 100, 1000], rank, side="right")

    def labels(self, tokens: Sequence[int]) -> NDArray[np.int64]:
        """Return the categories (of ``LABELS``) of every token of a document, start token left out, [token, way]."""
        about, ids = self._pieces, np.asarray(tokens, np.int64)
        n = len(ids)
        if n == 0:
            return np.empty((0, len(WAYS)), np.int64)
        kind, letters = about.kind[ids], about.kind[ids] <= 2
        previous = np.concatenate([[False], letters[:-1]])
        opens = letters & (about.opens[ids] | ~previous)
        word = np.where(letters, np.cumsum(opens), 0)  # 0 outside words, else the number of the word
        kind = np.where(letters, np.where(opens, np.where(about.capital[ids], 1, 0), 2), kind)
        inside = np.cumsum(about.quotes[ids]) - about.quotes[ids]
        quoted = (inside % 2 == 1) & (about.quotes[ids] == 0)

        sentence = np.concatenate([[True], (about.ends | (about.quotes > 0) | (about.kind == 5))[ids[:-1]]])
        first = np.flatnonzero(opens)
        spelt = ["".join(part) for part in _words(about.texts, ids, word)]
        is_new, is_name = np.zeros(len(first), bool), np.zeros(len(first), bool)
        seen: set[str] = set()
        names: set[str] = set()
        for at, (text, begins) in enumerate(zip(spelt, sentence[first].tolist(), strict=True)):
            plain = text.strip()
            if plain[:1].isupper() and plain != "I" and (not begins or plain in names):
                names.add(plain)
                is_name[at] = True
            is_new[at] = plain.lower() not in seen
            seen.add(plain.lower())
        name = np.concatenate([[False], is_name])[word]
        new = np.concatenate([[False], is_new])[word]
        columns = {
            "kind": kind,
            "name": np.where(letters, np.where(name, 0, 1), -1),
            "mention": np.where(letters, np.where(new, 0, 1), -1),
            "speech": np.where(quoted, 0, 1),
            "position": np.searchsorted([15, 63, 127], np.arange(n), side="right"),
            "frequency": self._frequency[ids],
        }
        stacked = [np.where(column >= 0, column + _STARTS[way], -1) for way, column in columns.items()]
        return np.stack(stacked, axis=1).astype(np.int64)


def _words(texts: list[str], ids: NDArray[np.int64], word: NDArray[np.int64]) -> list[list[str]]:
    """Gather the pieces of every word, in order."""
    found: list[list[str]] = [[] for _ in range(int(word.max(initial=0)))]
    for token, number in zip(ids.tolist(), word.tolist(), strict=True):
        if number:
            found[number - 1].append(texts[token])
    return found


def _describe(tokenizer: Tokenizer) -> _Pieces:
    texts = [piece.decode("utf-8", errors="replace") for piece in tokenizer.pieces]
    kind = np.empty(len(texts), np.int64)
    for token, text in enumerate(texts):
        plain = text.strip(" ")
        if token in tokenizer.specials or not text:
            kind[token] = 7
        elif "\n" in text:
            kind[token] = 5
        elif any(mark in plain for mark in _QUOTES):
            kind[token] = 4
        elif plain.replace("'", "").replace("’", "").isalpha() or (plain.strip("'’") == "" and plain):
            kind[token] = 0 if plain.strip("'’") else 3
        elif plain.isdigit():
            kind[token] = 6
        elif plain and not any(character.isalnum() for character in plain) and "\ufffd" not in plain:
            kind[token] = 3
        else:
            kind[token] = 7
    return _Pieces(
        kind,
        np.array([text.startswith(" ") for text in texts]),
        np.array([text.strip()[:1].isupper() for text in texts]),
        np.array([any(mark in text for mark in _ENDS) for text in texts]),
        np.array([sum(text.count(mark) for mark in _QUOTES) for text in texts]),
        texts,
    )
