"""Categories of tokens, on a text that can be sorted by hand."""

from __future__ import annotations

import numpy as np

from englishroom.evaluate.categories import LABELS, WAYS, Sorter
from englishroom.ir.tokenizer import Tokenizer

PIECES = ("Lily", " saw", " Tom", " run", "ner", ".", " Tom", "\n", '"', "I", " am", " I", "!", '"', " Lily", " 7")
VOCABULARY = ("<|endoftext|>", *dict.fromkeys(PIECES))
TOKENS = [VOCABULARY.index(piece) for piece in PIECES]
TOKENIZER = Tokenizer(
    kind="byte_bpe",
    pieces=tuple(piece.encode() for piece in VOCABULARY),
    merges=(),
    scores=(),
    byte_ids=(-1,) * 256,
    specials=(0,),
    start_id=0,
    stop_ids=(0,),
    prefix_space=False,
)


def sorted_by(way: str, tokens: list[int] = TOKENS) -> list[str]:
    rows = Sorter(TOKENIZER, [tokens]).labels(tokens)[:, list(WAYS).index(way)]
    return [LABELS[row].removeprefix(f"{way}: ") if row >= 0 else "" for row in rows]


def test_kinds() -> None:
    word, capital = "word", "capitalised word"
    assert sorted_by("kind") == [
        *(capital, word, capital, word, "part of a word", "punctuation", capital, "line end", "quotation mark"),
        *(capital, word, capital, "punctuation", "quotation mark", capital, "digit"),
    ]


def test_names_are_capitals_inside_a_sentence_or_known_from_there() -> None:
    assert [piece for piece, label in zip(PIECES, sorted_by("name"), strict=True) if label == "name"] == [
        " Tom",
        " Tom",
    ]
    later = [*TOKENS[14:15], *TOKENS[1:2], *TOKENS[14:15], *TOKENS[5:6], *TOKENS[14:15]]  # " Lily saw Lily. Lily"
    assert sorted_by("name", later) == ["no name", "no name", "name", "", "name"]


def test_mentions_are_of_whole_words_in_any_place() -> None:
    new, old = "first mention", "repeated"
    assert sorted_by("mention") == [new, new, new, new, new, "", old, "", "", new, new, old, "", "", old, ""]


def test_quotes() -> None:
    inside = [piece for piece, label in zip(PIECES, sorted_by("speech"), strict=True) if label == "inside quotes"]
    assert inside == ["I", " am", " I", "!"]


def test_positions_and_frequencies() -> None:
    long = [TOKENS[1]] * 200
    places = sorted_by("position", long)
    assert [places.index(label) for label in WAYS["position"]] == [0, 15, 63, 127]
    assert set(sorted_by("frequency")) == {"10 most frequent", "next 90"}
    counts = np.bincount(TOKENS)
    common = [label for token, label in zip(TOKENS, sorted_by("frequency"), strict=True) if counts[token] == 2]
    assert set(common) == {"10 most frequent"}


def test_a_document_of_no_tokens() -> None:
    assert Sorter(TOKENIZER, [[]]).labels([]).shape == (0, len(WAYS))
