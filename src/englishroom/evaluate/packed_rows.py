"""Text as full rows of tokens, for whatever is measured inside a model: calibration, means, banks of activations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from englishroom.data.spelling import encoded
from englishroom.errors import ConfigError
from englishroom.ir.tokenizer import Tokenizer


def packed_rows(
    tokenizer: Tokenizer, documents: Sequence[str], length: int, limit: int | None = None
) -> NDArray[np.int64]:
    """Encode documents one after the other, each after the start token, and cut them to full rows, [row, length].

    What is left at the end is dropped; so are documents once there are ``limit`` rows.

    Raises:
        ConfigError: the text cannot be encoded, or does not fill one row.
    """
    tokens: list[int] = []
    for document in documents:
        if limit is not None and len(tokens) >= limit * length:
            break
        tokens += encoded(tokenizer, document)
    rows = len(tokens) // length if limit is None else min(limit, len(tokens) // length)
    if not rows:
        raise ConfigError(f"the text has {len(tokens)} tokens, expected at least one row of {length}; give more text")
    return np.array(tokens[: rows * length], dtype=np.int64).reshape(rows, length)
