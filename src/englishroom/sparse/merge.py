"""Merge features that say the same: rules that fire together, always in the same proportion.

Dictionaries split features, and what told two of them apart may have been pruned. Of two whose activations correlate,
the stronger stays and takes over what the other adds, times the proportion; the other is buried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from englishroom.sparse.edges import Edges
from englishroom.sparse.model import SparseModel
from englishroom.sparse.prune import BURIED, GROUPS

LEAST_FIRINGS = 20
"""Positions at which both must fire to be compared."""


@dataclass(frozen=True)
class Twins:
    """Features of one group that others stand for.

    Attributes:
        gone: features that are merged, [pair].
        kept: the features that they are merged into, [pair].
        shares: how strong the former are, in shares of the latter, [pair].
    """

    gone: Int[Tensor, " pair"]
    kept: Int[Tensor, " pair"]
    shares: Tensor


def find_twins(model: SparseModel, batches: list[Int[Tensor, "batch pos"]], least: float) -> dict[str, Twins]:
    """Find features whose activations correlate at ``least`` or more on some text, by their group."""
    seen: dict[str, list[Tensor]] = {}

    def look(name: str, values: Tensor) -> None:
        if name.partition(".")[0] in {group for _, group in GROUPS}:
            seen.setdefault(name, []).append(values.detach())

    with torch.no_grad():
        for tokens in batches:
            model.run(tokens, look)
    return {name: _twins(torch.cat(values), least) for name, values in seen.items()}


def _twins(x: Tensor, least: float) -> Twins:
    alive = ((x > 0).sum(0) >= LEAST_FIRINGS).nonzero()[:, 0]
    x = x[:, alive].double()
    order = x.square().sum(0).argsort(descending=True)  # the strongest first
    alive, x = alive[order], x[:, order]
    centred = x - x.mean(0)
    scaled = centred / centred.norm(dim=0).clamp(min=1e-12)
    alike = (scaled.T @ scaled) >= least
    gone, kept, shares = [], [], []
    free = torch.ones(len(alive), dtype=torch.bool)
    for i in range(len(alive)):
        if not free[i]:
            continue
        free[i] = False
        for j in (alike[i] & free).nonzero()[:, 0].tolist():
            free[j] = False
            gone.append(int(alive[j]))
            kept.append(int(alive[i]))
            shares.append(float(x[:, i] @ x[:, j] / (x[:, i] @ x[:, i])))
    return Twins(torch.tensor(gone, dtype=torch.long), torch.tensor(kept, dtype=torch.long), torch.tensor(shares))


def merge(model: SparseModel, twins: Mapping[str, Twins], row_limit: int | None) -> tuple[SparseModel, int]:
    """Merge twins, but for those that together would add to more than ``row_limit`` sums of a stage.

    Returns:
        The model, and how many features are gone.
    """
    tables = [dict(stage) for stage in model.tables]
    biases, n_gone = list(model.biases), 0
    for stage, name in (
        (3 * layer + at, f"{group}.{layer}") for layer in range(len(tables) // 3) for at, group in GROUPS
    ):
        pairs = twins[name]
        for later in range(stage + 1, len(tables)):
            if name in tables[later] and row_limit is not None:
                pairs = _fitting(pairs, tables[later][name], row_limit)
        if not len(pairs.gone):
            continue
        n_gone += len(pairs.gone)
        for later in range(stage + 1, len(tables)):
            if name in tables[later]:
                tables[later][name] = _taken_over(tables[later][name], pairs)
        silent = torch.zeros(len(biases[stage]) + 1, dtype=torch.bool)
        silent[pairs.gone] = True
        tables[stage] = {s: edges.keep(~silent[edges.columns.long()]) for s, edges in tables[stage].items()}
        biases[stage] = torch.where(silent[:-1], BURIED, biases[stage].detach())
    return replace(model, tables=tuple(tables), biases=tuple(biases)), n_gone


def _fitting(pairs: Twins, edges: Edges, row_limit: int) -> Twins:
    """Leave out pairs whose rows, with all that are merged into them, would be too long."""
    counts = edges.starts.diff()
    longest = counts.clone().index_add_(0, pairs.kept, counts[pairs.gone])
    stays = longest[pairs.kept] <= row_limit
    return Twins(pairs.gone[stays], pairs.kept[stays], pairs.shares[stays])


def _taken_over(edges: Edges, pairs: Twins) -> Edges:
    """Give the edges of features that are gone to those that stand for them."""
    onto, times = torch.arange(edges.n_sources), torch.ones(edges.n_sources)
    onto[pairs.gone], times[pairs.gone] = pairs.kept, pairs.shares.float()
    places = onto[edges.sources] * edges.n_columns + edges.columns.long()
    joined, where = torch.unique(places, return_inverse=True)
    weights = torch.zeros(len(joined)).index_add_(0, where, edges.weights.detach() * times[edges.sources])
    counts = torch.bincount(joined // edges.n_columns, minlength=edges.n_sources)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Edges(starts, (joined % edges.n_columns).int(), weights, edges.n_columns)
