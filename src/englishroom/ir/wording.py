"""Words for tokens: every token as one printable ASCII word without a space in it, no two alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from englishroom.ir.tokenizer import Tokenizer

INSIDE = "~"
"""Before a piece that goes on with a word, or begins one without a space."""
SPACE = "_"
"""For a space, save the one that begins a word."""


def plain(text: str) -> str:
    """Write a text as one printable ASCII word: a space as ``_``, whatever does not print escaped.

    Two quotation marks never stand side by side in it, so that it can stand in a text between three of them.
    """
    shown = "".join(c if " " < c <= "~" and c != "\\" else SPACE if c == " " else _escaped(c) for c in text)
    return shown.replace('""', '"\\x22')


def as_word(text: str) -> str:
    """Return a text that already is one printable ASCII word as it stands, any other as :func:`plain` writes it."""
    is_word = bool(text) and all("!" <= c <= "~" for c in text) and '""' not in text
    return text if is_word else plain(text) or "\\empty"


def piece_word(piece: bytes) -> str:
    """Write one piece of a vocabulary: `` once`` is ``once``, ``ing`` is ``~ing``, a line end is ``\\n``."""
    text = piece.decode("utf-8", "replace") if _is_text(piece) else "".join(f"\\x{byte:02x}" for byte in piece)
    if not _is_text(piece):
        return text
    if text[:1] == " " and text[1:2].isalnum():
        return plain(text[1:])
    return (INSIDE if text[:1].isalnum() else "") + plain(text) if text else "\\empty"


def token_words(tokenizer: Tokenizer) -> list[str]:
    """Write every token of a vocabulary; of those that look alike, all but the first carry their number."""
    return distinct([piece_word(piece) for piece in tokenizer.pieces])


def distinct(words: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """Return words with the number of its place put behind each that stands before, or that is taken."""
    used, found = set(taken), []
    own = set(words)
    for number, word in enumerate(words):
        unique, extra = word, number
        while unique in used or (unique != word and unique in own):
            unique, extra = f"{word}#{extra}", extra + len(words)
        used.add(unique)
        found.append(unique)
    return found


def _is_text(piece: bytes) -> bool:
    try:
        piece.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode() if character != "\\" else "\\\\"
