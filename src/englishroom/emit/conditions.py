"""The conditions of features as they stand in an emitted file, for ``holds`` to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

from englishroom.ir.condition import Condition, InQuotes, IntoSentence, Repeated, Term, WordAt, WordEarlier

Spelt = tuple[tuple[tuple[str, int | str, tuple[str, ...], bool], ...], ...]
"""A condition as ``holds`` reads it: alternatives, each of terms (kind, number, words, whether it is negated)."""


def source(conditions: Mapping[str, tuple[float, Spelt]]) -> str:
    """Write the condition of every feature that has one, with its precision.

    Args:
        conditions: by name of the feature.
    """
    return "\n".join(["\nCONDITIONS = {", *(f"    {name!a}: {told!a}," for name, told in conditions.items()), "}"])


def spelt(condition: Condition, words: Sequence[str]) -> Spelt:
    """Write a condition as ``holds`` reads it.

    Args:
        words: every token, as the file calls it.
    """
    return tuple(tuple(_spelt(term, words) for term in terms) for terms in condition.alternatives)


def _spelt(term: Term, words: Sequence[str]) -> tuple[str, int | str, tuple[str, ...], bool]:
    match term:
        case WordAt(listed, number) | WordEarlier(listed, number):
            return term.kind, number, tuple(words[word.token] for word in listed), term.negated
        case IntoSentence(least):
            return term.kind, least, (), term.negated
        case InQuotes() | Repeated():
            return term.kind, 0, (), term.negated
        case _:
            assert_never(term)
