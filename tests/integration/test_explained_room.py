"""The room of the explanations of a readable room: written, read back, run alone, and gone on with after a kill."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from englishroom.cli import main
from englishroom.errors import ConfigError
from englishroom.evaluate.readability_metrics import READABILITY_METRICS
from englishroom.inside.condition_search import ConditionSearch
from englishroom.ir.labels import load_labels
from englishroom.ir.program import Conditions
from englishroom.ir.room import load_program
from englishroom.names import EXPLAINED, LABELS
from englishroom.pipeline import decompile
from englishroom.pipeline.commands import ExplainedConfig, ExplainFeaturesConfig
from englishroom.pipeline.explained_level import write_explained
from englishroom.pipeline.explaining import explain_features
from englishroom.pipeline.opening import open_talker
from englishroom.report.inside import readability
from englishroom.store import read_manifest
from tiny import CASES
from tiny_readable import readable_room_config


def settings(room: Path) -> ExplainFeaturesConfig:
    return ExplainFeaturesConfig(room, rows=20, held_out_rows=10, nulls=1)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    decompile(readable_room_config(CASES["gpt2"].write(folder / "model")), folder / "room")
    return folder / "room"


@pytest.fixture(scope="module")
def room(plain: Path) -> Path:
    out = plain.with_name("told")
    shutil.copytree(plain, out)
    explain_features(settings(out))
    return out


def test_a_search_that_is_killed_goes_on_and_ends_the_same(
    plain: Path, room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("englishroom.inside.explanations.AT_ONCE", 5)
    shutil.copytree(plain, tmp_path / "room")
    searched = []
    search = ConditionSearch.search

    def killed(self: ConditionSearch, on: np.ndarray) -> object:
        searched.append(1)
        if len(searched) == 12:
            raise KeyboardInterrupt
        return search(self, on)

    with monkeypatch.context() as patch:
        patch.setattr(ConditionSearch, "search", killed)
        with pytest.raises(KeyboardInterrupt):
            explain_features(settings(tmp_path / "room"))
        assert (tmp_path / "room.explaining").is_dir()
        found = explain_features(settings(tmp_path / "room"))
    assert len(searched) == 12 + len(found.features) - 10 + 1  # two times five were kept; one null is searched
    assert not (tmp_path / "room.explaining").exists()
    assert (tmp_path / "room" / LABELS).read_bytes() == (room / LABELS).read_bytes()


def test_the_explanations_are_a_room_of_their_own(room: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "explained"
    few = ["--rows", "20", "--held-out-rows", "10", "--steps", "20"]
    assert main(["explained", str(room), *few, "--out", str(out)]) == 0
    printed = capsys.readouterr().err
    for name in ("mean values: ", "mean values, biases fitted: ", "votes fitted: "):
        assert name in printed
    assert printed.count(" nats by estimate, measured ") == 10
    manifest = read_manifest(out)
    assert manifest.level == "explained"
    assert manifest.evidence["emitted_vs_program_nats"] < 1e-9
    program, tokenizer = load_program(out)
    labels = load_labels(out, program)
    for block in program.blocks:
        if isinstance(block, Conditions):
            told = [feature.explanation for feature in labels.features[block.name]]
            assert [one.condition for one in told if one] == [
                one for one, feature in zip(block.conditions, told, strict=True) if feature
            ]
    stored = json.loads((out / EXPLAINED).read_text())
    assert len(stored["costs"]) == sum(len(b.conditions) for b in program.blocks if isinstance(b, Conditions))
    talker = open_talker(str(out))
    assert talker.log_probs(np.array([[tokenizer.start_id, 1, 2]])).shape == (1, 3, program.d_vocab)
    talking = [sys.executable, "-I", str(out / "program.py"), "Once", "--max-tokens", "5", "--seed", "0"]
    assert subprocess.run(talking, capture_output=True, check=True, text=True).stdout.startswith("Once")
    with pytest.raises(ConfigError, match=r"its program is not made of looks, rules and votes; give a readable room"):
        write_explained(ExplainedConfig(out), tmp_path / "again")


def test_explanations_stand_among_the_measures_of_the_room(
    plain: Path, room: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    before, after = read_manifest(plain).evidence, read_manifest(room).evidence
    assert before.items() <= after.items()
    new = ["explanation_mcc", "explanation_mcc_shifted", "explanation_mcc_shuffled"]
    assert sorted(after.keys() - before.keys()) == new
    metric = next(metric for metric in READABILITY_METRICS if metric.key == new[0])
    page = readability({"room": {"evidence": after}})
    assert f'<td class="left">{metric.name}</td><td>{metric.value(after)}</td><td>{metric.null(after)}</td>' in page
    assert metric.name not in readability({"room": {"evidence": before}})
    told = tmp_path / "room"
    shutil.copytree(room, told)
    assert main(["readability", str(told), "--max-documents", "2", "--positions", "1"]) == 0
    assert metric.name in capsys.readouterr().out
    assert {key: read_manifest(told).evidence[key] for key in new} == {key: after[key] for key in new}


def test_a_room_without_explanations_is_refused(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"its features have no explanations; give englishroom explain-features"):
        write_explained(ExplainedConfig(plain), tmp_path / "out")
