"""Conditions made ready to run on many positions, or on the next token alone; the meaning is ``condition.holds``.

1. Every list of words is a row of a matrix, once, however many terms have it; so is every term, which alternatives
   have with a weight of 1, or -1 where it is negated.
2. Keep, for each list, where one of its words stood last. A term then says how far back that may be.
3. An alternative holds where the weights of the terms that are true add up to as many as it has that are not negated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from englishroom.ir.condition import (
    FARTHEST_BACK,
    Condition,
    InQuotes,
    IntoSentence,
    Repeated,
    Term,
    Word,
    WordAt,
    WordEarlier,
)
from englishroom.ir.holding import read_rows
from englishroom.ir.marks import Marks, marks_in
from englishroom.ir.program import Conditions

Mask = NDArray[np.bool_]
Csr = scipy.sparse.csr_array


class ConditionReader:
    """Conditions made ready to run."""

    def __init__(self, conditions: Sequence[Condition], marks: Marks) -> None:
        self._marks, self._size = marks, len(conditions)
        self._lists: dict[frozenset[int], int] = {}
        terms: dict[tuple[Any, ...], int] = {}
        alternatives = [(at, terms_) for at, condition in enumerate(conditions) for terms_ in condition.alternatives]
        entries: list[tuple[int, int, int]] = []
        for alternative, (_, parts) in enumerate(alternatives):
            for term in parts:
                key = self._key(term)
                entries.append((alternative, terms.setdefault(key, len(terms)), -1 if term.negated else 1))
        shape = len(alternatives), len(terms)
        self._needed = np.array([sum(not t.negated for t in parts) for _, parts in alternatives], np.float32)
        self._weights = _matrix(entries, shape)
        owners = [(at, number, 1) for number, (at, _) in enumerate(alternatives)]
        self._of_feature = _matrix(owners, (self._size, shape[0]))
        self._n_terms, self._kinds = len(terms), _by_kind(terms)
        members = [(token, number, 1) for words, number in self._lists.items() for token in words]
        self._members = _matrix(members, (len(marks.ends), len(self._lists)), np.bool_)

    @classmethod
    def of(cls, block: Conditions) -> ConditionReader:
        """Make the conditions of a block ready."""
        return cls(block.conditions, marks_in(block.marks))

    def _key(self, term: Term) -> tuple[Any, ...]:
        """Tell what a term says, its negation apart: its kind, how far, and the number of its list."""
        match term:
            case WordAt(words, back):
                return "at", back, self._list(words)
            case WordEarlier(words, reach):
                return "earlier", reach, self._list(words)
            case InQuotes():
                return "quotes", 0, 0
            case IntoSentence(least):
                return "into", 0, least
            case Repeated():
                return "repeated", 0, 0
            case _:
                assert_never(term)

    def _list(self, words: Sequence[Word]) -> int:
        return self._lists.setdefault(frozenset(word.token for word in words), len(self._lists))

    def read(self, seen: NDArray[np.integer], n_new: int, last: NDArray | None) -> tuple[Mask, NDArray]:
        """Say which conditions hold at the last positions of texts.

        Args:
            seen: texts from their beginning, [batch, pos].
            n_new: how many of their positions are new.
            last: what this returned at the positions before; ``None`` at the beginning.

        Returns:
            which hold, [batch * new, condition], and where a word of each list stood last, [batch, list].
        """
        if last is None:
            last = np.full((len(seen), len(self._lists)), -1, np.int32)
        found, after = [], np.empty_like(last)
        for text, (tokens, before) in enumerate(zip(seen, last, strict=True)):
            true, after[text] = self._terms(tokens, n_new, before)
            holds = (self._weights @ true.T >= self._needed[:, None]).astype(np.float32)
            found.append((self._of_feature @ holds > 0).T)
        return np.concatenate(found), after

    def _terms(self, tokens: NDArray[np.integer], n_new: int, last: NDArray) -> tuple[NDArray[np.float32], NDArray]:
        """Say which terms are true at the last positions of one text, [new, term], and where each list stood last."""
        n_seen = len(tokens)
        start = n_seen - n_new
        low = max(0, start - FARTHEST_BACK)
        members = self._members[tokens[low:]].toarray()
        rows, here = read_rows([tokens], self._marks), np.arange(start, n_seen)
        stood = np.where(members[start - low :], here[:, None].astype(np.int32), np.int32(-1))
        stood = np.maximum.accumulate(np.concatenate([last[None], stood]), axis=0)
        true = np.zeros((n_new, self._n_terms), np.float32)
        for (kind, how), (at, own) in self._kinds.items():
            match kind:
                case "at":
                    back = np.maximum(here - how - low, 0)
                    true[:, at] = members[back][:, own] & (here >= how)[:, None]
                case "earlier":
                    true[:, at] = stood[:-1, own] >= rows.first(how)[here, None]
                case "quotes":
                    true[:, at] = rows.inside[here, None]
                case "into":
                    true[:, at] = (here - rows.sentence[here])[:, None] >= own
                case _:
                    true[:, at] = rows.repeated[here, None]
        return true, stood[-1]


def _by_kind(terms: dict[tuple[Any, ...], int]) -> dict[tuple[str, Any], tuple[NDArray, NDArray]]:
    """Group terms that are told in the same way: kind and how far -> their numbers, and the list of each."""
    found: dict[tuple[str, Any], list[tuple[int, int]]] = {}
    for (kind, how, own), number in terms.items():
        found.setdefault((kind, how), []).append((number, own))
    return {key: (np.array([n for n, _ in both]), np.array([o for _, o in both])) for key, both in found.items()}


def _matrix(entries: Sequence[tuple[int, int, int]], shape: tuple[int, int], dtype: Any = np.float32) -> Csr:
    rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
    return Csr((np.array(values, dtype), (np.array(rows, np.int64), np.array(columns, np.int64))), shape=shape)
