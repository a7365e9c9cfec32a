"""Train a small GPT-2-style talker from plain text, resumably."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from englishroom.errors import ConfigError
from englishroom.models.forward import final_normalized, unembedding
from englishroom.models.spec import ModelSpec, training_flops, weight_shapes
from englishroom.models.torch_checkpoint import read_checkpoint, write_checkpoint
from englishroom.steps import silent
from englishroom.talkers.config import TrainConfig
from englishroom.talkers.kernels import LinearCrossEntropy, explicit_attend
from englishroom.talkers.text import TokenisedText


def initial_weights(spec: ModelSpec, seed: int) -> dict[str, Tensor]:
    """Draw GPT-2's initial weights: normal 0.02, outputs into the residual stream shrunk by the root of their count."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for name, shape in weight_shapes(spec).items():
        if name.endswith(".w"):
            weights[name] = torch.ones(shape)
        elif len(shape) == 1:
            weights[name] = torch.zeros(shape)
        else:
            weights[name] = torch.empty(shape).normal_(0.0, 0.02, generator=generator)
            if name.endswith(("W_O", "W_out")):
                weights[name] /= math.sqrt(2 * spec.n_layers)
    return weights


def rate_factor(step: int, n_steps: int, decay_share: float) -> float:
    """Shape the learning rate over a run: a short linear rise, a plateau, a long linear fall to zero."""
    warmup = max(1, n_steps // 50)
    fall = max(1, round(n_steps * decay_share))
    return min(1.0, (step + 1) / warmup, (n_steps - step) / fall)


class Run:
    """One training run: weights, optimisers and position, saved and restored as a whole.

    Args:
        identity: whatever must be the same, beside the settings, for a checkpoint to belong to this run.
    """

    def __init__(self, config: TrainConfig, identity: Mapping[str, Any] = MappingProxyType({})) -> None:
        self.config = config
        self.identity = {**identity, "config": asdict(config)}
        self.spec = config.spec()
        self.step = 0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.curve: list[dict[str, float]] = []
        initial = initial_weights(self.spec, config.seed)
        self.weights = {k: w.to(self.device).requires_grad_() for k, w in initial.items()}
        inner = [w for k, w in self.weights.items() if w.ndim == 2 and k.startswith("blocks.")]
        decayed = [w for k, w in self.weights.items() if w.ndim == 2 and not k.startswith("blocks.")]
        vectors = [w for w in self.weights.values() if w.ndim == 1]
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(inner, lr=config.matrix_rate, weight_decay=0.01, momentum=0.95),
            torch.optim.AdamW(
                [{"params": decayed, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}],
                lr=config.vector_rate,
                betas=(0.9, 0.97),
            ),
        ]
        self._peaks = [[group["lr"] for group in optimiser.param_groups] for optimiser in self.optimisers]

    def update(self, windows: Int[Tensor, "batch window"]) -> float:
        """Take one step on windows of ``n_ctx + 1`` tokens and return their mean loss in nats per token."""
        factor = rate_factor(self.step, self.config.n_steps, self.config.decay_share)
        for optimiser, peaks in zip(self.optimisers, self._peaks, strict=True):
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
        windows = windows.to(self.device)
        low = self.config.precision == "bfloat16"
        attend = explicit_attend if low and self.device.type == "cpu" else None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            x = final_normalized(self.spec, self.weights, windows[:, :-1], attend=attend)
        dtype = torch.bfloat16 if low else torch.float32
        targets = windows[:, 1:].flatten()
        loss = LinearCrossEntropy.apply(x.flatten(0, 1), unembedding(self.spec, self.weights), targets, dtype)
        assert isinstance(loss, Tensor)
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self.weights.values()), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        return loss.item()

    def save(self, path: Path) -> None:
        """Write the whole state to ``path``, atomically."""
        state = {
            "step": self.step,
            "curve": self.curve,
            "weights": {k: w.detach() for k, w in self.weights.items()},
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }
        write_checkpoint(path, self.identity, state)

    def restore(self, path: Path) -> None:
        """Take up the state that :meth:`save` wrote.

        Raises:
            ArtifactError: the file cannot be read.
            ConfigError: it belongs to a run with other settings.
        """
        state = read_checkpoint(path, self.identity)
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state["weights"][name])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.curve = state["step"], state["curve"]


def batches(text: TokenisedText, config: TrainConfig, first_step: int) -> Iterator[Int[Tensor, "batch window"]]:
    """Yield the windows of every step from ``first_step`` on; which ones depends on the seed and the step alone."""
    step, epoch, needed = 0, 0, config.n_ctx + 1
    while True:
        order = np.random.default_rng((config.seed, epoch)).permutation(text.n_windows)
        for i in range(0, len(order) - config.batch + 1, config.batch):
            if step >= first_step:
                rows = [text.window(int(w), needed) for w in order[i : i + config.batch]]
                yield torch.from_numpy(np.stack(rows).astype(np.int64))
            step += 1
        epoch += 1


def train(
    config: TrainConfig,
    fit: TokenisedText,
    checkpoint: Path,
    measure: Callable[[Run], dict[str, float]],
    on_step: Callable[[Run, float], None] = silent,
    save_every_s: float = 60.0,
    identity: Mapping[str, Any] = MappingProxyType({}),
) -> Run:
    """Train to the end, or resume from ``checkpoint`` when it exists.

    Args:
        measure: called at the steps of :func:`curve_steps`; what it returns joins the point of the curve.
        identity: of the run, beside its settings.

    Raises:
        ConfigError: the text is too short, or the run diverges.
    """
    if len(fit.tokens) <= config.n_ctx:
        raise ConfigError(
            f"{len(fit.tokens)} tokens are too few for a context of {config.n_ctx}; give more text or lower --n-ctx"
        )
    if fit.n_windows < config.batch:
        raise ConfigError(f"the text has {fit.n_windows} windows, fewer than a batch of {config.batch}; give more text")
    run = Run(config, identity)
    if checkpoint.exists():
        run.restore(checkpoint)
    marks = curve_steps(config.n_steps)
    saved = time.monotonic()
    if run.step < config.n_steps:
        for rows in batches(fit, config, run.step):
            loss = run.update(rows)
            if run.step in marks:
                tokens = run.step * config.batch * config.n_ctx
                flops = training_flops(run.spec, config.n_ctx) * tokens
                measured = measure(run)
                if not all(map(math.isfinite, measured.values())):
                    raise ConfigError(
                        f"training has diverged: {measured} at step {run.step}; lower --matrix-rate and --vector-rate, "
                        "and choose another --out"
                    )
                run.curve.append({"step": run.step, "tokens": tokens, "flops": flops, **measured})
            on_step(run, loss)
            if run.step == config.n_steps or time.monotonic() - saved > save_every_s:
                run.save(checkpoint)
                saved = time.monotonic()
            if run.step == config.n_steps:
                break
    return run


def curve_steps(n_steps: int) -> frozenset[int]:
    """Choose the steps at which a run is measured: spaced geometrically, and every fortieth of the run."""
    geometric = {round(16 * 1.25**i) for i in range(80)}
    regular = {round(n_steps * i / 40) for i in range(1, 41)}
    return frozenset(step for step in geometric | regular if 0 < step <= n_steps)
