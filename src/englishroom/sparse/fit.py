"""Prune a sparse model while it is refitted, end to end, to the target's whole distribution.

1. Some steps at full size, to make up for what kinds, stations and loudness lost.
2. Edges are left out at a number of steps, many at first and few at the end; in between the model is fitted on.
3. The rest of the text goes to fitting what stays, at a falling rate; towards the end with weights rounded to a few
   numbers.

Every table has a learning rate of its own, a share of the size of its weights, since those of different features
differ a hundredfold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from englishroom.dictionaries.checkpoint import Resumable, fit_to_end
from englishroom.dictionaries.losses import kl_nats
from englishroom.dictionaries.replacement import clean_run
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.models.forward import unembedding
from englishroom.models.load import Target
from englishroom.sparse.config import SparseConfig
from englishroom.sparse.dead import without_dead
from englishroom.sparse.merge import find_twins, merge
from englishroom.sparse.model import SparseModel
from englishroom.sparse.prune import Bounds, choose, fan_in, fired_rules, leave_out, measure_moments, saliencies
from englishroom.sparse.rounding import in_half, palettes, rounded, without_zeros
from englishroom.sparse.saved import all_edges, from_state, state_of

HALF = 0.49
"""Share of a stage's columns that a feature may add to in the end; a table that is more than half full is a matrix."""
CALM_READS = 32
"""Edges to one sum above which each moves less: steps of many add up, as the root of their number."""
PALETTE_STEPS = 200
"""Steps after which the numbers that weights are rounded to are chosen anew."""
LAST_BATCHES = 6
"""Times as many batches at the last pruning, which decides which rules ever fire."""
MOMENT_ROWS = 2
"""Rows of a batch on which saliencies are measured."""


