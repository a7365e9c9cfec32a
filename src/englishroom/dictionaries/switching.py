"""Switch a part of the target off while something is fitted to it."""

from __future__ import annotations

import torch
from torch import Tensor

from englishroom.models.forward import Tap
from englishroom.models.spec import ModelSpec


def switch_off(spec: ModelSpec, layer: int, head: int | None) -> Tap:
    """Return the tap that silences a head, or with ``None`` the MLP, of a layer."""
    if head is None:
        return lambda site, value: torch.zeros_like(value) if site == f"blocks.{layer}.hook_mlp_out" else value

    def off(site: str, value: Tensor) -> Tensor:
        if site != f"blocks.{layer}.attn.hook_z":
            return value
        kept = torch.ones(spec.n_heads, 1, dtype=value.dtype)
        kept[head] = 0
        return value * kept

    return off
