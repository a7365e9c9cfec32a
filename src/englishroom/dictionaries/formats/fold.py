"""Rewritings of a dictionary's weights that change nothing it computes, done in float64 and rounded once.

Weights are [in, out] and named as in :class:`Dictionary`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from englishroom.dictionaries.dictionary import Dictionary
from englishroom.errors import ConfigError, UnsupportedModelError

Weights = dict[str, Tensor]


def shift_input(weights: Weights, shift: Tensor) -> Weights:
    """Take a shift of the input into the encoder's bias: ``(x - s) @ W + b = x @ W + (b - s @ W)``."""
    moved = weights["b_enc"].double() - shift.double() @ weights["W_enc"].double()
    return {**weights, "b_enc": moved.to(weights["b_enc"].dtype)}


def scale_latents(weights: Weights, scale: Tensor) -> Weights:
    """Multiply every latent's value by its scale, which must be above 0, and divide what it writes by it."""
    wide = scale.double()
    found = {
        "W_enc": weights["W_enc"].double() * wide,
        "b_enc": weights["b_enc"].double() * wide,
        "W_dec": weights["W_dec"].double() / wide[:, None],
    }
    if "threshold" in weights:
        found["threshold"] = weights["threshold"].double() * wide
    return {**weights, **{name: tensor.to(weights[name].dtype) for name, tensor in found.items()}}


def ungate(w_enc: Tensor, r_mag: Tensor, b_mag: Tensor, b_gate: Tensor) -> Weights:
    """Write a gated encoder as one with thresholds.

    A gated latent (Rajamanoharan et al. 2024) has value ``relu(r * y + m)`` with ``r = exp(r_mag) > 0`` where its gate
    ``y + g`` is positive. The gate opens where ``r * y + m`` exceeds ``m - r * g``, so that is its threshold, and 0
    where it is lower.
    """
    r = r_mag.double().exp()
    threshold = (b_mag.double() - r * b_gate.double()).clamp(min=0)
    found = {"W_enc": w_enc.double() * r, "b_enc": b_mag.double(), "threshold": threshold}
    return {name: tensor.to(w_enc.dtype) for name, tensor in found.items()}


def pad_latents(weights: Weights, n_latents: int) -> Weights:
    """Add latents that never fire, at the end."""
    more = n_latents - len(weights["b_enc"])
    axis = {"W_enc": 1, "b_enc": 0, "W_dec": 0, "threshold": 0}
    padded = dict(weights)
    for name, at in axis.items():
        shape = list(weights[name].shape)
        shape[at] = more
        padded[name] = torch.cat([weights[name], weights[name].new_zeros(shape)], dim=at)
    return padded


def thresholds(dictionary: Dictionary) -> Tensor:
    """Return a dictionary's thresholds.

    Raises:
        ConfigError: one is below 0, so that latents could be negative, which no peer can hold.
    """
    found = dictionary.weights["threshold"].detach()
    if bool((found < 0).any()):
        raise ConfigError(f"{dictionary.spec.name}: a threshold is {float(found.min()):g}, expected 0 or more")
    return found


def check_holds(dictionary: Dictionary, kind: str, multiple: bool = False, square: bool = True) -> None:
    """Refuse a dictionary whose shape a peer's format has no place for.

    Args:
        kind: the format's name, for the message.
        multiple: whether it holds dictionaries that write several sites.
        square: whether what is read must be as large as what is written.
    """
    spec = dictionary.spec
    if len(spec.writes) > 1 and not multiple:
        raise UnsupportedModelError(
            f"{spec.name}: {kind} holds no dictionary that writes {len(spec.writes)} sites; write it as englishroom"
        )
    if square and spec.d_in != spec.d_out:
        raise UnsupportedModelError(
            f"{spec.name}: reads {spec.d_in} numbers and writes {spec.d_out}, {kind} holds as many on both sides only; "
            "write it as englishroom"
        )
