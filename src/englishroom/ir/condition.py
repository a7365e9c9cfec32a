"""Conditions: explanations of features that run, as short formulas over the text so far.

A condition is true at a position or not. It is an *or* of at most three alternatives, each an *and* of at most three
terms; a term says something of the text up to and with the word here:

- :class:`WordAt`: the word here, or the word n back, is one of a list;
- :class:`WordEarlier`: a word of a list stands earlier, in the text, the sentence, the quote or the last n words;
- :class:`InQuotes`: the word here stands inside quotes;
- :class:`IntoSentence`: so many words of the sentence stand before it;
- :class:`Repeated`: the word here stood earlier in the text.

Each may be negated. A word is a token, and lists have at most twelve. The meaning is :func:`holds`, written to be read;
``ir/holding.py`` gives the same answers for many rows at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, assert_never

from pydantic import ConfigDict, Field, with_config

from englishroom.errors import ConfigError, bounded
from englishroom.ir.marks import Marks

MOST_ALTERNATIVES, MOST_TERMS, MOST_WORDS = 3, 3, 12
FARTHEST_BACK = 8
"""Positions that :class:`WordAt` looks back at most."""
FARTHEST_WITHIN = 256
"""Positions that a number says at most: within how many words, how many words into a sentence."""
Reach = Literal["text", "sentence", "quote"] | int
_STRICT = ConfigDict(strict=True, extra="forbid")


@with_config(_STRICT)
@dataclass(frozen=True)
class Word:
    """A token: its number in the vocabulary, and its text as one word that prints (``ir/wording.py``)."""

    token: int
    text: str

    def __post_init__(self) -> None:
        _require(self.token >= 0, f"the token {self.token}", "0 or more")
        if not self.text or " " in self.text or not self.text.isprintable():
            raise ConfigError(
                f"the text {bounded(self.text, 60)!r} of token {self.token}: expected one word that prints, escaped"
            )


@with_config(_STRICT)
@dataclass(frozen=True)
class WordAt:
    """The word ``back`` positions back (0: the word here) is one of a list."""

    words: tuple[Word, ...]
    back: int = 0
    negated: bool = False
    kind: Literal["word at"] = "word at"

    def __post_init__(self) -> None:
        _check_words(self.words)
        _require(0 <= self.back <= FARTHEST_BACK, f"a word {self.back} back", f"0 to {FARTHEST_BACK}")


@with_config(_STRICT)
@dataclass(frozen=True)
class WordEarlier:
    """A word of a list stands before the word here.

    Attributes:
        reach: where it stands: in the text, in this sentence, since the quote opened that the word here stands in (with
            the mark that opened it; outside quotes nowhere), or at most so many positions back.
    """

    words: tuple[Word, ...]
    reach: Reach = "text"
    negated: bool = False
    kind: Literal["word earlier"] = "word earlier"

    def __post_init__(self) -> None:
        _check_words(self.words)
        if isinstance(self.reach, int):
            within = f"a word within the last {self.reach}"
            _require(1 <= self.reach <= FARTHEST_WITHIN, within, f"1 to {FARTHEST_WITHIN}")


@with_config(_STRICT)
@dataclass(frozen=True)
class InQuotes:
    """The text is inside quotes once the word here is read: with the mark that opens, without the one that closes."""

    negated: bool = False
    kind: Literal["in quotes"] = "in quotes"


@with_config(_STRICT)
@dataclass(frozen=True)
class IntoSentence:
    """At least so many words of this sentence stand before the word here; negated: fewer."""

    least: int
    negated: bool = False
    kind: Literal["into sentence"] = "into sentence"

    def __post_init__(self) -> None:
        _require(1 <= self.least <= FARTHEST_WITHIN, f"{self.least} words into the sentence", f"1 to {FARTHEST_WITHIN}")


@with_config(_STRICT)
@dataclass(frozen=True)
class Repeated:
    """The word here stood earlier in the text; negated: it is new."""

    negated: bool = False
    kind: Literal["repeated"] = "repeated"


Term = WordAt | WordEarlier | InQuotes | IntoSentence | Repeated


@with_config(_STRICT)
@dataclass(frozen=True)
class Condition:
    """Any of a few alternatives, each all of a few terms; with no alternative it never holds."""

    alternatives: tuple[tuple[Annotated[Term, Field(discriminator="kind")], ...], ...] = ()

    def __post_init__(self) -> None:
        found = len(self.alternatives)
        _require(found <= MOST_ALTERNATIVES, f"{found} alternatives", f"at most {MOST_ALTERNATIVES}")
        for terms in self.alternatives:
            _require(1 <= len(terms) <= MOST_TERMS, f"an alternative of {len(terms)} terms", f"1 to {MOST_TERMS}")

    @property
    def terms(self) -> Iterator[Term]:
        """Every term, alternative by alternative."""
        return (term for terms in self.alternatives for term in terms)

    @property
    def words(self) -> Iterator[Word]:
        """Every word of every list."""
        return (word for term in self.terms if isinstance(term, WordAt | WordEarlier) for word in term.words)

    def __str__(self) -> str:
        """Say the condition in plain English on one line."""
        return "; or ".join(", and ".join(map(term_text, terms)) for terms in self.alternatives) or "never"


def _require(holds: bool, found: str, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{found}: expected {expected} in a condition")


def _check_words(words: tuple[Word, ...]) -> None:
    _require(1 <= len(words) <= MOST_WORDS, f"a list of {len(words)} words", f"1 to {MOST_WORDS}")
    _require(len({word.token for word in words}) == len(words), "a list with the same token twice", "different ones")


def term_text(term: Term) -> str:
    """Say a term in plain English."""
    match term:
        case WordAt(words, back):
            where = "here" if not back else "just before" if back == 1 else f"{back} back"
            return f"{'not ' if term.negated else ''}{_listed(words)} {where}"
        case WordEarlier(words, reach):
            places = {"text": "earlier", "sentence": "in this sentence", "quote": "since the quote opened"}
            where = places[reach] if isinstance(reach, str) else f"in the last {reach}"
            return f"{'no' if term.negated else 'a'} word of {_listed(words)} {where}"
        case InQuotes():
            return "outside quotes" if term.negated else "inside quotes"
        case IntoSentence(least):
            many = f"at most {least - 1}" if term.negated else f"at least {least}"
            return f"{many} words into the sentence"
        case Repeated():
            return "the word here is new" if term.negated else "the word here stood earlier"
        case _:
            assert_never(term)


def _listed(words: Sequence[Word]) -> str:
    return "/".join(word.text for word in words)


def holds(condition: Condition, tokens: Sequence[int], at: int, marks: Marks) -> bool:
    """Say whether a condition is true at a position of a text. This is what conditions mean.

    Args:
        tokens: a text from its beginning; nothing behind ``at`` is read.
    """
    return any(all(_holds(term, tokens, at, marks) for term in terms) for terms in condition.alternatives)


def _holds(term: Term, tokens: Sequence[int], at: int, marks: Marks) -> bool:
    match term:
        case WordAt(words, back):
            found = at >= back and tokens[at - back] in _tokens(words)
        case WordEarlier(words, reach):
            found = any(tokens[place] in _tokens(words) for place in range(_first(reach, tokens, at, marks), at))
        case InQuotes():
            found = quote_opened(tokens, at, marks) is not None
        case IntoSentence(least):
            found = at - sentence_began(tokens, at, marks) >= least
        case Repeated():
            found = any(tokens[place] == tokens[at] for place in range(at))
        case _:
            assert_never(term)
    return found != term.negated


def _tokens(words: Sequence[Word]) -> set[int]:
    return {word.token for word in words}


def _first(reach: Reach, tokens: Sequence[int], at: int, marks: Marks) -> int:
    """Return the first position that a word may stand at."""
    if isinstance(reach, int):
        return max(0, at - reach)
    if reach == "sentence":
        return sentence_began(tokens, at, marks)
    if reach == "quote":
        opened = quote_opened(tokens, at, marks)
        return at if opened is None else opened
    return 0


def sentence_began(tokens: Sequence[int], at: int, marks: Marks) -> int:
    """Return where the sentence of the word at a position begins: behind the last word before it that ends one."""
    return max((place + 1 for place in range(at) if marks.ends[tokens[place]]), default=0)


def quote_opened(tokens: Sequence[int], at: int, marks: Marks) -> int | None:
    """Return where the quote opened that a position is inside of, once its word is read; ``None`` outside quotes."""
    opened = None
    for place in range(at + 1):
        inside = marks.inside_after[int(opened is not None)][tokens[place]]
        opened = None if not inside else place if opened is None else opened
    return opened
