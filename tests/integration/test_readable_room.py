"""A readable room from end to end: its file runs alone and talks, and a killed run ends the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from englishroom.evaluate import sample_file
from englishroom.evaluate.talkers.program import EmittedTalker, ProgramTalker
from englishroom.ir.room import load_program
from englishroom.pipeline import decompile
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
