"""Round the numbers of a wired model, so that a reader meets few digits; in lines, they are those of the program.

Weights that a rule or a moved feature reads have two digits in units of what it asks for, its threshold minus its bias:
the units in which they are printed. On a program of tiny-2l two digits change the answers by 0.001 nats, one by 0.13.
"""

from __future__ import annotations

import torch
from torch import Tensor

from englishroom.emit.lines import units
from englishroom.readable.wiring import WiredModel
from englishroom.sparse.edges import Edges

WEIGHT_DIGITS, VECTOR_DIGITS = 2, 3


@torch.no_grad()
def rounded(model: WiredModel) -> WiredModel:
    """Return the model with its numbers rounded."""
    vectors = {name: _nearest(vector, VECTOR_DIGITS) for name, vector in model.vectors.items()}
    edges = {}
    for name, own in model.edges.items():
        asks = _asks(name, model, vectors)
        each = torch.ones(own.n_columns, dtype=torch.float64) if asks is None else asks
        unit = each[own.columns.long()]
        weights = _nearest(own.weights.detach().double() / unit, WEIGHT_DIGITS).double() * unit
        edges[name] = Edges(own.starts, own.columns, weights.to(own.weights.dtype), own.n_columns)
    return WiredModel(model.shape, edges, vectors, model.places)


def _asks(name: str, model: WiredModel, vectors: dict[str, Tensor]) -> Tensor | None:
    """Return the unit of each sum's weights, [sum]; none where the edges lead to no rules."""
    group, _, layer = name.removeprefix("words.").partition(".")
    kind = {"moved": "moved", "rules": "rule"}.get(group)
    if kind is None:
        return None
    biases, lows = (vectors[f"{kind}_{part}.{layer}"].double().tolist() for part in ("biases", "thresholds"))
    largest = torch.zeros(len(biases))
    for own in (model.edges[f"{group}.{layer}"], model.edges[f"words.{group}.{layer}"]):
        largest.scatter_reduce_(0, own.columns.long(), own.weights.detach().abs().float(), "amax")
    found = [units(bias, low, most)[0] for bias, low, most in zip(biases, lows, largest.tolist(), strict=True)]
    return torch.tensor(found, dtype=torch.float64)


def _nearest(values: Tensor, digits: int) -> Tensor:
    """Round to so many digits."""
    wide = values.detach().double()
    places = digits - 1 - torch.where(wide == 0, 1.0, wide).abs().log10().floor()
    scale = 10.0**places
    return ((wide * scale).round() / scale).to(values.dtype)
