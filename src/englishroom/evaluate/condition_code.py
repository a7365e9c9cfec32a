"""The code that conditions are counted under.

Every choice is sent by itself, all that is possible being equally likely: how many alternatives, how many terms each
has; of a term its kind, whether it is negated, how far back or from where on it looks, how many words into the
sentence; of a list how many words, and which of all lists of that many. Words are numbers of tokens; their texts are
the tokenizer's, which the receiver knows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import assert_never, get_args

from scipy.special import gammaln

from englishroom.evaluate.code_lengths import Length
from englishroom.ir.condition import (
    FARTHEST_BACK,
    FARTHEST_WITHIN,
    MOST_ALTERNATIVES,
    MOST_TERMS,
    MOST_WORDS,
    Condition,
    InQuotes,
    IntoSentence,
    Repeated,
    Term,
    WordAt,
    WordEarlier,
)

_PLACES = 4
"""Ways to say from where on a word may stand: the text, the sentence, the quote, or a number."""


def conditions_length(conditions: Sequence[Condition], d_vocab: int) -> Length:
    """Return the length of conditions, in order."""
    bits = sum(math.log2(MOST_ALTERNATIVES + 1) for _ in conditions)
    bits += sum(math.log2(MOST_TERMS) for condition in conditions for _ in condition.alternatives)
    bits += sum(_term_bits(term, d_vocab) for condition in conditions for term in condition.terms)
    return Length(math.ceil(bits), f"{len(conditions)} conditions")


def _term_bits(term: Term, d_vocab: int) -> float:
    bits = math.log2(len(get_args(Term))) + 1
    match term:
        case WordAt(words):
            return bits + math.log2(FARTHEST_BACK + 1) + _list_bits(len(words), d_vocab)
        case WordEarlier(words, reach):
            number = math.log2(FARTHEST_WITHIN) if isinstance(reach, int) else 0.0
            return bits + math.log2(_PLACES) + number + _list_bits(len(words), d_vocab)
        case IntoSentence():
            return bits + math.log2(FARTHEST_WITHIN)
        case InQuotes() | Repeated():
            return bits
        case _:
            assert_never(term)


def _list_bits(size: int, d_vocab: int) -> float:
    nats = gammaln(d_vocab + 1) - gammaln(size + 1) - gammaln(d_vocab - size + 1)
    return math.log2(MOST_WORDS) + float(nats) / math.log(2)
