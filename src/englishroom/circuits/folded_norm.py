"""How the parts of a model see the residual stream: through a norm that is linear but for one scale a position.

LayerNorm and RMSNorm divide by a scale that depends on the whole residual; centring, gain and bias do not. So a reader
``W, b`` behind a norm computes ``resid @ map / scale + constant`` with

    map = C diag(gain) W,    constant = bias @ W + b,

where ``C`` takes the mean off (LayerNorm) or is the identity (RMSNorm). This is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from englishroom.errors import ConfigError
from englishroom.models.spec import ModelSpec


@dataclass(frozen=True)
class FoldedNorm:
    """One norm, taken apart.

    Attributes:
        norm: its name in the weights, for example ``blocks.0.ln1`` or ``ln_final``.
        site: where it reads the residual stream, for example ``blocks.0.hook_resid_pre``.
        centred: whether it takes the mean off.
    """

    norm: str
    site: str
    centred: bool
    gain: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    eps: float

    def fold(
        self, w: Float[Tensor, "d_model out"], b: Float[Tensor, " out"] | None = None
    ) -> tuple[Float[Tensor, "d_model out"], Float[Tensor, " out"]]:
        """Return the map and the constant with which a linear reader sees the residual stream itself."""
        folded = self.gain[:, None] * w
        if self.centred:
            folded = folded - folded.mean(0)
        constant = self.bias @ w
        return folded, constant if b is None else constant + b

    def scale(self, resid: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows"]:
        """Compute what the norm divides by."""
        spread = resid.var(-1, unbiased=False) if self.centred else resid.square().mean(-1)
        return (spread + self.eps).sqrt()

    def normalized(
        self, resid: Float[Tensor, "*rows d_model"], scale: Float[Tensor, "*#rows"]
    ) -> Float[Tensor, "*rows d_model"]:
        """Normalise with a scale that is given, so that the answer is linear in the residual."""
        centre = resid - resid.mean(-1, keepdim=True) if self.centred else resid
        return centre / scale[..., None] * self.gain + self.bias


def reading(spec: ModelSpec, weights: Mapping[str, Tensor], norm: str) -> FoldedNorm:
    """Take a norm of a model apart.

    Raises:
        ConfigError: the model has no such norm.
    """
    gain = weights.get(f"{norm}.w")
    if gain is None:
        raise ConfigError(f"{norm}: the model has no such norm; it has, for example, blocks.0.ln1 and ln_final")
    block, _, kind = norm.rpartition(".")
    site = f"blocks.{spec.n_layers - 1}.hook_resid_post"
    if block:
        site = f"{block}.{'hook_resid_pre' if kind == 'ln1' else 'hook_resid_mid'}"
    bias = weights.get(f"{norm}.b", torch.zeros_like(gain))
    return FoldedNorm(norm, site, spec.norm == "layernorm", gain, bias, spec.norm_eps)


def votes(
    spec: ModelSpec, weights: Mapping[str, Tensor], directions: Float[Tensor, "*rows d_model"]
) -> Float[Tensor, "*rows d_vocab"]:
    """Return what directions in the last residual add to the logits, times the scale of the last norm.

    Logits matter up to a constant, so every row's mean over the vocabulary is taken off.
    """
    unembed = weights["embed.W_E"].T if spec.tied else weights["unembed.W_U"]
    found = directions @ reading(spec, weights, "ln_final").fold(unembed)[0]
    return found - found.mean(-1, keepdim=True)
