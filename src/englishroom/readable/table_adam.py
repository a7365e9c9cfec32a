"""Adam over named tables, each at a rate of its own: a share of the size of its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

CLIP = 1.0
"""Largest norm of the gradient of a step; larger ones are scaled down to it."""


class TableAdam:
    """An optimiser of named tables.

    Args:
        tables: what trains.
        shares: rate of each table, times that of the step.
        betas: how much of its running means Adam keeps from step to step, of gradients and of their squares.
    """

    def __init__(self, tables: Mapping[str, Tensor], shares: Mapping[str, float], betas: tuple[float, float]) -> None:
        self.tables, self.shares = dict(tables), dict(shares)
        groups = [{"params": [table.requires_grad_()], "name": name} for name, table in self.tables.items()]
        self.optimiser = torch.optim.Adam(groups, lr=0.0, betas=betas, eps=1e-12, fused=True)

    def step(self, loss: Tensor, rate: float) -> None:
        """Follow the gradient of a loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate * self.shares[group["name"]]
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self.tables.values()), CLIP)
        self.optimiser.step()

    def with_fewer(
        self, tables: Mapping[str, Tensor], kept: Mapping[str, Tensor], shares: Mapping[str, float]
    ) -> TableAdam:
        """Return the optimiser of what is left of its tables, which knows how that moved.

        Args:
            kept: by table, which of its entries are left; those of other tables are.
        """
        betas = self.optimiser.param_groups[0]["betas"]
        fewer = TableAdam({name: table.detach() for name, table in tables.items()}, shares, betas)
        for name, table in fewer.tables.items():
            known = dict(self.optimiser.state[self.tables[name]])
            for key in ("exp_avg", "exp_avg_sq"):
                if name in kept and key in known:
                    known[key] = known[key][kept[name]]
            fewer.optimiser.state[table] = known
        return fewer

    def mean_squares(self) -> dict[str, Tensor]:
        """Return, by table, the running mean of the squares of its gradients; 0 where none has come yet."""
        known = {name: self.optimiser.state.get(table, {}) for name, table in self.tables.items()}
        return {name: state.get("exp_avg_sq", torch.zeros_like(self.tables[name])) for name, state in known.items()}

    def state(self) -> dict[str, Any]:
        """Return all that a later run needs to go on."""
        tables = {name: table.detach() for name, table in self.tables.items()}
        return {"tables": tables, "shares": self.shares, "optimiser": self.optimiser.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state` returned."""
        with torch.no_grad():
            for name, table in self.tables.items():
                table.copy_(state["tables"][name])
        self.shares = dict(state["shares"])
        self.optimiser.load_state_dict(state["optimiser"])


def size_of(table: Tensor) -> float:
    """Return the root mean square of the entries of a table that are not 0."""
    entries = table.detach()[table.detach() != 0]
    return math.sqrt(float(entries.double().square().mean())) if len(entries) else 0.0
