"""Conditions: what they mean, what they say, how they are read back, and what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from englishroom.errors import ArtifactError, ConfigError
from englishroom.ir.condition import (
    FARTHEST_BACK,
    MOST_ALTERNATIVES,
    MOST_TERMS,
    MOST_WORDS,
    Condition,
    InQuotes,
    IntoSentence,
    Repeated,
    Term,
    Word,
    WordAt,
    WordEarlier,
    holds,
)
from englishroom.ir.holding import read_rows, where_holds
from englishroom.ir.marks import marks_of
from englishroom.ir.tokenizer import Tokenizer
from englishroom.untrusted import parse_json

PIECES = ("<end>", " she", " girl", " ran", ".", '"', '."', "“", "”", "\n", ' "', "!”", " “”")
START, SHE, GIRL, RAN, STOP, QUOTE, STOP_QUOTE, OPEN, CLOSE, LINE = range(10)


def vocabulary() -> Tokenizer:
    pieces = tuple(piece.encode() for piece in PIECES)
    return Tokenizer("byte_bpe", pieces, (), (), (-1,) * 256, (START,), START, (START,), False)


MARKS = marks_of(vocabulary())
FORM = TypeAdapter(Condition)


def read(data: str) -> Condition:
    return parse_json(data, FORM, "here", "search it again")


def words(*tokens: int) -> tuple[Word, ...]:
    return tuple(Word(token, f"w{token}") for token in tokens)


def where(term: Term, tokens: list[int]) -> list[int]:
    """Return the positions at which a term holds."""
    condition = Condition(((term,),))
    found = [at for at in range(len(tokens)) if holds(condition, tokens, at, MARKS)]
    assert np.flatnonzero(where_holds(condition, read_rows([np.array(tokens)], MARKS))).tolist() == found
    return found


def test_words_here_back_and_earlier() -> None:
    tokens = [START, GIRL, RAN, STOP, SHE, RAN, SHE]
    assert where(WordAt(words(SHE, GIRL)), tokens) == [1, 4, 6]
    assert where(WordAt(words(SHE, GIRL), negated=True), tokens) == [0, 2, 3, 5]
    assert where(WordAt(words(RAN), back=1), tokens) == [3, 6]
    assert where(WordEarlier(words(GIRL)), tokens) == [2, 3, 4, 5, 6]
    assert where(WordEarlier(words(GIRL), "sentence"), tokens) == [2, 3]
    assert where(WordEarlier(words(GIRL), 2), tokens) == [2, 3]
    assert where(WordEarlier(words(GIRL), 2, negated=True), tokens) == [0, 1, 4, 5, 6]
    assert where(Repeated(), tokens) == [5, 6]
    assert where(IntoSentence(2), tokens) == [3, 6]
    assert where(IntoSentence(1, negated=True), tokens) == [0, 1, 4]


def test_quotes_open_and_close() -> None:
    tokens = [START, QUOTE, SHE, STOP_QUOTE, GIRL, OPEN, RAN, CLOSE, QUOTE, SHE, LINE, SHE]
    assert where(InQuotes(), tokens) == [1, 2, 5, 6, 8, 9]
    assert where(WordEarlier(words(SHE, OPEN), "quote"), tokens) == [6]
    assert where(WordEarlier(words(QUOTE), "quote"), tokens) == [2, 9]


def test_the_text_says_it_in_plain_english() -> None:
    she = (Word(1, "she"), Word(2, "he"))
    girl = (Word(3, "girl"),)
    said = Condition(
        (
            (WordAt(she), WordEarlier(girl, "sentence")),
            (WordAt(girl, 1, negated=True), WordEarlier(she, 5, negated=True), InQuotes(negated=True)),
            (IntoSentence(3), IntoSentence(9, negated=True), Repeated(negated=True)),
        )
    )
    assert str(said) == (
        "she/he here, and a word of girl in this sentence; or not girl just before, and no word of she/he in the last "
        "5, and outside quotes; or at least 3 words into the sentence, and at most 8 words into the sentence, and the "
        "word here is new"
    )
    assert str(Condition(((WordAt(girl, 4), WordEarlier(girl), WordEarlier(girl, "quote")),))) == (
        "girl 4 back, and a word of girl earlier, and a word of girl since the quote opened"
    )
    assert str(Condition(((InQuotes(), Repeated()),))) == "inside quotes, and the word here stood earlier"
    assert str(Condition()) == "never"


LISTS = st.lists(st.integers(0, len(PIECES) - 1), min_size=1, max_size=4, unique=True).map(lambda ids: words(*ids))
FLAG = st.booleans()
TERMS = st.one_of(
    st.builds(WordAt, LISTS, st.integers(0, FARTHEST_BACK), FLAG),
    st.builds(WordEarlier, LISTS, st.sampled_from(["text", "sentence", "quote"]) | st.integers(1, 9), FLAG),
    st.builds(InQuotes, FLAG),
    st.builds(IntoSentence, st.integers(1, 9), FLAG),
    st.builds(Repeated, FLAG),
)
ALTERNATIVES = st.lists(TERMS, min_size=1, max_size=MOST_TERMS).map(tuple)
CONDITIONS = st.lists(ALTERNATIVES, max_size=MOST_ALTERNATIVES).map(lambda found: Condition(tuple(found)))
ROWS = st.lists(st.lists(st.integers(0, len(PIECES) - 1), max_size=20), max_size=4)


@given(CONDITIONS, ROWS)
def test_many_rows_at_once_are_as_position_by_position(condition: Condition, rows: list[list[int]]) -> None:
    expected = [holds(condition, row, at, MARKS) for row in rows for at in range(len(row))]
    assert where_holds(condition, read_rows([np.array(row, np.int64) for row in rows], MARKS)).tolist() == expected


@given(CONDITIONS)
def test_json_reads_back_to_the_same(condition: Condition) -> None:
    assert read(json.dumps(asdict(condition))) == condition


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WordAt(()), "a list of 0 words: expected 1 to 12"),
        (lambda: WordAt(words(*range(MOST_WORDS + 1))), "a list of 13 words: expected 1 to 12"),
        (lambda: WordEarlier(words(1, 1)), "a list with the same token twice: expected different ones"),
        (lambda: WordAt(words(1), 9), "a word 9 back: expected 0 to 8"),
        (lambda: WordEarlier(words(1), 0), "a word within the last 0: expected 1 to 256"),
        (lambda: IntoSentence(0), "0 words into the sentence: expected 1 to 256"),
        (lambda: Word(-1, "x"), "the token -1: expected 0 or more"),
        (lambda: Word(3, "a\x1bb"), r"the text 'a\\x1bb' of token 3: expected one word that prints"),
        (lambda: Word(3, "a b"), "the text 'a b' of token 3: expected one word that prints"),
        (lambda: Condition(((InQuotes(),),) * 4), "4 alternatives: expected at most 3"),
        (lambda: Condition(((),)), "an alternative of 0 terms: expected 1 to 3"),
        (lambda: Condition(((InQuotes(),) * 4,)), "an alternative of 4 terms: expected 1 to 3"),
    ],
)
def test_what_is_no_condition_is_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ConfigError, match=message):
        make()


def edited(**changes: object) -> str:
    plain = json.loads(json.dumps(asdict(Condition(((WordAt(words(SHE)),),)))))
    plain["alternatives"][0][0] |= changes
    return json.dumps(plain)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", r"here: the whole text: Invalid JSON"),
        (edited(back=9), r"here: alternatives.0.0.word at: Value error, a word 9 back: expected 0 to 8 in a condition"),
        (edited(back="1"), r"here: alternatives.0.0.word at.back: Input should be a valid integer"),
        (edited(kind="moon"), r"here: alternatives.0.0: Input tag 'moon'"),
        (edited(moon=1), r"here: alternatives.0.0.word at.moon: Unexpected keyword argument"),
        (edited(words=[{"token": 1, "text": "a\x1b[31m"}]), r"Value error, the text 'a\\x1b\[31m' of token 1"),
    ],
)
def test_json_that_is_no_condition_is_one_line(data: str, message: str) -> None:
    with pytest.raises(ArtifactError, match=message) as caught:
        read(data)
    assert "\n" not in str(caught.value)
