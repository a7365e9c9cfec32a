"""The conditions of features as they stand in an emitted file, for ``holds`` to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

from englishroom.ir.condition import Condition, InQuotes, IntoSentence, Repeated, Term, WordAt, WordEarlier


def source(conditions: Mapping[str, Condition], words: Sequence[str]) -> str:
    """Write the condition of every feature that has one.

    Args:
        conditions: by name of the feature.
        words: every token, as the file calls it.
    """
    found = []
    for name, condition in conditions.items():
        spelt = tuple(tuple(_spelt(term, words) for term in terms) for terms in condition.alternatives)
        found.append(f"    {name!a}: {spelt!a},")
    return "\n".join(["\nCONDITIONS = {", *found, "}"])


def _spelt(term: Term, words: Sequence[str]) -> tuple[str, int | str, tuple[str, ...], bool]:
    """Write a term as ``holds`` reads it: kind, number, words, whether it is negated."""
    match term:
        case WordAt(listed, number) | WordEarlier(listed, number):
            return term.kind, number, tuple(words[word.token] for word in listed), term.negated
        case IntoSentence(least):
            return term.kind, least, (), term.negated
        case InQuotes() | Repeated():
            return term.kind, 0, (), term.negated
        case _:
            assert_never(term)
