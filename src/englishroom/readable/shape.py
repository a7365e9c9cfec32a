"""Sizes of readable models, and the arithmetic that they share."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from englishroom.models.spec import ModelSpec
from englishroom.readable.config import StreamConfig


@dataclass(frozen=True)
class ReadableShape:
    """Sizes of a readable model.

    Attributes:
        n_matches, n_moved, k_moved: of each look; so many of its moved features are active at most.
        n_rules: of each layer.
        k_rules: by layer, how many of its rules are active at most.
        n_places: places in the text; 0 where the target has no position vectors.
    """

    n_layers: int
    n_heads: int
    d_model: int
    d_vocab: int
    n_ctx: int
    windows: tuple[int | None, ...]
    n_matches: int
    n_moved: int
    k_moved: int
    n_rules: int
    k_rules: tuple[int, ...]
    n_places: int

    @property
    def all_moved(self) -> int:
        """Moved features of a layer."""
        return self.n_heads * self.n_moved

    @property
    def all_matches(self) -> int:
        """Matches of a layer."""
        return self.n_heads * self.n_matches

    def reach(self, layer: int) -> int:
        """Return how many positions, the one at hand included, the looks of a layer can see."""
        return min(self.n_ctx, self.windows[layer] or self.n_ctx)


def shape_of(spec: ModelSpec, config: StreamConfig) -> ReadableShape:
    """Return the sizes of a target's readable model."""
    n_places = 0 if spec.rotary_theta is not None else places_of(spec.n_ctx, config.place_factor).shape[1]
    return ReadableShape(
        spec.n_layers,
        spec.n_heads,
        spec.d_model,
        spec.d_vocab,
        spec.n_ctx,
        spec.windows,
        config.matches,
        config.moved,
        config.moved_active,
        config.rules,
        (config.first_rules_active, *(spec.n_layers - 1) * (config.rules_active,)),
        n_places,
    )


def places_of(n_ctx: int, factor: float) -> Float[Tensor, "pos place"]:
    """Set places along the text, ever farther apart; a position is between two of them, in shares that sum to 1."""
    stops = [0]
    while stops[-1] < n_ctx - 1:
        stops.append(min(n_ctx - 1, max(stops[-1] + 1, round(factor * stops[-1]))))
    found = torch.zeros(n_ctx, len(stops))
    found[0, 0] = 1
    for place, (low, high) in enumerate(pairwise(stops)):
        share = torch.arange(high - low + 1) / (high - low)
        found[low : high + 1, place], found[low : high + 1, place + 1] = 1 - share, share
    return found


def product(x: Float[Tensor, "*rows a"], w: Float[Tensor, "*#rows a b"], half: bool) -> Float[Tensor, "*rows b"]:
    """Multiply, in bfloat16 where ``half``, which matrix units of processors do several times faster."""
    return (x.bfloat16() @ w.bfloat16()).to(x.dtype) if half else x @ w