class SparseFit(Resumable):
    """A sparse model being pruned and refitted."""

    rate_flag = "--sparse-rate"

    def __init__(
        self,
        target: Target,
        model: SparseModel,
        rows: TokenRows,
        config: SparseConfig,
        identity: Mapping[str, Any],
        seed: int = 0,
    ) -> None:
        config.validate()
        self.target, self.rows, self.config, self.seed = target, rows, config, seed
        whole = {**identity, "config": asdict(config), "seed": seed, "length": rows.length}
        super().__init__(whole, math.ceil(config.tokens / (config.batch * rows.length)))
        self.losses: list[float] = []
        self.round_from = self.n_steps - int(config.rounded * self.n_steps)
        self.palettes: dict[str, Tensor] = {}
        self.n_merged = 0
        last = max(0, min(self.n_steps - 1, int(self.n_steps * config.pruned)))  # the step of the last pruning
        self.prune_at: list[int] = []
        if config.prunings:
            self.prune_at = sorted({round(last * i / config.prunings) for i in range(config.prunings + 1)})
        counted = torch.bincount(torch.from_numpy(rows.tokens).long(), minlength=target.spec.d_vocab)
        self.frequencies = counted.float() / counted.sum()
        self._train(model, None)

    def _train(self, model: SparseModel, state: Mapping[str, Mapping[str, Tensor]] | None) -> None:
        """Train this model from here on; ``state`` holds what the optimiser knows of each tensor."""
        self.model = trainable(model)
        groups = []
        reads = {name: len(edges.columns) / edges.n_columns for name, edges in all_edges(self.model).items()}
        for name, tensor in self.model.parameters().items():
            size = float(tensor.detach().square().mean().sqrt()) if tensor.numel() else 0.0
            share = size if name.startswith("edges") or name in ("kinds", "said") else 0.3 * size + 1e-3
            share *= min(1.0, (CALM_READS / max(reads.get(name, 0.0), 1.0)) ** 0.5)
            groups.append({"params": [tensor], "name": name, "share": share})
        self.optimiser = torch.optim.Adam(groups, lr=self.config.rate, betas=(0.9, 0.98), eps=1e-12, fused=True)
        for group in self.optimiser.param_groups if state else []:
            assert state is not None
            if group["name"] in state:
                self.optimiser.state[group["params"][0]] = dict(state[group["name"]])

    def _known(self) -> dict[str, dict[str, Tensor]]:
        """Return what the optimiser knows of each tensor, by its name."""
        groups = self.optimiser.param_groups
        return {g["name"]: dict(self.optimiser.state[g["params"][0]]) for g in groups}

    def update(self) -> float:
        """Take one step and return its KL(target‖program), nats per token."""
        if self.step in self.prune_at:
            self._prune(1.0 if self.step == self.prune_at[-1] else self.step / self.prune_at[-1])
        config = self.config
        since = self.step - self.round_from
        if config.bits is not None and since >= 0 and since % PALETTE_STEPS == 0:
            self.palettes = palettes(self.model, config.bits)
        tokens = torch.from_numpy(self.rows.batch(self.seed, self.step, config.batch))
        final, _ = clean_run(self.target.spec, self.target.weights, tokens, [])
        with torch.no_grad():
            expected = (final @ unembedding(self.target.spec, self.target.weights)).flatten(0, 1)
        loss = kl_nats(expected, rounded(self.model, self.palettes).run(tokens))[0].mean()
        warm, fall = max(1.0, self.n_steps * config.warmup), max(1.0, self.n_steps * config.decay)
        factor = min(1.0, (self.step + 1) / warm, (self.n_steps - self.step) / fall)
        for group in self.optimiser.param_groups:
            group["lr"] = config.rate * group["share"] * factor
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for stage, constants in enumerate(self.model.constants):
            if self.model.shape.has_rules(stage) and constants.grad is not None:
                constants.grad[:-1] = 0  # rules have biases, and no constants
        self.optimiser.step()
        self.step += 1
        self.losses.append(loss.item())
        return self.losses[-1]

    def _prune(self, done: float) -> None:
        """Leave edges out, so that as many stay as should after this share of the pruning."""
        config = self.config
        left = (1 - done) ** 3
        aim = round(config.edges + (max(0, config.first_edges - config.edges)) * left)
        n_batches = config.moment_batches * (LAST_BATCHES if done == 1 else 1)
        seeds = [(self.seed, 1 + self.step, i) for i in range(n_batches)]
        batches = [torch.from_numpy(self.rows.batch(hash_seed(s), 0, MOMENT_ROWS)) for s in seeds]
        moments = measure_moments(self.model, batches, self.frequencies, self.seed + self.step)
        bounds = Bounds(
            aim,
            _bound(config.reads, config.dense_reads, left),
            _bound(config.fan_in, config.dense_reads, left),
            _bound(config.most, config.dense_reads, left),
            _bound(config.numbers, config.dense_reads, left),
            _bound(config.row_limit, self.model.shape.d_vocab, left),
            _bound(config.loudness, self.model.shape.d_vocab, left),
            HALF + (1 - HALF) * left,
            bury=done == 1,
        )
        kept = choose(self.model, saliencies(self.model, moments), bounds, fired_rules(self.model, moments))
        known = self._known()
        for (stage, source), stays in kept.items():
            state = known.get(f"edges.{stage}.{source}", {})
            for key in ("exp_avg", "exp_avg_sq"):
                if key in state:
                    state[key] = state[key][stays]
        model = leave_out(self.model, kept, moments, bury=done == 1)
        if done == 1 and config.merge is not None:
            twins = find_twins(model, batches, config.merge)
            model, self.n_merged = merge(model, twins, config.row_limit)
            known = {name: state for name, state in known.items() if not name.startswith("edges")}
        self._train(model, known)

    def result(self) -> SparseModel:
        """Return the model as it now is, rounded where that has begun; it trains no further."""
        with torch.no_grad():
            model = rounded(self.model, self.palettes)
            return _copied(without_zeros(in_half(model)) if self.palettes else model)

    def about(self) -> dict[str, Any]:
        """Say how large the model is."""
        shape = self.model.shape
        stages = [stage for stage in range(shape.n_stages) if shape.has_rules(stage)]
        alive = without_dead(self.model)
        reads = torch.cat([fan_in(alive, stage) for stage in stages]).double()
        return {
            "edges": self.model.n_edges,
            "reads_per_rule_median": float(reads.quantile(0.5)),
            "reads_per_rule_p95": float(reads.quantile(0.95)),
        }

    def state(self) -> dict[str, Any]:
        """Return all that a later run needs to go on, except the step."""
        return {
            "losses": self.losses,
            "model": state_of(self.model),
            "palettes": self.palettes,
            "merged": self.n_merged,
            "known": self._known(),
            "shares": [group["share"] for group in self.optimiser.param_groups],
        }

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        self._train(from_state(self.model, state["model"]), state["known"])
        # shares follow the sizes at the last pruning, so that a fit that was killed goes on with the same
        for group, share in zip(self.optimiser.param_groups, state["shares"], strict=True):
            group["share"] = share
        self.losses, self.palettes, self.n_merged = state["losses"], state["palettes"], state["merged"]


def fit_sparse(
    run: SparseFit,
    checkpoint: Path,
    on_step: Callable[[SparseFit, float], None] = lambda _run, _loss: None,
    save_every_s: float = 60.0,
) -> SparseModel:
    """Fit to the end, or go on from ``checkpoint`` where it exists."""
    fit_to_end(run, checkpoint, on_step, save_every_s)
    return run.result()


def _bound(least: float | None, first: int, left: float) -> int | None:
    """Return a bound that falls from ``first`` to ``least``, by the same factor in equal shares of what is left."""
    if least is None or least >= first:
        return None if least is None else round(least)
    return round(least * (first / least) ** (left ** (1 / 3)))


def hash_seed(parts: tuple[int, ...]) -> int:
    """Make one seed of several numbers."""
    return int(torch.tensor([*parts]).mul(torch.tensor([1, 1_000_003, 7_919][: len(parts)])).sum()) % 2**31


def _copied(model: SparseModel) -> SparseModel:
    return from_state(model, {name: tensor.clone() for name, tensor in state_of(model).items()})


def trainable(model: SparseModel) -> SparseModel:
    """Return a copy of a model whose tensors gather gradients."""
    copied = _copied(model)
    for tensor in copied.parameters().values():
        tensor.requires_grad_()
    return copied
