"""Fit all parts of a stream model together, errors propagating, to the target's whole distribution.

Beside KL(target‖program) stand the distance of the stream from the target's after every part and, at first, the
divergence of looks from the target's attention. Features that have not fired for long are revived: what the stream
lacks is predicted from the dead features that come closest to firing. In a share of the steps one head or MLP is
switched off in both. More features are active at first; they fall to their number over half of the fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from englishroom.dictionaries.code import Codes, by_latent
from englishroom.dictionaries.losses import LinearKL
from englishroom.dictionaries.replacement import clean_run
from englishroom.dictionaries.switching import switch_off
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.models.forward import fused_attend, unembedding
from englishroom.models.load import Target
from englishroom.models.spec import ModelSpec
from englishroom.readable.config import StreamConfig
from englishroom.readable.fit import ReadableFit
from englishroom.readable.looks import divergence
from englishroom.readable.stream import Part, StreamModel
from englishroom.readable.table_adam import TableAdam, size_of

WIDE_UNTIL = 0.5
"""Share of the fit after which no more features are active than in the end."""
LEAST_SIZE, LEAST_TOKEN = 0.02, 0.05
"""Sizes that tables count as having, so that those that start at 0 move: a number; for the vectors that a token adds
after an MLP, a share of the size of its first vector."""
SLOW_RATE = 0.5
"""Rate of curves over distance, times that of the other tables."""
BETAS = (0.9, 0.99)
REVIVING_ROWS, REVIVING, LEAST_DEAD = 256, 24, 8
"""Positions at which dead features are revived, how many may try at each, and how many there must be."""


class StreamFit(ReadableFit[StreamConfig]):
    """A stream model being fitted.

    Args:
        half: whether large products are formed in bfloat16.
    """

    rate_flag, warm_steps, decay = "--stream-rate", 50, 0.7

    def __init__(
        self,
        target: Target,
        model: StreamModel,
        rows: TokenRows,
        config: StreamConfig,
        identity: Mapping[str, Any],
        half: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(target, rows, config, config.tokens, {**identity, "half": half}, seed)
        self.half = half
        self.losses: list[float] = []
        tables = {name: table.detach().clone() for name, table in model.tables.items()}
        tables |= {name: by_latent(table) for name, table in tables.items() if name.startswith(("moved.", "rules."))}
        least_token = LEAST_TOKEN * size_of(tables["token.0"])
        shares = {name: _share(name, table, least_token) for name, table in tables.items()}
        self.adam = TableAdam(tables, shares, BETAS)
        self.model = replace(model, tables=self.adam.tables)
        features = [name for name in tables if name.startswith(("moved_out.", "rules_out."))]
        self.silent = {name.replace("_out", ""): torch.zeros(len(tables[name])) for name in features}

    def update(self) -> float:
        """Take one step and return its KL(target‖program), nats per token."""
        config, shape, spec = self.config, self.model.shape, self.target.spec
        tokens = torch.from_numpy(self.rows.batch(self.seed + 1, self.step, config.batch, config.inside))
        done = self.step / max(1, self.n_steps)
        off = drawn_part(spec, config.ablate, (self.seed, self.step))
        tap = None if off is None else switch_off(spec, *off)
        following = done < config.look_until and config.look_weight > 0
        kinds = ("hook_resid_mid", "hook_resid_post") + (("attn.hook_pattern",) if following else ())
        sites = [f"blocks.{layer}.{kind}" for layer in range(shape.n_layers) for kind in kinds]
        attend = None if following else fused_attend  # patterns are seen where they are formed explicitly
        final, values = clean_run(spec, self.target.weights, tokens, sites, attend, tap)
        seen: dict[str, Tensor] = {}
        active = 1 + (config.widen - 1) * max(0.0, 1 - done / WIDE_UNTIL)
        fired: dict[str, Codes] = {}
        x = self.model.run(tokens, seen.__setitem__, off, active, self.half, fired=fired)
        loss = kl = self._kl(x, final.flatten(0, 1))
        for layer in range(shape.n_layers):
            for at, group in (("mid", "moved"), ("post", "rules")):
                want = values[f"blocks.{layer}.hook_resid_{at}"].flatten(0, 1)
                wrong = want - seen[f"{at}.{layer}"]
                size = (want - want.mean(0)).square().sum(1).mean().clamp(min=1e-12)
                loss = loss + config.align * wrong.square().sum(1).mean() / size
                name = f"{group}.{layer}"
                loss = loss + config.revive * self._revival(name, seen[f"read.{name}"], wrong)
            if following:
                pattern = values[f"blocks.{layer}.attn.hook_pattern"]
                loss = loss + config.look_weight * divergence(pattern, seen[f"scores.{layer}"]).sum()
        self.adam.step(loss, config.rate * self.rate_factor())
        for name, silent in self.silent.items():
            silent += len(x)
            silent[fired[name].firing(len(silent)) > 0] = 0
        self.step += 1
        self.losses.append(kl.item())
        return self.losses[-1]

    def _kl(self, x: Tensor, final: Tensor) -> Tensor:
        tables, target = self.model.tables, unembedding(self.target.spec, self.target.weights)
        one = x.new_ones(len(x), 1)
        unembed = torch.cat([tables["unembed"], tables["unembed_bias"][None]])
        kl = LinearKL.apply(torch.cat([x, one], 1), unembed, final, target, self.half)
        assert isinstance(kl, Tensor)
        return kl

    def _revival(self, name: str, given: Tensor, wrong: Tensor) -> Tensor:
        """Predict, at some positions, what the stream lacks from the group's dead features."""
        dead = (self.silent[name] > self.config.dead_after).nonzero()[:, 0]
        if len(dead) < LEAST_DEAD:
            return wrong.new_zeros(())
        generator = torch.Generator().manual_seed(self.seed + self.step)
        some = torch.randperm(len(wrong), generator=generator)[:REVIVING_ROWS]
        best, which = self.model.strengths(name, given[:, some])[:, dead].topk(min(REVIVING, len(dead)), 1)
        best = best + (best.relu() - best).detach()  # those below zero write nothing, but still feel the gradient
        group, layer = name.split(".")
        guess = torch.einsum("rs,rsd->rd", best, self.model.tables[f"{group}_out.{layer}"][dead][which])
        lacking = wrong[some].detach()
        return (guess - lacking).square().sum(1).mean() / lacking.square().sum(1).mean().clamp(min=1e-12)

    def result(self) -> StreamModel:
        """Return the model as it now is; it trains no further."""
        return replace(self.model, tables={name: table.detach().clone() for name, table in self.model.tables.items()})

    def state(self) -> dict[str, Any]:
        """Return all that a later run needs to go on, except the step."""
        return {"losses": self.losses, "silent": self.silent, "adam": self.adam.state()}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        self.adam.restore(state["adam"])
        self.losses, self.silent = state["losses"], state["silent"]


def _share(name: str, table: Tensor, least_token: float) -> float:
    """Return the rate of a table, as a multiple of the step's."""
    size = max(size_of(table), least_token if name.startswith("token") else LEAST_SIZE)
    return size * (SLOW_RATE if name.startswith("distance") else 1.0)


def drawn_part(spec: ModelSpec, share: float, seed: tuple[int, int]) -> Part | None:
    """Draw, for one step, a head or an MLP that is silent; usually none."""
    rng = np.random.default_rng((*seed, 1))
    if rng.random() >= share:
        return None
    layer, head = int(rng.integers(spec.n_layers)), int(rng.integers(spec.n_heads + 1))
    return layer, None if head == spec.n_heads else head
