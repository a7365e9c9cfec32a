"""Tell whether a text that is judged on also stands in a text that was fitted on."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from englishroom.data.corpus import MARKS_FORM, document_marks, marks_in_order
from englishroom.data.texts import Text
from englishroom.disk import replace_file
from englishroom.errors import ArtifactError, ConfigError, one_line
from englishroom.untrusted import ARRAY_BYTES, read_bytes

MARKS_FILE = "fit_documents.npz"
"""Where a model keeps the marks of its training documents, beside its weights."""
SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Overlap:
    """How much of an evaluation text stands in a fitting text.

    Attributes:
        fit_name: the fitting text, or whatever was fitted on it.
        text_name: the evaluation text.
        shared: documents of the evaluation text, repeats included, that stand in the fitting text too.
        documents: documents of the evaluation text.
        example: the first of the shared documents; empty where there is none.
    """

    fit_name: str
    text_name: str
    shared: int
    documents: int
    example: str

    def __str__(self) -> str:
        start = one_line(self.example[:SHOWN_CHARACTERS])
        more = "..." if len(self.example) > SHOWN_CHARACTERS else ""
        return (
            f"{self.shared:,} of the {self.documents:,} documents of {self.text_name} also stand in the fitting text "
            f'of {self.fit_name} (the first begins "{start}{more}")'
        )


def measure_overlap(fit_name: str, fit_marks: NDArray[np.uint64], text: Text) -> Overlap:
    """Count the documents of a text whose marks are among those of a fitting text."""
    shared = np.flatnonzero(np.isin(marks_in_order(text.documents), fit_marks))
    example = text.documents[int(shared[0])] if len(shared) else ""
    return Overlap(fit_name, text.name, len(shared), len(text.documents), example)


def check_overlap(fit_name: str, fit_marks: NDArray[np.uint64], text: Text) -> None:
    """Refuse to judge on a text what is to be fitted on some of its documents.

    Raises:
        ConfigError: the two share a document.
    """
    overlap = measure_overlap(fit_name, fit_marks, text)
    if overlap.shared:
        raise ConfigError(f"{overlap}; a score on them would flatter, so give another fitting text or another --text")


def overlap_warning(model_name: str, fit_marks: NDArray[np.uint64], text: Text) -> str | None:
    """Return a line of warning where a model that is already trained saw documents of a text, else ``None``."""
    overlap = measure_overlap(model_name, fit_marks, text)
    return f"warning: {overlap}; its score on this text flatters it" if overlap.shared else None


def write_marks(path: Path, documents: Sequence[str]) -> None:
    """Write the marks of the documents that something was fitted on, with the form they are in."""
    buffer = io.BytesIO()
    np.savez(buffer, form=np.array(MARKS_FORM), marks=document_marks(documents))
    replace_file(path, buffer.getvalue())


def read_marks(path: Path) -> NDArray[np.uint64]:
    """Read what :func:`write_marks` wrote.

    Raises:
        ArtifactError: the file is missing, damaged, or its marks are in another form, which would match nothing.
    """
    data = io.BytesIO(read_bytes(path, "restore the file, or train the model again to write it", ARRAY_BYTES))
    try:
        with zipfile.ZipFile(data) as parts:
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):
                raise ValueError("it is compressed")
        with np.load(data) as arrays:
            form, marks = str(arrays["form"]), arrays["marks"]
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise ArtifactError(f"{path}: damaged file of document marks ({error}); restore it") from None
    if form != MARKS_FORM or marks.dtype != np.uint64 or marks.ndim != 1:
        raise ArtifactError(
            f"{path}: document marks in the form {form!r} ({marks.dtype}), expected {MARKS_FORM!r} (uint64); "
            "another version wrote them, write them again from the text"
        )
    return marks
