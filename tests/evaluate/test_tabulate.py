"""From talkers to rows: a checkpoint of a run recovers the share of compute at which it was kept."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import safetensors.torch

from englishroom.data.documents import read_documents
from englishroom.data.texts import Text
from englishroom.errors import ConfigError
from englishroom.evaluate.compute_recovered.curve import measure_run
from englishroom.evaluate.score_table import ScoreRow, ScoreTable, with_loss_recovered
from englishroom.evaluate.tabulate import Known, ScoredTalker, tabulate
from englishroom.evaluate.talkers.target import TargetTalker
from englishroom.models.load import load_target
from englishroom.pipeline import open_target
from englishroom.talkers.build import build_talker, checkpoint_path
from englishroom.talkers.config import TalkerConfig, TrainConfig
from englishroom.talkers.record import find_curve, read_training

SMALL = TrainConfig(n_layers=1, d_model=16, n_heads=2, n_ctx=32, vocabulary=300, tokens=4 * 32 * 160, batch=4)


def test_a_checkpoint_recovers_its_share_of_the_run(story_file: Path, tmp_path: Path) -> None:
    run = build_talker(
        TalkerConfig((str(story_file),), training=dataclasses.replace(SMALL, choose_share=0.1)),
        tmp_path / "run",
        measure_run,
    )
    target, tokenizer = open_target(str(tmp_path / "run"))
    step = run.curve[len(run.curve) // 2]["step"]
    (tmp_path / "half").mkdir()
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / "half" / name).write_bytes((tmp_path / "run" / name).read_bytes())
    weights = safetensors.torch.load_file(checkpoint_path(tmp_path / "run", int(step)))
    safetensors.torch.save_file(weights, tmp_path / "half" / "model.safetensors")
    half = load_target(str(tmp_path / "half"))
    text = Text.of("held out", read_documents(tmp_path / "run" / "work" / "choose.txt"))
    record = read_training(tmp_path / "run")
    assert record is not None
    lead = TargetTalker(target, tokenizer)
    entries = [
        ScoredTalker(lead, "target", "run", 1000.0),
        ScoredTalker(TargetTalker(half, tokenizer), "talker", "half"),
    ]
    known = Known(find_curve(record, text.sha256))
    assert known.curve is not None
    table = tabulate(entries, lead, text, known, 2, 0, lambda _step, _done, _total: None)
    own, other = table.rows
    assert own["training_compute_share"] == 1
    assert own["training_compute_recovered"] is not None
    assert "at or above the target" in own["training_compute_recovered"]
    assert other["training_compute_share"] == pytest.approx(step / run.step, rel=0.25)
    assert other["training_compute_interval"] is not None
    assert other["training_compute_interval"][0] <= step / run.step <= other["training_compute_interval"][1]
    assert own["greedy_agreement"] == 1
    assert (own["ladder_compute_recovered"], own["description_bits"]) == (None, 1000)
    assert {row.talker for row in table.categories} == {"run", "half"}


def row(name: str, nats: float, target: str | None = "t") -> ScoreRow:
    return ScoreRow(name, "target" if name == "t" else "replaced", target, 1, 1, 1, {"nats_per_token": nats})


def test_loss_recovered_names_its_baseline() -> None:
    found = {r.talker: r.loss_recovered for r in with_loss_recovered([row("t", 2.0), row("zero", 6.0), row("x", 3.0)])}
    assert found == {"t": {"zero": 1.0}, "zero": {"zero": 0.0}, "x": {"zero": 0.75}}
    assert with_loss_recovered([row("t", 2.0), row("x", 3.0)])[1].loss_recovered == {}
    assert with_loss_recovered([row("t", 2.0), row("zero", 6.0), row("x", 3.0, None)])[2].loss_recovered == {}


def test_writing_is_whole_and_keeps_infinities(tmp_path: Path) -> None:
    table = ScoreTable({"name": "text"}, [row("t", float("inf"))], [], {"seed": 0})
    paths = table.write(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
    assert json.loads(paths[0].read_text())["rows"][0]["nats_per_token"] == {"float": "inf"}
    assert pq.read_table(paths[1]).column("nats_per_token").to_pylist() == [float("inf")]
    with pytest.raises(ConfigError, match="no such folder; create it first"):
        table.write(tmp_path / "none" / "out")
