"""Parts of a model that can be changed in target and program alike, and what can be done to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from englishroom.circuits.basis import Basis
from englishroom.models.spec import ModelSpec

How = Literal["zero", "mean", "other_text", "other_position", "add"]
"""To nothing, to the mean over a text, to the value in another text or one position earlier, or with a vector added."""
_AFTER = MappingProxyType({"hook_attn_out": "hook_resid_mid", "hook_mlp_out": "hook_resid_post"})


@dataclass(frozen=True)
class Head:
    """A head: what it puts out, before ``W_O``."""

    layer: int
    head: int

    kind = "head"

    @property
    def site(self) -> str:
        return f"blocks.{self.layer}.attn.hook_z"

    @property
    def name(self) -> str:
        return f"blocks.{self.layer}.attn head {self.head}"

    def get(self, value: Tensor) -> Tensor:
        """Read the part out of its site's value."""
        return value[:, :, self.head]

    def put(self, value: Tensor, part: Tensor) -> Tensor:
        """Put the part in place."""
        value = value.clone()
        value[:, :, self.head] = part
        return value


@dataclass(frozen=True)
class Mlp:
    """A whole MLP: what it adds to the residual stream."""

    layer: int

    kind = "mlp"

    @property
    def site(self) -> str:
        return f"blocks.{self.layer}.hook_mlp_out"

    @property
    def name(self) -> str:
        return f"blocks.{self.layer}.mlp"

    def get(self, value: Tensor) -> Tensor:
        """Read the part out of its site's value."""
        return value

    def put(self, value: Tensor, part: Tensor) -> Tensor:
        """Put the part in place."""
        return part.expand_as(value)


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction in the residual stream, for example that of a latent's decoder: how far the residual goes along it.

    Attributes:
        vector: its length matters only where something is added: ``add`` adds it once.
    """

    name: str
    site: str
    vector: Float[Tensor, " d_model"]

    kind = "direction"

    @property
    def _unit(self) -> Tensor:
        return self.vector / self.vector.norm()

    def get(self, value: Tensor) -> Tensor:
        """Read the part out of its site's value."""
        return (value @ self._unit)[..., None]

    def put(self, value: Tensor, part: Tensor) -> Tensor:
        """Put the part in place."""
        return value + (part - self.get(value)) * self._unit


Part = Head | Mlp | Direction


@dataclass(frozen=True)
class Intervention:
    """A part and what is done to it."""

    part: Part
    how: How


def block_interventions(spec: ModelSpec, hows: Sequence[How] = ("zero", "mean", "other_text")) -> list[Intervention]:
    """List every head and every MLP of a model, each changed in several ways."""
    heads: list[Part] = [Head(layer, head) for layer in range(spec.n_layers) for head in range(spec.n_heads)]
    mlps: list[Part] = [Mlp(layer) for layer in range(spec.n_layers)]
    return [Intervention(part, how) for how in hows for part in [*heads, *mlps]]


def feature_interventions(
    basis: Basis, features: Sequence[int], hows: Sequence[How] = ("zero", "mean", "add")
) -> list[Intervention]:
    """List the directions of some features, each changed in the residual stream right after it is written."""
    found: list[Part] = []
    for feature in features:
        group = basis.group_of(feature)
        block, _, hook = group.site.rpartition(".")
        site = f"{block or 'blocks.0'}.{_AFTER.get(hook, 'hook_resid_pre')}"
        found.append(Direction(basis.id(feature), site, group.directions[feature - group.start]))
    return [Intervention(part, how) for how in hows for part in found]
