"""Start a sparse model where a target with transcoders stands: every edge between features that the weights imply.

1. Tokens become kinds of words, by a dictionary over their vectors before every MLP and after the last; votes go
   through kinds of words in the same way, by a dictionary over the unembedding.
2. Position embeddings become stations.
3. Whatever reads the residual stream is folded with its norm; an edge from a feature to what a stage reads is the
   feature's direction times that map (a virtual weight).
4. The norm's scale is fitted, by ridge regression on a sample of the text, as one more sum over features: the loudness.
5. The numbers of every head are turned so that each has few readers and writers.
6. Of the edges to each sum those stay that together explain most of it, if they are bounded.

What is lost already is what kinds, stations, loudness and those edges do not explain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from englishroom.circuits.folded_norm import FoldedNorm, reading
from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.replacement import Replacement
from englishroom.errors import ConfigError
from englishroom.models.spec import ModelSpec
from englishroom.sparse.config import StartConfig
from englishroom.sparse.edges import Edges
from englishroom.sparse.kinds import Kinds, learn_kinds
from englishroom.sparse.model import LEAST_LOUDNESS, PLACES, WORDS, Shape, SparseModel
from englishroom.sparse.observed import observe
from englishroom.sparse.pursue import pursue
from englishroom.sparse.turn import turn

FARTHER = 1.05
"""How much farther each station lies from the beginning than the one before."""
LEAST = 1e-6
"""Floor of a loudness that is 1 whatever the text."""


def start(
    replacement: Replacement,
    rows: Int[Tensor, "row pos"],
    frequencies: Float[Tensor, " token"],
    config: StartConfig,
    seed: int,
    progress: Callable[[str, int, int], None] = lambda _step, _done, _total: None,
) -> SparseModel:
    """Write a target with a dictionary for every attention output and every MLP as a sparse model.

    Args:
        rows: text on which the loudness is fitted.
        frequencies: of the tokens, in the text.

    Raises:
        ConfigError: dictionaries are others than these.
    """
    spec = replacement.spec
    moved, rules = dictionaries_of(replacement)
    weights = {name: tensor.detach().double() for name, tensor in replacement.weights.items()}
    versions = _token_vectors(replacement, weights, rules)
    learnt = learn_kinds(
        *_side_by_side(versions, frequencies),
        config.n_kinds,
        config.kinds_active,
        seed,
        progress=lambda done, total: progress("kinds of words", done, total),
    )
    unembed = weights["embed.W_E"] if spec.tied else weights["unembed.W_U"].T
    said = learn_kinds(
        (unembed - unembed.mean(0)).float(),
        frequencies,
        config.n_kinds,
        config.kinds_active,
        seed + 1,
        progress=lambda done, total: progress("kinds of words said", done, total),
    )
    stations = hats(spec.n_ctx)
    directions = _Directions(spec, weights, moved, rules, versions, frequencies, learnt, stations)
    stages = _stages(spec, weights, rules, said)
    observed = observe(replacement, moved, rules, learnt, stations, rows, progress)
    loudness = observed.loudness()
    sizes = [spec.n_layers, spec.n_heads, spec.d_head, spec.d_vocab, spec.n_ctx]
    sizes += [size for (d, *_) in (moved, rules) for size in (d.spec.n_latents, d.spec.k or d.spec.n_latents)]
    shape = Shape(*sizes, windows=spec.windows, rotary_theta=spec.rotary_theta)
    tables, constants, biases, floors = [], [], [], []
    for stage in range(shape.n_stages):
        if shape.is_moved(stage):
            layer = stage // 3
            edges, constant = _reads_heads(weights, layer, moved[layer])
            tables.append({f"brought.{layer}": edges})
            constants.append(torch.cat([torch.zeros_like(constant), torch.ones(1)]))  # no norm to divide by
            biases.append(constant)
            floors.append(LEAST)
            continue
        norm, matrix, bias = stages[stage]
        folded, constant = norm.fold(matrix, bias)
        mean, by_source = loudness[stage]
        given = {}
        for source, loud in by_source.items():
            edges = directions.of(source, stage) @ folded
            given[source] = Edges.of(torch.cat([edges, loud[:, None]], 1).float())
        tables.append(given)
        constants.append(torch.cat([directions.constant(stage) @ folded, mean[None]]).float())
        biases.append(constant.float())
        floors.append(LEAST_LOUDNESS * float(mean))
    model = SparseModel(
        shape,
        learnt.edges,
        said.edges,
        stations.float(),
        tuple(tables),
        tuple(constants),
        tuple(biases),
        tuple(floors),
        tuple(torch.zeros(spec.n_heads, spec.n_ctx) for _ in range(spec.n_layers)),
    )
    most, model = config.bound(model.n_edges), turn(model)
    if most is None:
        return model
    last = shape.n_stages - 1
    times = {stage: 4 if stage == last else 2 if shape.is_heads(stage) else 1 for stage in range(shape.n_stages)}
    reads = {stage: most * n for stage, n in times.items() if not shape.is_moved(stage)}
    return pursue(model, observed, reads, progress)


def hats(n_ctx: int) -> Float[Tensor, "pos station"]:
    """Place stations along the text, ever farther apart; a position is between two of them, in shares that sum to 1."""
    places = [0]
    while places[-1] < n_ctx - 1:
        places.append(min(n_ctx - 1, max(places[-1] + 1, round(FARTHER * places[-1]))))
    found = torch.zeros(n_ctx, len(places), dtype=torch.float64)
    for station, (low, high) in enumerate(pairwise(places)):
        at = torch.arange(low, high + 1)
        share = (at - low).double() / (high - low)
        found[at, station], found[at, station + 1] = 1 - share, share
    if len(places) == 1:
        found[:] = 1
    return found


def dictionaries_of(replacement: Replacement) -> tuple[list[Dictionary], list[Dictionary]]:
    """Return the dictionaries of attention outputs and of MLPs, each in the order of the layers.

    Raises:
        ConfigError: there are others, or they are of another form.
    """
    spec = replacement.spec
    moved: list[Dictionary] = []
    rules: list[Dictionary] = []
    for layer in range(spec.n_layers):
        attended, written = f"blocks.{layer}.hook_attn_out", f"blocks.{layer}.hook_mlp_out"
        for found, reads, writes in (
            (moved, attended, attended),
            (rules, f"blocks.{layer}.ln2.hook_normalized", written),
        ):
            found += [d for d in replacement.dictionaries if (d.spec.reads, d.spec.writes) == (reads, (writes,))]
    if len(moved) != spec.n_layers or len(rules) != spec.n_layers or len(replacement.dictionaries) != 2 * spec.n_layers:
        raise ConfigError(
            "a sparse program starts from one dictionary for each attention output, one transcoder for each MLP, and "
            "no others"
        )
    for group in (moved, rules):
        one = group[0].spec
        for d in group:
            if d.spec.skip or d.spec.activation != "topk" or (d.spec.n_latents, d.spec.k) != (one.n_latents, one.k):
                raise ConfigError(
                    f"{d.spec.name}: expected topk without a skip, all layers with the same latents and k"
                )
    return moved, rules


def _reads_heads(weights: Mapping[str, Tensor], layer: int, d: Dictionary) -> tuple[Edges, Tensor]:
    """Return how moved features read the numbers that heads bring: edges, with a loudness that nothing adds to."""
    encoder = d.weights["W_enc"].double()
    out, bias = weights[f"blocks.{layer}.attn.W_O"], weights.get(f"blocks.{layer}.attn.b_O")
    constant = d.weights["b_enc"].double()
    constant = constant if bias is None else constant + bias @ encoder
    read = (out @ encoder).float()
    kept = torch.ones(len(read), read.shape[1] + 1, dtype=torch.bool)
    kept[:, -1] = False
    return Edges.of(torch.cat([read, read.new_zeros(len(read), 1)], 1), kept), constant.float()


def _token_vectors(replacement: Replacement, weights: Mapping[str, Tensor], rules: list[Dictionary]) -> list[Tensor]:
    """Return what a token adds to the stream before the first MLP, after it, and so on, each [token, d]."""
    found = [weights["embed.W_E"]]
    for d in rules:
        table = replacement.tables.get(d.spec.writes[0])
        found.append(found[-1] if table is None else found[-1] + table.detach().double())
    return found


def _side_by_side(versions: list[Tensor], frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """Join a token's vectors, each divided by the spread of all tokens'."""
    return torch.cat([v / s for v, s in zip(versions, _spreads(versions, frequencies), strict=True)], 1).float(), (
        frequencies
    )


def _spreads(versions: list[Tensor], frequencies: Tensor) -> list[Tensor]:
    share = (frequencies / frequencies.sum()).double()[:, None]
    return [(share * (v - (share * v).sum(0)).square()).sum().sqrt() for v in versions]


class _Directions:
    """What every feature adds to the stream, as a stage sees it."""

    def __init__(
        self,
        spec: ModelSpec,
        weights: Mapping[str, Tensor],
        moved: list[Dictionary],
        rules: list[Dictionary],
        versions: list[Tensor],
        frequencies: Tensor,
        learnt: Kinds,
        stations: Tensor,
    ) -> None:
        self.moved, self.rules = moved, rules
        spreads, d = _spreads(versions, frequencies), spec.d_model
        part = [slice(i * d, (i + 1) * d) for i in range(len(versions))]
        self.kinds = [learnt.directions[:, p].double() * s for p, s in zip(part, spreads, strict=True)]
        self.common = [learnt.mean[p].double() * s for p, s in zip(part, spreads, strict=True)]
        places = weights.get("pos_embed.W_pos", torch.zeros(spec.n_ctx, d, dtype=torch.float64))  # none where rotary
        self.stations = torch.linalg.lstsq(stations, places).solution

    def of(self, source: str, stage: int) -> Float[Tensor, "feature d"]:
        if source == WORDS:
            return self.kinds[stage // 3]
        if source == PLACES:
            return self.stations
        kind, layer = source.split(".")
        dictionaries = self.rules if kind == "rules" else self.moved
        return dictionaries[int(layer)].weights["W_dec"].double()

    def constant(self, stage: int) -> Float[Tensor, " d"]:
        """Add up what is there whatever the text."""
        total = self.common[stage // 3].clone()
        for d in (*self.moved[: (stage + 1) // 3], *self.rules[: stage // 3]):
            total += d.weights["b_dec"].double()
        return total


def _stages(
    spec: ModelSpec, weights: Mapping[str, Tensor], rules: list[Dictionary], said: Kinds
) -> dict[int, tuple[FoldedNorm, Tensor, Tensor | None]]:
    """List what reads the stream, by stage: its norm, its matrix behind the norm, [d, column], and its bias."""
    found: dict[int, tuple[FoldedNorm, Tensor, Tensor | None]] = {}
    group = spec.n_heads // spec.n_kv_heads
    for layer, d in enumerate(rules):
        part, matrices, biases = f"blocks.{layer}.attn", [], []
        for letter in "QKV":
            matrix = weights[f"{part}.W_{letter}"]
            bias = weights.get(f"{part}.b_{letter}", matrix.new_zeros(matrix.shape[1]))
            if letter == "Q":
                matrix, bias = matrix * spec.attn_scale, bias * spec.attn_scale
            elif group > 1:  # each head has numbers of its own, though it shares them at the start
                matrix, bias = (
                    t.unflatten(-1, (spec.n_kv_heads, spec.d_head)).repeat_interleave(group, -2).flatten(-2)
                    for t in (matrix, bias)
                )
            matrices.append(matrix)
            biases.append(bias)
        found[3 * layer] = (reading(spec, weights, f"blocks.{layer}.ln1"), torch.cat(matrices, 1), torch.cat(biases))
        encoder = {name: tensor.double() for name, tensor in d.weights.items()}
        found[3 * layer + 2] = (reading(spec, weights, f"blocks.{layer}.ln2"), encoder["W_enc"], encoder["b_enc"])
    found[3 * spec.n_layers] = (reading(spec, weights, "ln_final"), said.directions.double().T, None)
    return found
