"""Looks: attention whose scores are a curve over distance, lone keys, and a few matches of a query with a key.

A match makes a query, what is asked for here, and a key, what is offered there, both never below 0; a look's score is
the sum of their products, of the lone key there, and of the curve. Looks read a stream of numbers or features, whatever
their tables are over.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from englishroom.models.forward import visible_keys
from englishroom.readable.shape import ReadableShape, product

FIRST_SIZE, FIRST_BIAS = 2.0, 0.3
"""Spread and mean of queries and keys at the start."""
LEAST_LOG = -60.0
"""Log-weight below which one position is as good as not looked at."""


def look_scores(
    shape: ReadableShape,
    tables: Mapping[str, Tensor],
    layer: int,
    x: Float[Tensor, "row read"],
    n_batch: int,
) -> Float[Tensor, "batch head pos pos"]:
    """Score every earlier position for every look of a layer; those that it cannot see have minus infinity."""
    queries = (x @ tables[f"queries.{layer}"] + tables[f"query_biases.{layer}"]).relu()
    keys = (x @ tables[f"keys.{layer}"] + tables[f"key_biases.{layer}"]).relu()
    lone = x @ tables[f"lone_keys.{layer}"]
    return scores_of(shape, layer, queries, keys, lone, tables[f"distance.{layer}"], n_batch)


def scores_of(
    shape: ReadableShape,
    layer: int,
    queries: Float[Tensor, "row match"],
    keys: Float[Tensor, "row match"],
    lone: Float[Tensor, "row head"],
    distance: Float[Tensor, "head back"],
    n_batch: int,
) -> Float[Tensor, "batch head pos pos"]:
    """Score every earlier position, from queries, keys and lone keys at every position."""
    n_pos = len(queries) // n_batch

    def by_head(values: Tensor) -> Tensor:
        return values.view(n_batch, n_pos, shape.n_heads, -1).transpose(1, 2)

    here = torch.arange(n_pos)
    back = (here[:, None] - here[None, :]).clamp(min=0, max=distance.shape[1] - 1)
    scores = by_head(queries) @ by_head(keys).mT + by_head(lone).mT + distance[:, back]
    return scores.masked_fill(~visible_keys(n_pos, n_pos, shape.windows[layer], queries.device), -torch.inf)


def gather(
    shape: ReadableShape,
    pattern: Float[Tensor, "batch head pos pos"],
    values: Float[Tensor, "row moved"],
    half: bool,
) -> Float[Tensor, "row moved"]:
    """Sum up, for every moved feature, what stands where its look looks."""
    n_batch, _, n_pos, _ = pattern.shape
    split = values.view(n_batch, n_pos, shape.n_heads, shape.n_moved).transpose(1, 2)
    return product(pattern, split, half).transpose(1, 2).reshape(n_batch * n_pos, shape.all_moved)


def divergence(
    pattern: Float[Tensor, "batch head pos pos"], scores: Float[Tensor, "batch head pos pos"]
) -> Float[Tensor, " head"]:
    """Compute KL(attention of the target‖look) of every head, nats per position."""
    logs = scores.log_softmax(-1).clamp(min=LEAST_LOG)
    return (pattern * (pattern.clamp(min=1e-9).log() - logs)).sum(-1).mean((0, 2))


def first_looks(
    shape: ReadableShape, mean: Float[Tensor, " read"], length: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draw the tables of one layer's looks, all but the curve over distance.

    Args:
        mean: of what is read; queries and keys do not feel it at the start.
        length: typical length of what is read, the mean taken away.
    """

    def drawn() -> Tensor:
        size = FIRST_SIZE / max(length, 1e-6)
        return torch.empty(len(mean), shape.all_matches).normal_(0, size, generator=generator)

    queries, keys = drawn(), drawn()
    return {
        "queries": queries,
        "query_biases": FIRST_BIAS - mean @ queries,
        "keys": keys,
        "key_biases": FIRST_BIAS - mean @ keys,
        "lone_keys": torch.zeros(len(mean), shape.n_heads),
    }
