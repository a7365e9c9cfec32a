"""Weights at float16, the precision at which whatever is not quantised is stored."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from englishroom.errors import UnsupportedModelError
from englishroom.models.load import Target

LARGEST = torch.finfo(torch.float16).max


def to_half(target: Target) -> Target:
    """Round every weight to the nearest float16; the tensors keep their own type, so that they run as before.

    Raises:
        UnsupportedModelError: a weight is beyond float16.
    """
    return replace(target, weights={name: half(target, name, tensor) for name, tensor in target.weights.items()})


def half(target: Target, name: str, tensor: Tensor) -> Tensor:
    """Round one weight of a target to float16, in its own type.

    Raises:
        UnsupportedModelError: a number is beyond float16, or none.
    """
    rounded = tensor.to(torch.float16)
    if not bool(rounded.isfinite().all()):
        raise UnsupportedModelError(
            f"{target.name}: {name} holds {float(tensor.abs().max()):.3g}, expected at most {LARGEST:g}, the largest "
            "float16; this model cannot be compressed"
        )
    return rounded.to(tensor.dtype)
