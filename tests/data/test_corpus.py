"""Reading text as documents, and splitting it by hash."""

from __future__ import annotations

import lzma

import pytest

from englishroom.data.corpus import read_documents, split_of, text_hash
from englishroom.errors import ArtifactError


def test_documents_are_separated_stripped_and_lose_blank_lines(tmp_path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"  One.\n\n\nTwo. \n<|endoftext|>\n\n<|endoftext|>Three.\r\n  Four.")
    assert read_documents(path) == ["One.\nTwo.", "Three.\nFour."]


def test_xz_is_read_and_damage_is_told(tmp_path) -> None:
    path = tmp_path / "text.txt.xz"
    path.write_bytes(lzma.compress("caf\u00e9".encode()))
    assert read_documents(path) == ["caf\u00e9"]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ArtifactError, match=r"text\.txt\.xz: cannot be read as text"):
        read_documents(path)
    path.write_bytes(b"no xz at all")
    with pytest.raises(ArtifactError, match="cannot be read as text"):
        read_documents(path)


def test_equal_documents_fall_on_the_same_side_in_the_asked_share() -> None:
    documents = [f"story {i}" for i in range(4000)]
    sides = [split_of(document, 0.25) for document in documents]
    assert sides == [split_of(document, 0.25) for document in documents]
    assert 0.22 < sides.count("choose") / 4000 < 0.28
    assert {split_of(document, 0.0) for document in documents} == {"fit"}


def test_text_hash_tells_texts_and_cuts_apart() -> None:
    assert text_hash(["ab", "c"]) != text_hash(["a", "bc"])
    assert text_hash(["ab", "c"]) != text_hash(["c", "ab"])
    assert text_hash(["ab", "c"]) == text_hash(["ab", "c"])
