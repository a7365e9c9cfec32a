"""Fit to the end, whether or not a checkpoint stands there already."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from englishroom.errors import ConfigError
from englishroom.models.torch_checkpoint import read_checkpoint, write_checkpoint


class Resumable(ABC):
    """A fit that takes steps; saved and restored as a whole.

    Args:
        identity: whatever must be the same for a checkpoint to belong to this fit.
    """

    rate_flag: str
    """The flag of its learning rate."""

    def __init__(self, identity: Mapping[str, Any], n_steps: int) -> None:
        self.identity, self.n_steps, self.step = identity, n_steps, 0

    @abstractmethod
    def update(self) -> float:
        """Take one step and return its loss."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return all that a later run needs to go on, except the step."""

    @abstractmethod
    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""

    def save(self, path: Path) -> None:
        """Write the whole state to ``path``, atomically."""
        write_checkpoint(path, self.identity, {"step": self.step} | self.state())

    def restore(self, path: Path) -> None:
        """Take up the state that :meth:`save` wrote.

        Raises:
            ArtifactError: the file cannot be read.
            ConfigError: it belongs to another fit.
        """
        state = read_checkpoint(path, self.identity)
        self.take_up(state)
        self.step = state["step"]


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
