"""The one protocol that everything that talks fulfils: targets, programs, emitted files, sketches, n-grams."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from englishroom.ir.tokenizer import Tokenizer


class TalkerStream(Protocol):
    """Texts being read by a talker, a batch in step."""

    def extend(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        """Read more tokens, [batch, new], and return log-probabilities after each of them, [batch, new, d_vocab]."""
        ...


class Talker(Protocol):
    """Anything that gives next-token log-probabilities: target, program, emitted file, baseline."""

    @property
    def name(self) -> str: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def n_ctx(self) -> int: ...

    def log_probs(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        """Compute natural-log probabilities of the next token, [batch, pos] -> [batch, pos, d_vocab]."""
        ...

    def stream(self) -> TalkerStream:
        """Start reading."""
        ...
