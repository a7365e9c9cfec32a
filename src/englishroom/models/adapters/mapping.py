"""The correspondence between published tensors and our weights, usable in both directions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from englishroom.errors import ArtifactError, UnsupportedModelError
from englishroom.models.spec import Activation, ModelSpec, weight_shapes


@dataclass(frozen=True)
class WeightSource:
    """Where one of our weights stands in a published file.

    Attributes:
        ours, theirs: names on the two sides.
        transposed: whether theirs is [out, in].
        part: (index, count) where ours is one of ``count`` equal slices of the last axis of theirs.
    """

    ours: str
    theirs: str
    transposed: bool = False
    part: tuple[int, int] | None = None

    def __str__(self) -> str:
        where = "" if self.part is None else f"[..., {self.part[0] + 1} of {self.part[1]}]"
        return f"{self.theirs}{where}{'.T' if self.transposed else ''}"


@dataclass(frozen=True)
class Family:
    """What an adapter offers.

    Attributes:
        sources: one entry for each of our weights.
        ignored: published tensors that hold no weight (masks, rotary frequencies), by the end of their name.
    """

    spec: ModelSpec
    sources: tuple[WeightSource, ...]
    ignored: tuple[str, ...]


class Config:
    """A published ``config.json``, read strictly: every key that changes the computation is asked for."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where

    def get(self, key: str, default: Any = None) -> Any:
        value = self.values.get(key)
        return default if value is None else value

    def size(self, key: str, default: int | None = None, at_most: int = 2**31) -> int:
        """Read a whole number, 1 or more."""
        value = self.get(key, default)
        wanted = ""
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            wanted = "a whole number, 1 or more"
        elif value > at_most:
            wanted = f"at most {at_most}"
        if wanted:
            raise ArtifactError(f"{self.where}: {key} is {value!r}, expected {wanted}; repair the config")
        return value

    def check_multiple(self, key: str, value: int, of: str, factor: int) -> None:
        """Refuse a size that another one does not divide."""
        if value % factor:
            raise ArtifactError(f"{self.where}: {key} {value} is not a multiple of {of} {factor}; repair the config")

    def number(self, key: str, default: float) -> float:
        """Read a positive number."""
        value = self.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            raise ArtifactError(f"{self.where}: {key} is {value!r}, expected a number above 0; repair the config")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """Read true or false."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise ArtifactError(f"{self.where}: {key} is {value!r}, expected true or false; repair the config")
        return value

    def require(self, key: str, supported: Sequence[Any], default: Any) -> Any:
        """Read a setting of which only some values are implemented."""
        value = self.get(key, default)
        if value not in supported:
            raise UnsupportedModelError(
                f"{self.where}: {key} = {value!r} is not supported; supported: {', '.join(map(repr, supported))}"
            )
        return value

    def activation(self, key: str, default: str) -> Activation:
        """Read the MLP's pointwise function under any of its published names."""
        names: dict[str, Activation] = {
            "gelu_new": "gelu_new",
            "gelu_pytorch_tanh": "gelu_new",
            "gelu_fast": "gelu_new",
            "gelu": "gelu",
            "relu": "relu",
            "silu": "silu",
            "swish": "silu",
        }
        return names[self.require(key, tuple(names), default)]


def check_numbers(tensor: Tensor, name: str, where: str) -> None:
    """Refuse a tensor that holds anything else than finite floating-point numbers."""
    if not tensor.dtype.is_floating_point or tensor.dtype.itemsize < 2:
        raise UnsupportedModelError(
            f"{where}: tensor {name} is stored as {str(tensor.dtype).removeprefix('torch.')} (quantised?); "
            "supported: float16, bfloat16, float32, float64"
        )
    if not tensor.isfinite().all():
        raise ArtifactError(f"{where}: tensor {name} holds NaN or infinity; restore the weights file")


def read_weights(family: Family, tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Turn published tensors into our weights, refusing any that is missing, left over, misshapen or not finite."""
    expected = weight_shapes(family.spec)
    sources = {source.ours: source for source in family.sources}
    missing = sorted({s.theirs for s in family.sources} - set(tensors))
    if missing:
        raise ArtifactError(f"{where}: tensor {missing[0]} is missing{_and_more(missing)}; restore the file")
    used = {source.theirs for source in family.sources}
    extra = sorted(name for name in tensors if name not in used and not name.endswith(family.ignored))
    if extra:
        raise UnsupportedModelError(
            f"{where}: tensor {extra[0]} has no place in a {family.spec.family} model{_and_more(extra)}; "
            "supported: the plain architecture, without adapters or extra heads"
        )
    widest = any(tensors[source.theirs].dtype == torch.float64 for source in family.sources)
    weights: dict[str, Tensor] = {}
    for name, shape in expected.items():
        source = sources[name]
        tensor = tensors[source.theirs]
        full = shape if source.part is None else (*shape[:-1], shape[-1] * source.part[1])
        theirs = tuple(reversed(full)) if source.transposed else full
        if tuple(tensor.shape) != theirs:
            raise ArtifactError(
                f"{where}: tensor {source.theirs} has shape {list(tensor.shape)}, "
                f"but the config implies {list(theirs)}; "
                "config and weights do not belong together"
            )
        check_numbers(tensor, source.theirs, where)
        tensor = tensor.to(torch.float64 if widest else torch.float32)
        if source.transposed:
            tensor = tensor.T
        if source.part is not None:
            tensor = tensor.chunk(source.part[1], dim=-1)[source.part[0]]
        weights[name] = tensor.contiguous()
    return weights


def write_weights(family: Family, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn our weights into published tensors: the inverse of :func:`read_weights`."""
    parts: dict[str, list[Tensor]] = {}
    for source in family.sources:
        tensor = weights[source.ours].detach()
        parts.setdefault(source.theirs, []).append(tensor.T if source.transposed else tensor)
    return {name: torch.cat(pieces, dim=-1).contiguous() for name, pieces in parts.items()}


def _and_more(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
