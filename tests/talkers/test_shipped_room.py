"""The rooms that ship: they hold what the README says, and their files run alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emitted_tables import check_no_matrix, looked_into
from englishroom.cli import main
from englishroom.inside.trace import reads_per_number, reads_per_rule
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.labels import load_labels
from englishroom.ir.room import load_program
from englishroom.ir.verify import verify
from englishroom.plain import from_json
from englishroom.store import read_manifest
from englishroom.talkers.shipped import READABLE, shipped_room


@pytest.fixture(scope="module")
def room() -> Path:
    return shipped_room()


def test_it_is_a_sparse_program_within_its_bounds(room: Path) -> None:
    program, _ = load_program(room)
    assert program.level == "sparse"
    assert verify(program) == []
    reads = reads_per_rule(program)
    assert np.median(reads) <= 8
    assert np.quantile(reads, 0.95) <= 32
    evidence = read_manifest(room).evidence
    assert evidence["rules_fired_mean"] <= 250
    assert evidence["description_bits"] <= evidence["target_description_bits"]
    assert evidence["rules"] == len(reads)
    assert evidence["reads_per_rule_that_fired_median"] <= 8
    assert evidence["reads_per_rule_that_fired_p95"] <= 32
    assert reads_per_number(program).max() <= 96


@pytest.fixture(scope="module")
def readable() -> Path:
    return shipped_room(READABLE)


def test_the_readable_one_is_within_its_bounds(readable: Path) -> None:
    program, _ = load_program(readable)
    assert program.is_readable
    assert verify(program) == []
    reads = reads_per_rule(program)
    assert (np.median(reads), np.quantile(reads, 0.95), reads.max()) <= (6, 12, 24)
    evidence = read_manifest(readable).evidence
    assert evidence["rules"] + evidence["moved_features"] == len(reads)
    assert evidence["reads_per_rule_most"] == reads.max()
    assert evidence["voters_needed_median"] <= 14
    assert evidence["often_on_share"] <= 0.05
    assert evidence["description_bits"] <= evidence["target_description_bits"]
    assert evidence["explanation_mcc"] >= 0.65
    assert max(evidence["explanation_mcc_shuffled"], evidence["explanation_mcc_shifted"]) < 0.1
    labels = load_labels(readable, program)
    assert len(labels.explanations) > 0.8 * len(reads)


def test_the_file_of_the_readable_one_runs_alone(readable: Path) -> None:
    program, tokenizer = load_program(readable)
    tokens = [tokenizer.start_id, *tokenizer.encode("Once upon a time, there was a little girl named Lily.")]
    said, _ = looked_into(readable / "program.py", tokens)
    expected = Interpreter(program, np.float64).log_probs(np.array([tokens]))[0]
    assert np.abs(np.array(said) - expected).max() < 1e-9


def pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield keys and values of plain data at every depth, those of lists without a key."""
    listed = [("", one) for one in value] if isinstance(value, list) else []
    for key, item in value.items() if isinstance(value, dict) else listed:
        yield key, item
        yield from pairs(item)


JSON_FILES = pytest.mark.parametrize(
    "name", ["manifest.json", "scores.json", "frontier.json", "memory.json", "trace.json"]
)


@JSON_FILES
def test_no_key_of_its_measurements_has_a_blank(name: str, room: Path) -> None:
    found = [key for key, _ in pairs(json.loads((room / name).read_bytes())) if key]
    assert found
    assert [key for key in found if " " in key] == []


@JSON_FILES
def test_its_numbers_are_numbers(name: str, room: Path) -> None:
    found = [value for _, value in pairs(from_json((room / name).read_bytes()))]
    assert found
    assert [value for value in found if value in ("nan", "inf", "-inf")] == []


def test_its_program_is_held_against_the_sparse_model(room: Path) -> None:
    assert 0 <= read_manifest(room).evidence["program_vs_sparse_model_nats"] < 1e-9


def test_its_file_runs_alone_and_has_no_matrix(room: Path) -> None:
    program, tokenizer = load_program(room)
    tokens = [tokenizer.start_id, *tokenizer.encode("Once upon a time, there was a little girl named Lily.")]
    said, tables = looked_into(room / "program.py", tokens)
    check_no_matrix(program, tables)
    expected = Interpreter(program, np.float64).log_probs(np.array([tokens]))[0]
    assert np.abs(np.array(said) - expected).max() < 1e-9


def test_talk_without_a_name_is_the_shipped_room(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["talk", "--seed", "1", "--max-tokens", "12"]) == 0
    told = capsys.readouterr().out
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(room / "program.py"), "", "--seed", "1", "--max-tokens", "12"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told == done.stdout
    assert len(told.split()) > 4
