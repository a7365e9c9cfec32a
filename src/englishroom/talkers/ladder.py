"""The ladder: models of the shipped family, from very small to small, each trained on more tokens than the last.

``ladder_runs.json`` beside this file holds what each run cost and what it scores; ``englishroom ladder`` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, with_config

from englishroom.errors import ArtifactError
from englishroom.talkers.config import TrainConfig
from englishroom.talkers.record import STRICT, Count, Positive, Sha256, write_json
from englishroom.untrusted import parse_json, read_bytes

LADDER = {
    f"ladder-{d_model}": TrainConfig(n_layers=2, d_model=d_model, n_heads=n_heads, tokens=tokens, batch=batch)
    for d_model, n_heads, tokens, batch in (
        (16, 1, 800_000, 8),
        (24, 1, 1_600_000, 8),
        (32, 1, 2_800_000, 8),
        (48, 2, 4_800_000, 16),
        (64, 2, 7_500_000, 16),
        (96, 3, 7_000_000, 16),
        (128, 4, 12_000_000, 32),
        (160, 5, 36_000_000, 32),
    )
}
"""Name of a run -> how it is trained; the last is the shipped two-layer model."""
SHIPPED_AS = {"ladder-160": "tiny-2l"}
"""Runs whose folder may also bear the name that their model ships under."""


@with_config(STRICT)
@dataclass(frozen=True)
class LadderScore:
    """What a run's final weights score on a text (its name is for people; its hash is its key)."""

    text: str
    documents: Count
    tokens: Count
    bytes: Count
    nats_per_token: Positive
    bits_per_byte: Positive


@with_config(STRICT)
@dataclass(frozen=True)
class LadderRun:
    """One run of the ladder.

    Attributes:
        config: its :class:`TrainConfig`.
        parameters: numbers in the model, embeddings included.
        tokens, flops: spent in training.
        fit_sha256: hash of the documents it was trained on.
        weights_sha256: hash of the final weights that were scored.
        scores: hash of a text's documents -> what it scores on them.
    """

    name: str
    config: dict[str, Any]
    parameters: Count
    tokens: Count
    flops: Count
    fit_sha256: Sha256
    weights_sha256: Sha256
    scores: dict[Sha256, LadderScore]


@with_config(ConfigDict(extra="forbid", strict=True))
@dataclass(frozen=True)
class LadderRuns:
    """What the file holds."""

    runs: list[LadderRun]


def shipped_runs_path() -> Path:
    """Return where the shipped runs are."""
    return Path(str(resources.files("englishroom.talkers").joinpath("ladder_runs.json")))


def read_runs(path: Path | None = None) -> list[LadderRun]:
    """Read the runs of a ladder, by default the shipped one, smallest compute first; none where there is no file.

    Raises:
        ArtifactError: the file cannot be read, or is not what ``englishroom ladder measure`` writes.
    """
    path = path or shipped_runs_path()
    advice = "restore the file or measure the ladder again"
    if not path.exists():
        return []
    runs = parse_json(read_bytes(path, advice), TypeAdapter(LadderRuns), path, advice).runs
    names = [run.name for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ArtifactError(f"{path}: run {twice[0]} stands there more than once, expected once; {advice}")
    return sorted(runs, key=lambda run: run.flops)


def write_runs(path: Path, runs: Sequence[LadderRun]) -> None:
    """Write the runs of a ladder, whole or not at all."""
    write_json(path, asdict(LadderRuns(sorted(runs, key=lambda run: run.flops))))


def run_folders(ladder: Path, settings: Mapping[str, TrainConfig]) -> dict[str, Path]:
    """Say where in the folder of a ladder each run is or is to be: under its own name, or that of a shipped model."""
    folders = {name: ladder / name for name in settings}
    for name, alias in SHIPPED_AS.items():
        if name in folders and not folders[name].exists() and (ladder / alias).exists():
            folders[name] = ladder / alias
    return folders
