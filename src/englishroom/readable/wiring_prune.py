"""Choose which edges of a wired model stay.

Reads are bounded by rank: of the edges to one sum those stay through which it varies most. Sums that lose most by the
tightest bound may read more, up to a second bound for 45 in 100 of them and a third for 5. Votes, and the words
that follow a word, stay by how much the distribution would change without them: to second order, the square of an edge,
times the mean square of what it leads from, times the mean of ``p (1 - p)`` of the word that it leads to (Fisher).
No table keeps more than a third of its entries in the end: with half of them it would be a matrix, once features that
are never on are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from englishroom.readable.config import ShortConfig
from englishroom.readable.wiring import WiredModel
from englishroom.sparse.edges import Edges

SECOND, THIRD = 0.45, 0.05
"""Shares of the sums that may read more than the first bound, and more than the second."""
FULLEST = 3
"""A table keeps one entry in so many at most in the end."""
MEMORY = 0.9
"""How much of the running means stays from step to step."""


@dataclass(frozen=True)
class Means:
    """Running means over the text.

    Attributes:
        first, second: of every feature's value and its square.
        words: of ``p (1 - p)`` of every word's probability.
    """

    first: Float[Tensor, " feature"]
    second: Float[Tensor, " feature"]
    words: Float[Tensor, " d_vocab"]

    def after(self, newer: Means) -> Means:
        """Return the means with those of one more batch."""
        pairs = ((self.first, newer.first), (self.second, newer.second), (self.words, newer.words))
        return Means(*(MEMORY * old + (1 - MEMORY) * new for old, new in pairs))


def means_of(features: Float[Tensor, "row feature"], logits: Float[Tensor, "row d_vocab"]) -> Means:
    """Measure one batch."""
    p = logits.softmax(-1)
    return Means(features.mean(0), features.square().mean(0), (p * (1 - p)).mean(0))


def choose_edges(
    model: WiredModel, means: Means, frequencies: Float[Tensor, " token"], config: ShortConfig, done: float
) -> dict[str, Bool[Tensor, " edge"]]:
    """Say which edges stay.

    Args:
        frequencies: shares of the tokens in the text.
        done: how much of the pruning is behind; bounds fall by the same factor in equal shares of it.
    """
    spread = (means.second - means.first.square()).clamp(min=0)

    def bound(least: int, first: int) -> int:
        return max(1, round(first * (least / first) ** done)) if least < first else least

    looks = ((config.look_reads,), (config.look_words,))
    features = (
        (config.reads_half, config.reads_p95, config.reads_most),
        (config.words_half, config.words_p95, config.words_most),
    )
    firsts = (config.first_reads, config.first_words)
    kept: dict[str, Tensor] = {}
    for layer in range(model.shape.n_layers):
        for name, bounds in (
            ("queries", looks),
            ("keys", looks),
            ("lone_keys", looks),
            ("moved", features),
            ("rules", features),
        ):
            for kind, size, first, least in zip(("", "words."), (spread, frequencies), firsts, bounds, strict=True):
                edges = model.edges[f"{kind}{name}.{layer}"]
                importance = edges.weights.detach().square() * size[edges.sources]
                some = max(1, edges.n_sources // FULLEST)
                within = within_bounds(edges, importance, [bound(min(n, some), first) for n in least])
                kept[f"{kind}{name}.{layer}"] = within
    for name, size, each in (
        ("votes", means.second, config.votes),
        ("follows", frequencies, config.follows),
    ):
        edges = model.edges[name]
        most = bound(min(each, max(1, edges.n_columns // FULLEST)) * edges.n_sources, max(1, len(edges.columns)))
        importance = edges.weights.detach().square() * size[edges.sources] * means.words[edges.columns.long()]
        rows = bound(config.row_most, edges.n_columns)
        within = torch.ones(len(importance), dtype=torch.bool)
        order, ranks = _ranks(edges.sources, importance, edges.n_sources)
        within[order] = ranks < rows
        kept[name] = within & most_important(importance * within, most)
    return kept


def within_bounds(edges: Edges, importance: Float[Tensor, " edge"], bounds: list[int]) -> Bool[Tensor, " edge"]:
    """Keep, of the edges to every column, as many as bounds allow: the first, or more where most would be lost."""
    columns = edges.columns.long()
    order, ranks = _ranks(columns, importance, edges.n_columns)
    total = torch.zeros(edges.n_columns).index_add_(0, columns, importance)
    inside = torch.zeros(edges.n_columns).index_add_(0, columns[order], importance[order] * (ranks < bounds[0]))
    lost = torch.where(total > 0, 1 - inside / total.clamp(min=1e-30), torch.zeros(()))
    alive = int((total > 0).sum())
    most = torch.full((edges.n_columns,), bounds[0])
    neediest = lost.argsort(descending=True, stable=True)
    for share, more in zip((SECOND, THIRD), bounds[1:], strict=False):
        most[neediest[: int(share * alive)]] = more
    kept = torch.zeros(len(columns), dtype=torch.bool)
    kept[order] = ranks < most[columns[order]]
    return kept


def most_important(importance: Float[Tensor, " edge"], most: int) -> Bool[Tensor, " edge"]:
    """Keep the ``most`` most important edges."""
    if len(importance) <= most:
        return torch.ones(len(importance), dtype=torch.bool)
    return importance > importance.kthvalue(len(importance) - most).values


def _ranks(
    columns: Int[Tensor, " edge"], importance: Float[Tensor, " edge"], n_columns: int
) -> tuple[Int[Tensor, " edge"], Int[Tensor, " edge"]]:
    """Order edges by column, the most important first; return the order, and each edge's rank within its column."""
    order = importance.argsort(descending=True, stable=True)
    order = order[columns[order].argsort(stable=True)]
    first = torch.searchsorted(columns[order], torch.arange(n_columns))
    return order, torch.arange(len(order)) - first[columns[order]]
