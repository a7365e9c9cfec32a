"""Labels and how tokens are spelt in them."""

from __future__ import annotations

import pytest

from englishroom.dictionaries.evidence.label import LONGEST, escaped, label, spelled, unique
from tiny_features import tokenizer


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (0, "<|endoftext|>"),
        (1, "token 1"),
        (2, r'"\n"'),
        (3, r'"\x1b[31m"'),
        (4, r'"\""'),
        (5, r'"\\"'),
        (6, r'"\xe2\x80"'),
        (7, r'"\u202e"'),
        (8, '" é"'),
        (9, '" w0"'),
    ],
)
def test_odd_tokens_are_spelt_out(token: int, text: str):
    assert spelled(tokenizer(), token) == text
    assert text.isprintable()


def test_text_without_quotes_keeps_them():
    assert escaped(b'said "no"\n') == r'said "no"\n'


def test_labels():
    assert label(['"big"', '"red"'], ['" ball"']) == '"big" | "red" -> " ball"'
    assert label([], ['" ball"']) == 'silent -> " ball"'
    assert label(['"big"'], []) == '"big"'
    assert label([], []) == "silent"
    assert len(label(["x" * 1000], [])) == LONGEST


def test_equal_labels_are_told_apart():
    assert unique(["a", "b", "a", "a #2", "a"]) == ["a", "b", "a #3", "a #2", "a #4"]
    assert unique(["a", "a", "a"]) == ["a", "a #2", "a #3"]
    assert unique([]) == []
    many = unique(["a", "a #2", "a", "a #2", "a #2 #2", "a"])
    assert len(set(many)) == len(many) == 6
