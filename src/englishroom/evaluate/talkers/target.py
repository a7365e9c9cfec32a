"""A target as a talker: its own torch forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from englishroom.ir.tokenizer import Tokenizer
from englishroom.models.forward import Cache, forward, log_probs
from englishroom.models.load import Target


class TargetTalker:
    """The model that was, or will be, decompiled."""

    def __init__(self, target: Target, tokenizer: Tokenizer) -> None:
        self.target, self.tokenizer = target, tokenizer
        self.name, self.n_ctx = target.name, target.spec.n_ctx

    def log_probs(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        return log_probs(self.target.spec, self.target.weights, torch.from_numpy(tokens.astype(np.int64))).numpy()

    def stream(self) -> TargetReading:
        return TargetReading(self.target)


class TargetReading:
    """One text being read by the target, keys and values kept."""

    def __init__(self, target: Target) -> None:
        self.target, self.cache = target, Cache()

    def extend(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        with torch.inference_mode():
            logits = forward(
                self.target.spec, self.target.weights, torch.from_numpy(tokens.astype(np.int64)), cache=self.cache
            )
            return logits.log_softmax(-1).numpy()
