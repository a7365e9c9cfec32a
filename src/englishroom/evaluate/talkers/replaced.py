"""Sanity rows: the target with the output of every block replaced by something that knows nothing of the text.

At ``blocks.{i}.hook_attn_out`` and ``blocks.{i}.hook_mlp_out`` of all layers at once:

- ``zero``: nothing. Only the embedding of the current token (and position) reaches the unembedding.
- ``mean``: the site's mean over all positions of a choosing text.
- ``random``: the site's value at a random position of a choosing text. Which one, drawn afresh for every site, is a
  hash of the seed, the site, the position in the window and the token there; so later tokens and other texts of a
  batch change nothing, and the same text is always answered alike.

The values are those of a clean pass of the target, nothing replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from englishroom.dictionaries.evidence.examples import mixed
from englishroom.dictionaries.replacement import clean_run
from englishroom.ir.tokenizer import Tokenizer
from englishroom.models.checked_rows import checked_rows
from englishroom.models.forward import Cache, forward
from englishroom.models.load import Target

Replacement = Literal["zero", "mean", "random"]
ROWS_AT_ONCE = 16
"""Rows of choosing text that are read side by side."""


class ReplacedTalker:
    """A target whose blocks say nothing of the text that they read.

    Args:
        choosing: rows of tokens, [row, pos], to take means or values from; text that is not scored. ``zero`` needs
            none; ``random`` holds its activations: rows * pos * d_model numbers for every site.
        seed: which positions ``random`` draws.

    Raises:
        ConfigError: there are no choosing tokens, or they do not fit the target.
    """

    def __init__(
        self,
        target: Target,
        tokenizer: Tokenizer,
        how: Replacement,
        choosing: NDArray[np.integer] | None = None,
        seed: int = 0,
    ) -> None:
        self.target, self.tokenizer, self.how, self.seed = target, tokenizer, how, seed
        self.name, self.n_ctx = f"{target.name}, {how} replacement", target.spec.n_ctx
        self._bank: Mapping[str, Tensor] = {}
        if how != "zero":
            rows = None if choosing is None else torch.from_numpy(choosing.astype(np.int64))
            self._bank = _activations(target, checked_rows(target, rows, f"{how} replacement"))
        if how == "mean":
            self._bank = {site: values.double().mean(0, keepdim=True) for site, values in self._bank.items()}

    def log_probs(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        return self.stream().extend(tokens)

    def stream(self) -> ReplacedReading:
        return ReplacedReading(self)

    def replacement(self, site: str, value: Tensor, tokens: Tensor, start: int) -> Tensor:
        """Return what stands in for a block's output, [batch, pos, d_model].

        Args:
            tokens: what is read, [batch, pos].
            start: the position of the first of them in the window.
        """
        if self.how == "zero":
            return torch.zeros_like(value)
        bank = self._bank[site].to(value.dtype)
        if self.how == "mean":
            return bank.expand_as(value)
        at = np.array(sites(self.target).index(site)), start + np.arange(tokens.shape[1]), tokens.numpy()
        drawn = mixed(np.zeros(tokens.shape, np.uint64), np.array(self.seed), *at)
        return bank[torch.from_numpy((drawn % np.uint64(len(bank))).astype(np.int64))]


class ReplacedReading:
    """One text being read by a replaced target."""

    def __init__(self, talker: ReplacedTalker) -> None:
        self.talker, self.cache = talker, Cache()

    def extend(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        talker, start, read = self.talker, self.cache.length, torch.from_numpy(tokens.astype(np.int64))
        replaced = set(sites(talker.target))

        def tap(site: str, value: Tensor) -> Tensor:
            return talker.replacement(site, value, read, start) if site in replaced else value

        with torch.inference_mode():
            logits = forward(talker.target.spec, talker.target.weights, read, tap, self.cache)
            return logits.log_softmax(-1).numpy()


def sites(target: Target) -> tuple[str, ...]:
    """List the outputs of all blocks of a target, in the order of the forward pass."""
    parts = ("hook_attn_out", "hook_mlp_out")
    return tuple(f"blocks.{layer}.{part}" for layer in range(target.spec.n_layers) for part in parts)


def _activations(target: Target, choosing: Tensor) -> Mapping[str, Tensor]:
    """Return the values at every site on a clean pass, each [row * pos, d_model]."""
    spec, weights = target.spec, target.weights
    parts = [clean_run(spec, weights, rows, sites(target), attend=None)[1] for rows in choosing.split(ROWS_AT_ONCE)]
    return {site: torch.cat([part[site].flatten(0, 1) for part in parts]) for site in sites(target)}
