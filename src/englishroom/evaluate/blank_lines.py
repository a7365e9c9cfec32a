"""Does a talker say blank lines? Decided by what it expects after the first line end of documents.

1. Take the beginnings of documents, up to the first line end, which is written as one newline.
2. The talker says a blank line there where it gives its probability to a token with two newlines in place of the
   newline, or, after the newline, to a token that begins with another one.
3. Where that is more than 1 in 20 in the mean, texts are read for it as they are; else white space around line ends is
   collapsed to one newline.

A text without line ends decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from englishroom.data.corpus import BlankLines, tidy
from englishroom.talker import Talker

DOCUMENTS = 16
LONGEST = 256
"""Tokens of the longest beginning that is read."""
SAYS_BLANK_LINES = 0.05
_TWO = re.compile(rb"\n[^\S\n]*\n")
_ANOTHER = re.compile(rb"[^\S\n]*\n")


def blank_lines_for(talker: Talker, documents: Iterable[str]) -> BlankLines | None:
    """Say how a text is read for a talker; ``None`` where no document has a line end that it can read."""
    chances: list[float] = []
    for document in documents:
        chance = blank_line_chance(talker, document)
        if chance is not None:
            chances.append(chance)
        if len(chances) == DOCUMENTS:
            break
    if not chances:
        return None
    return "keep" if sum(chances) / len(chances) > SAYS_BLANK_LINES else "collapse"


def blank_line_chance(talker: Talker, document: str) -> float | None:
    """Return the probability that a talker says a blank line where a document's first line ends."""
    first, newline, _ = tidy(document, "collapse", after=True, before=True).partition("\n")
    if not newline:
        return None
    tokenizer = talker.tokenizer
    try:
        before, after = (tokenizer.encode(text) for text in (first, first + "\n"))
    except ValueError:  # a character that the vocabulary lacks
        return None
    if len(after) + 1 > min(talker.n_ctx, LONGEST):
        return None
    shared = next((at for at, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before))
    log_probs = talker.log_probs(np.array([[tokenizer.start_id, *after]], np.int64))[0]
    at_end, behind = np.exp(log_probs[[shared, -1]].astype(np.float64))  # before and after the newline, [d_vocab]
    specials = set(tokenizer.specials)
    pieces = [b"" if token in specials else piece for token, piece in enumerate(tokenizer.pieces)]
    two = sum(p for p, piece in zip(at_end, pieces, strict=True) if _TWO.search(piece))
    any_newline = sum(p for p, piece in zip(at_end, pieces, strict=True) if b"\n" in piece)
    another = sum(p for p, piece in zip(behind, pieces, strict=True) if _ANOTHER.match(piece))
    at_once = two / any_newline if any_newline else 0.0
    return float(at_once + (1 - at_once) * another)
