"""A dictionary: an encoder that finds a few active latents at one site, and a decoder that writes to one or more.

With the same site read and written it is a sparse autoencoder (SAE); reading an MLP's input and writing its output it
is a transcoder, with ``W_skip`` a skip transcoder; with several sites written, a cross-layer transcoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from englishroom.dictionaries.code import Codes, SparseMap, by_latent, decode, find_codes
from englishroom.errors import ConfigError

Activation = Literal["topk", "batchtopk", "jumprelu"]


@dataclass(frozen=True)
class DictionarySpec:
    """Everything about a dictionary that is not a weight.

    Attributes:
        reads: site that the encoder reads, for example ``blocks.0.ln2.hook_normalized``.
        writes: sites that the decoder writes, for example ``("blocks.0.hook_mlp_out",)``.
        d_in: size of the site read.
        d_out: size of each site written.
        activation: ``topk`` keeps the ``k`` largest latents of a row; ``jumprelu`` those above a threshold of their
            own; ``batchtopk`` is trained with the largest ``k`` per row on average over a batch, and runs with the one
            threshold that gave as many.
        k: active latents per row: at most (``topk``) or on average (``batchtopk``).
        skip: whether the site read is also passed on through a matrix ``W_skip``.
    """

    reads: str
    writes: tuple[str, ...]
    d_in: int
    d_out: int
    n_latents: int
    activation: Activation = "topk"
    k: int | None = 16
    skip: bool = False

    def __post_init__(self) -> None:
        if not self.writes or min(self.d_in, self.d_out, self.n_latents) < 1:
            raise ConfigError(f"{self.reads}: a dictionary's sizes and sites written must not be empty")
        if self.activation not in ("topk", "batchtopk", "jumprelu"):
            raise ConfigError(f"{self.name}: activation {self.activation!r}, expected topk, batchtopk or jumprelu")
        if self.activation != "jumprelu" and (self.k is None or not 1 <= self.k <= self.n_latents):
            raise ConfigError(f"{self.name}: k is {self.k}, expected 1 to {self.n_latents} (its latents)")

    @property
    def name(self) -> str:
        """The dictionary's name: the first site that it writes, and what it reads where that is another."""
        return self.writes[0] if self.reads == self.writes[0] else f"{self.reads} -> {self.writes[0]}"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """List the weights and their shapes; matrices are [in, out]."""
        width = self.d_out * len(self.writes)
        found: dict[str, tuple[int, ...]] = {
            "W_enc": (self.d_in, self.n_latents),
            "b_enc": (self.n_latents,),
            "W_dec": (self.n_latents, width),
            "b_dec": (width,),
        }
        if self.activation != "topk":
            found["threshold"] = (self.n_latents,)
        if self.skip:
            found["W_skip"] = (self.d_in, width)
        return found


@dataclass(frozen=True)
class Dictionary:
    """A dictionary and its weights.

    Attributes:
        weights: by the names and shapes of :meth:`DictionarySpec.shapes`; ``W_dec`` holds the sites written side by
            side. ``W_enc`` is stored latent by latent.
    """

    spec: DictionarySpec
    weights: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        expected, found = self.spec.shapes(), {name: tuple(t.shape) for name, t in self.weights.items()}
        if found != expected:
            raise ConfigError(f"{self.spec.name}: weights {found}, expected {expected}")

    @staticmethod
    def of(spec: DictionarySpec, weights: Mapping[str, Tensor]) -> Dictionary:
        """Make a dictionary of weights as they come, laying the encoder out latent by latent."""
        laid = {name: by_latent(t) if name == "W_enc" else t.contiguous() for name, t in weights.items()}
        return Dictionary(spec, laid)

    @staticmethod
    def random(spec: DictionarySpec, generator: torch.Generator) -> Dictionary:
        """Draw initial weights: decoder rows of random direction and unit length, the encoder along them."""
        shapes = spec.shapes()
        w_dec = torch.empty(shapes["W_dec"]).normal_(generator=generator)
        w_dec /= w_dec.norm(dim=1, keepdim=True)
        if spec.reads == spec.writes[0]:
            w_enc = w_dec[:, : spec.d_in].clone()
        else:
            w_enc = torch.empty(spec.n_latents, spec.d_in).normal_(generator=generator)
            w_enc /= w_enc.norm(dim=1, keepdim=True)
        weights = {"W_enc": w_enc.T, "b_enc": torch.zeros(spec.n_latents), "W_dec": w_dec}
        weights["b_dec"] = torch.zeros(shapes["b_dec"])
        if "threshold" in shapes:
            weights["threshold"] = torch.full(shapes["threshold"], 1e-3)
        if spec.skip:
            weights["W_skip"] = torch.zeros(shapes["W_skip"])
        return Dictionary(spec, weights)

    def encode(self, x: Float[Tensor, "*rows d_in"]) -> Codes:
        """Find the active latents of every row of ``x``, flattened to [row, d_in]."""
        w = self.weights
        flat = x.reshape(-1, self.spec.d_in)
        k = self.spec.k if self.spec.activation == "topk" else None
        return find_codes(flat, w["W_enc"], w["b_enc"], k, w.get("threshold"))

    def decode(self, codes: Codes) -> Float[Tensor, "row width"]:
        """Add up what the active latents write; the skip, which needs the input, is not in it."""
        return decode(codes, self.weights["W_dec"], self.weights["b_dec"])

    def run(
        self, x: Float[Tensor, "*rows d_in"], codes: Codes | None = None, offered: bool = False
    ) -> tuple[Float[Tensor, "*rows w"], Codes]:
        """Encode and decode; the answer carries gradients to ``x`` and the weights.

        Args:
            codes: the active latents where they are already known.
            offered: whether they hold latents that are not above zero (see :class:`SparseMap`).
        """
        w = self.weights
        flat = x.reshape(-1, self.spec.d_in)
        if codes is None:
            codes = self.encode(flat)
        out = SparseMap.apply(flat, w["W_enc"], w["b_enc"], w["W_dec"], w["b_dec"], codes, offered)
        assert isinstance(out, Tensor)
        if self.spec.skip:
            out = out + flat @ w["W_skip"]
        return out.view(*x.shape[:-1], -1), codes

    def written(self, out: Float[Tensor, "*rows width"]) -> dict[str, Float[Tensor, "*rows d_out"]]:
        """Split what :meth:`run` returns by the sites written."""
        return dict(zip(self.spec.writes, out.split(self.spec.d_out, dim=-1), strict=True))

    def double(self) -> Dictionary:
        """Return the dictionary in float64."""
        return replace(self, weights={name: t.detach().double() for name, t in self.weights.items()})
