"""What is on: the strongest few features of a group, those above a threshold of their own, or something between."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from englishroom.dictionaries.code import Codes
from englishroom.kernels import codes as kernels
from englishroom.kernels import firing as kernels_of_bars
from englishroom.kernels.threads import array, run

TOGETHER, EACH = 0.15, 0.3
"""Weights of the losses on how many features of a group are on at a time, as a share, and on each that is too often."""
NEAR, NEAR_AT_LEAST = 0.3, 0.05
"""Width of the window around a threshold within which its gradient is felt: a share of it, and of the strengths'
spread where that is more."""
SPREAD_EVERY = 16
"""One in so many rows is looked at to tell how far strengths spread."""


def cuts(strengths: Float[Tensor, "row feature"], k: int, groups: int = 1) -> Float[Tensor, "row group"]:
    """Return what only the ``k`` strongest features of each of some groups of equal size exceed; 0 where few do."""
    split = strengths.detach().reshape(len(strengths) * groups, -1)
    if k >= split.shape[1]:
        return split.new_zeros(len(strengths), groups)
    _, values, counts = _top(split, k + 1)
    return torch.where(counts > k, values.min(1).values, 0).view(len(strengths), groups)


def _top(split: Float[Tensor, "row feature"], k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the ``k`` strongest positive entries of every row: their places, values, and how many there are."""
    found = kernels.empty_codes(len(split), min(k, split.shape[1]), np.dtype(str(split.dtype).partition(".")[2]))
    pre = array(split.contiguous())
    run(kernels.top_k, len(pre), pre, pre.dtype.type(0), *found)
    indices, values, counts = map(torch.from_numpy, found)
    return indices, values, counts


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
    """Strengths where they exceed a bar, else 0; and the share of rows where they do.

    The gradient of a threshold is felt by strengths within a window around the bar (JumpReLU).
    """

    @staticmethod
    def forward(
        ctx: Any, strengths: Tensor, thresholds: Tensor, cuts: Tensor, width: Tensor, sharp: float
    ) -> tuple[Tensor, Tensor]:
        strengths, out = strengths.contiguous(), torch.empty_like(strengths, memory_format=torch.contiguous_format)
        share = np.dtype(str(strengths.dtype).partition(".")[2]).type(sharp)
        where = (*map(array, (strengths, thresholds, cuts)), share)
        run(kernels_of_bars.keep_above, len(strengths), *where, array(out))
        ctx.save_for_backward(strengths, thresholds, cuts, width)
        ctx.share = share
        return out, (out != 0).to(out.dtype).mean(0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        strengths, thresholds, cuts, width = ctx.saved_tensors
        by_value, by_share = grads[0].contiguous(), grads[1] / len(strengths)
        out, by_threshold = torch.empty_like(strengths), torch.zeros_like(thresholds)
        where = (*map(array, (strengths, thresholds, cuts)), ctx.share)
        found = map(array, (width, by_value, by_share.contiguous(), out, by_threshold))
        run(kernels_of_bars.gradients, cuts.shape[1], *where, *found)
        return out, by_threshold, None, None, None


def above(
    strengths: Float[Tensor, "row feature"],
    thresholds: Float[Tensor, " feature"],
    k: int,
    groups: int = 1,
    sharp: float = 1.0,
) -> tuple[Float[Tensor, "row feature"], Float[Tensor, " feature"]]:
    """Let features be on where they exceed their bars; return their values, and how often they are on.

    Args:
        sharp: 1: a bar is the feature's threshold; 0: it is what only the ``k`` strongest features of its group exceed,
            at this row; between: so much of the one, and the rest of the other.
    """
    spread = strengths.detach()[::SPREAD_EVERY].std(0, unbiased=False).mean()
    width = NEAR * thresholds.detach().abs() + NEAR_AT_LEAST * spread + 1e-9
    by_rank = cuts(strengths, k, groups) if sharp < 1 else strengths.new_zeros(len(strengths), groups)
    out = Jump.apply(strengths, thresholds, by_rank, width, sharp)
    assert isinstance(out, tuple)
    return out


def misuse(often: Float[Tensor, " feature"], together: float, each: float) -> Float[Tensor, ""]:
    """Return the loss on features of which more or fewer are on at a time than ``together``, or one more often than
    ``each``."""
    return TOGETHER * (often.sum() / together - 1).abs() + EACH * (often - each).clamp(min=0).sum()
