"""A metric is declared in one place, and every table, file and page follows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from englishroom.cli.score import print_scores
from englishroom.evaluate import metrics, score, score_table
from englishroom.evaluate.metrics import METRICS, Extra, Metric
from englishroom.evaluate.readability_metrics import READABILITY_METRICS
from englishroom.evaluate.score import judge
from englishroom.evaluate.score_table import ScoreTable, category_rows, make_row
from englishroom.report import frontier, sections
from letters import Successor

SURE = Metric(
    "sureness",
    "how sure it is",
    per_token=lambda ours, _reference, _came: ours.sure,
    paired=False,
    interval=True,
    report="first",
    frontier=True,
    categories=True,
)
"""What somebody who adds a metric writes, and all of it."""


@pytest.fixture
def with_sureness(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (metrics, score, score_table, sections):
        monkeypatch.setattr(module, "METRICS", (*METRICS, SURE))


@pytest.mark.usefixtures("with_sureness")
def test_a_metric_that_is_declared_is_in_every_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talkers = {"target": Successor(8), "talker": Successor(8, sure=0.4)}
    reference, talker = talkers.values()
    documents = ["abca", "cc"]
    judged = dict(zip(talkers, judge([reference, talker], documents, reference, categories=True), strict=True))
    rows = [make_row(role, "target", judgement, Extra(role)) for role, judgement in judged.items()]
    categories = [row for role, judgement in judged.items() for row in category_rows(role, judgement)]
    table = ScoreTable(
        {"name": "text", "sha256": "0" * 64, "documents": 2, "bytes": 7}, rows, categories, {"seed": 0, "notes": []}
    )

    assert [row["sureness"] for row in rows] == pytest.approx([0.7, 0.4])
    table.write(tmp_path / "scores")
    data = json.loads((tmp_path / "scores.json").read_text())
    assert data["rows"][1]["sureness"] == rows[1]["sureness"]
    assert {"sureness", "sureness_interval"} <= data["categories"][0].keys()
    assert {"sureness", "sureness_low", "sureness_high"} <= set(pq.read_schema(tmp_path / "scores.parquet").names)
    assert "sureness_low" in pq.read_schema(tmp_path / "scores.categories.parquet").names
    print_scores(table)
    assert "how sure" in capsys.readouterr().out
    assert "how sure it is" in str(sections.fidelity({"scores": data}))


def test_keys_and_headings_are_distinct() -> None:
    keys = [key for metric in METRICS for key in metric.keys]
    headings = [metric.heading for metric in METRICS if metric.heading]
    assert len(set(keys)) == len(keys)
    assert len(set(headings)) == len(headings)


def test_points_of_a_frontier_show_what_they_keep() -> None:
    headings = [name for name, _ in frontier.COLUMNS]
    assert {m.heading for m in METRICS if m.in_frontier and m.heading} <= set(headings)


def test_measures_of_readability_are_declared_once_and_their_page_says_what_each_is() -> None:
    keys = [key for metric in READABILITY_METRICS for key in (metric.key, *metric.nulls)]
    assert len(set(keys)) == len(keys)
    assert len({metric.name for metric in READABILITY_METRICS}) == len(READABILITY_METRICS)
    assert {metric.heading for metric in READABILITY_METRICS if metric.heading} <= {
        name for name, _ in frontier.COLUMNS
    }
    page = (Path(__file__).parents[2] / "docs" / "concepts" / "readability.md").read_text()
    assert [key for key in keys if f"`{key}`" not in page] == []


def test_a_metric_of_no_reference_is_not_defined_without_one() -> None:
    row = make_row("talker", None, judge([Successor(8)], ["abc"])[0], Extra())
    assert row["kl_target_talker"] is None
    assert row["ce_increase_interval"] is None
    assert row["nats_per_token"] > 0


def test_what_a_metric_writes() -> None:
    kl = next(metric for metric in METRICS if metric.key == "kl_target_talker")
    assert kl.cell({"kl_target_talker": 0.25}) == ("0.2500", "")
    assert replace(kl, interval=True).cell({"kl_target_talker": 0.25, "kl_target_talker_interval": (0.2, 0.3)}) == (
        "0.2500",
        "0.2000 to 0.3000",
    )
    assert kl.cell({}) == ("–", "")


def test_the_page_on_evaluation_says_what_every_heading_means() -> None:
    page = (Path(__file__).parents[2] / "docs" / "concepts" / "evaluation.md").read_text()
    assert [m.heading for m in METRICS if m.heading and f"`{m.heading}`" not in page] == []
