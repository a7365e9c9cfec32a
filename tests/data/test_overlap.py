"""Texts that share documents are told, counted and refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from englishroom.data.corpus import MARKS_FORM, document_marks, marks_in_order
from englishroom.data.documents import read_documents
from englishroom.data.overlap import (
    check_overlap,
    measure_overlap,
    overlap_warning,
    read_marks,
    write_marks,
)
from englishroom.data.texts import Text
from englishroom.errors import ArtifactError, ConfigError

FIT = ["Lily saw a cat.", "Tom ran home.", "Ben slept.", "Ben slept."]


def test_marks_are_sorted_and_each_once() -> None:
    marks = document_marks(FIT)
    assert marks.dtype == np.uint64
    assert len(marks) == 3
    assert (np.diff(marks.astype(object)) > 0).all()
    assert marks_in_order(FIT)[2] == marks_in_order(FIT)[3]
    assert document_marks([]).shape == (0,)


@pytest.mark.parametrize(
    "copy",
    [
        "lily saw a cat",
        "  LILY\n\nsaw a\tcat!",
        "\u201cLily\u201d saw\u00a0a cat\u2026",
        "Lily saw a \uff43at.",  # a wide letter
    ],
)
def test_copies_in_other_clothes_have_the_same_mark(copy: str) -> None:
    assert len(np.intersect1d(document_marks([copy]), document_marks(FIT))) == 1


@pytest.mark.parametrize("other", ["Lily saw a cat. Tom ran home.", "Lily saw a", "Lilysaw a cat.", "Lily saw cat a."])
def test_other_words_have_other_marks(other: str) -> None:
    assert len(np.intersect1d(document_marks([other]), document_marks(FIT))) == 0


def test_documents_without_words_are_marked_as_they_are() -> None:
    assert len(document_marks(["...", "!!!", "?"])) == 3


def test_overlap_counts_documents_with_repeats() -> None:
    text = Text.of("held out", ["Mia sang.", "BEN slept", "Ben slept.", "Max ate."])
    overlap = measure_overlap("the baseline", document_marks(FIT), text)
    assert (overlap.shared, overlap.documents, overlap.example) == (2, 4, "BEN slept")
    none = measure_overlap("the baseline", document_marks(FIT), Text.of("held out", ["Mia sang."]))
    assert (none.shared, none.example) == (0, "")


def test_fitting_on_the_evaluation_text_is_refused() -> None:
    long = "Once there was a \x1b[2J cat.\nIt sat by the door all day and looked out, waiting for its friend."
    text = Text.of("valid.txt", ["Mia sang.", long])
    with pytest.raises(ConfigError) as refused:
        check_overlap("kneser-ney-5", document_marks([*FIT, long.upper()]), text)
    assert str(refused.value) == (
        "1 of the 2 documents of valid.txt also stand in the fitting text of kneser-ney-5 (the first begins "
        '"Once there was a \\x1b[2J cat.\\nIt sat by the door all day and lo..."); '
        "a score on them would flatter, so give another fitting text or another --text"
    )
    check_overlap("kneser-ney-5", document_marks(FIT), text)


def test_a_trained_model_that_saw_the_text_is_warned_of() -> None:
    marks = document_marks(FIT)
    assert overlap_warning("tiny-2l", marks, Text.of("valid.txt", ["Mia sang."])) is None
    assert overlap_warning("tiny-2l", marks, Text.of("valid.txt", ["Tom ran home."])) == (
        "warning: 1 of the 1 documents of valid.txt also stand in the fitting text of tiny-2l "
        '(the first begins "Tom ran home."); its score on this text flatters it'
    )


def test_marks_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "fit_documents.npz"
    write_marks(path, FIT)
    assert np.array_equal(read_marks(path), document_marks(FIT))
    written = path.read_bytes()
    write_marks(path, FIT)
    assert path.read_bytes() == written, "the same bytes for the same documents"


def test_marks_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "fit_documents.npz"
    with pytest.raises(ArtifactError, match=r"fit_documents.npz: missing; restore the file, or train the model again"):
        read_marks(path)
    write_marks(path, FIT)
    whole = path.read_bytes()
    for data in (b"", b"no marks", whole[:100], whole[:-30]):
        path.write_bytes(data)
        with pytest.raises(ArtifactError, match=r"fit_documents.npz: damaged file of document marks"):
            read_marks(path)
    for form, marks in (("plain", document_marks(FIT)), (None, document_marks(FIT).astype(np.int64))):
        np.savez(path, form=np.array(form or MARKS_FORM), marks=marks)
        with pytest.raises(ArtifactError, match=r"document marks in the form .* another version wrote them"):
            read_marks(path)
    np.savez_compressed(path, form=np.array(MARKS_FORM), marks=np.zeros(10**6, np.uint64))
    with pytest.raises(ArtifactError, match=r"damaged file of document marks \(it is compressed\)"):
        read_marks(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArtifactError, match="is a pipe, expected a file"):
        read_marks(path)
    np.save(tmp_path / "old.npy", document_marks(FIT))
    with pytest.raises(ArtifactError, match="damaged file of document marks"):
        read_marks(tmp_path / "old.npy")


@pytest.mark.shared
def test_the_third_party_texts_share_no_document(shared_dir: Path) -> None:
    names = ("tinystories_train.txt", "tinystories_valid.txt")
    train, valid = (document_marks(read_documents(shared_dir / "data" / name)) for name in names)
    assert len(np.intersect1d(train, valid)) == 0
