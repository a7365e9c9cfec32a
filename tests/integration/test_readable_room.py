"""A readable room from end to end: its file runs alone and talks, and a killed run ends the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from englishroom.cli import main
from englishroom.evaluate import sample_file
from englishroom.evaluate.talkers.program import EmittedTalker, ProgramTalker
from englishroom.inside.readability import ReadabilityMeasure
from englishroom.ir.room import load_program
from englishroom.pipeline import decompile
from englishroom.pipeline.readability import explanations_of
from englishroom.readable.stream_fit import StreamFit
from englishroom.readable.wiring_fit import WiringFit
from englishroom.store import read_manifest
from tiny import CASES
from tiny_readable import readable_room_config

FILES = ("program.ir", "tables.safetensors", "program.py", "scores.json", "labels.json")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return CASES["gpt2"].write(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def room(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rooms") / "room"
    decompile(readable_room_config(model), out)
    return out


def test_the_room_holds_a_readable_program_and_its_evidence(room: Path) -> None:
    manifest = read_manifest(room)
    assert set(FILES) < set(manifest.files)
    assert not (room.parent / "room.work").exists()
    evidence = manifest.evidence
    assert evidence["program_vs_wired_model_nats"] < 1e-9
    assert evidence["emitted_vs_program_nats"] < 1e-9
    assert evidence["kl_target_program_nats"] > 0
    assert evidence["reads_per_rule_most"] <= 24
    program, _ = load_program(room)
    assert program.is_readable


def test_the_emitted_file_says_what_the_program_says_and_talks(room: Path) -> None:
    program, tokenizer = load_program(room)
    tokens = np.array([tokenizer.start_id, *tokenizer.encode("Once upon a time there was a")])
    expected = ProgramTalker("program", program, tokenizer, np.float64).log_probs(tokens[None])[0]
    with EmittedTalker(room / "program.py", tokenizer, program.n_ctx) as emitted:
        assert np.abs(emitted.log_probs(tokens[None])[0] - expected).max() < 1e-9
    talking = [sys.executable, "-I", str(room / "program.py"), "Once", "--max-tokens", "5", "--seed", "0"]
    assert subprocess.run(talking, capture_output=True, check=True, text=True).stdout.startswith("Once")


@pytest.mark.parametrize(("fit", "name"), [(StreamFit, "stream.pt"), (WiringFit, "wiring.pt")])
def test_killed_while_fitting_it_ends_at_the_same_program(
    fit: type[StreamFit | WiringFit],
    name: str,
    room: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    update = fit.update

    def cut(run: StreamFit | WiringFit) -> float:
        if run.step == 12:
            run.save(tmp_path / "again.work" / name)
            raise KeyboardInterrupt
        return update(run)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(fit, "update", cut)
    with pytest.raises(KeyboardInterrupt):
        decompile(readable_room_config(model), tmp_path / "again")
    monkeypatch.undo()
    monkeypatch.setattr(sample_file, "samples", None)  # texts are not told again
    decompile(readable_room_config(model), tmp_path / "again")
    assert all((room / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in FILES)


@pytest.mark.parametrize("case", ["llama-grouped-tied", "gpt_neo-local"])
def test_other_families_have_a_readable_form(case: str, tmp_path: Path) -> None:
    evidence = decompile(readable_room_config(CASES[case].write(tmp_path / "model")), tmp_path / "room").evidence
    assert evidence["emitted_vs_program_nats"] < 1e-9


def test_its_readability_is_measured_and_kept(
    room: Path, tiny_room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = tmp_path / "room"
    shutil.copytree(room, measured)
    command = ["readability", str(measured), "--max-documents", "4", "--positions", "3"]
    assert main([*command, "--out", str(tmp_path / "found.json")]) == 0
    told = capsys.readouterr().out
    assert "voters needed within 0.1 nats, median" in told
    assert "null: the same of a program with votes permuted among voters" in told
    before, after = read_manifest(room), read_manifest(measured)
    assert [record["made_by"] for record in after.records][-1] == "readability"
    found = json.loads((tmp_path / "found.json").read_text())
    values = {one["name"]: one["value"] for one in found["measures"]}
    assert values.items() <= after.evidence.items()
    assert values["reads_per_rule_most"] == before.evidence["reads_per_rule_most"]
    assert values["entries_used_mean"] == pytest.approx(sum(found["entries_used"].values()))
    assert {"entries_needed_median_null", "voters_needed_p90_null"} <= after.evidence.keys()
    assert after.files == before.files
    assert main(command) == 0
    assert read_manifest(measured).evidence == after.evidence
    known = {"explanation_mcc": 0.5, "explanation_mcc_shifted": 0.03, "explanation_mcc_shuffled": 0.01}
    assert explanations_of({}) == []
    assert explanations_of(known) == [ReadabilityMeasure("explanation_mcc", 0.5, 0.03)]
    assert main(["readability", str(tiny_room)]) == 1
    assert "its program is exact, and not made of looks, rules and votes" in capsys.readouterr().err
