"""Reading text as documents, and splitting it by hash."""

from __future__ import annotations

import lzma

import pytest

from englishroom.data.corpus import split, text_hash
from englishroom.data.documents import read_documents
from englishroom.errors import ArtifactError, ConfigError


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


def test_split_is_by_hash_in_the_asked_share() -> None:
    documents = [f"story {i}" for i in range(4000)] * 2
    fit, choose = split(documents, 0.25)
    assert 0.22 < len(choose) / 4000 < 0.28
    assert len(set(choose)) == len(choose), "each held-out document once"
    assert len(fit) == 2 * (4000 - len(choose)), "what is given twice is fitted on twice"
    assert not set(fit) & set(choose)
    again, _ = split(documents[::-1], 0.25)
    assert set(again) == set(fit)


def test_at_least_one_document_is_held_out_and_never_fitted_on() -> None:
    for share in (0.0, 1e-9):
        fit, choose = split(["a", "b", "c", "a"], share)
        assert len(choose) == 1
        assert set(fit) == {"a", "b", "c"} - set(choose)
    with pytest.raises(ConfigError, match="fewer than two different documents"):
        split(["a", "a"], 0.5)


def test_text_hash_tells_texts_and_cuts_apart() -> None:
    assert text_hash(["ab", "c"]) != text_hash(["a", "bc"])
    assert text_hash(["ab", "c"]) != text_hash(["c", "ab"])
    assert text_hash(["ab", "c"]) == text_hash(["ab", "c"])
