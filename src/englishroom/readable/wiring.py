"""The wired model: what a readable program computes, in a form that trains. There is no stream: edges join features.

Features stand side by side in the order in which they come to be: word lists, places in the text, and of each layer the
moved features, then the rules. Everything reads what comes before it through edges. A feature is on where its strength
exceeds a threshold of its own, which is never below 0; then it has that strength as its value. Votes come from all
features but word lists, and a short row of its own for the word at hand, the words that follow it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from englishroom.dictionaries.code import Codes
from englishroom.readable.firing import above, active_codes
from englishroom.readable.looks import gather, scores_of
from englishroom.readable.shape import ReadableShape
from englishroom.readable.stream import Part, Watch, without
from englishroom.sparse.edges import Edges


@dataclass(frozen=True)
class WiredModel:
    """A wired model.

    Attributes:
        edges: by name: ``lists`` and ``follows``, from each token to the lists that it stands in and to the words that
            follow it; of each layer ``queries``, ``keys``, ``lone_keys``, ``moved`` and ``rules``, from the features
            before; ``votes``, from all features but lists to words.
        vectors: of each layer biases (``query_biases``, ``key_biases``, ``moved_biases``, ``rule_biases``), thresholds
            (``moved_thresholds``, ``rule_thresholds``) and ``distance``; ``vote_bias``.
        places: how much of each place there is at each position, [pos, place].
    """

    shape: ReadableShape
    edges: Mapping[str, Edges]
    vectors: Mapping[str, Tensor]
    places: Float[Tensor, "pos place"]

    @property
    def n_lists(self) -> int:
        return self.edges["lists"].n_columns

    def n_before(self, layer: int) -> int:
        """Count the features that come before a layer."""
        return self.n_lists + self.shape.n_places + layer * (self.shape.all_moved + self.shape.n_rules)

    def run(
        self,
        tokens: Int[Tensor, "batch pos"],
        watch: Watch | None = None,
        off: Part | None = None,
        half: bool = False,
    ) -> Float[Tensor, "row d_vocab"]:
        """Compute the logits of the next token at every position, rows of the batch one after the other.

        Args:
            watch: shown ``strengths.moved.L`` and ``strengths.rules.L``; ``often.moved.L`` and ``often.rules.L``, the
                share of the positions at which each is on; and ``features``, all of them side by side.
            off: a part whose features are silent.
            half: whether looks mix what they find in bfloat16.
        """
        shape, vectors, (n_batch, n_pos) = self.shape, self.vectors, tokens.shape
        show = watch or (lambda _name, _value: None)
        at_hand = _tokens_as_codes(tokens.reshape(-1), self.places.dtype)
        lists = self.edges["lists"].from_codes(at_hand, at_hand.values)
        x = torch.cat([lists, self.places[:n_pos].repeat(n_batch, 1)], 1)
        for layer in range(shape.n_layers):
            codes, values = active_codes(x)

            def read(name: str, codes: Codes = codes, values: Tensor = values) -> Tensor:
                return self.edges[name].from_codes(codes, values)

            queries = (read(f"queries.{layer}") + vectors[f"query_biases.{layer}"]).relu()
            keys = (read(f"keys.{layer}") + vectors[f"key_biases.{layer}"]).relu()
            lone = read(f"lone_keys.{layer}")
            pattern = scores_of(shape, layer, queries, keys, lone, vectors[f"distance.{layer}"], n_batch).softmax(-1)
            strengths = gather(shape, pattern, read(f"moved.{layer}"), half) + vectors[f"moved_biases.{layer}"]
            show(f"strengths.moved.{layer}", strengths)
            moved, often = above(strengths, vectors[f"moved_thresholds.{layer}"])
            show(f"often.moved.{layer}", often)
            x = torch.cat([x, without(shape, layer, off, moved)], 1)
            codes, values = active_codes(x)
            strengths = read(f"rules.{layer}", codes, values) + vectors[f"rule_biases.{layer}"]
            show(f"strengths.rules.{layer}", strengths)
            rules, often = above(strengths, vectors[f"rule_thresholds.{layer}"])
            show(f"often.rules.{layer}", often)
            x = torch.cat([x, rules * 0 if off == (layer, None) else rules], 1)
        show("features", x)
        votes = self.edges["votes"].from_codes(*active_codes(x[:, self.n_lists :].contiguous()))
        return votes + self.edges["follows"].from_codes(at_hand, at_hand.values) + vectors["vote_bias"]

    def tensors(self) -> dict[str, Tensor]:
        """List everything that trains, by name."""
        return {name: edges.weights for name, edges in self.edges.items()} | dict(self.vectors)

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> WiredModel:
        """Return the model with other numbers, where it has the same edges."""
        edges = {name: replace(old, weights=tensors[name]) for name, old in self.edges.items()}
        return replace(self, edges=edges, vectors={name: tensors[name] for name in self.vectors})

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
