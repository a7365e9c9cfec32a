"""Tables in emitted code: short ones as literals below the code, long ones read from the file beside it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

import numpy as np

from englishroom.ir.program import AnyTable, Table
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.wording import between_quotes

LITERAL_ENTRIES = 1024
"""Vectors up to this length stand in the code as literals (a literal of a million numbers takes 27 s to compile)."""
WIDTH = 118


def is_literal(table: AnyTable) -> bool:
    """Say whether a table stands in the code itself."""
    return isinstance(table, Table) and table.values.ndim == 1 and table.n_entries <= LITERAL_ENTRIES


def literal(table: Table) -> str:
    """Write a vector as an expression that gives back its very numbers.

    float32 values are abbreviated to the shortest decimal that rounds to them, and rounded again on loading.
    """
    values = table.values
    if values.dtype == np.float32:
        words = [str(value) for value in values]
        if all(np.float32(float(word)) == value for word, value in zip(words, values, strict=True)):
            return _wrapped("float32(", words, ")")
    return _wrapped("[", [repr(float(value)) for value in values.tolist()], "]")


def text_block(kind: str, values: Iterable[int | float]) -> str:
    """Write numbers as a triple-quoted block of text, which compiles a hundred times faster than a literal."""
    words = " ".join(repr(value) for value in values)
    return f'numbers(\n    """\n{textwrap.fill(words, WIDTH)}\n    """,\n    {kind},\n)'


def bytes_tuple(pieces: Iterable[bytes]) -> str:
    """Write byte strings as a tuple of literals; every byte beyond printable ASCII is escaped by ``repr``."""
    return _wrapped("(", [repr(piece) for piece in pieces], ",)")


def word_list(texts: Iterable[str]) -> str:
    """Write words, none of which has a space in it, as a text that is split again."""
    lines = textwrap.wrap(" ".join(texts), WIDTH, break_long_words=False, break_on_hyphens=False)
    return f"{between_quotes(lines)}.split()"


def _wrapped(head: str, words: list[str], tail: str) -> str:
    lines, line = [head], "   "
    for word in words:
        if len(line) + len(word) + 2 > WIDTH:
            lines.append(line)
            line = "   "
        line += f" {word},"
    return "\n".join([*lines, line.removesuffix(",") if tail == ",)" else line, tail])


def tokenizer_literal(tokenizer: Tokenizer) -> str:
    """Spell a tokenizer out as the code that makes it."""
    merges = [number for pair in tokenizer.merges for number in pair]
    unknown = f"    unknown_id={tokenizer.unknown_id},\n    fuse_unknown={tokenizer.fuse_unknown},\n"
    return (
        f"\nPIECES = {bytes_tuple(tokenizer.pieces)}\n"
        f"MERGES = {text_block('int', merges) if merges else '()'}\n"
        f"BYTE_IDS = {text_block('int', tokenizer.byte_ids)}\n"
        "TOKENIZER = Tokenizer(\n"
        f"    kind={tokenizer.kind!r},\n    pieces=PIECES,\n"
        "    merges=tuple(zip(MERGES[::2], MERGES[1::2])),\n"
        f"    scores={text_block('float', tokenizer.scores) if tokenizer.scores else '()'},\n"
        "    byte_ids=BYTE_IDS,\n"
        f"    specials={tokenizer.specials!r},\n    start_id={tokenizer.start_id},\n"
        f"    stop_ids={tokenizer.stop_ids!r},\n    prefix_space={tokenizer.prefix_space},\n"
        f"{'' if tokenizer.unknown_id == -1 else unknown})"
    )
