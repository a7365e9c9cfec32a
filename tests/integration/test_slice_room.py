"""The slice of a room is a room: it opens, runs alone, talks, is scored, and says what it kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from englishroom.cli import main
from englishroom.evaluate.description import describe_program
from englishroom.evaluate.talkers.program import EmittedTalker
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.labels import Feature, Labels
from englishroom.ir.room import load_program
from englishroom.names import LABELS
from englishroom.passes.slice import n_entries
from englishroom.pipeline.slicing import labels_of, n_rules
from englishroom.store import read_manifest
from programs import full_program
from tiny_slice import small_program, write_small_room

TEXT = "abcdefg"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_room(tmp_path_factory.mktemp("rooms") / "room", small_program())


@pytest.fixture(scope="module")
def sliced(room: Path) -> Path:
    out = room.parent / "slice"
    command = ["slice", str(room), "--text", TEXT, "--tolerance", "0.2", "--evaluations", "120", "--out", str(out)]
    assert main(command) == 0
    return out


def test_it_says_what_it_kept(room: Path, sliced: Path) -> None:
    whole, tokenizer = load_program(room)
    program, _ = load_program(sliced)
    said = json.loads((sliced / "slice.json").read_bytes())
    tokens = np.array([0, *tokenizer.encode(TEXT)])
    before, after = (Interpreter(p, np.float64).log_probs(tokens) for p in (whole, program))
    at = np.arange(len(tokens) - 1)
    difference = np.abs(before - after)[at, tokens[1:]].max()
    assert said["gap_nats"] == pytest.approx(difference, abs=1e-9)
    assert 0 < difference <= said["tolerance_nats"] == 0.2
    assert said["entries"] == {"kept": n_entries(program), "of": n_entries(whole)}
    assert said["rules"] == {"kept": n_rules(program), "of": n_rules(whole)}
    assert said["description_bits"]["kept"] == describe_program(program).bits < describe_program(whole).bits
    assert said["kl_program_slice_nats"]["mean"] == pytest.approx((np.exp(before) * (before - after)).sum(1).mean())
    assert [row["token"] for row in said["says"]] == list(TEXT)
    assert said["steps"][0].startswith("without what the text never uses: ")
    manifest = read_manifest(sliced)
    assert [record["made_by"] for record in manifest.records] == ["lift", "slice"]
    assert manifest.evidence["sliced_for"] == TEXT
    assert manifest.evidence["emitted_vs_program_nats"] < 1e-9


def test_it_runs_and_talks_and_is_scored(
    room: Path, sliced: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program, tokenizer = load_program(sliced)
    tokens = np.array([[0, *tokenizer.encode(TEXT)]])
    with EmittedTalker(sliced / "program.py", tokenizer, program.n_ctx) as alone:
        expected = Interpreter(program, np.float64).log_probs(tokens)
        assert np.abs(alone.log_probs(tokens) - expected).max() < 1e-9
    assert main(["talk", str(sliced), "ab", "--told", "cd"]) == 0
    assert "'c' after" in capsys.readouterr().out
    text = tmp_path / "text.txt"
    text.write_text("abcdefg\n<|endoftext|>\nbcdefgh\n", encoding="utf-8")
    assert main(["score", str(room), str(sliced), "--text", str(text), "--greedy-prompts", "0"]) == 0
    assert str(sliced) in capsys.readouterr().out.replace("\n", "")


def test_labels_follow_what_is_kept() -> None:
    labels = Labels({"x": tuple(Feature(name) for name in "abc"), "y": (Feature("d"),)}, {"text": "t"})
    kept = labels_of(labels, {"x": np.array([0, 2])})
    assert [feature.label for feature in kept.features["x"]] == ["a", "c"]
    assert set(kept.features) == {"x"}
    assert kept.about["text"] == "t"
    assert LABELS == "labels.json"


def test_what_cannot_be_sliced_is_one_line(room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*arguments: str) -> str:
        assert main(["slice", *arguments, "--out", str(tmp_path / "out")]) == 1
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err.splitlines()[-1]

    assert error(str(room), "--text", "") == "error: the text has no tokens; give --text at least one word"
    assert "the prompt has 41 tokens, the context holds 12" in error(str(room), "--text", "a" * 40)
    low = error(str(room), "--text", "a", "--tolerance", "-1")
    assert low == "error: --tolerance is -1, expected 0 or more"
    exact = write_small_room(tmp_path / "exact", full_program("exact", 1))
    assert error(str(exact), "--text", "a") == (
        "error: the program is at the exact level, and only sparse programs can be sliced; give a room made with "
        "englishroom decompile --level sparse"
    )


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--tolerance", "inf", "--tolerance is inf, expected a finite number"),
        ("--tolerance", "nan", "--tolerance is nan, expected a finite number"),
        ("--seed", "-1", "--seed is -1, expected 0 or more"),
        ("--evaluations", "0", "--evaluations is 0, expected 1 or more"),
    ],
)
def test_settings_are_refused_before_anything_is_read(
    option: str, value: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "no room")
    assert main(["slice", missing, "--text", "a", option, value, "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == f"error: {message}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_slice_does_not_replace_the_room_that_it_is_cut_from(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "link"
    link.symlink_to(room, target_is_directory=True)
    before = {path.name: path.read_bytes() for path in room.iterdir()}
    for out in (room, room.parent / "." / room.name, link, room / "inside"):
        assert main(["slice", str(room), "--text", "a", "--out", str(out)]) == 1
        assert capsys.readouterr().err == (
            f"error: {out}: is {room} itself, which is read, or lies in it; choose another --out\n"
        )
    assert {path.name: path.read_bytes() for path in room.iterdir()} == before


def test_a_sketch_does_not_replace_what_it_is_made_of(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sketch", str(room), "--out", str(room)]) == 1
    assert "is " + str(room) + " itself, which is read, or lies in it" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["frontier", "report"])
def test_other_commands_refuse_such_a_seed_too(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(tmp_path / "no room"), "--out", str(tmp_path / "out"), "--seed", "-1"]) == 1
    assert capsys.readouterr().err == "error: --seed is -1, expected 0 or more\n"
