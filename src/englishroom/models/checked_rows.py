"""Rows of tokens that a target is to read whole, checked before it does."""

from __future__ import annotations

from torch import Tensor

from englishroom.errors import ConfigError
from englishroom.models.load import Target


def checked_rows(target: Target, rows: Tensor | None, what: str) -> Tensor:
    """Return rows of tokens, [row, pos], that a target can read.

    Args:
        what: what the rows are, for the message.

    Raises:
        ConfigError: there are none, or they are too long, or hold tokens that the target lacks.
    """
    if rows is None or not rows.numel():
        raise ConfigError(f"{what}: found no tokens for {target.name}, expected rows of text; give some text")
    if rows.shape[1] > target.spec.n_ctx:
        raise ConfigError(f"{what}: rows of {rows.shape[1]} tokens, {target.name} reads {target.spec.n_ctx}; cut them")
    low, high = int(rows.min()), int(rows.max())
    if low < 0 or high >= target.spec.d_vocab:
        raise ConfigError(
            f"{what}: tokens from {low} to {high}, {target.name} knows 0 to {target.spec.d_vocab - 1}; "
            "encode the text with the model's own tokenizer"
        )
    return rows
