"""A sparse room from end to end: what is in it, that its file runs alone, and that a killed run ends the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from emitted_tables import check_no_matrix, looked_into
from englishroom.evaluate import sample_file
from englishroom.evaluate.talkers.program import EmittedTalker, ProgramTalker
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Rules, SparseTable, tables_of
from englishroom.ir.room import load_program
from englishroom.ir.rule import rule_count
from englishroom.pipeline import decompile
from englishroom.sparse.fit import SparseFit
from englishroom.store import read_manifest
from tiny import CASES
from tiny_sparse import room_config

FILES = ("program.ir", "tables.safetensors", "program.py", "scores.json", "trace.json")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return CASES["gpt2"].write(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def room(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rooms") / "room"
    decompile(room_config(model), out)
    return out


def test_the_room_holds_a_sparse_program_and_its_evidence(room: Path) -> None:
    manifest = read_manifest(room)
    assert manifest.level == "sparse"
    assert set(FILES) < set(manifest.files)
    assert not (room.parent / "room.work").exists()
    evidence = manifest.evidence
    assert evidence["program_vs_sparse_model_nats"] < 1e-9
    assert evidence["emitted_vs_program_nats"] < 1e-9
    assert evidence["kl_target_program_nats"] > 0
    assert evidence["reads_per_rule_p95"] <= 8
    trace = json.loads((room / "trace.json").read_bytes())
    assert 0 < trace["rules"] <= 128  # those that can fire
    assert 0 < trace["rules_fired"]["mean"] <= 16


def test_the_emitted_file_alone_says_what_the_program_says(room: Path) -> None:
    program, tokenizer = load_program(room)
    tokens = np.array([tokenizer.start_id, *tokenizer.encode("Once upon a time there was a")])
    expected = ProgramTalker("program", program, tokenizer, np.float64).log_probs(tokens[None])[0]
    with EmittedTalker(room / "program.py", tokenizer, program.n_ctx) as emitted:
        assert np.abs(emitted.log_probs(tokens[None])[0] - expected).max() < 1e-9


def test_no_table_holds_more_than_the_rules_and_edges_that_are_counted(room: Path) -> None:
    program, _ = load_program(room)
    in_rules = {t.name for block in program.blocks if isinstance(block, Rules) for t in tables_of(block)}
    entries = {name: table.n_entries for name, table in program.tables().items() if isinstance(table, SparseTable)}
    rules = sum(block.conditions.shape[0] for block in program.blocks if isinstance(block, Rules))
    assert sum(n for name, n in entries.items() if name not in in_rules) <= rule_count(program) - rules
    assert sum(n for name, n in entries.items() if name in in_rules) <= rules * (8 + 1) + rules // 20 * 128
    tokens = [5, 17, 3, 3, 11]
    said, tables = looked_into(room / "program.py", tokens)
    check_no_matrix(program, tables)
    expected = Interpreter(program, np.float64).log_probs(np.array([tokens]))[0]
    assert np.abs(np.array(said) - expected).max() < 1e-9


def test_killed_while_pruning_it_ends_at_the_same_program(
    room: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = SparseFit.update

    def cut(run: SparseFit) -> float:
        if run.step == 9:
            run.save(tmp_path / "again.work" / "sparse.pt")
            raise KeyboardInterrupt
        return update(run)

    monkeypatch.setattr(SparseFit, "update", cut)
    with pytest.raises(KeyboardInterrupt):
        decompile(room_config(model), tmp_path / "again")
    monkeypatch.undo()
    monkeypatch.setattr(sample_file, "samples", None)  # texts are not told again
    decompile(room_config(model), tmp_path / "again")
    assert all((room / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in FILES)


def test_a_model_whose_queries_turn_with_their_position_has_a_sparse_form(tmp_path: Path) -> None:
    rotary = CASES["llama-grouped-tied"].write(tmp_path / "model")
    evidence = decompile(room_config(rotary), tmp_path / "room").evidence
    assert evidence["emitted_vs_program_nats"] < 1e-9
