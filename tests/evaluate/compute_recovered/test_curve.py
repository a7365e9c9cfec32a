"""Curves on other texts: measured like every talker, resumable, and found again by the text's hash."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from englishroom.cli import main
from englishroom.data.corpus import text_hash
from englishroom.errors import ArtifactError, ConfigError
from englishroom.evaluate.compute_recovered import curve as curve_module
from englishroom.evaluate.compute_recovered.curve import measure_curve, measure_run
from englishroom.evaluate.score import score
from englishroom.pipeline import open_talker
from englishroom.talkers.build import build_talker, checkpoint_path
from englishroom.talkers.config import TalkerConfig, TrainConfig
from englishroom.talkers.record import find_curve, read_training

TINY = TrainConfig(n_layers=1, d_model=16, n_heads=2, n_ctx=32, vocabulary=300, tokens=4 * 32 * 6, batch=4)
DOCUMENTS = ["Lily saw the rain.", "Tom saw a cake. Mia liked it."]


@pytest.fixture(scope="module")
def _trained(story_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    build_talker(TalkerConfig((str(story_file),), training=TINY), out, measure_run)
    return out


@pytest.fixture
def trained(_trained: Path, tmp_path: Path) -> Path:
    """Return a fresh copy of a finished run of six steps, every one of them kept."""
    return Path(shutil.copytree(_trained, tmp_path / "run"))


class Killed(Exception):
    pass


def test_the_end_of_the_curve_is_the_score_of_the_model(trained: Path) -> None:
    curve = measure_curve(trained, "two", DOCUMENTS)
    result = score(open_talker(str(trained), check=False), DOCUMENTS)
    assert curve.nats[-1] == pytest.approx(result.nats_per_token, abs=1e-6)
    assert (curve.text, curve.sha256, curve.documents) == ("two", text_hash(DOCUMENTS), 2)
    assert list(curve.tokens) == [128 * step for step in range(1, 7)]
    record = read_training(trained)
    assert record is not None
    assert [point["flops"] for point in record["curves"][0]["points"]] == list(curve.flops)
    assert record["curves"][1]["tokens"] == result.tokens
    assert record["curves"][1]["bytes"] == result.bytes
    assert record["curves"][1]["points"][-1]["bits_per_byte"] == pytest.approx(result.bits_per_byte, abs=1e-6)


def test_every_checkpoint_is_scored_with_its_own_weights(trained: Path) -> None:
    curve = measure_curve(trained, "two", DOCUMENTS)
    shutil.copy(checkpoint_path(trained, 2), trained / "model.safetensors")
    earlier = score(open_talker(str(trained), check=False), DOCUMENTS)
    assert curve.nats[1] == pytest.approx(earlier.nats_per_token, abs=1e-6)
    assert len(set(curve.nats)) == len(curve.nats)


def test_measuring_again_does_nothing(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = measure_curve(trained, "two", DOCUMENTS)
    before = (trained / "training.json").read_bytes()
    monkeypatch.setattr(curve_module, "score", None)
    again = measure_curve(trained, "two under another name", DOCUMENTS)
    assert (again.nats == first.nats).all()
    assert again.text == "two"
    assert (trained / "training.json").read_bytes() == before


def test_a_killed_measurement_goes_on_to_the_same_curve(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Path(shutil.copytree(trained, trained.parent / "whole"))
    measure_curve(whole, "two", DOCUMENTS)
    before = (trained / "training.json").read_bytes()
    names: list[str] = []

    def scored(talker, documents):
        if len(names) == 4:
            names.append("killed")
            raise Killed
        names.append(talker.name)
        return score(talker, documents)

    monkeypatch.setattr(curve_module, "score", scored)
    with pytest.raises(Killed):
        measure_curve(trained, "two", DOCUMENTS)
    assert (trained / "training.json").read_bytes() == before
    measure_curve(trained, "two", DOCUMENTS)
    assert names == [*(f"step-{step:07}" for step in range(1, 5)), "killed", "step-0000005", "step-0000006"]
    assert (trained / "training.json").read_bytes() == (whole / "training.json").read_bytes()
    assert not list((trained / "work").glob("curve-*"))


def test_curves_on_several_texts_stand_side_by_side(trained: Path) -> None:
    for number, documents in enumerate((DOCUMENTS, DOCUMENTS[:1])):
        measure_curve(trained, f"text {number}", documents)
    record = read_training(trained)
    assert record is not None
    assert [curve["text"] for curve in record["curves"][1:]] == ["text 0", "text 1"]
    found = find_curve(record, text_hash(DOCUMENTS[:1]))
    assert found is not None
    assert found.text == "text 1"
    assert find_curve(record, text_hash(["something else"])) is None
    held_out = find_curve(record, record["curves"][0]["sha256"])
    assert held_out is not None
    assert held_out.nats.dtype == np.float64


def test_the_command(trained: Path, story_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["curve", str(trained), "--text", str(story_file), "--max-documents", "3"]
    assert main(command) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == f"{trained} on stories.txt (first 3 documents): 3 documents, 6 checkpoints"
    assert lines[2].split()[0] == "128"
    assert len(lines) == 8
    assert "one standard deviation) about the smoothed curve" in printed.err
    assert main(command) == 0
    assert capsys.readouterr().out == printed.out
    assert main([*command[:-1], "0"]) == 1
    assert "--max-documents is 0, expected 1 or more" in capsys.readouterr().err


def test_a_short_run_has_a_curve_too(story_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--n-layers", "1", "--d-model", "8", "--n-heads", "1", "--n-ctx", "16", "--vocabulary", "270"]
    run = ["train", str(story_file), "--out", str(tmp_path / "run"), *options, "--tokens", "64", "--batch", "2"]
    assert main(run) == 0
    assert main(["curve", str(tmp_path / "run"), "--text", str(story_file), "--max-documents", "1"]) == 0
    assert "1 documents, 2 checkpoints" in capsys.readouterr().out


def test_a_folder_without_a_finished_run(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no training.json in it, so no finished run; give the --out folder"):
        measure_curve(tmp_path, "two", DOCUMENTS)
    checkpoint_path(trained, 3).unlink()
    checkpoint_path(trained, 4).unlink()
    with pytest.raises(ConfigError, match=r"no checkpoint of step 3 \(2 of 6 are gone\), but a curve needs them all"):
        measure_curve(trained, "two", DOCUMENTS)


def test_damaged_checkpoints_and_progress(trained: Path) -> None:
    checkpoint_path(trained, 3).write_bytes(b"no")
    with pytest.raises(ArtifactError, match=r"step-0000003.safetensors: damaged safetensors file .*; train again"):
        measure_curve(trained, "two", DOCUMENTS)
    (kept,) = (trained / "work").glob("curve-*")
    kept.write_text("{")
    with pytest.raises(ArtifactError, match=f"{kept.name}: damaged, .*; delete it to start over"):
        measure_curve(trained, "two", DOCUMENTS)


def test_no_record_is_none(tmp_path: Path) -> None:
    assert read_training(tmp_path) is None
    (tmp_path / "model.bin").write_bytes(b"")
    assert read_training(tmp_path / "model.bin") is None


def test_damaged_records_are_refused(trained: Path) -> None:
    path = trained / "training.json"
    sound = json.loads(path.read_text())

    def point(record: dict) -> dict:
        return record["curves"][0]["points"][2]

    for change, said in (
        (lambda record: record.pop("curves"), "curves: Field required"),
        (lambda record: record.update(curves=[]), "curves: List should have at least 1 item"),
        (lambda record: record.update(wings=2), "wings: Extra inputs are not permitted"),
        (lambda record: record["curves"][0].update(points=[]), "curves.0.points: List should have at least 1 item"),
        (lambda record: record["curves"][0].update(sha256="x"), "curves.0.sha256: String should match pattern"),
        (lambda record: point(record).pop("flops"), "curves.0.points.2.flops: Field required"),
        (lambda record: point(record).update(step="3"), "curves.0.points.2.step: Input should be a valid integer"),
        (lambda record: point(record).update(nats_per_token=0.0), "nats_per_token: Input should be greater than 0"),
        (lambda record: point(record).update(nats_per_token=math.nan), "nats_per_token: Input should be a finite"),
        (lambda record: point(record).update(tokens=1), "curves.0: tokens does not grow from point to point"),
    ):
        record = json.loads(json.dumps(sound))
        change(record)
        path.write_text(json.dumps(record))
        with pytest.raises(ArtifactError, match=f"training.json: .*{said}.*; restore the file or train again"):
            read_training(trained)
    path.write_text("[" * 5)
    with pytest.raises(ArtifactError, match="Invalid JSON"):
        read_training(trained)
    path.unlink()
    path.mkdir()
    with pytest.raises(ArtifactError, match="is a folder, expected a file"):
        read_training(trained)


def test_reading_curves_needs_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, englishroom.talkers.record;"
        "import englishroom.evaluate.compute_recovered.training, englishroom.evaluate.compute_recovered.ladder;"
        "print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
