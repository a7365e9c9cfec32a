"""Documents in tokens, and which of them a vocabulary cannot spell."""

from __future__ import annotations

from collections.abc import Iterable

from englishroom.errors import ConfigError
from englishroom.ir.tokenizer import Tokenizer


def encoded(tokenizer: Tokenizer, document: str, where: str = "text") -> list[int]:
    """Return the tokens of a document, behind the start token.

    Args:
        where: what messages call it.

    Raises:
        ConfigError: the vocabulary lacks a character of it.
    """
    try:
        return [tokenizer.start_id, *tokenizer.encode(document)]
    except ValueError as error:
        raise ConfigError(f"{where}: {error}; use a text of other characters") from None


def beyond_vocabulary(tokenizer: Tokenizer, documents: Iterable[str]) -> dict[str, str]:
    """Return the documents that a tokenizer cannot encode, each with the first such character."""
    if -1 not in tokenizer.byte_ids or tokenizer.unknown_id != -1:
        return {}
    known: dict[str, bool] = {}
    found: dict[str, str] = {}
    for document in documents:
        for character in document:
            if character not in known:
                known[character] = _can_spell(tokenizer, character)
            if not known[character]:
                found[document] = character
                break
    return found


def with_unknown(tokenizer: Tokenizer, documents: Iterable[str]) -> int:
    """Count the documents with a character that is read as the unknown token."""
    if -1 not in tokenizer.byte_ids or tokenizer.unknown_id == -1:
        return 0
    return sum(tokenizer.unknown_id in tokenizer.encode(document) for document in documents)


def _can_spell(tokenizer: Tokenizer, character: str) -> bool:
    try:
        tokenizer.encode(character)
    except ValueError:
        return False
    return True
