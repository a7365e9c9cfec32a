"""The stream model: a target with looks for attention scores and features for values and MLPs, and constant scales.

Moved features read the stream where their look looks, rules read it here; of each look's and each layer's the strongest
few are on, and write to the stream. What the target's norms divide by is a constant, so that all that is read is linear
in the stream, and the model can be written as edges between features (``wiring.py``). After every MLP the token at hand
adds a vector of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from englishroom.readable.firing import strongest
from englishroom.readable.looks import gather, look_scores
from englishroom.readable.shape import ReadableShape, places_of, product

Watch = Callable[[str, Tensor], None]
"""Shown ``scores.L``, the looks' scores; ``strengths.moved.L`` and ``strengths.rules.L``; ``moved.L`` and ``rules.L``,
the features that are on; ``mid.L`` and ``post.L``, the stream after them."""
Part = tuple[int, int | None]
"""A layer and one of its heads, or ``None`` for its MLP."""


@dataclass(frozen=True)
class StreamModel:
    """A stream model.

    Attributes:
        tables: everything that trains, by name: ``token.0`` and ``token.L + 1``, what a token adds at the start and
            after each MLP; ``places``; of every layer its looks, how moved features and rules read the stream (with
            biases), what they write to it, and what stands there whatever is on (``moved_mean``, ``rules_mean``);
            ``unembed`` and ``unembed_bias``.
        places: how much of each place there is at each position, [pos, place].
    """

    shape: ReadableShape
    tables: Mapping[str, Tensor]
    places: Float[Tensor, "pos place"]

    def run(
        self,
        tokens: Int[Tensor, "batch pos"],
        watch: Watch | None = None,
        off: Part | None = None,
        active: float = 1.0,
        half: bool = False,
        patterns: Mapping[int, Tensor] | None = None,
    ) -> Float[Tensor, "row d_model"]:
        """Compute the last stream at every position, rows of the batch one after the other.

        Args:
            off: a part whose features are silent.
            active: times as many features as usual may be active.
            half: whether large products are formed in bfloat16.
            patterns: attention in place of the looks' own, by layer.
        """
        shape, tables, (n_batch, n_pos) = self.shape, self.tables, tokens.shape
        show = watch or (lambda _name, _value: None)
        flat = tokens.reshape(-1)
        x = F.embedding(flat, tables["token.0"])
        if shape.n_places:
            x = x + (self.places[:n_pos].to(x.dtype) @ tables["places"]).repeat(n_batch, 1)
        for layer in range(shape.n_layers):
            if patterns is None:
                scores = look_scores(shape, tables, layer, x, n_batch)
                show(f"scores.{layer}", scores)
                pattern = scores.softmax(-1)
            else:
                pattern = patterns[layer]
            read = product(x, tables[f"moved.{layer}"], half)
            strengths = gather(shape, pattern, read, half) + tables[f"moved_biases.{layer}"]
            show(f"strengths.moved.{layer}", strengths)
            moved = strengths * strongest(strengths, round(active * shape.k_moved), shape.n_heads)
            moved = without(shape, layer, off, moved)
            show(f"moved.{layer}", moved)
            x = x + product(moved, tables[f"moved_out.{layer}"], half) + tables[f"moved_mean.{layer}"]
            show(f"mid.{layer}", x)
            strengths = product(x, tables[f"rules.{layer}"], half) + tables[f"rule_biases.{layer}"]
            show(f"strengths.rules.{layer}", strengths)
            rules = strengths * strongest(strengths, round(active * shape.k_rules[layer]))
            if off == (layer, None):
                rules = rules * 0
            show(f"rules.{layer}", rules)
            x = x + product(rules, tables[f"rules_out.{layer}"], half) + tables[f"rules_mean.{layer}"]
            x = x + F.embedding(flat, tables[f"token.{layer + 1}"])
            show(f"post.{layer}", x)
        return x

    def logits(self, x: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_vocab"]:
        """Turn what :meth:`run` returns into the logits of the next token."""
        return x @ self.tables["unembed"] + self.tables["unembed_bias"]

    def double(self) -> StreamModel:
        """Return the model in float64."""
        tables = {name: table.detach().double() for name, table in self.tables.items()}
        return StreamModel(self.shape, tables, self.places.double())


def empty_stream(shape: ReadableShape, factor: float) -> StreamModel:
    """Make a stream model of zeros.

    Args:
        factor: how much farther each place lies than the one before.
    """
    d, n = shape.d_model, shape.n_layers
    tables = {f"token.{at}": torch.zeros(shape.d_vocab, d) for at in range(n + 1)}
    places = torch.zeros(shape.n_ctx, 0)
    if shape.n_places:
        places = places_of(shape.n_ctx, factor)
        tables["places"] = torch.zeros(shape.n_places, d)
    for layer in range(n):
        sizes = {
            "queries": (d, shape.all_matches),
            "query_biases": (shape.all_matches,),
            "keys": (d, shape.all_matches),
            "key_biases": (shape.all_matches,),
            "lone_keys": (d, shape.n_heads),
            "distance": (shape.n_heads, shape.reach(layer)),
            "moved": (d, shape.all_moved),
            "moved_biases": (shape.all_moved,),
            "moved_out": (shape.all_moved, d),
            "moved_mean": (d,),
            "rules": (d, shape.n_rules),
            "rule_biases": (shape.n_rules,),
            "rules_out": (shape.n_rules, d),
            "rules_mean": (d,),
        }
        tables |= {f"{name}.{layer}": torch.zeros(size) for name, size in sizes.items()}
    tables |= {"unembed": torch.zeros(d, shape.d_vocab), "unembed_bias": torch.zeros(shape.d_vocab)}
    return StreamModel(shape, tables, places)


def without(
    shape: ReadableShape, layer: int, off: Part | None, moved: Float[Tensor, "row moved"]
) -> Float[Tensor, "row moved"]:
    """Silence the moved features of the head that is switched off, if it is one of this layer."""
    if off is None or off[0] != layer or off[1] is None:
        return moved
    kept = moved.new_ones(shape.n_heads, shape.n_moved)
    kept[off[1]] = 0
    return moved * kept.view(-1)
