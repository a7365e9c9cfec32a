"""The table: what every talker scores on one text, on scales that do not flatter, as text, JSON and Parquet."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

import englishroom
from englishroom.errors import ConfigError
from englishroom.evaluate.categories import LABELS
from englishroom.evaluate.compute_recovered.ladder import Equivalent
from englishroom.evaluate.compute_recovered.training import Recovered
from englishroom.evaluate.score import Judgement

Role = Literal["target", "talker", "replaced", "n-gram", "hindsight", "quantised", "pruned"]


@dataclass(frozen=True)
class ScoreRow:
    """One talker on one text. Intervals hold 95 % of resamplings of documents; ``None`` is what is not defined.

    Attributes:
        target: the talker that it is compared with; KL, agreement and increase are against it, token by token.
        hindsight: whether it was chosen knowing the target's own answers, so that no program could be it.
        loss_recovered: by the name of the baseline that counts as nothing recovered.
    """

    talker: str
    role: Role
    target: str | None
    documents: int
    tokens: int
    bytes: int
    nats_per_token: float
    nats_per_token_interval: tuple[float, float] | None
    bits_per_byte: float
    bits_per_byte_interval: tuple[float, float] | None
    ce_increase: float | None = None
    ce_increase_interval: tuple[float, float] | None = None
    kl_target_talker: float | None = None
    kl_talker_target: float | None = None
    top1: float | None = None
    top1_agreement: float | None = None
    greedy_agreement: float | None = None
    calibration_error: float | None = None
    description_bits: float | None = None
    training_compute_recovered: str | None = None
    training_compute_share: float | None = None
    training_compute_interval: tuple[float, float] | None = None
    ladder_compute_recovered: str | None = None
    ladder_compute_share: float | None = None
    ladder_compute_interval: tuple[float, float] | None = None
    equivalent_parameters: str | None = None
    equivalent_parameters_count: float | None = None
    loss_recovered: dict[str, float] = field(default_factory=dict)

    @property
    def hindsight(self) -> bool:
        return self.role == "hindsight"


@dataclass(frozen=True)
class Extra:
    """What is known of a talker beside its judgement."""

    role: Role = "talker"
    description_bits: float | None = None
    greedy_agreement: float | None = None
    training: Recovered | None = None
    ladder: Recovered | None = None
    equivalent: Equivalent | None = None


def make_row(name: str, target: str | None, judgement: Judgement, extra: Extra, seed: int = 0) -> ScoreRow:
    """Turn what was measured of a talker into its row."""
    nats, increase = judgement.tallies["nats"], judgement.ce_increase
    score = judgement.score
    per_byte = nats.intervals(seed, per=judgement.bytes.astype(np.float64))[0] / math.log(2)

    def mean(metric: str) -> float | None:
        return judgement.tallies[metric].mean if metric in judgement.tallies else None

    return ScoreRow(
        talker=name,
        role=extra.role,
        target=target if increase is not None else None,
        documents=score.documents,
        tokens=score.tokens,
        bytes=score.bytes,
        nats_per_token=score.nats_per_token,
        nats_per_token_interval=_pair(nats.intervals(seed)[0]),
        bits_per_byte=score.bits_per_byte,
        bits_per_byte_interval=_pair(per_byte),
        ce_increase=None if increase is None else increase.mean,
        ce_increase_interval=None if increase is None else _pair(increase.intervals(seed)[0]),
        kl_target_talker=mean("kl_target_talker"),
        kl_talker_target=mean("kl_talker_target"),
        top1=score.top1,
        top1_agreement=mean("top1_agreement"),
        greedy_agreement=extra.greedy_agreement,
        calibration_error=judgement.calibration.expected_error,
        description_bits=extra.description_bits,
        training_compute_recovered=extra.training.describe() if extra.training else None,
        training_compute_share=extra.training.share if extra.training else None,
        training_compute_interval=_limits(extra.training),
        ladder_compute_recovered=extra.ladder.describe() if extra.ladder else None,
        ladder_compute_share=extra.ladder.share if extra.ladder else None,
        ladder_compute_interval=_limits(extra.ladder),
        equivalent_parameters=extra.equivalent.describe() if extra.equivalent else None,
        equivalent_parameters_count=extra.equivalent.parameters if extra.equivalent else None,
    )


def _pair(interval: Any) -> tuple[float, float]:
    return float(interval[0]), float(interval[1])


def _limits(recovered: Recovered | None) -> tuple[float, float] | None:
    if recovered is None or recovered.low is None or recovered.high is None:
        return None
    return recovered.low, recovered.high


def with_loss_recovered(rows: Sequence[ScoreRow]) -> list[ScoreRow]:
    """Add to every row the share of the loss recovered, from each baseline present (zero, mean, unigram) to the target.

    The share flatters, so it never stands alone and always names its baseline.
    """
    bases = {row.talker: row.nats_per_token for row in rows if row.talker in ("zero", "mean", "unigram")}
    targets = {row.talker: row.nats_per_token for row in rows if row.role == "target"}
    found: list[ScoreRow] = []
    for row in rows:
        shares: dict[str, float] = {}
        if row.target in targets:
            for name, base in bases.items():
                shares[name] = (base - row.nats_per_token) / (base - targets[row.target])
        found.append(ScoreRow(**{**_shallow(row), "loss_recovered": shares}))
    return found


def _shallow(row: ScoreRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}


@dataclass(frozen=True)
class CategoryRow:
    """One talker on the tokens of one category; see ``categories.WAYS``."""

    talker: str
    category: str
    tokens: int
    nats_per_token: float
    nats_per_token_interval: tuple[float, float]
    ce_increase: float | None
    ce_increase_interval: tuple[float, float] | None
    kl_target_talker: float | None


def category_rows(name: str, judgement: Judgement, seed: int = 0) -> list[CategoryRow]:
    """Break one judgement down by category; categories without a token are left out."""
    nats, increase = judgement.tallies["nats"], judgement.ce_increase
    kl = judgement.tallies.get("kl_target_talker")
    counts, means, spread = nats.counts.sum(axis=0), nats.means(), nats.intervals(seed)
    more = None if increase is None else (increase.means(), increase.intervals(seed))
    divergence = None if kl is None else kl.means()
    return [
        CategoryRow(
            talker=name,
            category=label,
            tokens=int(counts[at]),
            nats_per_token=float(means[at]),
            nats_per_token_interval=_pair(spread[at]),
            ce_increase=None if more is None else float(more[0][at]),
            ce_increase_interval=None if more is None else _pair(more[1][at]),
            kl_target_talker=None if divergence is None else float(divergence[at]),
        )
        for at, label in enumerate(LABELS[: len(means)])
        if counts[at]
    ]


@dataclass(frozen=True)
class ScoreTable:
    """All rows on one text, and what one needs to repeat them."""

    text: Mapping[str, Any]
    rows: Sequence[ScoreRow]
    categories: Sequence[CategoryRow]
    settings: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "text": dict(self.text),
            "settings": dict(self.settings),
            "versions": {
                "englishroom": englishroom.__version__,
                "python": platform.python_version(),
                "numpy": np.__version__,
            },
            "rows": [asdict(row) for row in self.rows],
            "categories": [asdict(row) for row in self.categories],
        }

    def write(self, path: Path) -> list[Path]:
        """Write ``PATH.json``, ``PATH.parquet`` (the rows) and ``PATH.categories.parquet``, each atomically.

        Raises:
            ConfigError: the folder to write to is not there.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not path.parent.is_dir():
            raise ConfigError(f"{path.parent}: no such folder; create it first, or choose another --out")
        data = self.as_dict()
        about = {"englishroom": json.dumps({key: data[key] for key in ("text", "settings", "versions")})}
        written = [path.with_name(path.name + end) for end in (".json", ".parquet", ".categories.parquet")]
        parts = [target.with_name(target.name + ".part") for target in written]
        parts[0].write_text(json.dumps(finite(data), indent=1) + "\n")
        for part, rows in zip(parts[1:], (data["rows"], data["categories"]), strict=True):
            flat = [_flat(row) for row in rows]
            names = list(dict.fromkeys(name for row in flat for name in row))
            table = pa.table({name: [row.get(name) for row in flat] for name in names})
            pq.write_table(table.replace_schema_metadata(about), part)
        for part, target in zip(parts, written, strict=True):
            part.replace(target)
        return written


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give intervals and shares columns of their own."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name.endswith("_interval"):
            low, high = value or (None, None)
            flat |= {f"{name.removesuffix('_interval')}_low": low, f"{name.removesuffix('_interval')}_high": high}
        elif isinstance(value, dict):
            flat |= {f"{name}_{key}": share for key, share in value.items()}
        elif name != "loss_recovered":
            flat[name] = value
    return flat


def finite(value: Any) -> Any:
    """Write infinities and nan, which JSON lacks, as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
