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

FEW, MANY = 0.55, 0.96
"""Shares of the rules that read at most ``reads`` features, and at most ``fan_in``: a little more than half and
95 of 100, since some of them, which read little, fire on no other text."""
BURIED = -1.0
"""Bias of a rule that can fire no more."""
GROUPS = ((1, "moved"), (2, "rules"))
"""Features that fire, by their stage in a layer."""
Key = tuple[int, str]
"""A table of edges: its stage and its source."""


@dataclass(frozen=True)
class Moments:
    """What features do on a text, and how much the answer minds.

    Attributes:
        means, variances: by source, of every feature.
        information: by stage, the mean squared gradient of the log-likelihood by what it reads, [column].
        loudness: by stage, the mean of what it divides by.
    """

    means: Mapping[str, Float[Tensor, " feature"]]
    variances: Mapping[str, Float[Tensor, " feature"]]
    information: tuple[Float[Tensor, " column"], ...]
    loudness: tuple[float, ...]


def measure_moments(
    model: SparseModel, batches: list[Int[Tensor, "batch pos"]], frequencies: Float[Tensor, " token"], seed: int
) -> Moments:
    """Measure moments on a few batches; those of kinds of words are computed from the frequencies of all tokens."""
    generator = torch.Generator().manual_seed(seed)
    first: dict[str, Tensor] = {}
    second: dict[str, Tensor] = {}
    information = [torch.zeros(len(c)) for c in model.constants]
    loudness = [0.0] * len(information)
    n_rows = 0

    def look(name: str, values: Tensor) -> None:
        if name.startswith("stage."):
            stage = int(name.removeprefix("stage."))
            total = information[stage]
            loudness[stage] += float(model.loudness(stage, values.detach()).sum())

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
    information = [total / n_rows for total in information]
    return Moments(means, variances, tuple(information), tuple(total / n_rows for total in loudness))


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
    """How many edges may stay; ``None`` bounds nothing.

    Attributes:
        edges: of all those that do not lead to rules.
        reads: of those that lead to one rule, for half of the rules.
        fan_in: the same, for 95 of 100 rules.
        most: the same, for any rule.
        numbers: of those that lead to one number that a head asks for, offers or carries.
        row_limit: of those from one feature to one stage.
        loudness: of those that lead to a stage's loudness.
        share: of a stage's columns, that one feature may add to.
        bury: whether rules that never fired where moments were measured lose all their edges, if reads are bounded;
            those that are left then read no more, all together, than ``share`` of what there is to read.
    """

    edges: int | None = None
    reads: int | None = None
    fan_in: int | None = None
    most: int | None = None
    numbers: int | None = None
    row_limit: int | None = None
    loudness: int | None = None
    share: float = 1.0
    bury: bool = False


def choose(
    model: SparseModel, saliency: Mapping[Key, Tensor], bounds: Bounds, fired: Mapping[int, Bool[Tensor, " column"]]
) -> dict[Key, Bool[Tensor, " edge"]]:
    """Say which edges stay: those that matter most. ``fired`` says, by stage, which rules ever fire.

    1. Bound the edges to each rule, where least is lost by it, to each number of a head, and to each stage's loudness.
    2. Bound the edges from each feature to each stage.
    3. Of what is left and leads to no rule, the edges that matter most stay, wherever they are.
    """
    standing: dict[Key, Tensor] = {}
    stages = {stage: [key for key in saliency if key[0] == stage] for stage, _ in saliency}
    columns = {
        s: torch.cat([model.tables[s][source].columns.long() for _, source in keys]) for s, keys in stages.items()
    }
    values = {stage: torch.cat([saliency[key] for key in keys]) for stage, keys in stages.items()}
    ranks = {stage: _ranks(values[stage], columns[stage]) for stage in stages}
    ranked = {s: (columns[s], values[s], ranks[s]) for s in stages if model.shape.has_rules(s)}
    allowed = _allowed(model, bounds, ranked, fired)
    for stage, keys in stages.items():
        loud = columns[stage] == len(model.biases[stage])
        kept = torch.ones_like(loud)
        if bounds.loudness is not None:
            kept &= ~loud | (ranks[stage] < bounds.loudness)
        if bounds.numbers is not None and model.shape.is_heads(stage):
            kept &= loud | (ranks[stage] < bounds.numbers)
        if stage in allowed:
            kept &= loud | (ranks[stage] < allowed[stage][columns[stage]])
        if bounds.bury and stage in fired:
            n_sources = sum(model.tables[stage][source].n_sources for _, source in keys)
            most = int(bounds.share * n_sources * int(fired[stage].sum()))
            kept &= loud | (ranks[stage] < _cap(columns[stage][kept & ~loud], most))
        sizes = [len(saliency[key]) for key in keys]
        for key, part in zip(keys, kept.split(sizes), strict=True):
            limit = int(bounds.share * len(model.constants[stage]))
            limit = limit if bounds.row_limit is None else min(limit, bounds.row_limit)
            standing[key] = part & (_ranks(saliency[key] * part, model.tables[stage][key[1]].sources) < limit)
    others = [key for key in saliency if not model.shape.has_rules(key[0])]
    left = torch.cat([saliency[key][standing[key]] for key in others])
    if bounds.edges is not None and bounds.edges < len(left):
        least = left.kthvalue(len(left) - bounds.edges).values
        for key in others:
            standing[key] = standing[key] & (saliency[key] > least)
    return {key: standing[key] for key in saliency}


