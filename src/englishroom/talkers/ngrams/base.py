"""What a counting talker needs of the talker that it builds on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from englishroom.ir.tokenizer import Tokenizer


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

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return everything that it answers by, by name."""
        ...

    def log_probs(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        """Compute natural-log probabilities of the next token, [batch, pos] -> [batch, pos, d_vocab]."""
        ...

    def stream(self) -> BaseReading:
        """Start reading."""
        ...
