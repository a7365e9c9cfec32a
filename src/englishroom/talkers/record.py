"""The record of a training run, ``training.json``, and the validation curves in it. Reading one needs no torch."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from englishroom.data.corpus import BlankLines
from englishroom.disk import replace_file
from englishroom.errors import ArtifactError
from englishroom.untrusted import parse_plain, read_bytes

FILE = "training.json"
ADVICE = "restore the file or train again"
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@with_config(STRICT)
class CurvePoint(TypedDict):
    """One checkpoint: how far the run was, and what it scored."""

    step: Count
    tokens: Count
    flops: Count
    nats_per_token: Positive
    bits_per_byte: Positive


@with_config(STRICT)
class CurveRecord(TypedDict):
    """A run's checkpoints on one text; ``tokens`` and ``bytes`` are what each of them was scored on."""

    text: str
    sha256: Sha256
    documents: Count
    points: Annotated[list[CurvePoint], Field(min_length=1)]
    tokens: NotRequired[Count]
    bytes: NotRequired[Count]


@with_config(STRICT)
class TrainingRecord(TypedDict):
    """What ``training.json`` holds."""

    config: dict[str, Any]
    texts: list[str]
    fit_sha256: str
    blank_lines: NotRequired[BlankLines]
    versions: dict[str, str]
    curves: Annotated[list[CurveRecord], Field(min_length=1)]


@dataclass(frozen=True)
class Curve:
    """The validation curve of a run on one text, [point], in order of training.

    Attributes:
        text, sha256, documents: what was read: a name for people, the hash of its documents, and their number.
        tokens: read in training up to each point.
        flops: spent in training up to each point.
        nats: nats per token on the text.
    """

    text: str
    sha256: str
    documents: int
    tokens: NDArray[np.float64]
    flops: NDArray[np.float64]
    nats: NDArray[np.float64]


def read_training(folder: Path) -> dict[str, Any] | None:
    """Read the record that training left beside a model, or ``None`` where there is none.

    Raises:
        ArtifactError: the file cannot be read, or is not what training writes.
    """
    where = folder / FILE
    if not where.exists():
        return None
    record = parse_plain(read_bytes(where, ADVICE), where, ADVICE, TypeAdapter(TrainingRecord))
    for number, curve in enumerate(record["curves"]):
        for key in ("step", "tokens", "flops"):
            values = [point[key] for point in curve["points"]]
            if any(b <= a for a, b in itertools.pairwise(values)):
                raise ArtifactError(f"{where}: curves.{number}: {key} does not grow from point to point; {ADVICE}")
    return record


def trained_blank_lines(folder: Path) -> BlankLines:
    """Say how the texts were read that a model was trained on."""
    return (read_training(folder) or {}).get("blank_lines", "collapse")


def write_json(path: Path, values: Any) -> None:
    """Write JSON whole or not at all; whoever reads meanwhile sees the old file."""
    replace_file(path, json_bytes(values))


def json_bytes(values: Any) -> bytes:
    """Lay a record out as JSON; it holds no infinity and no nan."""
    return (json.dumps(values, indent=1, allow_nan=False) + "\n").encode()


def label(given: str, name: str) -> str:
    """Name a text in records that go with a model elsewhere: of a path only its last part.

    Args:
        given: what named the text.
        name: its full name, which begins with that if it is a path.
    """
    return Path(given).name + name.removeprefix(given) if Path(given).exists() else name


def find_curve(record: Mapping[str, Any], sha256: str) -> Curve | None:
    """Find a run's curve on a text by the hash of its documents, or ``None`` where it was not measured on that text."""
    for curve in record["curves"]:
        if curve["sha256"] == sha256:
            arrays = {
                key: np.array([point[key] for point in curve["points"]], dtype=np.float64)
                for key in ("tokens", "flops", "nats_per_token")
            }
            return Curve(
                curve["text"], sha256, curve["documents"], arrays["tokens"], arrays["flops"], arrays["nats_per_token"]
            )
    return None
