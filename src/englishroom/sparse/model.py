"""A sparse model: what a sparse program computes, in a form that trains.

Features, in the order in which they come to be:

- ``words``: kinds of words; a table says how strongly each token is of each kind.
- ``places``: how far into the text, a number of stations with straight lines between them.
- ``moved.L``: what the heads of layer L moved here; of what their numbers may stand for, the few that are strongest.
- ``rules.L``: what the rules of layer L concluded; again the few that are strongest.

Stages read features that came before, each through edges. A layer has three: its heads (what they ask for, what they
offer, what they carry), the moved features, which alone read the numbers that heads brought, and the rules. Last come
the votes, which go to kinds of words and from there to the words. What a stage reads is divided by its loudness, one
more sum over features, which stands for the norm of the target. There is no residual stream: an edge joins two
features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from englishroom.dictionaries.code import Codes
from englishroom.kernels import codes as kernels
from englishroom.kernels.threads import run
from englishroom.sparse.edges import Edges

WORDS, PLACES = "words", "places"
LEAST_LOUDNESS = 0.3
"""Loudness below which there is no more to divide by, as a share of its mean at the start."""
Look = Callable[[str, Tensor], None]
"""Shown the values of every source's features, and of ``stage.I`` the sums that stage I reads."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a sparse model; ``rotary_theta`` where what heads ask and offer turns with the position."""

    n_layers: int
    n_heads: int
    d_head: int
    d_vocab: int
    n_ctx: int
    n_moved: int
    k_moved: int
    n_rules: int
    k_rules: int
    windows: tuple[int | None, ...]
    rotary_theta: float | None = None

    @property
    def n_stages(self) -> int:
        return 3 * self.n_layers + 1

    def is_heads(self, stage: int) -> bool:
        return stage % 3 == 0 and stage < 3 * self.n_layers

    def is_moved(self, stage: int) -> bool:
        return stage % 3 == 1

    def has_rules(self, stage: int) -> bool:
        """Say whether features of a stage fire by conditions: those that heads moved, and those of rules."""
        return stage % 3 != 0

    def sources(self, stage: int) -> tuple[str, ...]:
        """List the groups of features that a stage reads."""
        if self.is_moved(stage):
            return (f"brought.{stage // 3}",)
        found = [WORDS, PLACES]
        for layer in range(self.n_layers):
            found += [f"moved.{layer}"] * (3 * layer + 1 < stage) + [f"rules.{layer}"] * (3 * layer + 2 < stage)
        return tuple(found)


