"""Checkpoints: the state of a fit or a training run as torch keeps it, with what it belongs to; no pickle is run."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from englishroom.errors import ArtifactError
from englishroom.work import Kept


def write_checkpoint(path: Path, identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a state and what it belongs to, whole or not at all.

    Raises:
        ArtifactError: the disk is full or not writable.
    """
    data = io.BytesIO()  # torch turns what the disk says into errors of its own
    torch.save(dict(state), data)
    Kept(path, identity).write(data.getvalue())


def read_checkpoint(path: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Read what :func:`write_checkpoint` wrote.

    Raises:
        ArtifactError: the file is missing or cannot be read.
        ConfigError: it belongs to another fit.
    """
    data = Kept(path, identity).take_up()
    if data is None:
        raise ArtifactError(f"{path}: no such checkpoint")
    try:
        return torch.load(io.BytesIO(data), weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ArtifactError(f"{path}: damaged checkpoint ({reason}); delete it to start over") from None
