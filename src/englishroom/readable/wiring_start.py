"""Write a stream model as a wired model: a feature's direction in the stream times what reads it is an edge.

1. Tokens become word lists: a dictionary over the vectors that they have before each MLP, side by side.
2. What each look, moved feature, rule and vote reads is a row of directions times its table. Of the edges to each sum
   the strongest stay, of votes those that matter most to the words; so no table is ever whole where it would be large.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from englishroom.readable.config import ShortConfig
from englishroom.readable.stream import StreamModel
from englishroom.readable.wiring import WiredModel
from englishroom.sparse.edges import Edges
from englishroom.sparse.kinds import learn_kinds

MOST_FOLLOWS = 2**24
"""Entries that all rows of following words have at the start; of each the strongest stay."""
CHUNK = 512
"""Features or words whose edges are formed at once."""


@dataclass(frozen=True)
class _Directions:
    """What features of one layer stand for in the stream: a direction each, what stands there besides, their size."""

    rows: Float[Tensor, "feature d_model"]
    constant: Float[Tensor, " d_model"]
    spread: Float[Tensor, " feature"]


@torch.no_grad()
def start_wiring(
    model: StreamModel,
    frequencies: Float[Tensor, " token"],
    rows: Int[Tensor, "row pos"],
    config: ShortConfig,
    seed: int,
    progress: Callable[[str, int, int], None] = lambda _step, _done, _total: None,
) -> WiredModel:
    """Write a stream model as a wired model.

    Args:
        frequencies: of the tokens, in the text.
        rows: text on which features are measured.
    """
    shape, tables = model.shape, model.tables
    versions = [tables["token.0"]]
    for layer in range(shape.n_layers):
        versions.append(versions[-1] + tables[f"token.{layer + 1}"])
    with torch.enable_grad():
        lists, directions, means = _lists(
            versions[:-1], frequencies, config, seed, lambda done, total: progress("word lists", done, total)
        )
    values = _values(model, lists, rows)
    edges: dict[str, Edges] = {"lists": lists}
    vectors: dict[str, Tensor] = {}
    placed = tables["places"] if shape.n_places else tables["token.0"].new_zeros(0, shape.d_model)
    later, constant = [placed], torch.zeros(shape.d_model)
    spread = values.std(0, unbiased=False)

    def seen(layer: int) -> _Directions:
        found = torch.cat([directions[layer], *later])
        return _Directions(found, means[layer] + constant, spread[: len(found)])

    def read(name: str, bias: str | None, at: _Directions, most: int) -> None:
        edges[name] = strongest_edges(at.rows, tables[name], at.spread, most)
        if bias is not None:
            vectors[bias] = tables[bias] + at.constant @ tables[name]

    for layer in range(shape.n_layers):
        at = seen(layer)
        read(f"queries.{layer}", f"query_biases.{layer}", at, config.first_reads)
        read(f"keys.{layer}", f"key_biases.{layer}", at, config.first_reads)
        read(f"lone_keys.{layer}", None, at, config.first_reads)  # a constant key is offered everywhere alike
        read(f"moved.{layer}", f"moved_biases.{layer}", at, config.first_reads)
        vectors[f"distance.{layer}"] = tables[f"distance.{layer}"].clone()
        later.append(tables[f"moved_out.{layer}"])
        constant = constant + tables[f"moved_mean.{layer}"]
        read(f"rules.{layer}", f"rule_biases.{layer}", seen(layer), config.first_reads)
        later.append(tables[f"rules_out.{layer}"])
        constant = constant + tables[f"rules_mean.{layer}"]
        for name in ("moved_thresholds", "rule_thresholds"):
            vectors[f"{name}.{layer}"] = tables[f"{name}.{layer}"].clone()
    unembed = tables["unembed"] - tables["unembed"].mean(1, keepdim=True)  # logits matter up to a constant
    common = frequencies.clamp(min=1).sqrt() / frequencies.clamp(min=1).sqrt().mean()
    edges["votes"] = strongest_rows(torch.cat(later), unembed, common, config.first_votes)
    most = max(1, MOST_FOLLOWS // shape.d_vocab)
    edges["follows"] = strongest_rows(versions[-1], unembed, common, most)
    vectors["vote_bias"] = tables["unembed_bias"] + constant @ unembed
    return WiredModel(shape, edges, vectors, model.places)


def _lists(
    versions: list[Tensor],
    frequencies: Tensor,
    config: ShortConfig,
    seed: int,
    progress: Callable[[int, int], None],
) -> tuple[Edges, list[Tensor], list[Tensor]]:
    """Find word lists; return what each stands for in every layer, and what all tokens have in common there."""
    share = (frequencies / frequencies.sum())[:, None]
    sizes = [float((share * (v - (share * v).sum(0)).square()).sum().sqrt().clamp(min=1e-6)) for v in versions]
    joined = torch.cat([v / size for v, size in zip(versions, sizes, strict=True)], 1)
    kinds = learn_kinds(joined, frequencies, config.lists, config.lists_active, seed, progress=progress)
    width = versions[0].shape[1]
    directions = [part * size for part, size in zip(kinds.directions.split(width, 1), sizes, strict=True)]
    means = [part * size for part, size in zip(kinds.mean.split(width), sizes, strict=True)]
    return kinds.edges, directions, means


def _values(model: StreamModel, lists: Edges, rows: Tensor) -> Float[Tensor, "row feature"]:
    """Return the values of all features on some text."""
    seen: dict[str, Tensor] = {}
    model.run(rows, seen.__setitem__, sharp=True)
    found = [lists.matrix()[rows.reshape(-1)], model.places[: rows.shape[1]].repeat(len(rows), 1)]
    for layer in range(model.shape.n_layers):
        found += [seen[f"moved.{layer}"], seen[f"rules.{layer}"]]
    return torch.cat(found, 1)


def strongest_edges(
    directions: Float[Tensor, "feature d"],
    table: Float[Tensor, "d column"],
    spread: Float[Tensor, " feature"],
    most: int,
) -> Edges:
    """Keep, of the edges to every column, the ``most`` through which it varies most."""
    parts = []
    for start in range(0, table.shape[1], CHUNK):
        full = directions @ table[:, start : start + CHUNK]
        if len(full) > most:
            strength = full.abs() * spread[:, None]
            least = strength.topk(most, 0).indices
            full = torch.zeros_like(full).scatter_(0, least, full.gather(0, least))
        parts.append(full.to_sparse())
    whole = torch.cat(parts, 1).coalesce()
    return _edges_of(whole, len(directions), table.shape[1])


def strongest_rows(
    directions: Float[Tensor, "feature d"],
    table: Float[Tensor, "d column"],
    weight: Float[Tensor, " column"],
    most: int,
) -> Edges:
    """Keep, of the edges from every feature, the ``most`` that are largest when columns are weighted."""
    parts = []
    for start in range(0, len(directions), CHUNK):
        full = directions[start : start + CHUNK] @ table
        if full.shape[1] > most:
            largest = (full.abs() * weight).topk(most, 1).indices
            full = torch.zeros_like(full).scatter_(1, largest, full.gather(1, largest))
        parts.append(full.to_sparse())
    whole = torch.cat(parts, 0).coalesce()
    return _edges_of(whole, len(directions), table.shape[1])


def _edges_of(entries: Tensor, n_sources: int, n_columns: int) -> Edges:
    """Take the entries of a sparse matrix, which are in order."""
    sources, columns = entries.indices()
    counts = torch.bincount(sources, minlength=n_sources)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Edges(starts, columns.int().contiguous(), entries.values().clone(), n_columns)
