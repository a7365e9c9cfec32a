"""Pieces to start from: a dictionary for every head, and a transcoder for every MLP, each fitted alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from englishroom.dictionaries.config import TrainerConfig
from englishroom.dictionaries.dictionary import Dictionary, DictionarySpec
from englishroom.dictionaries.replacement import clean_run
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.dictionaries.train import Trainer, start_from, variances
from englishroom.models.load import Target
from englishroom.models.spec import ModelSpec
from englishroom.readable.config import StreamConfig
from englishroom.readable.fit import ReadableFit
from englishroom.readable.shape import shape_of
from englishroom.readable.stream import Part

START_ROWS = 16
"""Rows whose values set the scale of the first weights."""
WIDER, UNTIL = 1.5, 0.5
"""So many more features again are active at the beginning; they fall to their number over this share of the fit."""
DEAD_AFTER = 50_000


def pieces_of(spec: ModelSpec, config: StreamConfig) -> dict[Part, DictionarySpec]:
    """Describe the dictionary of every head, whose site is ``blocks.L.attn.hook_z.HEAD``, and of every MLP."""
    found: dict[Part, DictionarySpec] = {}
    for layer in range(spec.n_layers):
        for head in range(spec.n_heads):
            site = f"blocks.{layer}.attn.hook_z.{head}"
            sizes = (spec.d_head, spec.d_head, config.moved, "topk", config.moved_active)
            found[layer, head] = DictionarySpec(site, (site,), *sizes)
        active = shape_of(spec, config).k_rules[layer]
        sizes = (spec.d_model, spec.d_model, config.rules, "topk", active)
        read, written = f"blocks.{layer}.ln2.hook_normalized", f"blocks.{layer}.hook_mlp_out"
        found[layer, None] = DictionarySpec(read, (written,), *sizes)
    return found


class PiecesFit(ReadableFit[StreamConfig]):
    """The fit of all pieces."""

    rate_flag, warm_steps, decay = "--apart-rate", 20, 0.6

    def __init__(
        self, target: Target, rows: TokenRows, config: StreamConfig, identity: Mapping[str, Any], seed: int = 0
    ) -> None:
        super().__init__(target, rows, config, config.apart_tokens, identity, seed)
        self.specs = pieces_of(target.spec, config)
        generator = torch.Generator().manual_seed(seed)
        first = self._values(torch.from_numpy(rows.batch(seed, 0, START_ROWS)))
        started = [start_from(Dictionary.random(spec, generator), first, generator) for spec in self.specs.values()]
        trainer = TrainerConfig(rate=config.apart_rate, dead_after=DEAD_AFTER)
        self.trainer = Trainer(started, trainer, variances(first))

    def _values(self, tokens: Tensor) -> dict[str, Tensor]:
        """Run the target, and take what every piece reads and writes, [row, d]."""
        spec = self.target.spec
        parts = ("attn.hook_z", "ln2.hook_normalized", "hook_mlp_out")
        sites = [f"blocks.{layer}.{part}" for layer in range(spec.n_layers) for part in parts]
        values = clean_run(spec, self.target.weights, tokens, sites)[1]
        found: dict[str, Tensor] = {}
        for site, value in values.items():
            if not site.endswith("hook_z"):
                found[site] = value.flatten(0, 1)
                continue
            for head in range(spec.n_heads):
                found[f"{site}.{head}"] = value[:, :, head].flatten(0, 1).contiguous()
        return found

    def update(self) -> float:
        """Take one step and return the mean share of variance that the pieces do not explain."""
        wide = 1 + WIDER * max(0.0, 1 - self.step / max(1.0, UNTIL * self.n_steps))
        for at, d in enumerate(self.specs.values()):
            self.trainer.slots[at] = min(d.n_latents, round((d.k or d.n_latents) * wide))
        tokens = torch.from_numpy(self.rows.batch(self.seed, self.step, self.config.batch))
        loss, shares = self.trainer.local_losses(self._values(tokens))
        self.trainer.step(loss, self.rate_factor())
        self.step += 1
        return sum(shares) / len(shares)

    def result(self) -> dict[Part, Dictionary]:
        """Return the pieces as they now are."""
        return dict(zip(self.specs, self.trainer.trained(), strict=True))

    def state(self) -> dict[str, Any]:
        """Return all that a later run needs to go on, except the step."""
        return {"trainer": self.trainer.state()}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        self.trainer.restore(state["trainer"])
