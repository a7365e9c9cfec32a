"""The table: what every talker scores on one text, on scales that do not flatter, as text, JSON and Parquet."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from englishroom.disk import replace_files
from englishroom.errors import ConfigError
from englishroom.evaluate.categories import LABELS
from englishroom.evaluate.metrics import METRICS, Extra, MeasuredTalker, Role, pair
from englishroom.evaluate.score import Score
from englishroom.evaluate.sums import Judgement
from englishroom.manifest import versions_of
from englishroom.number import NONE, number, plus_minus
from englishroom.plain import to_json
from englishroom.store import sha256

BASES = ("zero", "mean", "unigram")
"""Baselines that count as nothing recovered."""


@dataclass(frozen=True)
class ScoreRow:
    """One talker on one text. Intervals hold 95 % of resamplings of documents; ``None`` is what is not defined.

    Attributes:
        target: the talker that it is compared with; KL, agreement and increase are against it, token by token.
        values: values and intervals of metrics by their keys; see :data:`englishroom.evaluate.metrics.METRICS`.
        loss_recovered: by the name of the baseline that counts as nothing recovered.
    """

    talker: str
    role: Role
    target: str | None
    documents: int
    tokens: int
    bytes: int
    values: Mapping[str, Any]
    loss_recovered: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.values.get(key)

    @property
    def hindsight(self) -> bool:
        """Whether it was chosen knowing the target's own answers, so that no program could be it."""
        return self.role == "hindsight"

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, a key for every metric."""
        empty = {key: None for metric in METRICS for key in metric.keys}
        found = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "values"}
        shares = dict(found.pop("loss_recovered"))
        return found | empty | dict(self.values) | {"loss_recovered": shares}


def make_row(name: str, target: str | None, judgement: Judgement, extra: Extra, seed: int = 0) -> ScoreRow:
    """Turn what was measured of a talker into its row."""
    measured = MeasuredTalker(judgement, extra, seed)
    values = {key: value for metric in METRICS for key, value in metric.values(measured).items()}
    score = Score.of(judgement)
    compared = target if values["ce_increase"] is not None else None
    return ScoreRow(name, extra.role, compared, score.documents, score.tokens, score.bytes, values)


def with_loss_recovered(rows: Sequence[ScoreRow]) -> list[ScoreRow]:
    """Add to every row the share of the loss recovered, from each baseline present (zero, mean, unigram) to the target.

    The share flatters, so it never stands alone and always names its baseline.
    """
    bases = {row.talker: row["nats_per_token"] for row in rows if row.talker in BASES}
    targets = {row.talker: row["nats_per_token"] for row in rows if row.role == "target"}

    def shares(row: ScoreRow) -> dict[str, float]:
        if row.target not in targets:
            return {}
        at_target = targets[row.target]
        return {name: (base - row["nats_per_token"]) / (base - at_target) for name, base in bases.items()}

    return [replace(row, loss_recovered=shares(row)) for row in rows]


def headed(rows: Sequence[ScoreRow]) -> dict[str, list[str]]:
    """Write rows for people, column by column under their headings; columns that no row fills are left out."""
    data = [row.as_dict() for row in rows]
    columns = {"talker": [row.talker + (" (hindsight)" if row.hindsight else "") for row in rows]}
    for metric in METRICS:
        cells = [metric.write(row[metric.key]) for row in data]
        if metric.heading and any(cell != NONE for cell in cells):
            columns[metric.heading] = [
                f"{cell} {plus_minus(row.get(metric.interval_key))}".rstrip()
                for cell, row in zip(cells, data, strict=True)
            ]
    for base in BASES:
        shares = [number(row.loss_recovered.get(base)) for row in rows]
        if any(share != NONE for share in shares):
            columns[f"loss recovered from {base}"] = shares
    return columns


@dataclass(frozen=True)
class CategoryRow:
    """One talker on the tokens of one category; see ``categories.WAYS``."""

    talker: str
    category: str
    tokens: int
    values: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.values.get(key)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"talker": self.talker, "category": self.category, "tokens": self.tokens, **self.values}


def category_rows(name: str, judgement: Judgement, seed: int = 0) -> list[CategoryRow]:
    """Break one judgement down by category; categories without a token are left out."""
    counts = judgement.sums["nats_per_token"].counts.sum(axis=0)
    values: list[dict[str, Any]] = [{} for _ in counts]
    for metric in METRICS:
        if metric.categories:
            sums = metric.summed(judgement)
            means = None if sums is None else sums.means()
            spread = None if sums is None or not metric.interval else sums.intervals(seed)
            for at, found in enumerate(values):
                found[metric.key] = None if means is None else float(means[at])
                if metric.interval:
                    found[metric.interval_key] = None if spread is None else pair(spread[at])
    labelled = zip(LABELS, counts.tolist(), values, strict=False)
    return [CategoryRow(name, label, count, found) for label, count, found in labelled if count]


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
            "versions": versions_of("numpy"),
            "rows": [row.as_dict() for row in self.rows],
            "categories": [row.as_dict() for row in self.categories],
        }

    def write(self, path: Path) -> list[Path]:
        """Write ``PATH.parquet`` (the rows), ``PATH.categories.parquet`` and ``PATH.json``, together.

        The JSON file names the hashes of the two others, so that files of different runs never pass for one.

        Raises:
            ConfigError: the folder to write to is not there.
            ArtifactError: the disk is full or not writable.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not path.parent.is_dir():
            raise ConfigError(f"{path.parent}: no such folder; create it first, or choose another --out")
        data = self.as_dict()
        about = {"englishroom": to_json({key: data[key] for key in ("text", "settings", "versions")}, indent=None)}
        contents: dict[str, bytes] = {}
        for end, rows in ((".parquet", data["rows"]), (".categories.parquet", data["categories"])):
            flat = [_flat(row) for row in rows]
            names = list(dict.fromkeys(name for row in flat for name in row))
            table = pa.table({name: [row.get(name) for row in flat] for name in names})
            stream = io.BytesIO()
            pq.write_table(table.replace_schema_metadata(about), stream)
            contents[path.name + end] = stream.getvalue()
        hashes = {name: sha256(content) for name, content in contents.items()}
        contents[f"{path.name}.json"] = to_json(data | {"files": hashes})
        replace_files(path.absolute().parent, contents)
        return [path.with_name(path.name + end) for end in (".json", ".parquet", ".categories.parquet")]


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