@dataclass(frozen=True)
class SparseModel:
    """A sparse model's tables.

    Attributes:
        kinds: from each token to the kinds of words that it is read as.
        said: from each token to the kinds of words that votes for it go to.
        stations: how much of each station there is at each position, [pos, station].
        tables: by stage and source, edges to what the stage reads; the last column is the loudness.
        constants: by stage, added to those sums, [column].
        biases: by stage, added after the division by the loudness, [column but the last].
        floors: by stage, the least loudness.
        distances: by layer, what each head adds to its score for looking so far back, [head, distance].
    """

    shape: Shape
    kinds: Edges
    said: Edges
    stations: Float[Tensor, "pos station"]
    tables: tuple[Mapping[str, Edges], ...]
    constants: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    floors: tuple[float, ...]
    distances: tuple[Tensor, ...]

    def run(self, tokens: Int[Tensor, "batch pos"], look: Look | None = None) -> Float[Tensor, "row d_vocab"]:
        """Compute the logits of the next token at every position, rows of the batch one after the other."""
        shape, (n_batch, n_pos) = self.shape, tokens.shape
        features: dict[str, tuple[Codes | None, Tensor]] = {
            WORDS: self._kinds_of(tokens.reshape(-1)),
            PLACES: (None, self.stations[:n_pos].repeat(n_batch, 1)),
        }

        def read(stage: int) -> Tensor:
            total = self.constants[stage]
            for source in shape.sources(stage):
                codes, values = features[source]
                edges = self.tables[stage][source]
                total = total + (edges.from_all(values) if codes is None else edges.from_codes(codes, values))
            if look is not None:
                look(f"stage.{stage}", total)
            return total[:, :-1] / self.loudness(stage, total) + self.biases[stage]

        if look is not None:
            look(WORDS, self.kinds.matrix()[tokens.reshape(-1)])
            look(PLACES, features[PLACES][1])
        for layer in range(shape.n_layers):
            brought = self._brought(layer, read(3 * layer), n_batch, n_pos)
            features[f"brought.{layer}"] = (None, brought)
            if look is not None:
                look(f"brought.{layer}", brought)
            for stage, name, k in ((1, "moved", shape.k_moved), (2, "rules", shape.k_rules)):
                strengths = read(3 * layer + stage)
                codes, values = fire(strengths, k)
                features[f"{name}.{layer}"] = (codes, values)
                if look is not None:
                    fired = Codes(codes.indices, values.detach(), codes.counts)
                    look(f"{name}.{layer}", fired.dense(strengths.shape[1]))
        return self.said.to_sources(read(shape.n_stages - 1))

    def loudness(self, stage: int, total: Float[Tensor, "row column"]) -> Float[Tensor, "row 1"]:
        """Return what the sums of a stage are divided by."""
        return (total[:, -1:].square() + self.floors[stage] ** 2).sqrt()

    def _kinds_of(self, tokens: Int[Tensor, " row"]) -> tuple[Codes, Tensor]:
        """Look the kinds of every token up; the codes' values carry no gradient, those beside them do."""
        starts, counts = self.kinds.starts, self.kinds.starts.diff()
        width = int(counts.max())
        slots = torch.arange(width)
        used = slots < counts[:, None]
        places = (starts[:-1, None] + slots).clamp(max=max(0, len(self.kinds.columns) - 1))
        columns = self.kinds.columns[places] * used  # [token, slot]
        weights = self.kinds.weights[places] * used
        values = F.embedding(tokens, weights)
        return Codes(columns.int()[tokens], values.detach(), counts.int()[tokens]), values

    def _brought(self, layer: int, read: Tensor, n_batch: int, n_pos: int) -> Float[Tensor, "row number"]:
        """Let every head look back, and bring what it finds."""
        shape = self.shape
        asks, offers, carries = read.view(n_batch, n_pos, 3, shape.n_heads, shape.d_head).permute(2, 0, 3, 1, 4)
        if shape.rotary_theta is not None:
            asks, offers = (turned(numbers, shape.rotary_theta) for numbers in (asks, offers))
        here = torch.arange(n_pos)
        back = here[:, None] - here[None, :]
        hidden = back < 0
        window = shape.windows[layer]
        if window is not None:
            hidden = hidden | (back >= window)
        scores = asks @ offers.mT + self.distances[layer][:, back.clamp(min=0)]
        pattern = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        return (pattern @ carries).transpose(1, 2).reshape(n_batch * n_pos, -1)

    def parameters(self) -> dict[str, Tensor]:
        """List everything that trains, by name."""
        found = {"kinds": self.kinds.weights, "said": self.said.weights}
        for stage, tables in enumerate(self.tables):
            found |= {f"edges.{stage}.{source}": edges.weights for source, edges in tables.items()}
            found |= {f"constants.{stage}": self.constants[stage], f"biases.{stage}": self.biases[stage]}
        return found | {f"distances.{layer}": table for layer, table in enumerate(self.distances)}

    def with_tables(self, tables: Mapping[tuple[int, str], Edges]) -> SparseModel:
        """Return the model with some of its tables replaced."""
        changed = tuple(
            {source: tables.get((stage, source), edges) for source, edges in old.items()}
            for stage, old in enumerate(self.tables)
        )
        return replace(self, tables=changed)

    @property
    def n_edges(self) -> int:
        """Edges between features; the tables of words are not among them."""
        return sum(len(edges.columns) for tables in self.tables for edges in tables.values())


def turned(numbers: Float[Tensor, "*batch pos d_head"], theta: float) -> Float[Tensor, "*batch pos d_head"]:
    """Turn coordinates i and i + d/2 of every position by ``position * theta ** (-2 i / d)`` (RoPE)."""
    n_pos, size = numbers.shape[-2:]
    speeds = theta ** -(torch.arange(0, size, 2, dtype=torch.float64) / size)
    angles = torch.outer(torch.arange(n_pos, dtype=torch.float64), speeds)
    cos, sin = angles.cos().to(numbers.dtype), angles.sin().to(numbers.dtype)  # [pos, d_head / 2]
    first, second = numbers.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def fire(strengths: Float[Tensor, "row rule"], k: int) -> tuple[Codes, Float[Tensor, "row slot"]]:
    """Let the ``k`` strongest positive rules of every row fire; the values beside the codes carry the gradient."""
    pre = strengths.detach().contiguous().numpy()
    found = kernels.empty_codes(len(pre), min(k, pre.shape[1]), np.dtype(pre.dtype))
    run(kernels.top_k, len(pre), pre, pre.dtype.type(0), *found)
    codes = Codes(*map(torch.from_numpy, found))
    used = torch.arange(codes.indices.shape[1]) < codes.counts[:, None]
    return codes, strengths.gather(1, codes.indices.long()) * used
