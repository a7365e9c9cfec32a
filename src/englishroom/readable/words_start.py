"""Start a wired model of a small vocabulary from its words: a person would begin with one feature for each.

Every look has a moved feature for each word, which is on where the look finds it, and a match for each word, whose
query is that word here; what the key offers is fitted. A few moved features and all rules read whatever comes before.
"""

from __future__ import annotations

import torch
from torch import Tensor

from englishroom.models.spec import ModelSpec
from englishroom.readable.config import StreamConfig
from englishroom.readable.shape import ReadableShape, places_of, shape_of
from englishroom.readable.wiring import WiredModel, feature_groups
from englishroom.sparse.edges import Edges

FREE = 2
"""Moved features of a look that stand for no word."""
KEY_BIAS, NOISE = 0.3, 0.1
"""Of what keys offer, and the spread of weights, at the start."""
PLACE_FACTOR = StreamConfig().place_factor


def word_shape(spec: ModelSpec) -> ReadableShape:
    """Return the sizes of a model that starts from words: as many rules in a layer as the residual stream is wide."""
    words, rules = spec.d_vocab, spec.d_model
    sizes = StreamConfig(matches=words, moved=words + FREE, rules=rules, rules_active=rules, first_rules_active=rules)
    return shape_of(spec, sizes)


def start_from_words(shape: ReadableShape, follows: Tensor, seed: int) -> WiredModel:
    """Make a wired model whose first features are the words.

    Args:
        follows: log-probability of each word after each, [token, token].
    """
    generator = torch.Generator().manual_seed(seed)
    n_words = shape.d_vocab
    own, word = torch.eye(n_words), torch.arange(n_words)
    edges: dict[str, Edges] = {}
    vectors: dict[str, Tensor] = {"vote_bias": torch.zeros(n_words)}

    def drawn(*size: int) -> Tensor:
        return torch.empty(size).normal_(0, NOISE, generator=generator)

    def whole(matrix: Tensor) -> Edges:
        return Edges.of(matrix, torch.ones_like(matrix, dtype=torch.bool))

    groups = feature_groups(shape)
    for layer in range(shape.n_layers):
        before, with_moved = groups[f"moved.{layer}"].start, groups[f"rules.{layer}"].start
        matches = shape.all_matches
        at_word = torch.zeros(n_words, shape.n_heads, shape.n_matches)
        at_word[word, :, word] = 1
        edges[f"words.queries.{layer}"] = Edges.of(at_word.flatten(1))
        edges[f"words.keys.{layer}"] = whole(drawn(n_words, matches))
        edges[f"words.lone_keys.{layer}"] = whole(torch.zeros(n_words, shape.n_heads))
        moved = torch.zeros(n_words, shape.n_heads, shape.n_moved)
        moved[:, :, :n_words] = own[:, None]
        moved[:, :, n_words:] = drawn(n_words, shape.n_heads, shape.n_moved - n_words)
        edges[f"words.moved.{layer}"] = Edges.of(moved.flatten(1))
        edges[f"words.rules.{layer}"] = whole(5 * drawn(n_words, shape.n_rules))
        edges[f"queries.{layer}"] = whole(drawn(before, matches))
        edges[f"keys.{layer}"] = whole(drawn(before, matches))
        edges[f"lone_keys.{layer}"] = whole(torch.zeros(before, shape.n_heads))
        free = torch.zeros(before, shape.n_heads, shape.n_moved)
        free[:, :, n_words:] = drawn(before, shape.n_heads, shape.n_moved - n_words)
        edges[f"moved.{layer}"] = Edges.of(free.flatten(1))
        edges[f"rules.{layer}"] = whole(5 * drawn(with_moved, shape.n_rules))
        vectors |= {
            f"query_biases.{layer}": torch.zeros(matches),
            f"key_biases.{layer}": torch.full((matches,), KEY_BIAS),
            f"distance.{layer}": torch.zeros(shape.n_heads, shape.reach(layer)),
            f"moved_biases.{layer}": torch.zeros(shape.all_moved),
            f"moved_thresholds.{layer}": torch.zeros(shape.all_moved),
            f"rule_biases.{layer}": torch.zeros(shape.n_rules),
            f"rule_thresholds.{layer}": torch.zeros(shape.n_rules),
        }
    edges["votes"] = whole(drawn(groups[f"rules.{shape.n_layers - 1}"].stop, n_words))
    edges["follows"] = whole(follows - follows.mean(1, keepdim=True))
    places = places_of(shape.n_ctx, PLACE_FACTOR) if shape.n_places else torch.zeros(shape.n_ctx, 0)
    return WiredModel(shape, edges, vectors, places)