def _allowed(
    model: SparseModel,
    bounds: Bounds,
    by_stage: Mapping[int, tuple[Tensor, Tensor, Tensor]],
    fired: Mapping[int, Bool[Tensor, " column"]],
) -> dict[int, Int[Tensor, " column"]]:
    """Say how many features each rule may read: few for most, more for the rules that would lose most by it.

    Shares are of the rules that fire at all; others may read few, or none where they are buried.
    """
    if bounds.reads is None or bounds.fan_in is None:
        return {}

    def lost(bound: int) -> Tensor:
        """Add up what each rule would lose if it read no more than this."""
        parts = []
        for stage, (columns, values, ranks) in by_stage.items():
            beyond = values * (ranks >= bound)
            parts.append(torch.zeros(len(model.biases[stage]) + 1).index_add_(0, columns, beyond)[:-1])
        return torch.cat(parts)

    by_few, by_many = lost(bounds.reads), lost(bounds.fan_in)
    alive = torch.cat([fired[stage] for stage in by_stage])
    n_rules = int(alive.sum())
    by_few[~alive], by_many[~alive] = -1, -1
    found = torch.full((len(alive),), bounds.reads)
    any_number, more = int((1 - MANY) * n_rules), int((1 - FEW) * n_rules)
    most = by_many.argsort(descending=True, stable=True)[:any_number]
    by_few[most] = torch.inf
    found[by_few.argsort(descending=True, stable=True)[:more]] = bounds.fan_in
    found[most] = bounds.fan_in if bounds.most is None else bounds.most
    if bounds.bury:
        found[~alive] = 0
    sizes = [len(model.biases[stage]) for stage in by_stage]
    return {s: torch.cat([part, part.new_zeros(1)]) for s, part in zip(by_stage, found.split(sizes), strict=True)}


def _cap(columns: Int[Tensor, " edge"], most: int) -> int:
    """Return how many edges each column may keep, at most, so that all keep no more than ``most`` together."""
    counts = torch.bincount(columns)
    caps = torch.arange(int(counts.max()) + 1 if len(counts) else 1)
    kept = torch.minimum(counts[None, :], caps[:, None]).sum(1)  # [cap]
    return int(caps[kept <= most].max())


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
    model: SparseModel, kept: Mapping[Key, Bool[Tensor, " edge"]], moments: Moments, bury: bool = False
) -> SparseModel:
    """Leave edges out, and add the mean of what they added to the constants.

    Rules end up without constants: theirs, divided by the mean loudness, go to the biases. With ``bury``, rules that
    never fired can fire no more.
    """
    fired = fired_rules(model, moments)
    tables: dict[Key, Edges] = {}
    constants = [c.detach().clone() for c in model.constants]
    for (stage, source), stays in kept.items():
        edges = model.tables[stage][source]
        gone = ~stays
        lost = edges.weights.detach()[gone] * moments.means[source][edges.sources[gone]]
        constants[stage].index_add_(0, edges.columns[gone].long(), lost)
        tables[stage, source] = edges.keep(stays)
    biases = list(model.biases)
    for stage in {stage for stage, _ in kept}:
        constant = constants[stage]
        if model.shape.has_rules(stage):
            biases[stage] = biases[stage].detach() + constant[:-1] / moments.loudness[stage]
            constant[:-1] = 0
            if bury:
                biases[stage] = torch.where(fired[stage], biases[stage].detach(), BURIED)
    return replace(model.with_tables(tables), constants=tuple(constants), biases=tuple(biases))


def fired_rules(model: SparseModel, moments: Moments) -> dict[int, Bool[Tensor, " column"]]:
    """Say, by stage, which rules fired where moments were measured."""
    names = {3 * layer + at: f"{group}.{layer}" for layer in range(model.shape.n_layers) for at, group in GROUPS}
    return {stage: moments.means[name] > 0 for stage, name in names.items()}


def fan_in(model: SparseModel, stage: int) -> Int[Tensor, " column"]:
    """Count the features that each column of a stage reads, its loudness left aside."""
    columns = torch.cat([edges.columns for edges in model.tables[stage].values()])
    return torch.bincount(columns.long(), minlength=len(model.constants[stage]))[:-1]
