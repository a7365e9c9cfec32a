"""Turn the numbers that heads work with, so that each of them has few readers and writers.

A head's score is a dot product of what is asked with what is offered, and its carries are read through one matrix; any
rotation of the head's numbers that both sides share changes nothing (where asks and offers turn with the position, that
goes for carries alone). Of all rotations varimax (Kaiser 1958) takes the
one under which the squares of the loadings vary most: many of them near 0, few large, so that few edges say the same.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from englishroom.sparse.edges import Edges
from englishroom.sparse.model import SparseModel

STEPS = 100
ASKS, OFFERS, CARRIES = range(3)


def turn(model: SparseModel) -> SparseModel:
    """Turn every head's asks and offers, and its carries, by the rotations that make their loadings sparse.

    What the model says is the same up to float error. Only for a model none of whose edges has been left out.
    """
    shape = model.shape
    tables, constants, biases = list(model.tables), list(model.constants), list(model.biases)
    for layer in range(shape.n_layers):
        stage, source = 3 * layer, f"brought.{layer}"
        full = {name: edges.matrix() for name, edges in tables[stage].items()}
        brought = tables[stage + 1][source].matrix()
        written = torch.cat(list(full.values()))
        rotation = torch.eye(brought.shape[0] * 3 + 1)  # the last column is the loudness
        for head in range(shape.n_heads):
            asks, offers, carries = (_own(shape.n_heads, shape.d_head, head, part) for part in (ASKS, OFFERS, CARRIES))
            matched = torch.eye(shape.d_head)
            if shape.rotary_theta is None:
                matched = varimax(torch.cat([_scaled(written[:, asks]), _scaled(written[:, offers])]))
            carried = varimax(brought[carries - carries[0] + head * shape.d_head, :-1].T)
            for at, turned in ((asks, matched), (offers, matched), (carries, carried)):
                rotation[at[:, None], at] = turned
        moved = rotation[_third(brought, CARRIES), :][:, _third(brought, CARRIES)]
        tables[stage] = {name: Edges.of(matrix @ rotation) for name, matrix in full.items()}
        kept = torch.ones_like(brought, dtype=torch.bool)
        kept[:, -1] = False
        tables[stage + 1] = {source: Edges.of(moved.T @ brought, kept)}
        constants[stage] = constants[stage] @ rotation
        biases[stage] = biases[stage] @ rotation[:-1, :-1]
    return replace(model, tables=tuple(tables), constants=tuple(constants), biases=tuple(biases))


def varimax(loadings: Float[Tensor, "row number"]) -> Float[Tensor, "number turned"]:
    """Find the rotation R under which the squares of ``loadings @ R`` vary most, column by column."""
    given = loadings.double()
    rotation = torch.eye(given.shape[1], dtype=torch.float64)
    for _ in range(STEPS):
        turned = given @ rotation
        left, _, right = torch.linalg.svd(given.T @ (turned**3 - turned * turned.square().mean(0)))
        rotation = left @ right
    return rotation.float()


def _own(n_heads: int, d_head: int, head: int, part: int) -> Tensor:
    first = (part * n_heads + head) * d_head
    return torch.arange(first, first + d_head)


def _third(brought: Tensor, part: int) -> slice:
    return slice(part * len(brought), (part + 1) * len(brought))


def _scaled(loadings: Tensor) -> Tensor:
    return loadings / loadings.norm().clamp(min=1e-12)
