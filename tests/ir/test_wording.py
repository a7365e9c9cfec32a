"""Words for tokens: printable, without spaces, no two alike, whatever the vocabulary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from englishroom.ir.wording import as_word, distinct, piece_word, plain, token_words
from staged import D_VOCAB, tokenizer


@pytest.mark.parametrize(
    ("piece", "word"),
    [
        (b" once", "once"),
        (b"ing", "~ing"),
        (b"7", "~7"),
        (b" .", "_."),
        (b".", "."),
        (b"\n", "\\n"),
        (b"\\", "\\\\"),
        (b'"""', '"\\x22"'),
        (b" a b", "a_b"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (" é".encode(), "é"),
        (" דבר".encode(), "דבר"),
        ("ד".encode(), "~ד"),
        ("\u202e\u2028\x85\xa0".encode(), "\\u202e\\u2028\\x85\\xa0"),
        (b"", "\\empty"),
        (b" ", "_"),
        (b"\x1b[31m", "\\x1b[31m"),
        (b"<|endoftext|>", "<|endoftext|>"),
    ],
)
def test_a_piece_becomes_one_word(piece: bytes, word: str) -> None:
    assert piece_word(piece) == word


@given(st.lists(st.text(max_size=5) | st.sampled_from(['"', '""', '"""', "\\", " ", "#1", ""]), max_size=20))
def test_words_are_plain_and_distinct(texts: list[str]) -> None:
    words = distinct([as_word(text) for text in texts])
    assert len(set(words)) == len(words) == len(texts)
    for word in words:
        assert word
        assert word.isprintable()
        assert word.split() == [word]
        assert '""' not in word
    assert distinct(words) == words
    assert [as_word(word) for word in words] == words


def test_the_first_of_equals_keeps_its_word() -> None:
    found = distinct(["a", "a", "b"], taken=("b",))
    assert found[0] == "a"
    assert found[1] == "a#1"
    assert found[2] == "b#2"
    assert plain("a b") == "a_b"


def test_every_token_has_a_word_of_its_own() -> None:
    words = token_words(tokenizer())
    assert len(set(words)) == D_VOCAB
    assert words[1] == "once"
    assert words[2] == "~once"
