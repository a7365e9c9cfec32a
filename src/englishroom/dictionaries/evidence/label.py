"""Short names of latents, made of their evidence: the tokens that excite one, and those it votes for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from englishroom.ir.tokenizer import Tokenizer

SILENT = "silent"
LONGEST = 24
"""Characters of one token in a label."""


def escaped(piece: bytes, quote: str = "") -> str:
    """Spell bytes as printable text: what does not print, backslashes and ``quote`` are written as Python would."""
    text = piece.decode("utf-8", "surrogateescape")
    return "".join(_escaped_character(c, quote) for c in text)


def _escaped_character(character: str, quote: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character == quote and quote:
        return f"\\{character}"
    if character.isprintable() and character != "\\":
        return character
    return character.encode("unicode_escape").decode()


def spelled(tokenizer: Tokenizer, token: int) -> str:
    """Spell a token: its text in quotes, a special token's name without, or its number where it has none."""
    piece = tokenizer.pieces[token]
    if not piece:
        return f"token {token}"
    return escaped(piece) if token in tokenizer.specials else f'"{escaped(piece, chr(34))}"'


def label(exciting: Sequence[str], promoted: Sequence[str]) -> str:
    """Name a latent, for example ``"big" | "red" -> " ball"``; one that was never active is ``silent``.

    Args:
        exciting: spelled tokens that it fires on.
        promoted: spelled tokens that it votes for.
    """
    left, right = (" | ".join(map(_shortened, tokens)) for tokens in (exciting, promoted))
    return f"{left or SILENT} -> {right}" if right else left or SILENT


def _shortened(token: str) -> str:
    return token if len(token) <= LONGEST else f"{token[: LONGEST - 1]}…"


def unique(labels: Iterable[str]) -> list[str]:
    """Tell equal labels apart: every one after the first gets a number."""
    given = list(labels)
    taken, uses, named = set(given), Counter[str](), []
    for name in given:
        uses[name] += 1
        if uses[name] > 1:
            while (numbered := f"{name} #{uses[name]}") in taken:
                uses[name] += 1
            name = numbered
            taken.add(name)
        named.append(name)
    return named
