"""Text packed into full rows of tokens."""

from __future__ import annotations

import pytest

from englishroom.errors import ConfigError
from englishroom.evaluate.packed_rows import packed_rows
from programs import tokenizer_for

LETTERS, START = tokenizer_for(4), 0


def test_documents_follow_each_other_each_after_the_start_token():
    rows = packed_rows(LETTERS, ["abc", "ab", "c"], 4)
    assert rows.tolist() == [[START, 1, 2, 3], [START, 1, 2, START]]


def test_no_more_rows_than_asked_for():
    documents = ["abca"] * 10
    assert len(packed_rows(LETTERS, documents, 5)) == 10
    assert packed_rows(LETTERS, documents, 5, limit=3).tolist() == packed_rows(LETTERS, documents, 5)[:3].tolist()
    assert len(packed_rows(LETTERS, documents, 5, limit=30)) == 10


def test_documents_beyond_the_limit_are_not_read():
    assert len(packed_rows(LETTERS, ["abca", "not encodable"], 5, limit=1)) == 1


def test_too_little_text_is_refused():
    with pytest.raises(ConfigError) as error:
        packed_rows(LETTERS, ["ab"], 4)
    assert str(error.value) == "the text has 3 tokens, expected at least one row of 4; give more text"


def test_text_of_other_characters_is_refused():
    with pytest.raises(ConfigError) as error:
        packed_rows(LETTERS, ["abx"], 2)
    assert str(error.value).startswith("text: ")
    assert str(error.value).endswith("; use a text of other characters")
