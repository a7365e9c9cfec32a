"""Settings of a sparse model: how it is started, pruned and refitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval
from tyro.conf import arg

from englishroom.bounds import Amount, Count, Positive, Settings, Share
from englishroom.errors import ConfigError

MOST_EDGES, BOUNDED = 25_000_000, 64
"""Edges that can be fitted; where a target implies more, rules read so many features at the start."""


@dataclass(frozen=True)
class StartConfig(Settings):
    """How a sparse model is started from the model and its dictionaries."""

    n_kinds: Annotated[Count, arg(name="kinds")] = 1024
    """Token features, and word lists that are voted for. Where there are as many as tokens, each token is one."""
    kinds_active: Count = 32
    """How many token features a token may have, and how many word lists it may stand in."""
    reads: Annotated[Count | None, arg(name="first-reads")] = 64
    """Features that a rule may read at the start; a query, key or value may read twice, a vote four times as many.
    None keeps all that the weights imply, or 64 where these are too many to fit."""

    def validate(self) -> None:
        """Refuse what is out of bounds.

        Raises:
            ConfigError: a value is out of its bounds.
        """
        super().validate()
        if self.kinds_active > self.n_kinds:
            raise ConfigError(
                f"--kinds-active is {self.kinds_active}, expected 1 to {self.n_kinds}, the value of --kinds"
            )

    def bound(self, n_edges: int) -> int | None:
        """Return how many features a rule may read at the start, where a model implies so many edges."""
        return BOUNDED if self.reads is None and n_edges > MOST_EDGES else self.reads


@dataclass(frozen=True)
class SparseConfig(Settings):
    """How edges are left out of a sparse model, and the rest refitted."""

    tokens: Annotated[Count, arg(name="sparse-tokens")] = 600_000
    """Tokens to read while edges are left out and the rest is refitted."""
    edges: Count = 300_000
    """Edges that stay in the end, without those that rules read."""
    first_edges: Count = 1_200_000
    """Edges that stay when edges are left out for the first time; never fewer than --edges."""
    reads: Count | None = 8
    """Features that half of the rules read at most in the end; None sets no bound, here and in the settings below."""
    fan_in: Count | None = 32
    """Features that 95 of 100 rules read at most in the end."""
    most: Count | None = 128
    """Features that any rule reads at most in the end."""
    numbers: Count | None = 96
    """Features that a head may read for each dimension of a query, a key or a value in the end."""
    dense_reads: Count = 256
    """Features that a rule or a dimension of a head may read when edges are left out for the first time; from there the
    bounds fall to those above."""
    row_limit: Count | None = 255
    """Sums of one stage (a layer's heads, its rules, or the votes) that a feature may add to in the end."""
    loudness: Annotated[Count | None, arg(name="scale-reads")] = 128
    """Features that the scale of a norm is computed from in the end."""
    prunings: Amount = 24
    """How often edges are left out; 0 keeps all of them."""
    pruned: Annotated[float, Interval(gt=0, le=1)] = 0.35
    """Share of these tokens after which no more edges are left out."""
    merge: Annotated[float, Interval(gt=0, le=1)] | None = None
    """Correlation from which two features are merged when edges are left out for the last time; None merges none."""
    batch: Annotated[Count, arg(name="sparse-batch")] = 2
    """Rows of text in one step of the refit."""
    rate: Annotated[Positive, arg(name="sparse-rate")] = 0.015
    """Peak learning rate of the refit, as a share of the size of the weights in a table."""
    moment_batches: Count = 6
    """Batches of text from which it is judged which edges matter least."""
    bits: Annotated[int, Interval(ge=1, le=12)] | Literal["ternary"] | None = 6
    """Bits of a weight: every stage keeps as many different weights as these bits can tell apart; ternary keeps one
    number, its negative and 0; None does not round."""
    rounded: Share = 0.2
    """Share of these tokens, at the end, that is fitted with rounded weights."""
    warmup: Annotated[Share, arg(name="sparse-warmup")] = 0.02
    """Share of the refit over which its learning rate rises."""
    decay: Annotated[Share, arg(name="sparse-decay")] = 0.6
    """Share of the refit, at its end, over which its learning rate falls."""
