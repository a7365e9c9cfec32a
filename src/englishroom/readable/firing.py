"""What is on: the strongest few features of a group, or those above a threshold of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from englishroom.dictionaries.code import Codes
from englishroom.kernels import codes as kernels
from englishroom.kernels.threads import array, run

TIE = 1e-4
"""Strengths that differ by less, as a share of their spread, count as equal where a threshold is set between them."""
TOGETHER, EACH = 0.15, 0.3
"""Weights of the losses on features that are on too often: of a group together, as a share; and each."""
NEAR, NEAR_AT_LEAST = 0.3, 0.05
"""Width of the window around a threshold within which its gradient is felt: a share of it, and of the strengths'
spread where that is more."""


def strongest(strengths: Float[Tensor, "row feature"], k: int, groups: int = 1) -> Float[Tensor, "row feature"]:
    """Mark the ``k`` strongest positive features of each of some groups of equal size, with 1."""
    split = strengths.detach().reshape(len(strengths) * groups, -1)
    found = kernels.empty_codes(len(split), min(k, split.shape[1]), np.dtype(str(split.dtype).partition(".")[2]))
    pre = array(split.contiguous())
    run(kernels.top_k, len(pre), pre, pre.dtype.type(0), *found)
    indices, _, counts = map(torch.from_numpy, found)
    used = (torch.arange(indices.shape[1]) < counts[:, None]).to(split.dtype)
    return torch.zeros_like(split).scatter_add_(1, indices.long(), used).view_as(strengths)


def active_codes(x: Float[Tensor, "row feature"]) -> tuple[Codes, Float[Tensor, "row slot"]]:
    """List the features of every row that are above 0; the values beside the codes carry the gradient."""
    entries, none = array(x.contiguous()), np.zeros(x.shape[1], str(x.dtype).partition(".")[2])
    counts = np.zeros(len(entries), np.int32)
    run(kernels.count_above, len(entries), entries, none, counts)
    indices = np.zeros((len(entries), int(counts.max(initial=min(1, x.shape[1])))), np.int32)
    values = np.zeros(indices.shape, entries.dtype)
    run(kernels.take_above, len(entries), entries, none, indices, values)
    codes = Codes(*map(torch.from_numpy, (indices, values, counts)))
    used = torch.arange(indices.shape[1]) < codes.counts[:, None]
    return codes, x.gather(1, codes.indices.long()) * used


class Jump(torch.autograd.Function):
    """Strengths where they exceed a threshold, else 0; and the share of rows where they do.

    The gradient of the threshold is felt by strengths within a window around it (JumpReLU).
    """

    @staticmethod
    def forward(ctx: Any, strengths: Tensor, thresholds: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        on = strengths > thresholds
        ctx.save_for_backward(strengths, thresholds, width)
        return strengths * on, on.to(strengths.dtype).mean(0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        strengths, thresholds, width = ctx.saved_tensors
        by_value, by_share = grads
        near = ((strengths - thresholds).abs() < width / 2) / width
        by_threshold = -(thresholds * (near * by_value).sum(0)) - near.mean(0) * by_share
        return by_value * (strengths > thresholds), by_threshold, None


def above(
    strengths: Float[Tensor, "row feature"], thresholds: Float[Tensor, " feature"]
) -> tuple[Float[Tensor, "row feature"], Float[Tensor, " feature"]]:
    """Let features be on where they exceed their thresholds; return their values, and how often they are on."""
    spread = strengths.detach().std(0, unbiased=False).mean()
    width = NEAR * thresholds.detach().abs() + NEAR_AT_LEAST * spread + 1e-9
    out = Jump.apply(strengths, thresholds, width)
    assert isinstance(out, tuple)
    return out


def thresholds_for(strengths: Float[Tensor, "row feature"], n_on: Int[Tensor, " feature"]) -> Float[Tensor, " feature"]:
    """Return thresholds that so many strengths of each feature exceed, midway to the next; none is below 0."""
    ordered = strengths.sort(0, descending=True).values
    ordered = torch.cat([ordered, torch.zeros_like(ordered[:1])])  # what is always on exceeds 0
    least, next_one = (ordered.gather(0, at.clamp(min=0)[None])[0] for at in (n_on - 1, n_on))
    spread = ordered.std(0)
    middle = (least + next_one) / 2 - TIE * spread
    return torch.where(n_on > 0, middle, ordered[0] + spread).clamp(min=0)


def overuse(often: Float[Tensor, " feature"], together: float, each: float) -> Float[Tensor, ""]:
    """Return the loss on features of which more are on at a time than ``together``, or one more often than ``each``."""
    return TOGETHER * (often.sum() / together - 1).clamp(min=0) + EACH * (often - each).clamp(min=0).sum()
