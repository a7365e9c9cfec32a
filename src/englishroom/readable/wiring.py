"""The wired model: what a readable program computes, in a form that trains. There is no stream: edges join features.

Features stand side by side in the order in which they come to be: places in the text, and of each layer the moved
features, then the rules. Every sum reads what comes before it through edges, and the word at hand through a list of its
own: how much each word counts for it, or against it. What is on is what exceeds its bar, and has its strength as its
value. In a sharp model the bar is a threshold of the feature's own, which is never below 0; before, the strongest few
features of a group are on, or something between. Votes come from all features, and from a short row for the word at
hand, the words that follow it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from englishroom.dictionaries.code import Codes
from englishroom.readable.firing import above, active_codes, cuts
from englishroom.readable.looks import gather, scores_of
from englishroom.readable.shape import ReadableShape
from englishroom.readable.stream import Part, Watch
from englishroom.sparse.edges import Edges


@dataclass(frozen=True)
class WiredModel:
    """A wired model.

    Attributes:
        edges: by name: of each layer ``queries``, ``keys``, ``lone_keys``, ``moved`` and ``rules``, from the features
            before; the same after ``words.``, from each token; ``votes``, from all features to words; ``follows``, from
            each token to the words that follow it.
        vectors: of each layer biases (``query_biases``, ``key_biases``, ``moved_biases``, ``rule_biases``), thresholds
            (``moved_thresholds``, ``rule_thresholds``) and ``distance``; ``vote_bias``.
        places: how much of each place there is at each position, [pos, place].
    """

    shape: ReadableShape
    edges: Mapping[str, Edges]
    vectors: Mapping[str, Tensor]
    places: Float[Tensor, "pos place"]

    def n_before(self, layer: int) -> int:
        """Count the features that come before a layer."""
        return self.shape.n_places + layer * (self.shape.all_moved + self.shape.n_rules)

    def run(
        self,
        tokens: Int[Tensor, "batch pos"],
        watch: Watch | None = None,
        off: Part | None = None,
        sharp: float = 1.0,
        half: bool = False,
    ) -> Float[Tensor, "row d_vocab"]:
        """Compute the logits of the next token at every position, rows of the batch one after the other.

        Args:
            watch: shown ``scores.L``, the looks' scores; ``strengths.moved.L`` and ``strengths.rules.L``;
                ``often.moved.L`` and ``often.rules.L``, the share of the positions at which each is on; and
                ``features``, all of them side by side.
            off: a part whose features are silent.
            sharp: how much of what a feature must exceed is its own threshold; the rest is what only the strongest few
                of its group exceed there.
            half: whether looks mix what they find in bfloat16.
        """
        shape, vectors, (n_batch, n_pos) = self.shape, self.vectors, tokens.shape
        show = watch or (lambda _name, _value: None)
        flat = tokens.reshape(-1)
        at_hand = _tokens_as_codes(flat, self.places.dtype)
        x = self.places[:n_pos].repeat(n_batch, 1)
        small = all(edges.is_small for edges in self.edges.values())

        def codes_of(x: Tensor) -> tuple[Codes, Tensor] | None:
            return None if small else active_codes(x)

        def added(name: str, x: Tensor, codes: tuple[Codes, Tensor] | None) -> Tensor:
            edges = self.edges[name]
            return x @ edges.matrix() if codes is None else edges.from_codes(*codes)

        def of_word(name: str) -> Tensor:
            edges = self.edges[name]
            return F.embedding(flat, edges.matrix()) if small else edges.from_codes(at_hand, at_hand.values)

        for layer in range(shape.n_layers):
            codes = codes_of(x)

            def read(name: str, x: Tensor = x, codes: tuple[Codes, Tensor] | None = codes) -> Tensor:
                return of_word(f"words.{name}") + added(name, x, codes)

            def on(name: str, thresholds: Tensor, strengths: Tensor, k: int, groups: int) -> Tensor:
                show(f"strengths.{name}", strengths)
                values, often = above(strengths, thresholds, k, groups, sharp)
                show(f"often.{name}", often)
                return values

            queries = (read(f"queries.{layer}") + vectors[f"query_biases.{layer}"]).relu()
            keys = (read(f"keys.{layer}") + vectors[f"key_biases.{layer}"]).relu()
            lone = read(f"lone_keys.{layer}")
            scores = scores_of(shape, layer, queries, keys, lone, vectors[f"distance.{layer}"], n_batch)
            show(f"scores.{layer}", scores)
            pattern = scores.softmax(-1)
            strengths = gather(shape, pattern, read(f"moved.{layer}"), half) + vectors[f"moved_biases.{layer}"]
            thresholds = vectors[f"moved_thresholds.{layer}"]
            moved = on(f"moved.{layer}", thresholds, strengths, shape.k_moved, shape.n_heads)
            x = torch.cat([x, _without(shape, layer, off, moved)], 1)
            strengths = read(f"rules.{layer}", x, codes_of(x)) + vectors[f"rule_biases.{layer}"]
            rules = on(f"rules.{layer}", vectors[f"rule_thresholds.{layer}"], strengths, shape.k_rules[layer], 1)
            x = torch.cat([x, rules * 0 if off == (layer, None) else rules], 1)
        show("features", x)
        return added("votes", x, codes_of(x)) + of_word("follows") + vectors["vote_bias"]

    def tensors(self) -> dict[str, Tensor]:
        """List everything that trains, by name."""
        return {name: edges.weights for name, edges in self.edges.items()} | dict(self.vectors)

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> WiredModel:
        """Return the model with other numbers, where it has the same edges."""
        edges = {name: replace(old, weights=tensors[name]) for name, old in self.edges.items()}
        return replace(self, edges=edges, vectors={name: tensors[name] for name in self.vectors})

    def keep(
        self, kept: Mapping[str, Tensor], means: Float[Tensor, " feature"], frequencies: Float[Tensor, " token"]
    ) -> WiredModel:
        """Leave out all but some edges of some tables; what these add on average stays, in biases.

        Args:
            means: of the features.
            frequencies: shares of the tokens in the text.
        """
        edges, vectors = dict(self.edges), {name: vector.detach().clone() for name, vector in self.vectors.items()}
        for name, of in kept.items():
            old = self.edges[name]
            edges[name] = old.keep(of)
            usual = frequencies if is_of_words(name) else means[: old.n_sources]
            if (bias := bias_of(name)) is not None:
                vectors[bias] += mean_sums(old, usual) - mean_sums(edges[name], usual)
        return replace(self, edges=edges, vectors=vectors)

    def double(self) -> WiredModel:
        """Return the model in float64."""
        tensors = {name: tensor.detach().double() for name, tensor in self.tensors().items()}
        return replace(self.with_tensors(tensors), places=self.places.double())

    def state(self) -> dict[str, Tensor]:
        """List everything that the model holds, by name."""
        found = {name: tensor.detach() for name, tensor in self.tensors().items()} | {"places": self.places}
        for name, edges in self.edges.items():
            found |= {f"{name}:starts": edges.starts, f"{name}:columns": edges.columns}
            found[f"{name}:width"] = torch.tensor(edges.n_columns)
        return found


def feature_groups(shape: ReadableShape) -> dict[str, slice]:
    """Return where the features of each group stand among all of them, in order."""
    found, at = {}, shape.n_places
    for layer in range(shape.n_layers):
        for group, size in (("moved", shape.all_moved), ("rules", shape.n_rules)):
            found[f"{group}.{layer}"] = slice(at, at + size)
            at += size
    return found


def is_of_words(edges: str) -> bool:
    """Say whether edges lead from the word at hand, and not from features."""
    return edges.startswith("words.") or edges == "follows"


def bias_of(edges: str) -> str | None:
    """Name the vector that is added to what these edges lead to; a lone key has none."""
    if edges in ("votes", "follows"):
        return "vote_bias"
    group, layer = edges.removeprefix("words.").split(".")
    name = {"queries": "query", "keys": "key", "moved": "moved", "rules": "rule"}.get(group)
    return name and f"{name}_biases.{layer}"


@torch.no_grad()
def mean_sums(edges: Edges, means: Float[Tensor, " source"]) -> Float[Tensor, " column"]:
    """Return what edges add on average, where their sources have these means."""
    added = edges.weights.detach() * means[edges.sources]
    return added.new_zeros(edges.n_columns).index_add_(0, edges.columns.long(), added)


@torch.no_grad()
def set_thresholds(model: WiredModel, rows: Int[Tensor, "row pos"]) -> None:
    """Set all thresholds of a group to what only its strongest few exceed, on average; the model's are changed."""
    shape = model.shape
    seen: dict[str, Tensor] = {}
    model.run(rows, seen.__setitem__, sharp=0)
    for layer in range(shape.n_layers):
        for group, name, k, n in (
            ("moved", "moved_thresholds", shape.k_moved, shape.n_heads),
            ("rules", "rule_thresholds", shape.k_rules[layer], 1),
        ):
            usual = cuts(seen[f"strengths.{group}.{layer}"], k, n).mean(0)
            thresholds = model.vectors[f"{name}.{layer}"]
            thresholds.copy_(usual.repeat_interleave(len(thresholds) // n))


def from_state(shape: ReadableShape, state: Mapping[str, Tensor]) -> WiredModel:
    """Put together what :meth:`WiredModel.state` listed."""
    names = [name.removesuffix(":width") for name in state if name.endswith(":width")]
    edges = {
        name: Edges(state[f"{name}:starts"], state[f"{name}:columns"], state[name], int(state[f"{name}:width"]))
        for name in names
    }
    vectors = {name: t for name, t in state.items() if ":" not in name and name not in (*names, "places")}
    return WiredModel(shape, edges, vectors, state["places"])


def _tokens_as_codes(tokens: Int[Tensor, " row"], dtype: torch.dtype) -> Codes:
    one = torch.ones(len(tokens), 1, dtype=dtype)
    return Codes(tokens[:, None].int().contiguous(), one, torch.ones(len(tokens), dtype=torch.int32))


def _without(
    shape: ReadableShape, layer: int, off: Part | None, moved: Float[Tensor, "row moved"]
) -> Float[Tensor, "row moved"]:
    """Silence the moved features of the head that is switched off, if it is one of this layer."""
    if off is None or off[0] != layer or off[1] is None:
        return moved
    kept = moved.new_ones(shape.n_heads, shape.n_moved)
    kept[off[1]] = 0
    return moved * kept.view(-1)
