"""Checkpoints of a fit, and fitting to the end whether or not one stands there already."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from englishroom.errors import ArtifactError, ConfigError


class Resumable(Protocol):
    """A fit that takes steps, and can be saved and restored as a whole."""

    step: int

    @property
    def n_steps(self) -> int: ...

    def update(self) -> float: ...

    def save(self, path: Path) -> None: ...

    def restore(self, path: Path) -> None: ...


Run = TypeVar("Run", bound=Resumable)


def write_checkpoint(path: Path, identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a state and what it belongs to, atomically."""
    part = path.with_suffix(".part")
    torch.save({"identity": identity, **state}, part)
    part.replace(path)


def read_checkpoint(path: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Read what :func:`write_checkpoint` wrote.

    Raises:
        ArtifactError: the file cannot be read.
        ConfigError: it belongs to another fit.
    """
    try:
        state = torch.load(path, weights_only=True)
        found = state["identity"]
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ArtifactError(f"{path}: damaged checkpoint ({reason}); delete it to start over") from None
    if found != identity:
        changed = [key for key in identity if found.get(key) != identity[key]]
        raise ConfigError(
            f"{path}: belongs to a fit with another {', '.join(changed)}; use another --out, or delete the folder"
        )
    return state


def fit_to_end(run: Run, checkpoint: Path, on_step: Callable[[Run, float], None], save_every_s: float) -> None:
    """Take all steps that are left, from ``checkpoint`` on where it exists, saving now and then and at the end."""
    if checkpoint.exists():
        run.restore(checkpoint)
    saved = time.monotonic()
    while run.step < run.n_steps:
        loss = run.update()
        if run.step == run.n_steps or time.monotonic() - saved > save_every_s:
            run.save(checkpoint)
            saved = time.monotonic()
        on_step(run, loss)
