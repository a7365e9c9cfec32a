"""Choose which edges stay.

Leaving an edge out and adding its mean to the constant changes what it leads to by ``w (f - E f)``; to second order
that costs ``w^2 Var(f) E(g^2) / 2`` nats, where g is the gradient of the log-likelihood by the sum that the edge adds
to, with answers drawn from the model itself (the diagonal of Fisher's information; LeCun et al. 1990, Optimal Brain
Damage). Features are taken as independent, which they are not; the fit mends what that breaks, and edges are left out a
few at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from englishroom.sparse.edges import Edges
from englishroom.sparse.model import WORDS, SparseModel

SURE = 0.6
"""Share of the average number of reads that every rule is sure of, so that none is left without."""
Key = tuple[int, str]
"""A table of edges: its stage and its source."""


@dataclass(frozen=True)
class Moments:
    """What features do on a text, and how much the answer minds.

    Attributes:
        means, variances: by source, of every feature.
        information: by stage, the mean squared gradient of the log-likelihood by what it reads, [column].
    """

    means: Mapping[str, Float[Tensor, " feature"]]
    variances: Mapping[str, Float[Tensor, " feature"]]
    information: tuple[Float[Tensor, " column"], ...]


def measure_moments(
    model: SparseModel, batches: list[Int[Tensor, "batch pos"]], frequencies: Float[Tensor, " token"], seed: int
) -> Moments:
    """Measure moments on a few batches; those of kinds of words are computed from the frequencies of all tokens."""
    generator = torch.Generator().manual_seed(seed)
    first: dict[str, Tensor] = {}
    second: dict[str, Tensor] = {}
    information = [torch.zeros(len(c)) for c in model.constants]
    n_rows = 0

    def look(name: str, values: Tensor) -> None:
        if name.startswith("stage."):
            total = information[int(name.removeprefix("stage."))]

            def add(grad: Tensor) -> None:
                total.add_(grad.square().sum(0))

            values.register_hook(add)
            return
        values = values.detach()
        first[name] = first.get(name, torch.zeros(())) + values.sum(0)
        second[name] = second.get(name, torch.zeros(())) + values.square().sum(0)

    for tokens in batches:
        logits = model.run(tokens, look)
        drawn = torch.multinomial(logits.detach().softmax(-1), 1, generator=generator)[:, 0]
        F.cross_entropy(logits, drawn, reduction="sum").backward()
        n_rows += len(logits)
    for tensor in model.parameters().values():
        tensor.grad = None
    means = {name: total / n_rows for name, total in first.items()}
    squares = {name: total / n_rows for name, total in second.items()}
    kinds, share = model.kinds.matrix().detach(), frequencies / frequencies.sum()
    means[WORDS], squares[WORDS] = share @ kinds, share @ kinds.square()
    variances = {name: (squares[name] - mean.square()).clamp(min=0) for name, mean in means.items()}
    return Moments(means, variances, tuple(total / n_rows for total in information))


def saliencies(model: SparseModel, moments: Moments) -> dict[Key, Float[Tensor, " edge"]]:
    """Estimate what leaving each edge out would cost, in nats per token."""
    found: dict[Key, Tensor] = {}
    for stage, tables in enumerate(model.tables):
        for source, edges in tables.items():
            spread = moments.variances[source][edges.sources]
            found[stage, source] = (
                0.5 * edges.weights.detach().square() * spread * moments.information[stage][edges.columns.long()]
            )
    return found


@dataclass(frozen=True)
class Bounds:
    """How many edges may stay.

    Attributes:
        edges: of all those that do not lead to rules.
        reads: of those that lead to rules, for each rule on average.
        fan_in: of those that lead to one rule.
        row_limit: of those from one feature to one stage.
        loudness: of those that lead to a stage's loudness.
        share: of a stage's columns, that one feature may add to.
    """

    edges: int
    reads: float | None
    fan_in: int | None
    row_limit: int | None
    loudness: int | None
    share: float = 1.0


def choose(model: SparseModel, saliency: Mapping[Key, Tensor], bounds: Bounds) -> dict[Key, Bool[Tensor, " edge"]]:
    """Say which edges stay: those that matter most.

    1. Bound the edges to each rule and to each stage's loudness.
    2. Bound the edges from each feature to each stage.
    3. Of what is left, the ones that matter most stay, wherever they are; edges to rules and all others are weighed
       apart, and every rule is sure of a few.
    """
    standing = {key: torch.ones(len(value), dtype=torch.bool) for key, value in saliency.items()}
    sure = {key: torch.zeros(len(value), dtype=torch.bool) for key, value in saliency.items()}
    for stage in {key[0] for key in saliency}:
        keys = [key for key in saliency if key[0] == stage]
        edges = [model.tables[stage][source] for _, source in keys]
        columns = torch.cat([e.columns.long() for e in edges])
        loud = columns == edges[0].n_columns - 1
        ranks = _ranks(torch.cat([saliency[key] for key in keys]), columns)
        kept = torch.ones(len(columns), dtype=torch.bool)
        if bounds.loudness is not None:
            kept &= ~loud | (ranks < bounds.loudness)
        if bounds.fan_in is not None and model.shape.has_rules(stage):
            kept &= loud | (ranks < bounds.fan_in)
        safe = torch.zeros_like(kept)
        if bounds.reads is not None and model.shape.has_rules(stage):
            safe = ~loud & (ranks < int(SURE * bounds.reads))
        sizes = [len(e.columns) for e in edges]
        for key, part, certain in zip(keys, kept.split(sizes), safe.split(sizes), strict=True):
            standing[key], sure[key] = part, certain
    for (stage, source), kept in standing.items():
        limit = int(bounds.share * len(model.constants[stage]))
        limit = limit if bounds.row_limit is None else min(limit, bounds.row_limit)
        ranks = _ranks(saliency[stage, source] * kept, model.tables[stage][source].sources)
        standing[stage, source] = kept & (ranks < limit)
    n_rules = sum(len(biases) for stage, biases in enumerate(model.biases) if model.shape.has_rules(stage))
    rooms = (bounds.edges, None if bounds.reads is None else round(bounds.reads * n_rules))
    for room, keys in zip(
        rooms, ([k for k in saliency if model.shape.has_rules(k[0]) == rules] for rules in (False, True)), strict=True
    ):
        taken = sum(int((sure[key] & standing[key]).sum()) for key in keys)
        values = torch.cat([saliency[key][standing[key] & ~sure[key]] for key in keys])
        if room is not None and room - taken < len(values):
            least = values.kthvalue(len(values) - max(0, room - taken)).values
            for key in keys:
                standing[key] = standing[key] & (sure[key] | (saliency[key] > least))
    return standing


def _ranks(values: Tensor, groups: Tensor) -> Int[Tensor, " item"]:
    """Rank items within their group, the largest value first."""
    order = values.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    grouped = groups[order]
    begins = torch.searchsorted(grouped, grouped)
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order)) - begins
    return ranks


def leave_out(
    model: SparseModel, kept: Mapping[Key, Bool[Tensor, " edge"]], means: Mapping[str, Tensor]
) -> SparseModel:
    """Leave edges out, and add the mean of what they added to the constants."""
    tables: dict[Key, Edges] = {}
    constants = [c.detach().clone() for c in model.constants]
    for (stage, source), stays in kept.items():
        edges = model.tables[stage][source]
        gone = ~stays
        lost = edges.weights.detach()[gone] * means[source][edges.sources[gone]]
        constants[stage].index_add_(0, edges.columns[gone].long(), lost)
        tables[stage, source] = edges.keep(stays)
    return replace(model.with_tables(tables), constants=tuple(constants))


def fan_in(model: SparseModel, stage: int) -> Int[Tensor, " column"]:
    """Count the features that each column of a stage reads, its loudness left aside."""
    columns = torch.cat([edges.columns for edges in model.tables[stage].values()])
    return torch.bincount(columns.long(), minlength=len(model.constants[stage]))[:-1]
