"""A featured room from end to end: what is in it, and that a killed decompilation ends at the same program."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from englishroom.cli import main
from englishroom.errors import ConfigError
from englishroom.evaluate.talkers.program import EmittedTalker
from englishroom.ir.room import load_program
from englishroom.pipeline import DecompileConfig, decompile, open_talker, preset_of
from englishroom.pipeline.fitting import Fitting
from englishroom.pipeline.measuring import Measuring
from englishroom.store import read_manifest
from englishroom.talker import Talker
from tiny import CASES

SIZES = {"moved": 24, "moved_active": 4, "rules": 32, "rules_active": 4, "local_tokens": 2000, "joint_tokens": 4000}
SAMPLES = {"samples": (60, 20, 20), "probe_rows": 3, "evidence_rows": 30, "report_documents": 12}
FILES = ("program.ir", "tables.safetensors", "program.py", "fidelity.json", "interventions.json", "latents.parquet")


def config(model: Path, **changes: object) -> DecompileConfig:
    return preset_of("fast", "featured").changed(**{"model": str(model), "check": False} | SIZES | SAMPLES | changes)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return CASES["gpt2"].write(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def room(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rooms") / "room"
    decompile(config(model), out)
    return out


def same(a: Path, b: Path) -> bool:
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in FILES)


def test_the_room_holds_the_program_and_its_evidence(room: Path):
    manifest = read_manifest(room)
    assert manifest.level == "featured"
    assert set(FILES) < set(manifest.files)
    assert not (room.parent / "room.work").exists()
    evidence = manifest.evidence
    assert evidence["program_vs_dictionaries_nats"] < 1e-9
    assert evidence["emitted_vs_program_nats"] < 1e-9
    assert evidence["kl_target_program_nats"] > 0
    assert {part: evidence["texts"][part]["name"] for part in ("fit", "report")} == {
        "fit": "samples of model, fit (blank lines kept)",  # a random model says them
        "report": "samples of model, report (first 12 documents, blank lines kept)",
    }
    assert -1 <= evidence["correlation_of_effects_head_zero"] <= 1
    fidelity = json.loads((room / "fidelity.json").read_bytes())
    assert [row["protocol"] for row in fidelity["protocols"]] == ["alone"] * 4 + ["clean", "running"]
    scores = json.loads((room / "scores.json").read_bytes())
    assert [row["role"] for row in scores["rows"]] == ["target", "talker"]
    assert scores["rows"][1]["kl_target_talker"] == pytest.approx(evidence["kl_target_program_nats"], rel=0.1)


def test_the_room_holds_its_circuits(room: Path):
    circuits = json.loads((room / "circuits.json").read_bytes())
    held = next(row for row in circuits["edges"] if row["question"] == "edge_held" and row["source"] == "all")
    assert held["pearson"] > 0.999
    assert held["slope"] == pytest.approx(1, abs=0.01)
    assert held["n"] > 20
    free = next(row for row in circuits["edges"] if row["question"] == "total_free" and row["source"] == "all")
    assert free["pearson"] < held["pearson"]  # with nothing held, linearity is an approximation
    assert {row["model"] for row in circuits["heads"]} == {"target", "program"}
    assert {row["detector"] for row in circuits["heads"]} == {"previous", "duplicate", "induction"}
    moved = {row["moved"].rpartition(".")[0] for row in circuits["moves"]}
    assert moved == {"moved.0", "moved.1"}
    assert all(row["query"] and row["key"] for row in circuits["pairs"])
    assert any(row["reads"] for row in circuits["rules"])


def test_under_rotary_positions_pairs_are_listed_by_distance(tmp_path: Path):
    rotary = CASES["llama-grouped-tied"].write(tmp_path / "model")
    decompile(config(rotary, local_tokens=500, joint_tokens=500), tmp_path / "room")
    circuits = json.loads((tmp_path / "room" / "circuits.json").read_bytes())
    distances = {(row["from_distance"], row["to_distance"]) for row in circuits["pairs"]}
    assert {(0, 0), (1, 4), (5, 16)} < distances


def test_dictionaries_leave_the_room_and_come_back(room: Path, model: Path, tmp_path: Path, capsys):
    assert main(["export", str(room), "--format", "saelens", "--out", str(tmp_path / "sae")]) == 0
    assert "blocks.0.hook_attn_out: topk, 24 latents, 32 numbers in, 32 out" in capsys.readouterr().out
    again = config(model, dictionaries=tmp_path / "sae", local_tokens=0, joint_tokens=0, tables=False)
    decompile(again, tmp_path / "room")
    before, after = (load_program(path)[0].tables() for path in (room, tmp_path / "room"))
    assert np.array_equal(before["blocks.0.moved.W_enc"].values, after["blocks.0.moved.W_enc"].values)
    assert np.array_equal(before["blocks.1.rules.W_dec"].values, after["blocks.1.rules.W_dec"].values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "safe"], "--format is safe, expected englishroom, saelens"),
        (["--format", "circuit_tracer"], "circuit-tracer holds transcoders of MLPs only; write it as saelens"),
    ],
)
def test_exports_that_cannot_be_are_refused(arguments, message, room: Path, tmp_path: Path, capsys):
    assert main(["export", str(room), *arguments, "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def log_probs(talker: Talker, tokens: np.ndarray) -> np.ndarray:
    return talker.log_probs(tokens)


def test_the_program_is_not_the_network(room: Path, model: Path):
    tokens = np.random.default_rng(0).integers(0, 300, (1, 20))
    ours, theirs = open_talker(str(room)), open_talker(str(model), check=False)
    assert np.abs(log_probs(ours, tokens) - log_probs(theirs, tokens)).max() > 0.05
    program, tokenizer = load_program(room)
    assert not [name for name in program.tables() if ".mlp.W" in name]
    with EmittedTalker(room / "program.py", tokenizer, program.n_ctx) as emitted:
        assert np.abs(emitted.log_probs(tokens) - log_probs(ours, tokens)).max() < 1e-4


class Killed(BaseException):
    pass


STAGES = {
    "texts": Fitting,
    "fitted": Fitting,
    "fidelity": Measuring,
    "probes": Measuring,
    "circuits": Measuring,
    "scores": Measuring,
    "evidence": Measuring,
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_killed_in_a_stage_ends_at_the_same_program(
    stage: str, room: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def kill(*_arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(STAGES[stage], stage, kill)
        with pytest.raises(Killed):
            decompile(config(model), tmp_path / "room")
    assert not (tmp_path / "room").exists()
    assert (tmp_path / "room.work").is_dir()
    said: list[str] = []
    decompile(config(model), tmp_path / "room", said.append)
    assert same(room, tmp_path / "room")
    assert not (tmp_path / "room.work").exists()


def test_a_run_killed_at_a_random_moment_ends_at_the_same_program(room: Path, model: Path, tmp_path: Path):
    """The process itself is killed, again and again, each time a little later, until it gets through."""
    script = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from englishroom.pipeline import decompile, preset_of\n"
        f"config = preset_of('fast', 'featured').changed(model={str(model)!r}, check=False, **{SIZES | SAMPLES!r})\n"
        f"decompile(config, Path({str(tmp_path / 'room')!r}))"
    )
    rng, kills = random.Random(), 0
    for attempt in range(12):
        process = subprocess.Popen([sys.executable, "-c", script], env=os.environ)
        patience = None if kills >= 3 else rng.uniform(3, 7 + 2 * attempt)
        try:
            assert process.wait(patience) == 0
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            time.sleep(0.1)
    assert same(room, tmp_path / "room")


def test_work_of_other_settings_is_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def kill(*_arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Fitting, "texts", kill)
        with pytest.raises(Killed):
            decompile(config(model), tmp_path / "room")
    with pytest.raises(ConfigError, match=r"room.work.identity: belongs to work with another seed"):
        decompile(config(model, seed=1), tmp_path / "room")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": "spare"}, "--level is spare, expected exact, featured, sparse"),
        ({"moved_active": 0}, "--moved-active is 0, expected 1 or more"),
        ({"rules": 8, "rules_active": 9}, "--rules-active is 9, expected 1 to 8, the value of --rules"),
    ],
)
def test_senseless_settings_are_refused(changes: dict, message: str, model: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=message):
        decompile(config(model, **changes), tmp_path / "room")
    assert not (tmp_path / "room").exists()


def test_a_text_that_is_fitted_and_reported_on_is_refused(model: Path, story_file: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="also stand in"):
        decompile(config(model, fit=(str(story_file),), report=str(story_file)), tmp_path / "room")


def test_the_command_prints_the_three_protocols(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sizes = [f"--{name.replace('_', '-')}={value}" for name, value in SIZES.items()]
    out = str(tmp_path / "room")
    command = ["decompile", str(model), "--level", "featured", "--no-check", "--out", out, *sizes]
    assert main(command) == 0
    told = capsys.readouterr().err
    assert told.count("one dictionary at a time (") == 4
    assert "all at once, on clean inputs: KL(target‖program)" in told
    assert "all at once, errors propagating: KL(target‖program)" in told
    assert main(["features", out, "--limit", "3"]) == 0
    assert "moved.0.0" in capsys.readouterr().out
