"""The settings of the search for conditions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from englishroom.bounds import Amount, Count, Settings, Weight
from englishroom.ir.condition import MOST_ALTERNATIVES, MOST_TERMS, MOST_WORDS


@dataclass(frozen=True)
class SearchConfig(Settings):
    """How long conditions may be, and how hard they are searched."""

    alternatives: Annotated[int, Interval(ge=1, le=MOST_ALTERNATIVES)] = MOST_ALTERNATIVES
    """The most alternatives of a condition."""
    terms: Annotated[int, Interval(ge=1, le=MOST_TERMS)] = MOST_TERMS
    """The most terms of an alternative."""
    words: Annotated[int, Interval(ge=1, le=MOST_WORDS)] = MOST_WORDS
    """The most words of a list."""
    beam: Count = 2
    """Beginnings of an alternative that are kept while it grows."""
    earlier: Count = 2
    """How many of the ways in which a word can stand earlier are tried in full for each term."""
    rounds: Amount = 1
    """How often every term of an alternative is exchanged for a better one at most."""
    least_rows: Count = 8
    """Documents in which a word must make a difference to be listed."""
    surprise: Weight = 3.0
    """Standard deviations by which a word must be more telling than chance."""
    word_gain: Weight = 0.001
    """What each word must add to the Matthews correlation."""
    term_gain: Weight = 0.005
    """What each term, and each alternative, must add to it."""
