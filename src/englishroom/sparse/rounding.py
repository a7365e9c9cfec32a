"""Round the weights of edges to a few numbers, while they are still being fitted.

All edges to one stage share a palette, those to its loudness aside, which are few. Gradients pass through the rounding
as if it were not there (the straight-through estimator; Bengio et al. 2013), so that a weight that is pulled long
enough goes over to the next number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from englishroom.passes.palette import on_palette, on_signs
from englishroom.passes.quantise import Bits
from englishroom.sparse.edges import Edges
from englishroom.sparse.model import SparseModel

Palettes = Mapping[str, Tensor]
"""By name of a group of edges, the numbers they may have, ascending."""


def palettes(model: SparseModel, bits: Bits) -> dict[str, Tensor]:
    """Choose at most ``2 ** bits`` numbers for each group of edges, or one, its negative and 0; least squares."""
    found = {}
    for name, group in _groups(model):
        weights = torch.cat([edges.weights.detach()[_shared(name, edges)] for _, edges in group])
        if len(weights):
            values = weights.double().numpy()
            levels = on_signs(values) if bits == "ternary" else on_palette(values, 2**bits)
            found[name] = torch.from_numpy(np.unique(levels)).float()
    return found


def rounded(model: SparseModel, numbers: Palettes) -> SparseModel:
    """Return the model with every edge at the nearest number of its palette; gradients reach its own weights."""
    made: dict[str, Edges] = {}
    for name, group in _groups(model):
        if name not in numbers:
            continue
        levels = numbers[name]
        between = (levels[1:] + levels[:-1]) / 2
        for key, edges in group:
            own = edges.weights.detach()
            nearest = levels[torch.searchsorted(between, own)]
            exactly = torch.where(_shared(name, edges), nearest, own)
            made[key] = replace(
                edges, weights=exactly + (edges.weights - own)
            )  # the difference is 0, and has a gradient
    stages = [
        {source: made.get(f"{stage}.{source}", edges) for source, edges in tables.items()}
        for stage, tables in enumerate(model.tables)
    ]
    return replace(
        model,
        kinds=made.get("kinds", model.kinds),
        said=made.get("said", model.said),
        tables=tuple(stages),
    )


def in_half(model: SparseModel) -> SparseModel:
    """Return the model with all that no palette holds rounded to float16: vectors, and edges to a loudness."""

    def half(tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
        return tuple(tensor.half().float() for tensor in tensors)

    def edges_in_half(edges: Edges) -> Edges:
        loud = edges.columns == edges.n_columns - 1
        return replace(edges, weights=torch.where(loud, edges.weights.half().float(), edges.weights))

    return replace(
        model,
        stations=model.stations.half().float(),
        tables=tuple({name: edges_in_half(edges) for name, edges in tables.items()} for tables in model.tables),
        constants=half(model.constants),
        biases=half(model.biases),
        distances=half(model.distances),
    )


def without_zeros(model: SparseModel) -> SparseModel:
    """Leave out the edges whose weight is 0."""

    def left(edges: Edges) -> Edges:
        return edges.keep(edges.weights != 0) if bool((edges.weights == 0).any()) else edges

    stages = tuple({source: left(edges) for source, edges in tables.items()} for tables in model.tables)
    return replace(model, kinds=left(model.kinds), said=left(model.said), tables=stages)


def _groups(model: SparseModel) -> Iterator[tuple[str, list[tuple[str, Edges]]]]:
    yield "kinds", [("kinds", model.kinds)]
    yield "said", [("said", model.said)]
    for stage, tables in enumerate(model.tables):
        yield f"stage.{stage}", [(f"{stage}.{source}", edges) for source, edges in tables.items()]


def _shared(name: str, edges: Edges) -> Tensor:
    """Say which edges share the palette: all but those to a loudness."""
    if not name.startswith("stage."):
        return torch.ones(len(edges.columns), dtype=torch.bool)
    return edges.columns != edges.n_columns - 1
