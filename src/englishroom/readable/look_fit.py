"""Fit looks to the target's attention patterns, each layer reading the target's own stream."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from englishroom.dictionaries.replacement import clean_run
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.models.load import Target
from englishroom.models.torch_checkpoint import read_checkpoint, write_checkpoint
from englishroom.readable.config import StreamConfig
from englishroom.readable.looks import divergence, first_looks, look_scores
from englishroom.readable.shape import shape_of
from englishroom.readable.table_adam import TableAdam

CURVE_RATE, READ_RATE = 3.0, 6.0
"""Rates of curves over distance, and of what reads the stream, there divided by its length; biases have 1."""
WARM_STEPS, DECAY = 20, 0.6
BETAS = (0.9, 0.98)
START_ROWS = 4
"""Rows on which the length of what is read is measured."""


class LookFit:
    """The fit of all looks, saved and restored as a whole.

    Args:
        identity: whatever must be the same for a checkpoint to belong to this fit.
    """

    rate_flag = "--look-rate"

    def __init__(
        self, target: Target, rows: TokenRows, config: StreamConfig, identity: Mapping[str, Any], seed: int = 0
    ) -> None:
        self.target, self.rows, self.config, self.seed = target, rows, config, seed
        self.identity = {**identity, "config": asdict(config), "seed": seed, "length": rows.length}
        self.shape = shape_of(target.spec, config)
        self.step = 0
        self.n_steps = math.ceil(config.look_tokens / (config.batch * rows.length))
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
        left = self.n_steps - self.step
        factor = min(1.0, (self.step + 1) / WARM_STEPS, left / max(1.0, DECAY * self.n_steps))
        self.adam.step(loss, self.config.look_rate * factor)
        self.step += 1
        return loss.item() / (shape.n_layers * shape.n_heads)

    def result(self) -> dict[str, torch.Tensor]:
        """Return the tables of all looks as they now are."""
        return {name: table.detach().clone() for name, table in self.adam.tables.items()}

    def save(self, path: Path) -> None:
        """Write the whole state to ``path``, atomically."""
        write_checkpoint(path, self.identity, {"step": self.step, "adam": self.adam.state()})

    def restore(self, path: Path) -> None:
        """Take up the state that :meth:`save` wrote.

        Raises:
            ArtifactError: the file cannot be read.
            ConfigError: it belongs to another fit.
        """
        state = read_checkpoint(path, self.identity)
        self.adam.restore(state["adam"])
        self.step = state["step"]
