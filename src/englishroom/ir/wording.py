"""Texts from outside as they may stand in code that is written: escaped lines, and a word of its own for each token.

What prints is shown, in whatever alphabet; what does not is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from englishroom.errors import one_line
from englishroom.ir.tokenizer import Tokenizer

INSIDE = "~"
"""Before a piece that goes on with a word, or begins one without a space."""
SPACE = "_"
"""For a space, save the one that begins a word."""


def escaped(text: str) -> str:
    """Write a text as one line that may stand in a comment, or between three quotation marks that ``r`` stands before.

    Line ends and all else that does not print are escaped, and of two quotation marks side by side the second; the
    result is its own escape.
    """
    return one_line(text).replace('""', '"\\x22')


def between_quotes(lines: Iterable[str]) -> str:
    """Put lines, escaped, between three quotation marks; the first and the last stand on lines of their own."""
    return 'r"""\n' + "\n".join(map(escaped, lines)) + '\n"""'


def docstring(lines: Iterable[str]) -> str:
    """Write lines, escaped, as the docstring of a file; marked as raw only where a backslash stands in it."""
    text = "\n".join(map(escaped, lines))
    return ("r" if "\\" in text else "") + f'"""{text}\n"""'


def comment(text: str) -> str:
    """Write a text, escaped, as a comment."""
    return f"# {escaped(text)}"


def plain(text: str) -> str:
    """Write a text as one word: a space as ``_``, backslashes and whatever does not print escaped."""
    return escaped(text.replace("\\", "\\\\").replace(" ", SPACE))


def as_word(text: str) -> str:
    """Return a text that already is one word that prints as it stands, any other as :func:`plain` writes it."""
    is_word = bool(text) and " " not in text and escaped(text) == text
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
