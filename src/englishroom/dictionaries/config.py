"""Settings of dictionaries: their sizes, how they are trained, and how they are fitted together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Interval
from tyro.conf import arg

from englishroom.bounds import Amount, Count, Positive, Settings, Share, Weight
from englishroom.errors import ConfigError


@dataclass(frozen=True)
class DictionariesConfig(Settings):
    """Which dictionaries a program is made of."""

    folder: Annotated[Path | None, arg(name="dictionaries")] = None
    """Folder of dictionaries to start from, as SAELens, sparsify, circuit-tracer and others write them; their sizes are
    taken from the files. By default new dictionaries are trained."""
    moved: Amount = 512
    """Latents of the dictionary for each attention output; 0 leaves these dictionaries out."""
    moved_active: Count = 32
    """How many of these latents may be active at one position."""
    moved_from: Amount = 0
    """First layer whose attention output gets a dictionary; heads of earlier layers move features as they are."""
    rules: Amount = 1024
    """Latents of the transcoder for each MLP, each of which becomes a rule; 0 leaves transcoders out."""
    rules_active: Count = 48
    """How many of these latents may be active at one position."""
    skip: bool = False
    """Give each transcoder a matrix from what it reads to what it writes, beside its latents."""

    def validate(self) -> None:
        """Refuse what is out of bounds.

        Raises:
            ConfigError: a value is out of its bounds, or more latents are active than there are.
        """
        super().validate()
        if self.folder is not None:
            return
        for name in ("moved", "rules"):
            latents, active = getattr(self, name), getattr(self, f"{name}_active")
            if 0 < latents < active:
                raise ConfigError(f"--{name}-active is {active}, expected 1 to {latents}, the value of --{name}")
        if not self.moved and not self.rules:
            raise ConfigError("--moved and --rules are both 0, expected dictionaries for one of them at least")


@dataclass(frozen=True)
class TrainerConfig(Settings):
    """How the optimiser moves, and how latents that never fire come back."""

    rate: Positive = 8e-3
    """Peak learning rate of Adam."""
    betas: tuple[Annotated[float, Interval(ge=0, lt=1)], Annotated[float, Interval(ge=0, lt=1)]] = (0.9, 0.98)
    """How much of its running means Adam keeps from step to step, of gradients and of their squares."""
    dead_after: Count = 100_000
    """Positions without firing after which a latent counts as dead."""
    auxiliary: Weight = 1 / 32
    """Weight of the loss that brings dead latents back; 0 leaves them alone."""
    auxiliary_rows: Count = 256
    """Positions of a batch on which that loss is measured."""
    auxiliary_every: Count = 4
    """Steps from one such measurement to the next; the weight is multiplied by this number to make up for it."""
    auxiliary_k: Count = 32
    """How many dead latents may try at each of these positions."""
    bandwidth: Positive = 0.1
    """Width of the step by which thresholds are trained (JumpReLU), as a share of a site's typical latent."""
    sparsity: Weight = 1.0
    """Weight of the loss on latents that are active beyond the number allowed (JumpReLU), beside the share of variance
    that is not explained."""
    clip: Positive = 1.0
    """Largest norm of the gradient of a step; larger ones are scaled down to it."""
    offer: bool = False
    """Where fewer latents are active than are allowed, activate those that come closest to firing too (top-k). Where
    fewer would be enough, that makes features less distinct."""


@dataclass(frozen=True)
class FitConfig(Settings):
    """How dictionaries are fitted, first each by itself, then all together."""

    local_tokens: Amount = 60_000
    """Tokens to read while every dictionary is fitted by itself, on the model's own values."""
    joint_tokens: Amount = 900_000
    """Tokens to read while all dictionaries are fitted together, each reading what the others wrote."""
    batch: Count = 2
    """Rows of text (each as long as the context) in one step of the fit."""
    align: Weight = 0.1
    """Weight of the distance between the dictionaries' outputs and the model's own values; the KL from the model's
    next-token distribution has weight 1."""
    ablate: Share = 0.0
    """Share of steps in which one head or MLP is switched off in the model and in the program alike."""
    widen: Annotated[float, Ge(1)] = 1.0
    """When the joint fit begins, this many times as many latents may be active as at its end."""
    tables: bool = True
    """Give every MLP's output a table with a row for each token, beside its dictionary."""
    tune: Weight = 0.0
    """Learning rate of the model's own matrices, as a share of that of the dictionaries; 0 keeps them as they are."""
    count_specials: bool = True
    """Count the start token and other special tokens in distances and in the scale of sites."""
    warmup: Share = 0.03
    """Share of each stage of the fit over which the learning rate rises."""
    decay: Share = 0.7
    """Share of each stage of the fit, at its end, over which the learning rate falls."""
    trainer: TrainerConfig = TrainerConfig(rate=6e-3)
    """The optimiser of the fit."""
