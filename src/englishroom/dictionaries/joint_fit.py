"""Fit all dictionaries of a target together, so that the program made of them runs by itself.

1. *Local*: every dictionary learns what it reads and writes from clean runs of the target; one forward pass serves all.
2. *Joint*: all of them replace their parts at once, errors propagating, and the loss is KL(target‖program) over the
   whole next-token distribution. Beside it stands the distance from the target's values at every site that is written,
   and in the residual stream after every layer, so that the program does inside what the target does. In a share of
   the steps one head or MLP, drawn at random, is switched off in both, so that what a part does in the program is what
   it does in the target.

Where asked (``widen``), more latents are active at first; they fall to their number over half of the joint stage.

Dictionaries trained alone do not compose (0.56 nats on a 5-layer model of 260,000 parameters); fitted so, they do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from englishroom.dictionaries.checkpoint import Resumable, fit_to_end
from englishroom.dictionaries.config import DictionariesConfig, FitConfig
from englishroom.dictionaries.dictionary import Activation, Dictionary, DictionarySpec
from englishroom.dictionaries.losses import LinearKL
from englishroom.dictionaries.replacement import Replacement, clean_run
from englishroom.dictionaries.switching import switch_off
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.dictionaries.train import Trainer, start_from, variances
from englishroom.errors import ConfigError
from englishroom.models.forward import Tap, unembedding
from englishroom.models.load import Target
from englishroom.models.spec import ModelSpec
from englishroom.steps import silent

START_ROWS = 16
"""Rows whose values set the scale of the first weights."""


def steps_of(config: FitConfig, length: int) -> tuple[int, int]:
    """Return the steps of the two stages, for rows of so many tokens."""
    size = config.batch * length
    return math.ceil(config.local_tokens / size), math.ceil(config.joint_tokens / size)


class Fit(Resumable):
    """A fit in progress.

    Args:
        given: dictionaries to go on from, one for each spec; by default new ones are started from examples.
    """

    rate_flag = "--rate"

    def __init__(
        self,
        target: Target,
        specs: tuple[DictionarySpec, ...],
        rows: TokenRows,
        config: FitConfig,
        identity: Mapping[str, Any],
        given: Sequence[Dictionary] = (),
        seed: int = 0,
    ) -> None:
        config.validate()
        self.target, self.rows, self.config, self.seed = target, rows, config, seed
        self.spec = target.spec
        described = {"config": asdict(config), "seed": seed, "dictionaries": [asdict(s) for s in specs]}
        self.n_local, self.n_joint = steps_of(config, rows.length)
        super().__init__({**identity, **described, "length": rows.length}, self.n_local + self.n_joint)
        self.losses: list[float] = []
        if not specs:
            raise ConfigError("no dictionary to fit; name at least one site")
        generator = torch.Generator().manual_seed(seed)
        first = torch.from_numpy(rows.batch(seed, 0, START_ROWS))
        self.sites = sorted({site for s in specs for site in (s.reads, *s.writes)} | set(_stream(self.spec)))
        values = self._counted(first, clean_run(self.spec, target.weights, first, self.sites)[1])
        sizes = variances(values)
        self.tables: dict[str, Tensor] = {}
        if config.tables:
            ends = sorted(site for s in specs for site in s.writes if site.endswith("hook_mlp_out"))
            self.tables = {site: torch.zeros(self.spec.d_vocab, self.spec.d_model) for site in ends}
        starting = list(given) or [start_from(Dictionary.random(s, generator), values, generator) for s in specs]
        self.weights = dict(target.weights)
        others = [(table, 1.0) for table in self.tables.values()]
        if config.tune:
            for name, tensor in target.weights.items():
                if tensor.ndim == 2 and name.startswith("blocks."):
                    self.weights[name] = tensor.clone()
                    others.append((self.weights[name], config.tune))
        self.trainer = Trainer(starting, config.trainer, sizes, others)
        self.replacement = Replacement(self.spec, self.weights, tuple(self.trainer.dictionaries), self.tables)
        self._places = {id(d): i for i, d in enumerate(self.trainer.dictionaries)}

    def update(self) -> float:
        """Take one step and return its loss: mean FVU of the dictionaries, then KL in nats per token."""
        tokens = torch.from_numpy(self.rows.batch(self.seed, self.step, self.config.batch))
        if self.step < self.n_local:
            loss = self._local(tokens, self._rate(self.step, self.n_local))
        else:
            at = self.step - self.n_local
            self._widen(at / max(1, self.n_joint))
            loss = self._joint(tokens, self._rate(at, self.n_joint))
        self.step += 1
        self.losses.append(loss)
        return loss

    def _rate(self, step: int, n_steps: int) -> float:
        warm = max(1.0, n_steps * self.config.warmup)
        fall = max(1.0, n_steps * self.config.decay)
        return min(1.0, (step + 1) / warm, (n_steps - step) / fall)

    def _widen(self, done: float) -> None:
        """Let more latents be active at first, and fewer and fewer over the first half."""
        factor = 1 + (self.config.widen - 1) * max(0.0, 1 - 2 * done)
        for index, d in enumerate(self.trainer.dictionaries):
            if d.spec.k is not None:
                self.trainer.slots[index] = min(d.spec.n_latents, round(d.spec.k * factor))

    def _local(self, tokens: Tensor, rate: float) -> float:
        values = clean_run(self.spec, self.target.weights, tokens, self.sites)[1]
        looked_up = self._counted(tokens, self._looked_up(tokens))
        loss, shares = self.trainer.local_losses(self._counted(tokens, values), looked_up)
        self.trainer.step(loss, rate)
        return sum(shares) / len(shares)

    def _where_counted(self, tokens: Tensor) -> Tensor | None:
        """Say which positions count in distances, [row, pos]; ``None`` for all."""
        if self.config.count_specials:
            return None
        return torch.from_numpy(self.rows.ordinary(tokens.numpy()))

    def _counted(self, tokens: Tensor, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return values at the positions that count."""
        where = self._where_counted(tokens)
        return values if where is None else {site: value[where] for site, value in values.items()}

    def _looked_up(self, tokens: Tensor) -> dict[str, Tensor]:
        return {site: F.embedding(tokens, table) for site, table in self.tables.items()}

    def _joint(self, tokens: Tensor, rate: float) -> float:
        off = self._switched_off()
        expected, values = clean_run(self.spec, self.target.weights, tokens, self.sites, tap=off)
        given = self._looked_up(tokens)
        where = self._where_counted(tokens)
        extra: list[Tensor] = []
        apart: list[Tensor] = []

        def coder(d: Dictionary, x: Tensor) -> Tensor:
            out, _, beyond = self.trainer.run(self._places[id(d)], x)
            extra.append(beyond)
            left = [values[site] - given[site] if site in given else values[site] for site in d.spec.writes]
            wrong = torch.cat(left, dim=-1) - out
            if where is not None:
                x, wrong = x[where], wrong[where]
            extra.append(self.trainer.revival_loss(self._places[id(d)], x, wrong))
            return out

        def tap(site: str, value: Tensor) -> Tensor:
            if off is not None:
                value = off(site, value)
            if self.config.align and site in self._aligned:
                distances = (value - values[site]).pow(2).sum(-1)
                apart.append((distances if where is None else distances[where]).mean() / self.trainer.variances[site])
            return value

        final = self.replacement.run(tokens, tap, coder=coder)
        kl = LinearKL.apply(
            final.flatten(0, 1),
            unembedding(self.spec, self.weights),
            expected.flatten(0, 1),
            unembedding(self.spec, self.target.weights),
        )
        assert isinstance(kl, Tensor)
        loss = kl + torch.stack(extra).sum()
        if apart:
            loss = loss + self.config.align * torch.stack(apart).mean()
        self.trainer.step(loss, rate)
        return kl.item()

    @property
    def _aligned(self) -> frozenset[str]:
        return self.replacement.written.union(_stream(self.spec))

    def _switched_off(self) -> Tap | None:
        """Draw, for this step, a head or an MLP that says nothing; usually none."""
        rng = np.random.default_rng((self.seed, self.step, 1))
        if rng.random() >= self.config.ablate:
            return None
        layer, part = int(rng.integers(self.spec.n_layers)), int(rng.integers(self.spec.n_heads + 1))
        return switch_off(self.spec, layer, None if part == self.spec.n_heads else part)

    def result(self) -> Replacement:
        """Return the target with the dictionaries as they now are."""
        weights = {name: tensor.detach() for name, tensor in self.weights.items()}
        tables = {site: table.detach().clone() for site, table in self.tables.items()}
        return Replacement(self.spec, weights, self.trainer.trained(), tables)

    def state(self) -> dict[str, Any]:
        """Return all that a later run needs to go on, except the step."""
        tuned = {k: t.detach() for k, t in self.weights.items() if t is not self.target.weights[k]}
        tables = {site: table.detach() for site, table in self.tables.items()}
        return {"losses": self.losses, "tuned": tuned, "tables": tables, "trainer": self.trainer.state()}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        with torch.no_grad():
            for name, tensor in state["tuned"].items():
                self.weights[name].copy_(tensor)
            for site, tensor in state["tables"].items():
                self.tables[site].copy_(tensor)
        self.trainer.restore(state["trainer"])
        self.losses = state["losses"]


