"""How much a head reads of what an earlier head writes: Q-, K- and V-composition (Elhage et al. 2021).

With every matrix applied as ``x @ W``, an earlier head writes through ``OV = W_V W_O`` and a later one reads through
``QK = W_Q W_K^T`` on either side, or through its own OV. The score is the share of the largest Frobenius norm that the
product could have,

    Q: |OV_1 QK_2| / (|OV_1| |QK_2|),    K: |OV_1 QK_2^T| / (|OV_1| |QK_2|),    V: |OV_1 OV_2| / (|OV_1| |OV_2|),

with gain and centring of each reader's norm folded in. Random matrices of the same ranks score above 0 too, the more
the narrower the model: what they score stands beside. Rotary positions are left out of QK; between heads of one layer,
or from a later to an earlier one, there is nothing to score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from englishroom.circuits.folded_norm import reading
from englishroom.errors import ConfigError
from englishroom.models.spec import ModelSpec

Reads = Literal["Q", "K", "V"]
DRAWS = 32


@dataclass(frozen=True)
class CompositionRow:
    """How much one head reads of another.

    Attributes:
        reads: which side of the later head.
        score: 0 to 1.
        random_score, random_deviation: mean and standard deviation of the score of random matrices of the same shapes.
    """

    earlier_layer: int
    earlier_head: int
    later_layer: int
    later_head: int
    reads: Reads
    score: float
    random_score: float
    random_deviation: float


@dataclass(frozen=True)
class _Factored:
    """A matrix of low rank, ``left @ right^T``."""

    left: Float[Tensor, "d rank"]
    right: Float[Tensor, "d rank"]

    @property
    def transposed(self) -> _Factored:
        return _Factored(self.right, self.left)

    @property
    def norm(self) -> Tensor:
        """The Frobenius norm: its square is the trace of the product of the two Gram matrices."""
        return ((self.left.T @ self.left) * (self.right.T @ self.right)).sum().clamp(min=0).sqrt()

    def __matmul__(self, other: _Factored) -> _Factored:
        return _Factored(self.left, other.right @ (self.right.T @ other.left).T)


def score_composition(
    spec: ModelSpec, weights: Mapping[str, Tensor], generator: torch.Generator, draws: int = DRAWS
) -> list[CompositionRow]:
    """Score every pair of an earlier and a later head, on each side of the later one.

    Args:
        draws: random matrices that the baseline is taken over.

    Raises:
        ConfigError: fewer than two draws are asked for.
    """
    if draws < 2:
        raise ConfigError(f"composition: {draws} random matrices, expected 2 or more; give more draws")
    heads = [(layer, head) for layer in range(spec.n_layers) for head in range(spec.n_heads)]
    circuits = {at: _circuits(spec, weights, *at) for at in heads}
    random_score, deviation = _baseline(spec, generator, draws)
    rows: list[CompositionRow] = []
    for earlier in heads:
        written = circuits[earlier]["V"]
        for later in heads:
            if later[0] > earlier[0]:
                for reads, read in circuits[later].items():
                    rows.append(CompositionRow(*earlier, *later, reads, _score(written, read), random_score, deviation))
    return rows


def _score(written: _Factored, read: _Factored) -> float:
    size = float(written.norm * read.norm)
    return float((written @ read).norm) / size if size else 0.0


def _circuits(spec: ModelSpec, weights: Mapping[str, Tensor], layer: int, head: int) -> dict[Reads, _Factored]:
    """Return what each side of a head does to what it reads, in float64."""
    part, d, own = f"blocks.{layer}.attn", spec.d_head, head * spec.n_kv_heads // spec.n_heads
    reader = reading(spec, weights, f"blocks.{layer}.ln1")

    def side(letter: str, at: int) -> Tensor:
        return reader.fold(weights[f"{part}.W_{letter}"][:, at * d : (at + 1) * d])[0].double()

    qk = _Factored(side("Q", head), side("K", own))
    out = weights[f"{part}.W_O"][head * d : (head + 1) * d].double()
    return {"Q": qk, "K": qk.transposed, "V": _Factored(side("V", own), out.T)}


def _baseline(spec: ModelSpec, generator: torch.Generator, draws: int) -> tuple[float, float]:
    """Score pairs of random matrices of the shapes of this model's heads: all three sides are alike."""

    def draw() -> _Factored:
        return _Factored(
            *(torch.randn(spec.d_model, spec.d_head, generator=generator, dtype=torch.float64) for _ in range(2))
        )

    scores = torch.tensor([_score(draw(), draw()) for _ in range(draws)], dtype=torch.float64)
    return float(scores.mean()), float(scores.std())
