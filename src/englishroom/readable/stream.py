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

from englishroom.dictionaries.code import Codes, SparseMap, find_codes, find_codes_by_shortlist
from englishroom.readable.looks import look_scores
from englishroom.readable.shape import ReadableShape, places_of, product

Watch = Callable[[str, Tensor], None]
"""Shown ``scores.L``, the looks' scores; ``read.moved.L`` and ``read.rules.L``, what features read, [head, row, d], and
of rules [1, row, d]; ``mid.L`` and ``post.L``, the stream after them."""
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
        fired: dict[str, Codes] | None = None,
    ) -> Float[Tensor, "row d_model"]:
        """Compute the last stream at every position, rows of the batch one after the other.

        Args:
            off: a part whose features are silent.
            active: times as many features as usual may be active.
            half: whether large products are formed in bfloat16.
            patterns: attention in place of the looks' own, by layer.
            fired: filled with the features that are on, by group: ``moved.L`` and ``rules.L``.
        """
        shape, tables, (n_batch, n_pos) = self.shape, self.tables, tokens.shape
        show = watch or (lambda _name, _value: None)
        flat = tokens.reshape(-1)

        def part(group: str, layer: int, given: Tensor, k: int) -> Tensor:
            show(f"read.{group}.{layer}", given)
            codes = self._strongest(f"{group}.{layer}", given, round(active * k), half)
            if off is not None and off[0] == layer and (off[1] is None) == (group == "rules"):
                codes = _silent(codes, len(given), off[1] or 0)
            if fired is not None:
                fired[f"{group}.{layer}"] = _side_by_side(codes, len(given))
            return self._written(group, layer, given, codes)

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
            x = x + part("moved", layer, looked_at(pattern, x, half), shape.k_moved)
            show(f"mid.{layer}", x)
            x = x + part("rules", layer, x[None], shape.k_rules[layer])
            x = x + F.embedding(flat, tables[f"token.{layer + 1}"])
            show(f"post.{layer}", x)
        return x

    def strengths(
        self, name: str, given: Float[Tensor, "group row d_model"], half: bool = False
    ) -> Float[Tensor, "row feature"]:
        """Return how strong all features of ``moved.L`` or ``rules.L`` are, from what they read."""
        table, biases = self._readers(name)
        of_each = product(given, table.unflatten(1, (len(given), -1)).transpose(0, 1), half)
        return of_each.transpose(0, 1).flatten(1) + biases

    def _readers(self, name: str) -> tuple[Float[Tensor, "d_model feature"], Float[Tensor, " feature"]]:
        group, layer = name.split(".")
        return self.tables[name], self.tables[f"{group.removesuffix('s')}_biases.{layer}"]

    @torch.no_grad()
    def _strongest(self, name: str, given: Float[Tensor, "group row d_model"], k: int, half: bool) -> Codes:
        """List the ``k`` strongest positive features of every group, [group * row, slot]."""
        (table, biases), find = self._readers(name), find_codes_by_shortlist if half else find_codes
        size, found = table.shape[1] // len(given), []
        for at, x in enumerate(given):
            own = slice(at * size, (at + 1) * size)
            codes = find(x, table[:, own], biases[own], min(k, size))
            used = torch.arange(codes.indices.shape[1]) < codes.counts[:, None]
            found.append(Codes(codes.indices + at * size * used.int(), codes.values, codes.counts))
        parts = ((codes.indices, codes.values, codes.counts) for codes in found)
        return Codes(*map(torch.cat, zip(*parts, strict=True)))

    def _written(self, group: str, layer: int, given: Float[Tensor, "group row d_model"], codes: Codes) -> Tensor:
        """Return what features that are on write to the stream, [row, d_model]."""
        writers, mean = self.tables[f"{group}_out.{layer}"], self.tables[f"{group}_mean.{layer}"]
        table, biases = self._readers(f"{group}.{layer}")
        out = SparseMap.apply(given.flatten(0, 1), table, biases, writers, torch.zeros_like(mean), codes)
        return out.view(given.shape).sum(0) + mean

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


def looked_at(
    pattern: Float[Tensor, "batch head pos pos"], x: Float[Tensor, "row d_model"], half: bool
) -> Float[Tensor, "head row d_model"]:
    """Mix, for every look, what stands where it looks."""
    n_batch, n_heads = pattern.shape[:2]
    found = product(pattern, x.view(n_batch, 1, -1, x.shape[1]), half)
    return found.transpose(0, 1).reshape(n_heads, len(x), x.shape[1])


def _silent(codes: Codes, n_groups: int, group: int) -> Codes:
    """Switch the features of a group off."""
    kept = torch.ones(n_groups, len(codes.counts) // n_groups, 1)
    kept[group] = 0
    kept = kept.view(-1, 1).to(codes.values.dtype)
    return Codes(codes.indices, codes.values * kept, codes.counts * kept[:, 0].int())


def _side_by_side(codes: Codes, n_groups: int) -> Codes:
    """List the features of all groups row by row; unused slots are anywhere, and have value 0."""
    indices, values = (
        part.view(n_groups, -1, part.shape[1]).transpose(0, 1).flatten(1).contiguous()
        for part in (codes.indices, codes.values)
    )
    return Codes(indices, values, torch.full((len(values),), values.shape[1], dtype=torch.int32))
