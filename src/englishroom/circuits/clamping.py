"""Clamp features in a featured model and see what happens, with everything else held or with nothing held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from englishroom.circuits.attribution import Frozen, Logit, Node, active_nodes, edges_into, freeze, same_latent
from englishroom.circuits.basis import Basis
from englishroom.circuits.pair_sums import PairSums, add_sums
from englishroom.dictionaries.code import Codes
from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.replacement import Replacement
from englishroom.errors import ConfigError
from englishroom.steps import Progress, silent

Hold = Literal["features", "sets", "nothing"]
Question = Literal["edge_held", "edge_free", "total_free"]
"""What is predicted, and what it is compared with: see :class:`EdgeRow`."""


@dataclass(frozen=True)
class Clamp:
    """A feature held at a value at one position, and the target to look at."""

    source: Node
    value: float
    target: Node | Logit


def clamp(frozen: Frozen, clamps: Sequence[Clamp], hold: Hold) -> Float[Tensor, " clamp"]:
    """Run the model once with every clamp, side by side, and return each clamp's target.

    A latent of a cross-layer transcoder is clamped in everything that it writes.

    Args:
        hold: ``features`` freezes patterns, scales and all other features, so that direct edges are all that acts;
            ``sets`` freezes patterns, scales and which latents are active, and lets their values follow linearly;
            ``nothing`` lets the model run.

    Returns:
        The target's pre-activation, or its logit relative to the mean over the vocabulary.
    """
    run = _ClampedRun(frozen, clamps, hold)
    with torch.no_grad():
        tokens = frozen.tokens.expand(len(clamps), -1)
        final = frozen.replacement.run(tokens, run.tap, run.code_tap, errors=frozen.errors, attend=None)
        for row, asked in enumerate(clamps):
            if isinstance(asked.target, Logit):
                voted = frozen.replacement.logits(final[row, asked.target.position])
                run.seen[row] = voted[asked.target.token] - voted.mean()
    return run.seen


class _ClampedRun:
    """Taps that hold what is to be held, clamp what is to be clamped, and note what the targets read."""

    def __init__(self, frozen: Frozen, clamps: Sequence[Clamp], hold: Hold) -> None:
        self.frozen, self.hold = frozen, hold
        like = frozen.replacement.weights["embed.W_E"]
        self.seen = like.new_full((len(clamps),), float("nan"))
        self.rows = len(clamps)
        self.resid = self.z = like
        self.added: dict[str, Tensor] = {}  # by site, what clamped tokens and positions change there
        self.clamped: dict[int, list[tuple[int, int, int, float]]] = {}  # dictionary -> row, position, latent, value
        self.targets: dict[int, list[tuple[int, int, int]]] = {}  # dictionary -> row, position, latent
        for row, asked in enumerate(clamps):
            source = asked.source
            frozen.check_position(source.position)
            group = frozen.basis.group_of(source.feature)
            if group.dictionary is None:
                active = source in active_nodes(frozen, group.name)
                site = group.site if group.site.startswith("blocks.") else "blocks.0.hook_resid_pre"
                shape = (self.rows, len(frozen.tokens), group.directions.shape[1])
                added = self.added.setdefault(site, like.new_zeros(shape))
                step = asked.value - float(active)
                added[row, source.position] += step * group.directions[source.feature - group.start]
            else:
                place, latent = frozen.latent(source)
                self.clamped.setdefault(place, []).append((row, source.position, latent, asked.value))
            if isinstance(asked.target, Node):
                place, latent = frozen.latent(asked.target)
                self.targets.setdefault(place, []).append((row, asked.target.position, latent))
        self.places = {id(d): place for place, d in enumerate(frozen.replacement.dictionaries)}

    def tap(self, site: str, value: Tensor) -> Tensor:
        norm, _, hook = site.rpartition(".")
        if site in self.added:
            value = value + self.added[site]
        if hook.startswith("hook_resid"):
            self.resid = value
        elif hook == "hook_z":
            self.z = value
        elif self.hold != "nothing" and hook == "hook_pattern":
            return self.frozen.patterns[int(norm.split(".")[1])].expand_as(value)
        elif self.hold != "nothing" and hook == "hook_normalized":
            return self.frozen.readings[norm].normalized(self.resid, self.frozen.scales[norm])
        return value

    def code_tap(self, dictionary: Dictionary, codes: Codes) -> Codes:
        place = self.places[id(dictionary)]
        x = self._input(dictionary)
        w = dictionary.weights
        for row, position, latent in self.targets.get(place, ()):
            self.seen[row] = x[row, position] @ w["W_enc"][:, latent] + w["b_enc"][latent]
        if self.hold != "nothing":
            held = self.frozen.activity.codes[place]
            indices, values = held.indices, held.values.expand(self.rows, -1, -1)
            if self.hold == "sets":
                at = indices.long()
                pre = torch.einsum("bpd,psd->bps", x, w["W_enc"].T[at]) + w["b_enc"][at]
                values = pre * (values != 0)
            codes = Codes(
                indices.repeat(self.rows, 1), values.reshape(-1, values.shape[-1]), held.counts.repeat(self.rows)
            )
        for row, position, latent, value in self.clamped.get(place, ()):
            codes = with_value(codes, row * len(self.frozen.tokens) + position, latent, value)
        return codes

    def _input(self, dictionary: Dictionary) -> Tensor:
        """Compute what a dictionary reads from what was last seen: its own site is tapped only after it was read."""
        model, reads = self.frozen.replacement, dictionary.spec.reads
        if reads.endswith("hook_attn_out"):
            part = reads.replace("hook_attn_out", "attn")
            out = self.z.flatten(2) @ model.weights[f"{part}.W_O"]
            bias = model.weights.get(f"{part}.b_O")
            return out if bias is None else out + bias
        norm = reads.rpartition(".")[0]
        reader = self.frozen.readings[norm]
        scale = reader.scale(self.resid) if self.hold == "nothing" else self.frozen.scales[norm]
        return reader.normalized(self.resid, scale)


def with_value(codes: Codes, row: int, latent: int, value: float) -> Codes:
    """Return codes in which a latent has another value in one row, active before or not."""
    used = int(codes.counts[row])
    (found,) = (codes.indices[row, :used] == latent).nonzero(as_tuple=True)
    indices, values, counts = codes.indices, codes.values.clone(), codes.counts
    if len(found):
        values[row, found[0]] = value
        return replace(codes, values=values)
    if used == indices.shape[1]:
        indices, values = F.pad(indices, (0, 1)), F.pad(values, (0, 1))
    indices, counts = indices.clone(), counts.clone()
    indices[row, used], values[row, used], counts[row] = latent, value, used + 1
    return Codes(indices, values, counts)


@dataclass(frozen=True)
class EdgeRow:
    """How well linearity predicts what clamping a source to zero does to a target.

    Attributes:
        source, target: kind of either (``token``, ``position``, ``moved``, ``rule``, ``table``; of targets also
            ``logit``), or ``all``.
        question: ``edge_held``, the edge against a run with patterns, norms and all other features held (linear, so it
            checks the arithmetic); ``edge_free``, the edge against a run with nothing held; ``total_free``, the linear
            effect along all paths, with patterns, norms and sets of active latents held, against a run with nothing
            held (the honest test).
        n: pairs of source and target.
        pearson, slope: of the actual change on the predicted.
    """

    source: str
    target: str
    question: Question
    n: int
    pearson: float
    slope: float
    rms_predicted: float
    rms_actual: float


EdgeSums = Mapping[tuple[str, str, Question], PairSums]
"""Predicted changes as x and actual ones as y, by kind of source and target; add them up with ``add_sums``."""


def sum_edges(
    basis: Basis,
    replacement: Replacement,
    rows: Int[Tensor, "row pos"],
    generator: torch.Generator,
    n_targets: int = 8,
    n_sources: int = 4,
    progress: Progress = silent,
) -> EdgeSums:
    """Predict by linearity what clamping features to zero does, then do it; :func:`tabulate_edges` compares the two.

    On every text, targets are drawn evenly from the kinds and layers of active latents and logits of the tokens that
    come next; sources among the target's edges, in proportion to their size.

    Raises:
        ConfigError: there is no text of two tokens or more, or a block has no dictionary.
    """
    if not rows.numel() or rows.shape[1] < 2:
        raise ConfigError(f"verifying edges: rows are {tuple(rows.shape)}; expected one or more, of two tokens or more")
    total: EdgeSums = {}
    with torch.no_grad():
        for done, tokens in enumerate(rows, 1):
            total = add_sums(total, _sum_text(freeze(basis, replacement, tokens), generator, n_targets, n_sources))
            progress("edges", done, len(rows))
    return total


def tabulate_edges(sums: EdgeSums) -> list[EdgeRow]:
    """Say how well edges are predicted: over all, and by kind of source and target."""
    whole: EdgeSums = {}
    for (_, _, question), moments in sums.items():
        whole = add_sums(whole, {("all", "all", question): moments})
    return [
        EdgeRow(*key, moments.n, moments.pearson, moments.slope, moments.rms_x, moments.rms_y)
        for table in (whole, dict(sorted(sums.items())))
        for key, moments in table.items()
    ]


def _sum_text(frozen: Frozen, generator: torch.Generator, n_targets: int, n_sources: int) -> EdgeSums:
    found: EdgeSums = {}
    groups = {g.name: active_nodes(frozen, g.name) for g in frozen.basis.groups if g.dictionary is not None}
    drawable = ["logit", *(name for name, nodes in groups.items() if nodes)]
    for _ in range(n_targets):
        name = drawable[_draw(len(drawable), generator)]
        if name == "logit":
            position = _draw(len(frozen.tokens) - 1, generator)
            target: Node | Logit = Logit(int(frozen.tokens[position + 1]), position)
        else:
            target = groups[name][_draw(len(groups[name]), generator)]
        edges = edges_into(frozen, target)
        sizes = edges.values.abs().double()
        n = min(n_sources, int((sizes > 0).sum()))
        if n == 0:
            continue
        drawn = torch.multinomial(sizes, n, generator=generator).tolist()
        sources = [Node(int(edges.features[at]), int(edges.positions[at])) for at in drawn]
        clamps = [Clamp(source, 0.0, target) for source in sources]
        held, linear, free = (clamp(frozen, clamps, hold) - edges.total for hold in ("features", "sets", "nothing"))
        edge = -torch.tensor([same_latent(frozen, edges, source) for source in sources])
        pairs: dict[Question, tuple[Tensor, Tensor]] = {
            "edge_held": (edge, held),
            "edge_free": (edge, free),
            "total_free": (linear, free),
        }
        kind = "logit" if isinstance(target, Logit) else frozen.basis.group_of(target.feature).kind
        for at, source in enumerate(sources):
            key = frozen.basis.group_of(source.feature).kind, kind
            for question, (predicted, actual) in pairs.items():
                found = add_sums(found, {(*key, question): PairSums.of(predicted[at], actual[at])})
    return found


def _draw(n: int, generator: torch.Generator) -> int:
    return int(torch.randint(n, (1,), generator=generator))
