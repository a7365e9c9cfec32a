"""Fit to the end, whether or not a checkpoint stands there already."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from englishroom.errors import ConfigError


class Resumable(Protocol):
    """A fit that takes steps, and can be saved and restored as a whole."""

    step: int
    rate_flag: str
    """The flag of its learning rate."""

    @property
    def n_steps(self) -> int: ...

    def update(self) -> float: ...

    def save(self, path: Path) -> None: ...

    def restore(self, path: Path) -> None: ...


Run = TypeVar("Run", bound=Resumable)


def fit_to_end(run: Run, checkpoint: Path, on_step: Callable[[Run, float], None], save_every_s: float) -> None:
    """Take all steps that are left, from ``checkpoint`` on where it exists, saving now and then and at the end.

    Raises:
        ConfigError: the loss is no finite number any more.
    """
    if checkpoint.exists():
        run.restore(checkpoint)
    saved = time.monotonic()
    while run.step < run.n_steps:
        loss = run.update()
        if not math.isfinite(loss):
            raise ConfigError(
                f"the fit has diverged: its loss is {loss} at step {run.step} of {run.n_steps}; give a smaller "
                f"{run.rate_flag}, and another --out"
            )
        if run.step == run.n_steps or time.monotonic() - saved > save_every_s:
            run.save(checkpoint)
            saved = time.monotonic()
        on_step(run, loss)
