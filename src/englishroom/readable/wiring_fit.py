"""Leave edges of a wired model out while the rest is fitted to the target's whole distribution.

1. Some steps with all edges, the strongest few features of each group on.
2. Edges are left out every few steps, until all bounds are met; what they add on average goes to biases. In between the
   model is fitted on. At the same time thresholds take the place of being among the strongest few, little by little:
   set at once, they cost 0.7 nats, and a short fit ends 0.1 nats higher (lab 11).
3. The rest of the text goes to fitting what stays, at a falling rate.

Features pay for being on more or less often than they should, together or each. In a share of the steps one head or MLP
is switched off in target and program alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from englishroom.dictionaries.losses import kl_nats
from englishroom.dictionaries.replacement import clean_run
from englishroom.dictionaries.switching import switch_off
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.models.forward import unembedding
from englishroom.models.load import Target
from englishroom.readable.config import WiringConfig
from englishroom.readable.firing import misuse
from englishroom.readable.fit import ReadableFit
from englishroom.readable.stream_fit import drawn_part
from englishroom.readable.table_adam import TableAdam, size_of
from englishroom.readable.wiring import WiredModel, from_state, set_thresholds
from englishroom.readable.wiring_prune import choose_edges

BETAS = (0.9, 0.99)
LEAST_WORD = 1e-9
"""What a word counts at least in a list that it would leave for the other of its sum."""
MEMORY = 0.9
"""How much of the running means stays from step to step."""
SHARP_ROWS = 32
"""Rows on which thresholds are set."""
LEAST_SIZE = 0.02
CALM_READS = 32
"""Edges to one sum above which each moves less: steps of many add up, as the root of their number."""
VECTOR_RATE, TOKEN_RATE = 0.5, 0.3
"""Rates of biases, thresholds and curves, and of the tables of tokens, times that of other edges."""


class WiringFit(ReadableFit[WiringConfig]):
    """A wired model being pruned and refitted.

    Args:
        half: whether looks mix what they find in bfloat16.
        sharp: whether thresholds alone decide what is on from the beginning, as they are.
    """

    rate_flag, warm_steps, decay = "--short-rate", 50, 0.5

    def __init__(
        self,
        target: Target,
        model: WiredModel,
        rows: TokenRows,
        config: WiringConfig,
        identity: Mapping[str, Any],
        half: bool = False,
        seed: int = 0,
        sharp: bool = False,
    ) -> None:
        super().__init__(target, rows, config, config.tokens, {**identity, "half": half}, seed)
        self.half, self.begins_sharp = half, sharp
        self.losses: list[float] = []
        counted = torch.bincount(torch.from_numpy(rows.tokens).long(), minlength=target.spec.d_vocab)
        self.frequencies = counted.float() / counted.sum()
        self.prune_at = _prunings(self.n_steps, config)
        self.means: Tensor | None = None  # of every feature, a running mean
        self._train(model.with_tensors({name: t.detach().clone() for name, t in model.tensors().items()}))

    def _train(self, model: WiredModel) -> None:
        """Train these tensors from here on."""
        self.adam = TableAdam(model.tensors(), _shares(model), BETAS)
        self.model = model.with_tensors(self.adam.tables)

    def update(self) -> float:
        """Take one step and return its KL(target‖program), nats per token."""
        config, spec, shape = self.config, self.target.spec, self.model.shape
        if self.step in self.prune_at:
            self._prune(self.prune_at.index(self.step) + 1)
        sharp = self.sharp()
        if self.step == int(config.sharp_from * self.n_steps) and not self.begins_sharp:
            self._set_thresholds()
        tokens = torch.from_numpy(self.rows.batch(self.seed + 2, self.step, config.batch, config.inside))
        off = drawn_part(spec, config.ablate, (self.seed + 2, self.step))
        final, _ = clean_run(spec, self.target.weights, tokens, [], tap=None if off is None else switch_off(spec, *off))
        expected = (final @ unembedding(spec, self.target.weights)).flatten(0, 1)
        seen: dict[str, Tensor] = {}
        logits = self.model.run(tokens, seen.__setitem__, off, sharp, self.half)
        loss = kl = kl_nats(expected, logits)[0].mean()
        for layer in range(shape.n_layers if sharp > 0 else 0):
            for name, most in (("moved", shape.n_heads * shape.k_moved), ("rules", shape.k_rules[layer])):
                loss = loss + misuse(seen[f"often.{name}.{layer}"], config.active * most, config.often)
        settled = self.step >= self.prune_at[-1]  # a word then stays in its list, for or against
        lists = [t for name, t in self.adam.tables.items() if settled and name.startswith("words.")]
        sides = [table.detach().sign() for table in lists]
        self.adam.step(loss, config.rate * self.rate_factor())
        with torch.no_grad():
            for table, side in zip(lists, sides, strict=True):
                table.copy_(torch.where(table * side > 0, table, side * LEAST_WORD))
            for name, vector in self.model.vectors.items():
                if "_thresholds" in name:
                    vector.clamp_(min=0)
            if off is None:
                newer = seen["features"].mean(0)
                self.means = newer if self.means is None else MEMORY * self.means + (1 - MEMORY) * newer
        self.step += 1
        self.losses.append(kl.item())
        return self.losses[-1]

    def sharp(self) -> float:
        """Return how much of what features must exceed at this step is their own thresholds."""
        first, last = (share * self.n_steps for share in (self.config.sharp_from, self.config.sharp_until))
        if self.begins_sharp:
            return 1.0
        return min(1.0, max(0.0, (self.step - first) / max(1.0, last - first)))

    def _set_thresholds(self) -> None:
        """Set thresholds, which train from here on."""
        set_thresholds(self.model, torch.from_numpy(self.rows.batch(self.seed, 0, SHARP_ROWS, self.config.inside)))
        self.adam.shares = _shares(self.model)

    def _prune(self, number: int) -> None:
        """Leave edges out, as many as at this pruning, counted from 1."""
        if self.means is None:
            return
        kept = choose_edges(self.model, self.costs(), self.config, number / len(self.prune_at))
        model = self.model.keep(kept, self.means, self.frequencies)
        self.adam = self.adam.with_fewer(model.tensors(), kept, _shares(model))
        self.model = model.with_tensors(self.adam.tables)

    def costs(self) -> dict[str, Tensor]:
        """Return, by table of edges, what leaving out each would cost, to second order and up to a factor."""
        spread = self.adam.mean_squares()
        return {name: edges.weights.detach().square() * spread[name] for name, edges in self.model.edges.items()}

    def result(self) -> WiredModel:
        """Return the model as it now is; it trains no further."""
        return self.model.with_tensors({name: t.detach().clone() for name, t in self.model.tensors().items()})

    def state(self) -> dict[str, Any]:
        """Return all that a later run needs to go on, except the step."""
        known = {"losses": self.losses, "means": self.means}
        return known | {"model": self.model.state(), "adam": self.adam.state()}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        self._train(from_state(self.model.shape, state["model"]))
        self.adam.restore(state["adam"])
        self.losses, self.means = state["losses"], state["means"]


def _prunings(n_steps: int, config: WiringConfig) -> list[int]:
    """List the steps before which edges are left out."""
    first, last = (min(n_steps - 1, int(share * n_steps)) for share in (config.pruned_from, config.pruned_until))
    first = min(max(1, first), last)
    return sorted({round(last - (last - first) * at / config.prunings) for at in range(config.prunings)})


def _shares(model: WiredModel) -> dict[str, float]:
    """Return the rate of every tensor, as a multiple of the step's."""
    found = {}
    for name, tensor in model.tensors().items():
        share = max(size_of(tensor), LEAST_SIZE)
        if name == "follows":
            share *= TOKEN_RATE
        elif name not in model.edges:
            share *= VECTOR_RATE
        elif not name.startswith("words."):
            reads = len(tensor) / max(1, len(model.edges[name].columns.unique()))
            share *= min(1.0, math.sqrt(CALM_READS / max(reads, 1.0)))
        found[name] = share
    return found
