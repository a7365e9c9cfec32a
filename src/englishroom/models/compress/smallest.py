"""Pruned targets: only the weights of largest magnitude are kept, without any training afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, assert_never

import torch
from torch import Tensor

from englishroom.errors import ConfigError
from englishroom.models.compress.half import to_half
from englishroom.models.load import Target

Scope = Literal["matrix", "model"]


def prune(target: Target, keep: float, scope: Scope = "matrix") -> Target:
    """Keep the share of weights with the largest magnitude, and set the others to 0.

    Only matrices are pruned (embeddings too, a tied one once); biases and the gains of norms stay. What is left is
    rounded to float16, as it is stored. Of equal magnitudes the first is kept.

    Args:
        keep: the share that is kept, above 0, at most 1 (which changes nothing but the rounding).
        scope: ``matrix`` keeps this share of every matrix, ``model`` of all their numbers together.

    Raises:
        ConfigError: there is no such share.
        UnsupportedModelError: a weight is beyond float16.
    """
    if not 0 < keep <= 1:
        raise ConfigError(f"keep is {keep:g}; choose a share above 0 and at most 1")
    rounded = to_half(target)
    matrices = {name: tensor for name, tensor in rounded.weights.items() if tensor.ndim == 2}
    match scope:
        case "matrix":
            kept = {name: _largest(tensor.reshape(-1), keep) for name, tensor in matrices.items()}
        case "model":
            flat = torch.cat([tensor.reshape(-1) for tensor in matrices.values()])
            parts = _largest(flat, keep).split([tensor.numel() for tensor in matrices.values()])
            kept = dict(zip(matrices, parts, strict=True))
        case _:
            assert_never(scope)
    left = {name: torch.where(kept[name].view(tensor.shape), tensor, 0.0) for name, tensor in matrices.items()}
    name = f"{target.name}, {keep:.4g} of the weights (by {scope})"
    return replace(rounded, name=name, weights=dict(rounded.weights) | left)


def _largest(flat: Tensor, keep: float) -> Tensor:
    """Mark the numbers of largest magnitude, [entry]."""
    order = flat.abs().argsort(descending=True, stable=True)
    kept = torch.zeros_like(flat, dtype=torch.bool)
    kept[order[: max(1, round(keep * len(flat)))]] = True
    return kept
