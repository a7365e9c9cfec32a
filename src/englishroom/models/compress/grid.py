"""Numbers on a grid: a few equally spaced levels about zero, and one scale for every channel.

A grid of ``n`` levels holds ``scale * (code - (n - 1) / 2)`` for codes 0 to n - 1. With an even n zero itself is no
level (2 bits: -1.5, -0.5, 0.5, 1.5 scales), with an odd one it is (ternary: -1, 0, 1 scales).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float16, UInt8
from torch import Tensor

from englishroom.models.compress.half import LARGEST

CLIPPINGS = 64
"""Scales tried for every channel, spaced evenly in their logarithm."""
LEAST_CLIPPING = 0.03
"""The smallest of them puts the outermost level at this share of the channel's largest number."""
REFITS = 2
"""How often each of them is fitted to the codes that it gave."""


@dataclass(frozen=True)
class CodedMatrix:
    """A matrix on a grid.

    Attributes:
        codes: 0 to ``n_levels - 1``, in the matrix's own layout.
        scales: of every channel.
        channel: which axis of the matrix counts channels: a column of an [in, out] map makes one output, a row of an
            embedding is one token or position.
    """

    codes: UInt8[Tensor, "rows columns"]
    scales: Float16[Tensor, " channel"]
    n_levels: int
    channel: Literal["row", "column"]

    def values(self) -> Float[Tensor, "rows columns"]:
        """Return the numbers that the codes stand for, in float32."""
        columns = self.codes.T if self.channel == "row" else self.codes
        found = dequantised(columns, self.scales, self.n_levels)
        return found.T.contiguous() if self.channel == "row" else found


def dequantised(
    codes: UInt8[Tensor, "entry channel"], scales: Float16[Tensor, " channel"], n_levels: int
) -> Float[Tensor, "entry channel"]:
    """Return what codes stand for, a column a channel."""
    return scales.float() * (codes.float() - (n_levels - 1) / 2)


def nearest(
    values: Float[Tensor, "... channel"], scales: Float16[Tensor, " channel"], n_levels: int
) -> UInt8[Tensor, "... channel"]:
    """Return the codes of the nearest levels."""
    return rounded_steps(values, scales.float(), n_levels).add((n_levels - 1) / 2).round().to(torch.uint8)


def fitted_scales(values: Float[Tensor, "entry channel"], n_levels: int) -> Float16[Tensor, " channel"]:
    """Choose the scale of every channel that makes the squared error of rounding least.

    1. Try scales that put the outermost level at the channel's largest number, or at less: what is beyond is clipped.
    2. Refit each of them to the codes that it gives by least squares, a few times.
    3. Round them to float16, and keep the best of each channel.
    """
    values = values.float()
    top = values.abs().amax(dim=0) / ((n_levels - 1) / 2)
    best, least = torch.zeros_like(top, dtype=torch.float16), torch.full_like(top, torch.inf)
    for share in torch.logspace(0, torch.tensor(LEAST_CLIPPING).log10().item(), CLIPPINGS):
        scales = top * share
        for _ in range(REFITS):
            steps = rounded_steps(values, scales, n_levels)
            norm = (steps * steps).sum(dim=0)
            scales = torch.where(norm > 0, (steps * values).sum(dim=0) / norm, scales)
        stored = scales.clamp(max=LARGEST).half()
        error = (rounded_steps(values, stored.float(), n_levels) * stored.float() - values).square().sum(dim=0)
        best, least = torch.where(error < least, stored, best), torch.minimum(error, least)
    return best


def rounded_steps(values: Tensor, scales: Tensor, n_levels: int) -> Tensor:
    """Round values to levels, counted in scales from zero; where a scale is 0 the answer is of no account."""
    middle = (n_levels - 1) / 2
    return (values / scales.clamp(min=1e-30) + middle).round().clamp(0, n_levels - 1) - middle
