"""Cut texts into documents and write them, split documents by their hash, and tell them apart by it."""

from __future__ import annotations

import hashlib
import lzma
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from englishroom.disk import replace_file
from englishroom.errors import ConfigError

SEPARATOR = "<|endoftext|>"
BYTE_ORDER_MARK = "\ufeff"
"""No text where a file begins with it."""
BlankLines = Literal["collapse", "keep"]
"""What becomes of white space around line ends when a text is read; see :func:`cut_documents`."""
MARKS_FORM = "first 64 bits of sha256; words alone, NFKC, casefolded"
"""What a mark is of; marks of different forms never match."""
_BLANK_LINES = re.compile(r"\s*\n\s*")
_WORD = re.compile(r"\w+")


def cut_documents(text: str, blank_lines: BlankLines = "collapse") -> list[str]:
    """Cut a text at its separators, and drop documents without text.

    Collapsed, white space around line ends, blank lines included, becomes one newline, and outer white space is
    dropped: TinyStories V1 and V2 differ in little but that. Kept, only the line ends around a separator are dropped.
    """
    parts = text.split(SEPARATOR)
    last = len(parts) - 1
    tidied = (tidy(part, blank_lines, after=at > 0, before=at < last) for at, part in enumerate(parts))
    return [document for document in tidied if document]


def tidy(part: str, blank_lines: BlankLines, after: bool, before: bool) -> str:
    r"""Return a document as it is read.

    Args:
        part: what stands between two separators.
        after, before: whether it comes after, or before, a line with a separator, whose line ends (``\n``) are none of
            its own.
    """
    if blank_lines == "collapse":
        return _BLANK_LINES.sub("\n", part.strip())
    part = part.removeprefix("\n") if after else part
    return part.removesuffix("\n") if before else part


def write_documents(path: Path, documents: Sequence[str]) -> None:
    """Write documents as :func:`documents_to_bytes` lays them out; whole or not at all."""
    replace_file(path, documents_to_bytes(path.name, documents))


def documents_to_bytes(name: str, documents: Sequence[str]) -> bytes:
    """Lay documents out as they are, ``.xz`` compressed. Read with blank lines kept, they are these.

    Every document but the last is followed by a line with a separator, and the last by a line end.

    Args:
        name: of the text file.
    """
    text = f"\n{SEPARATOR}\n".join(documents) + "\n"
    data = (BYTE_ORDER_MARK + text if text.startswith(BYTE_ORDER_MARK) else text).encode()
    return lzma.compress(data, preset=6 | lzma.PRESET_EXTREME) if name.endswith(".xz") else data


def split(documents: Sequence[str], choose_share: float) -> tuple[list[str], list[str]]:
    """Split documents by their own hash into those to fit on and, each once, those to choose on.

    Equal texts never stand on both sides. At least one document is held out, that of the lowest hash.

    Raises:
        ConfigError: there are fewer than two different documents.
    """
    place = {document: _place(document) for document in documents}
    if len(place) < 2:
        raise ConfigError("the text has fewer than two different documents, so none can be held out; give more text")
    limit = max(choose_share, min(place.values()))
    choose = [document for document, at in place.items() if at <= limit]
    return [document for document in documents if place[document] > limit], choose


def _place(document: str) -> float:
    """Place a document in 0..1 by its hash."""
    return int.from_bytes(hashlib.sha256(document.encode()).digest()[:8], "big") / 2**64


def text_hash(documents: Sequence[str]) -> str:
    """Hash a list of documents: the identity of a text in every artefact (hex sha256)."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(hashlib.sha256(document.encode()).digest())
    return digest.hexdigest()


def document_marks(documents: Sequence[str]) -> NDArray[np.uint64]:
    """Return the marks of the different documents, sorted: enough to tell whether texts overlap."""
    return np.unique(marks_in_order(documents))


def marks_in_order(documents: Sequence[str]) -> NDArray[np.uint64]:
    """Return one mark a document: 64 bits of the hash of its words, letter case, punctuation and white space apart.

    Copies of one story differ in quotation marks, line ends or capitals from one edition to the next, and leak all the
    same. A document without any word is marked as it is. Two of a million documents share a mark by chance about once
    in forty million.
    """
    return np.array([_mark(document) for document in documents], dtype=np.uint64)


def _mark(document: str) -> int:
    words = " ".join(_WORD.findall(unicodedata.normalize("NFKC", document).casefold()))
    return int.from_bytes(hashlib.sha256((words or document).encode()).digest()[:8], "big")


def windows(tokens: Sequence[int], n_ctx: int) -> Iterator[tuple[int, int, int]]:
    """Cut a document of tokens into windows that score every token once, with at least half a context before it.

    Yields:
        (start, scored_from, stop): feed ``tokens[start:stop]``; its predictions count for targets from ``scored_from``.
        The first token of the document is never a target.
    """
    start, scored_from = 0, 1
    while scored_from < len(tokens):
        stop = min(len(tokens), start + n_ctx + 1)
        yield start, scored_from, stop
        start, scored_from = stop - 1 - n_ctx // 2, stop
