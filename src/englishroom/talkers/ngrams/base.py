"""What a counting talker needs of the talker that it builds on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.ir.tokenizer import Tokenizer
from englishroom.talkers.ngrams.talker import NgramTalker


class BaseReading(Protocol):
    """Texts being read, a batch in step."""

    def extend(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        """Read more tokens, [batch, new], and return log-probabilities after each of them, [batch, new, d_vocab]."""
        ...


class Base(Protocol):
    """A talker that gives every token some probability."""

    @property
    def name(self) -> str: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def n_ctx(self) -> int: ...

    def log_probs(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        """Compute natural-log probabilities of the next token, [batch, pos] -> [batch, pos, d_vocab]."""
        ...

    def stream(self) -> BaseReading:
        """Start reading."""
        ...


@runtime_checkable
class Tabulated(Protocol):
    """A talker that can list its tables."""

    def tables(self) -> Mapping[str, NDArray[Any]]:
        """Return everything that it answers by, by name."""
        ...


def tables_of(talker: Base) -> Mapping[str, NDArray[Any]]:
    """List the tables of a talker: its own list, or the n-grams of an n-gram talker.

    Raises:
        ConfigError: it has neither.
    """
    if isinstance(talker, Tabulated):
        return talker.tables()
    if not isinstance(talker, NgramTalker):
        raise ConfigError(f"{talker.name}: has no tables to list; build on a talker that has")
    first, *others = talker.model.levels
    arrays: dict[str, NDArray[Any]] = {"counts_1": first.counts}
    for length, level in enumerate(others, 2):
        arrays |= {f"{part}_{length}": getattr(level, part) for part in ("starts", "tokens", "counts")}
    return arrays
