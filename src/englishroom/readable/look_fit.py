"""Fit looks to the target's attention patterns, each layer reading the target's own stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from englishroom.dictionaries.replacement import clean_run
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.models.load import Target
from englishroom.readable.config import StreamConfig
from englishroom.readable.fit import ReadableFit
from englishroom.readable.looks import divergence, first_looks, look_scores
from englishroom.readable.shape import shape_of
from englishroom.readable.table_adam import TableAdam

CURVE_RATE, READ_RATE = 3.0, 6.0
"""Rates of curves over distance, and of what reads the stream, there divided by its length; biases have 1."""
BETAS = (0.9, 0.98)
START_ROWS = 4
"""Rows on which the length of what is read is measured."""


class LookFit(ReadableFit[StreamConfig]):
    """The fit of all looks."""

    rate_flag, warm_steps, decay = "--look-rate", 20, 0.6

    def __init__(
        self, target: Target, rows: TokenRows, config: StreamConfig, identity: Mapping[str, Any], seed: int = 0
    ) -> None:
        super().__init__(target, rows, config, config.look_tokens, identity, seed)
        self.shape = shape_of(target.spec, config)
        generator = torch.Generator().manual_seed(seed)
        reads = [f"blocks.{layer}.hook_resid_pre" for layer in range(self.shape.n_layers)]
        first = torch.from_numpy(rows.batch(seed, 0, START_ROWS))
        values = clean_run(target.spec, target.weights, first, reads)[1]
        tables: dict[str, torch.Tensor] = {}
        shares: dict[str, float] = {}
        for layer, read in enumerate(reads):
            x = values[read].flatten(0, 1)
            length = float(x.var(0).sum().sqrt())
            drawn = first_looks(self.shape, x.mean(0), length, generator)
            drawn["distance"] = torch.zeros(self.shape.n_heads, self.shape.reach(layer))
            for name, table in drawn.items():
                tables[f"{name}.{layer}"] = table
                reading = name in ("queries", "keys", "lone_keys")
                share = READ_RATE / max(length, 1e-6) if reading else 1.0
                shares[f"{name}.{layer}"] = CURVE_RATE if name == "distance" else share
        self.adam = TableAdam(tables, shares, BETAS)

    def update(self) -> float:
        """Take one step and return the mean divergence of a look from its head, nats per position."""
        spec, shape = self.target.spec, self.shape
        tokens = torch.from_numpy(self.rows.batch(self.seed, self.step, self.config.batch))
        parts = ("hook_resid_pre", "attn.hook_pattern")
        sites = [f"blocks.{layer}.{part}" for layer in range(shape.n_layers) for part in parts]
        values = clean_run(spec, self.target.weights, tokens, sites, attend=None)[1]
        each = []
        for layer in range(shape.n_layers):
            x = values[f"blocks.{layer}.hook_resid_pre"].flatten(0, 1)
            scores = look_scores(shape, self.adam.tables, layer, x, len(tokens))
            each.append(divergence(values[f"blocks.{layer}.attn.hook_pattern"], scores))
        loss = torch.cat(each).sum()
        self.adam.step(loss, self.config.look_rate * self.rate_factor())
        self.step += 1
        return loss.item() / (shape.n_layers * shape.n_heads)

    def result(self) -> dict[str, torch.Tensor]:
        """Return the tables of all looks as they now are."""
        return {name: table.detach().clone() for name, table in self.adam.tables.items()}

    def state(self) -> dict[str, Any]:
        """Return all that a later run needs to go on, except the step."""
        return {"adam": self.adam.state()}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        self.adam.restore(state["adam"])
