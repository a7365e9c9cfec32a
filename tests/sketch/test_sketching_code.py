"""The fixed code of a sketch: its spelling, its tables, and what a story keeps in mind."""

from __future__ import annotations

import ast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from englishroom.emit.prelude import sketching
from englishroom.sketch.keys import GEARS, Spelling, fits_table
from englishroom.sketch.write import Tables, source, table_text
from tiny_sketch import END, tokenizer


@pytest.mark.parametrize(
    ("text", "word"),
    [(" the", "the"), ("ing", "_ing"), (".", "."), (' "', '~"'), ("\n", "¶"), ("3", "_3"), (" 3", "~3"), ("'s", "'s")],
)
def test_spelling_can_be_undone(text: str, word: str) -> None:
    assert sketching.spelled(text) == word
    assert sketching.written(word) == text


def test_tables_say_what_they_were_written_from() -> None:
    table = {
        "once": {"upon": 9, "a": 3, "_The": 3, "-": -2},
        "a :": {"@dog": 1, '."': 1},
        '"': {'~"': -4},
        **{f"word{i}": {f"other{j}": 5 - j for j in range(4)} for i in range(40)},
    }
    text = table_text(table, 'T = read_table("""')
    assert all(len(line) <= 120 for line in text.split("\n"))
    assert sketching.read_table(text.removeprefix('T = read_table("""')) == table


@pytest.mark.parametrize("key", ["a: b", "a | b", "a  b", " a", "a\\", 'a"""', "a\u200b", ":"])
def test_keys_that_no_table_can_hold(key: str) -> None:
    assert not fits_table(key)


def test_every_token_has_a_spelling_of_its_own() -> None:
    spelling = Spelling.of(tokenizer())
    assert len(set(spelling.words)) == len(spelling.words)
    assert spelling.words[END] == sketching.END
    assert spelling.writable[END]
    for token in np.flatnonzero(spelling.writable):
        if token != END:
            assert sketching.written(spelling.words[token]).encode() == tokenizer().pieces[token]
    unwritable = {tokenizer().pieces[token] for token in np.flatnonzero(~spelling.writable)}
    assert {b"\xff", b"@", b"|", b" "} <= unwritable


def read(words: str) -> sketching.Story:
    story = sketching.Story({"Lily": "@Tom", "Tom": "@Tom", "dog": "@dog"})
    for word in words.split():
        story.read(word)
    return story


def test_what_gears_see() -> None:
    story = read('<end> Lily saw Tom . ~" _Hello dog')
    keys = {name: list(gear(story)) for name, gear in GEARS.items()}
    assert keys["last"] == ["dog", "@dog"]
    assert keys["two_back"] == ["_Hello", "@other"]
    assert keys["pair"] == ["_Hello dog", "_Hello @dog", "@other dog", "@other @dog"]
    assert keys["phrase"][:2] == ['. ~" _Hello dog', '~" _Hello dog']
    assert "Tom" in keys["earlier"]
    assert "Tom" in keys["latest"]
    assert "Lily" not in keys["latest"]
    assert keys["clause"] == ["_Hello", "@other"]
    assert keys["opening"] == ["_Hello", "@other"]
    assert keys["state"] == ["quoted", "quoted 2", "place 7", "sentences 1"]
    assert keys["speech"] == ["dog", "@dog"]
    assert list(GEARS["speech"](read("<end> Lily saw"))) == []


def test_what_may_be_said_again() -> None:
    story = read("<end> Lily saw Tom . Lily saw")
    copies = {name: list(words) for name, words in sketching.copying(story)}
    assert copies["after 1"] == ["Tom"]
    assert copies["after 2"] == ["Tom"]
    assert set(copies["twice"]) == {"Lily", "saw"}
    assert copies["clause"] == ["Lily", "saw"]


def test_the_end_begins_a_new_story() -> None:
    story = read('<end> Lily saw ~" <end> dog')
    assert story.words == ["<end>", "dog"]
    assert not story.quoted
    assert "Lily" not in story.seen


KEYS = st.lists(st.sampled_from(['"', '""', '"""', "\\", "a", "b:", ":", "|", "é", "דבר", "\u2028", "#"]), min_size=1)


@given(st.lists(KEYS.map(" ".join) | KEYS.map("".join), min_size=1, max_size=30).map(lambda keys: set(keys)))
@settings(deadline=None, max_examples=60)
def test_no_word_of_a_table_becomes_code(words: set[str]) -> None:
    """Whatever may stand in a table leaves the file one table, which reads back to what it was written from."""
    keys = sorted(word for word in words if fits_table(word))
    votes = {word: 3 for word in keys if " " not in word} or {"a": 3}
    table = dict.fromkeys(keys, votes)
    remark = '""" \\ \n' + " ".join(sorted(words))
    found = ast.parse(source(Tables(table, {"last": table}), [remark], {"last": remark}, 9, 9))
    calls = [node for node in ast.walk(found) if isinstance(node, ast.Call) and ast.unparse(node.func) == "read_table"]
    assert len(found.body) == len(ast.parse(source(Tables({}, {"last": {}}), ["x"], {}, 9, 9)).body)
    assert [sketching.read_table(ast.literal_eval(call.args[0])) for call in calls] == ([table] * 2 if keys else [])
