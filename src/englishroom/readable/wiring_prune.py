"""Choose which edges of a wired model stay: those without which the distribution would change most.

What leaving an edge out costs is, to second order, the square of its weight times the mean square of its gradient
(Fisher), which Adam keeps. Reads are bounded by rank: of what leads to one sum, the word lists for it and against it
among it, that stays which costs most. Sums that lose most by the tightest bound may read more, up to a second bound for
45 in 100 of them and a third for 5. Votes, and the words that follow a word, share one budget each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from englishroom.readable.config import WiringConfig
from englishroom.readable.wiring import WiredModel

SECOND, THIRD = 0.45, 0.05
"""Shares of the sums that may read more than the first bound, and more than the second."""
NEARLY_NOTHING = 1e-6
"""Sums that could lose less than this share of what a sum could lose on average are as good as never on; they have no
part in those shares."""
FULLEST = 3
"""Of all words, one in so many stays at most in a list, in a feature's votes, and behind a word."""
Costs = Mapping[str, Float[Tensor, " edge"]]
Kept = dict[str, Bool[Tensor, " edge"]]


def choose_edges(model: WiredModel, costs: Costs, config: WiringConfig, done: float) -> Kept:
    """Say which edges stay.

    Args:
        costs: by table of edges, what leaving out each would cost.
        done: how much of the pruning is behind; bounds fall by the same factor in equal shares of it.
    """
    layers = range(model.shape.n_layers)
    features = [f"{group}.{layer}" for layer in layers for group in ("moved", "rules")]
    bounds = config.reads_half, config.reads_p95, config.reads_most
    words = config.words_half, config.words_p95, config.words_most
    kept = _choose_reads(model, costs, features, bounds, words, config, done)
    for layer in layers:
        for group in ("queries", "keys", "lone_keys"):
            one = [f"{group}.{layer}"]
            kept |= _choose_reads(model, costs, one, (config.look_reads,), (config.look_words,), config, done)
    for name, each, longest, first in (
        ("votes", config.votes, config.votes_most, config.first_votes),
        ("follows", config.follows, config.follows_most, model.shape.d_vocab),
    ):
        edges, cost = model.edges[name], costs[name]
        rows = _bound(longest, first, done)
        order, ranks = _ranks(edges.sources, cost, edges.n_sources)
        within = torch.ones(len(cost), dtype=torch.bool)
        within[order] = ranks < rows
        most = _bound(min(each, max(1, edges.n_columns // FULLEST)), first, done) * edges.n_sources
        kept[name] = within & most_important(cost * within, most)
    return kept


def _bound(least: int, first: int, done: float) -> int:
    return max(1, round(first * (least / first) ** done)) if least < first else least


def _choose_reads(
    model: WiredModel,
    costs: Costs,
    groups: Sequence[str],
    reads: Sequence[int],
    words: Sequence[int],
    config: WiringConfig,
    done: float,
) -> Kept:
    """Choose what the sums of some groups read, which share their bounds: of features and lists together, and of words.

    Which words stay is chosen first, then which lists of words stay at all.
    """
    most = max(1, model.shape.d_vocab // FULLEST)
    starts = [0]
    for group in groups:
        starts.append(starts[-1] + model.edges[group].n_columns)
    columns = torch.cat([model.edges[g].columns.long() + at for g, at in zip(groups, starts, strict=False)])
    cost = torch.cat([costs[g] for g in groups])
    lists = [f"words.{g}" for g in groups]
    of_words = torch.cat([model.edges[g].columns.long() + at for g, at in zip(lists, starts, strict=False)])
    against = torch.cat([model.edges[g].weights.detach() < 0 for g in lists])
    cost_of_words = torch.cat([costs[g] for g in lists])
    first_words = min(config.first_words, model.shape.d_vocab)
    by_words = [_bound(min(n, most), first_words, done) for n in words]
    words_kept = within_bounds(of_words, cost_of_words, starts[-1], by_words)
    which = of_words * 2 + against  # of each sum its two lists
    cost_of_lists = torch.zeros(2 * starts[-1]).index_add_(0, which, cost_of_words * words_kept)
    own = torch.arange(2 * starts[-1]) // 2
    by_reads = [_bound(n, config.first_reads, done) for n in reads]
    both = within_bounds(torch.cat([columns, own]), torch.cat([cost, cost_of_lists]), starts[-1], by_reads)
    reads_kept, lists_kept = both[: len(columns)], both[len(columns) :]
    words_kept &= lists_kept[which]
    found: Kept = {}
    for names, kept in ((groups, reads_kept), (lists, words_kept)):
        parts = kept.split([len(costs[name]) for name in names])
        found |= dict(zip(names, parts, strict=True))
    return found


def within_bounds(
    columns: Int[Tensor, " edge"], cost: Float[Tensor, " edge"], n_columns: int, bounds: Sequence[int]
) -> Bool[Tensor, " edge"]:
    """Keep, of the edges to every column, as many as bounds allow: the first, or more where most would be lost."""
    order, ranks = _ranks(columns, cost, n_columns)
    lost = torch.zeros(n_columns).index_add_(0, columns[order], cost[order] * (ranks >= bounds[0]))
    total = torch.zeros(n_columns).index_add_(0, columns, cost)
    alive = int((total > NEARLY_NOTHING * total.mean()).sum())
    most = torch.full((n_columns,), bounds[0])
    neediest = lost.argsort(descending=True, stable=True)
    for share, more in zip((SECOND, THIRD), bounds[1:], strict=False):
        most[neediest[: int(share * alive)]] = more
    kept = torch.zeros(len(columns), dtype=torch.bool)
    kept[order] = ranks < most[columns[order]]
    return kept


def most_important(cost: Float[Tensor, " edge"], most: int) -> Bool[Tensor, " edge"]:
    """Keep the ``most`` edges that cost most to leave out."""
    if len(cost) <= most:
        return torch.ones(len(cost), dtype=torch.bool)
    return cost > cost.kthvalue(len(cost) - most).values


def _ranks(
    columns: Int[Tensor, " edge"], cost: Float[Tensor, " edge"], n_columns: int
) -> tuple[Int[Tensor, " edge"], Int[Tensor, " edge"]]:
    """Order edges by column, the costliest first; return the order, and each edge's rank within its column."""
    order = cost.argsort(descending=True, stable=True)
    order = order[columns[order].argsort(stable=True)]
    first = torch.searchsorted(columns[order].contiguous(), torch.arange(n_columns))
    return order, torch.arange(len(order)) - first[columns[order]]
