"""Edges: a sparse map from features to whatever they add to, with a gradient that touches what is there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from englishroom.dictionaries.code import Codes
from englishroom.kernels import edges as kernels
from englishroom.kernels.threads import array, run

SMALL = 2**14
"""Pairs of a source and a column up to which edges are computed as a matrix."""


@dataclass(frozen=True)
class Edges:
    """Edges, source by source.

    Attributes:
        starts: where the edges of each source begin, [source + 1].
        columns: what each edge adds to, [edge]; ascending within a source.
        weights: [edge]; they train.
    """

    starts: Int[Tensor, " source_and_end"]
    columns: Int[Tensor, " edge"]
    weights: Float[Tensor, " edge"]
    n_columns: int

    @staticmethod
    def of(matrix: Float[Tensor, "source column"], kept: Tensor | None = None) -> Edges:
        """Take the entries of a matrix that are not 0, or those that are ``kept``."""
        kept = matrix != 0 if kept is None else kept
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), kept.sum(1).cumsum(0)])
        columns = kept.nonzero()[:, 1].int()
        return Edges(starts, columns, matrix[kept].clone(), matrix.shape[1])

    @property
    def n_sources(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def sources(self) -> Int[Tensor, " edge"]:
        """Where each edge begins."""
        return torch.repeat_interleave(torch.arange(self.n_sources), self.starts.diff())

    @property
    def is_small(self) -> bool:
        """Whether a whole matrix of them is faster than what is there."""
        return self.n_sources * self.n_columns <= SMALL

    def keep(self, kept: Tensor) -> Edges:
        """Return the edges that are kept; their weights are copies."""
        counts = torch.bincount(self.sources[kept], minlength=self.n_sources)
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        weights = self.weights.detach()[kept].clone()
        return Edges(starts, self.columns[kept].contiguous(), weights, self.n_columns)

    def matrix(self) -> Float[Tensor, "source column"]:
        """Spell the edges out."""
        full = self.weights.new_zeros(self.n_sources, self.n_columns)
        return full.index_put((self.sources, self.columns.long()), self.weights)

    def from_codes(self, codes: Codes, values: Float[Tensor, "row slot"]) -> Float[Tensor, "row column"]:
        """Add up what features that are on add; ``values`` carries the gradient of the codes' own."""
        out = _FromCodes.apply(codes, values, self, self.weights)
        assert isinstance(out, Tensor)
        return out

    def from_all(self, values: Float[Tensor, "row source"]) -> Float[Tensor, "row column"]:
        """Add up what sources add that are always on."""
        out = _Everywhere.apply(values, self, self.weights, False)
        assert isinstance(out, Tensor)
        return out

    def to_sources(self, given: Float[Tensor, "row column"]) -> Float[Tensor, "row source"]:
        """Read the edges the other way: every source receives the sum of what stands at its columns."""
        out = _Everywhere.apply(given, self, self.weights, True)
        assert isinstance(out, Tensor)
        return out


class _FromCodes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, codes: Codes, values: Tensor, edges: Edges, weights: Tensor) -> Tensor:
        values = values.contiguous()
        out = values.new_zeros(len(values), edges.n_columns)
        where = (codes.indices, values, codes.counts, edges.starts, edges.columns, weights)
        run(kernels.add, len(values), *map(array, (*where, out)))
        ctx.edges = edges
        ctx.save_for_backward(codes.indices, values, codes.counts, weights)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor | None, None, Tensor | None]:
        indices, values, counts, weights = ctx.saved_tensors
        starts, columns = ctx.edges.starts, ctx.edges.columns
        grad = grads[0].contiguous()
        by_value, by_weight = torch.zeros_like(values), torch.zeros_like(weights)
        where = (indices, values, counts, starts, columns, weights, grad, by_value, by_weight)
        run(kernels.gradients, ctx.edges.n_sources, *map(array, where), work=array(starts))
        return None, by_value, None, by_weight


class _Everywhere(torch.autograd.Function):
    """Edges read from sources to columns, or ``back``, where all features are on.

    Everything lies [feature, row] inside, so that one edge is one loop over rows.
    """

    @staticmethod
    def forward(ctx: Any, given: Tensor, edges: Edges, weights: Tensor, back: bool) -> Tensor:
        laid = given.T.contiguous()
        ctx.edges, ctx.back = edges, back
        ctx.save_for_backward(laid, weights)
        return (_gather if back else _spread)(edges, weights, laid).T

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        laid, weights = ctx.saved_tensors
        grad = grads[0].T.contiguous()
        by_given = by_weight = None
        if ctx.needs_input_grad[0]:
            by_given = (_spread if ctx.back else _gather)(ctx.edges, weights, grad).T
        if ctx.needs_input_grad[2]:
            by_weight = _pairs(ctx.edges, *((grad, laid) if ctx.back else (laid, grad)))
        return by_given, None, by_weight, None


def _gather(edges: Edges, weights: Tensor, given: Tensor) -> Tensor:
    out = given.new_zeros(edges.n_sources, given.shape[1])
    run(kernels.gather, given.shape[1], *map(array, (edges.starts, edges.columns, weights, given, out)))
    return out


def _spread(edges: Edges, weights: Tensor, given: Tensor) -> Tensor:
    out = given.new_zeros(edges.n_columns, given.shape[1])
    run(kernels.spread, given.shape[1], *map(array, (edges.starts, edges.columns, weights, given, out)))
    return out


def _pairs(edges: Edges, by_source: Tensor, by_column: Tensor) -> Tensor:
    out = by_source.new_zeros(len(edges.columns))
    ends = (edges.starts, edges.columns, by_source, by_column, out)
    run(kernels.pair_gradients, edges.n_sources, *map(array, ends), work=array(edges.starts))
    return out
