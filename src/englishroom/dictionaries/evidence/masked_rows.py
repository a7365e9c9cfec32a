"""Rows of tokens with the documents that they come from: what evidence is read from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray

from englishroom.errors import ConfigError


@dataclass(frozen=True)
class MaskedRows:
    """Tokens to read side by side.

    Attributes:
        mask: the positions that count; padding, and what a row holds after its document's end, does not.
        documents: number of the document of each row.
        starts: position in its document of the first token of each row.
        shown: the positions that may be examples; by default all that count.
    """

    tokens: Int[NDArray, "row pos"]
    mask: Bool[NDArray, "row pos"]
    documents: Int[NDArray, " row"]
    starts: Int[NDArray, " row"]
    shown: Bool[NDArray, "row pos"] | None = None

    def __post_init__(self) -> None:
        n_rows = len(self.tokens)
        expected = (self.tokens.shape, (n_rows,), (n_rows,))
        found = (self.mask.shape, self.documents.shape, self.starts.shape)
        if self.tokens.ndim != 2 or found != expected:
            raise ConfigError(
                f"rows of tokens {list(self.tokens.shape)}: mask, documents and starts have shapes {found}, "
                f"expected {expected}"
            )
        if self.mask.dtype != np.bool_:
            raise ConfigError(f"rows of tokens: the mask holds {self.mask.dtype}, expected bool")

    def check(self, d_vocab: int, n_ctx: int) -> None:
        """Refuse rows that a model cannot read.

        Raises:
            ConfigError: they are too long, or hold tokens that it lacks.
        """
        if self.tokens.shape[1] > n_ctx:
            raise ConfigError(f"rows of {self.tokens.shape[1]} tokens, the model reads at most {n_ctx}; cut them")
        low, high = int(self.tokens.min(initial=0)), int(self.tokens.max(initial=0))
        if low < 0 or high >= d_vocab:
            raise ConfigError(f"tokens from {low} to {high}, the model knows 0 to {d_vocab - 1}; use its tokenizer")


def rows_of(
    documents: Sequence[Sequence[int]],
    n_pos: int,
    rows_at_once: int,
    first: int = 0,
    padding: int = 0,
    specials: Sequence[int] = (),
) -> Iterator[MaskedRows]:
    """Lay documents out one a row, each padded or cut to ``n_pos`` tokens.

    Args:
        documents: tokens of each, its start token included.
        first: number of the first document, where these are a part of more.
        padding: a token that the model knows; where it stands does not count.
        specials: tokens that count, but are no examples: the start token is what many latents are strongest on.
    """
    for start in range(0, len(documents), rows_at_once):
        part = documents[start : start + rows_at_once]
        tokens = np.full((len(part), n_pos), padding, np.int64)
        for row, document in enumerate(part):
            tokens[row, : len(document)] = np.asarray(document[:n_pos], np.int64)
        lengths = np.array([len(document) for document in part])
        numbers = first + start + np.arange(len(part))
        mask = np.arange(n_pos) < lengths[:, None]
        shown = mask & ~np.isin(tokens, list(specials))
        yield MaskedRows(tokens, mask, numbers, np.zeros(len(part), np.int64), shown)
