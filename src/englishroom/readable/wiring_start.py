"""Write a stream model as a wired model: a feature's direction in the stream times what reads it is an edge.

What each look, moved feature, rule and vote reads of a feature is the feature's direction in the stream times its
table; of a word, the word's vector there less the mean of all words'. Of the edges to each sum the strongest stay, of
votes those that matter most to the words; so no table is ever whole where it would be large.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from englishroom.dictionaries.code import Codes
from englishroom.readable.config import WiringConfig
from englishroom.readable.stream import StreamModel
from englishroom.readable.wiring import WiredModel, mean_sums
from englishroom.sparse.edges import Edges

MOST_FOLLOWS = 2**24
"""Entries that all rows of following words have at the start; of each the strongest stay."""
CHUNK = 512
"""Features or words whose edges are formed at once."""


@torch.no_grad()
def start_wiring(
    model: StreamModel,
    frequencies: Float[Tensor, " token"],
    rows: Int[Tensor, "row pos"],
    config: WiringConfig,
) -> WiredModel:
    """Write a stream model as a wired model.

    Args:
        frequencies: of the tokens, in the text.
        rows: text on which features are measured.
    """
    shape, tables = model.shape, model.tables
    share = frequencies / frequencies.sum()
    token, constant = tables["token.0"], torch.zeros(shape.d_model)
    later = [tables["places"] if shape.n_places else token.new_zeros(0, shape.d_model)]
    values = _values(model, rows)
    spread, means = values.std(0, unbiased=False), values.mean(0)
    edges: dict[str, Edges] = {}
    vectors: dict[str, Tensor] = {}

    def read(name: str, bias: str | None) -> None:
        found, at_hand, table = torch.cat(later), share @ token, tables[name]
        usual = means[: len(found)]
        edges[name] = strongest_edges(found, table, spread[: len(found)], config.first_reads)
        edges[f"words.{name}"] = strongest_edges(token - at_hand, table, share.sqrt(), config.first_words)
        if bias is not None:  # what is left out stays as its mean
            left = mean_sums(edges[name], usual) + mean_sums(edges[f"words.{name}"], share)
            vectors[bias] = tables[bias] + (constant + at_hand + usual @ found) @ table - left

    for layer in range(shape.n_layers):
        read(f"queries.{layer}", f"query_biases.{layer}")
        read(f"keys.{layer}", f"key_biases.{layer}")
        read(f"lone_keys.{layer}", None)  # a constant key is offered everywhere alike
        read(f"moved.{layer}", f"moved_biases.{layer}")
        vectors[f"distance.{layer}"] = tables[f"distance.{layer}"].clone()
        later.append(tables[f"moved_out.{layer}"])
        constant = constant + tables[f"moved_mean.{layer}"]
        read(f"rules.{layer}", f"rule_biases.{layer}")
        later.append(tables[f"rules_out.{layer}"])
        constant = constant + tables[f"rules_mean.{layer}"]
        token = token + tables[f"token.{layer + 1}"]
        vectors[f"moved_thresholds.{layer}"] = torch.zeros(shape.all_moved)
        vectors[f"rule_thresholds.{layer}"] = torch.zeros(shape.n_rules)
    unembed = tables["unembed"] - tables["unembed"].mean(1, keepdim=True)  # logits matter up to a constant
    common = frequencies.clamp(min=1).sqrt() / frequencies.clamp(min=1).sqrt().mean()
    found, at_hand = torch.cat(later), share @ token
    edges["votes"] = strongest_rows(found, unembed, common, config.first_votes)
    most = max(1, MOST_FOLLOWS // shape.d_vocab)
    edges["follows"] = strongest_rows(token - at_hand, unembed, common, most)
    left = mean_sums(edges["votes"], means) + mean_sums(edges["follows"], share)
    vectors["vote_bias"] = tables["unembed_bias"] + (constant + at_hand + means @ found) @ unembed - left
    return WiredModel(shape, edges, vectors, model.places)


def _values(model: StreamModel, rows: Tensor) -> Float[Tensor, "row feature"]:
    """Return the values of all features on some text."""
    fired: dict[str, Codes] = {}
    model.run(rows, fired=fired)
    found = [model.places[: rows.shape[1]].repeat(len(rows), 1)]
    for layer in range(model.shape.n_layers):
        found += [
            fired[f"moved.{layer}"].dense(model.shape.all_moved),
            fired[f"rules.{layer}"].dense(model.shape.n_rules),
        ]
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
    return edges_of(whole)


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
    return edges_of(whole)


def edges_of(entries: Tensor) -> Edges:
    """Take the entries of a sparse matrix, [source, column], which are in order."""
    sources, columns = entries.indices()
    counts = torch.bincount(sources, minlength=entries.shape[0])
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Edges(starts, columns.int().contiguous(), entries.values().clone(), entries.shape[1])
