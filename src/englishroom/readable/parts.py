"""Parts of a wired model that it can do without: left out, handed over to what fires alike, or made simpler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from englishroom.readable.wiring import WiredModel, feature_groups, is_of_words
from englishroom.readable.wiring_start import edges_of
from englishroom.sparse.edges import Edges

ALIKE = 0.99
"""Cosine of the values of two features from which on they fire alike."""
FAR = -40.0
"""Score of every distance but one, where a look is made to look at that one alone."""
Part = tuple[str, int, int]
"""A group of features, ``matches`` or ``curve``, and a layer and a number."""


def merged_alike(model: WiredModel, values: Tensor) -> tuple[WiredModel, list[Part]]:
    """Hand what features add over to the first of their group whose values are the same up to a factor.

    Returns:
        The model, and the features that are no longer needed.
    """
    handed: dict[int, tuple[int, float]] = {}
    gone: list[Part] = []
    for name, own in feature_groups(model.shape).items():
        group, _, layer = name.partition(".")
        of_group = values[:, own]
        sizes = of_group.norm(dim=0)
        near = (of_group.T @ of_group) / (sizes[:, None] * sizes).clamp(min=1e-12)
        for at in range(own.stop - own.start):
            like = (near[:at, at] > ALIKE).nonzero()[:, 0].tolist()
            first = next((other for other in like if own.start + other not in handed), None)
            if first is not None:
                handed[own.start + at] = own.start + first, float(sizes[at] / sizes[first])
                gone.append((group, int(layer), at))
    edges = {name: old if is_of_words(name) else _handed(old, handed) for name, old in model.edges.items()}
    return replace(model, edges=edges, vectors={name: v.clone() for name, v in model.vectors.items()}), gone


def _handed(edges: Edges, handed: Mapping[int, tuple[int, float]]) -> Edges:
    """Move edges to other sources, times a factor; those that then lie upon each other add up."""
    to, factor = torch.arange(edges.n_sources), torch.ones(edges.n_sources)
    for source, (other, times) in handed.items():
        if source < edges.n_sources:
            to[source], factor[source] = other, times
    places = torch.stack([to[edges.sources], edges.columns.long()])
    weights = edges.weights.detach() * factor[edges.sources]
    size = edges.n_sources, edges.n_columns
    return edges_of(torch.sparse_coo_tensor(places, weights, size, check_invariants=True).coalesce())


def with_curve(model: WiredModel, layer: int, head: int, back: int | None) -> WiredModel:
    """Return a model of which one look goes by no distance, or looks at the word so far back alone."""
    vectors = dict(model.vectors)
    curve = vectors[f"distance.{layer}"].detach().clone()
    curve[head] = 0.0 if back is None else FAR
    if back is not None:
        curve[head, back] = 0.0
    vectors[f"distance.{layer}"] = curve
    return replace(model, vectors=vectors)


def without(model: WiredModel, parts: Sequence[Part], means: Tensor, frequencies: Tensor) -> WiredModel:
    """Leave out features and matches; what the features are worth on average stays, in biases.

    Args:
        means: of the features.
        frequencies: of the tokens.
    """
    groups = feature_groups(model.shape)
    gone = torch.zeros(groups[f"rules.{model.shape.n_layers - 1}"].stop, dtype=torch.bool)
    columns: dict[str, list[int]] = {}
    for group, layer, at in parts:
        if group != "matches":
            gone[groups[f"{group}.{layer}"].start + at] = True
        for table in ("queries", "keys") if group == "matches" else (group,):
            columns.setdefault(f"{table}.{layer}", []).append(at)
    kept: dict[str, Tensor] = {}
    for name, edges in model.edges.items():
        stays = torch.ones(len(edges.columns), dtype=torch.bool) if is_of_words(name) else ~gone[edges.sources]
        if (own := columns.get(name.removeprefix("words."))) is not None:
            stays &= ~torch.isin(edges.columns.long(), torch.tensor(own))
        kept[name] = stays
    found = model.keep(kept, means, frequencies)
    biases = {"queries": "query", "keys": "key", "moved": "moved", "rules": "rule"}
    for name, own in columns.items():
        group, _, layer = name.partition(".")
        found.vectors[f"{biases[group]}_biases.{layer}"][own] = -1.0
    return found