def fit(
    run: Fit, checkpoint: Path, on_step: Callable[[Fit, float], None] = silent, save_every_s: float = 60.0
) -> Replacement:
    """Fit to the end, or go on from ``checkpoint`` where it exists."""
    fit_to_end(run, checkpoint, on_step, save_every_s)
    return run.result()


def _stream(spec: ModelSpec) -> list[str]:
    return [f"blocks.{layer}.hook_resid_post" for layer in range(spec.n_layers)]


def featured_specs(
    spec: ModelSpec, config: DictionariesConfig, activation: Activation = "topk"
) -> tuple[DictionarySpec, ...]:
    """Describe the dictionaries of a featured program.

    For every layer, one that reads and writes the attention's output (moved features), and one that reads the MLP's
    input and writes its output (rules).
    Layer 0 can do without the former (``moved_from``): what stands in the stream before it is a token and a position,
    so its heads move tokens, and nothing is left to be explained.
    """
    found: list[DictionarySpec] = []
    d = spec.d_model
    for layer in range(spec.n_layers):
        block = f"blocks.{layer}"
        if config.moved and layer >= config.moved_from:
            site = f"{block}.hook_attn_out"
            found.append(DictionarySpec(site, (site,), d, d, config.moved, activation, config.moved_active))
        if config.rules:
            size, active = config.rules, config.rules_active
            site = f"{block}.ln2.hook_normalized"
            found.append(DictionarySpec(site, (f"{block}.hook_mlp_out",), d, d, size, activation, active, config.skip))
    return tuple(found)
