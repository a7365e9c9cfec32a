"""The commands that are printed as the next ones run as they stand, whatever the names in them."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from englishroom.cli import main
from englishroom.cli.output import command, talk_command
from englishroom.ir.room import load_program
from englishroom.ir.tokenizer_json import tokenizer_to_json
from englishroom.talkers.shipped import shipped_room
from letters import LETTERS

PLACE = 'it\'s a "place"; touch ran $(touch ran) דבר'


def next_of(out: str) -> list[str]:
    """Return the words of the command that is printed as the next one."""
    return shlex.split(out.partition("next: ")[2])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / PLACE


def doing_nothing(result: Any = None) -> Any:
    return lambda *_given, **_options: result


def test_train(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    point = {"nats_per_token": 1.0, "bits_per_byte": 1.0, "tokens": 1}
    monkeypatch.setattr("englishroom.talkers.build.build_talker", doing_nothing(SimpleNamespace(curve=[point])))
    assert main(["train", "text.txt", "--out", str(place)]) == 0
    assert next_of(capsys.readouterr().out) == ["englishroom", "decompile", str(place)]


def test_ladder(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rungs = "englishroom.evaluate.compute_recovered.rungs"
    monkeypatch.setattr(f"{rungs}.rebuild_ladder", doing_nothing())
    monkeypatch.setattr(f"{rungs}.measure_ladder", doing_nothing([]))
    assert main(["ladder", "rebuild", "text.txt", "--out", str(place)]) == 0
    assert next_of(capsys.readouterr().out) == ["englishroom", "ladder", "measure", str(place), "--text", "FILE"]
    text = place.with_name("text.txt")
    text.write_text("Once upon a time.", encoding="utf-8")
    assert main(["ladder", "measure", "x", "--text", str(text), "--runs", str(place)]) == 0
    assert next_of(capsys.readouterr().out) == ["englishroom", "ladder", "show", "--runs", str(place)]


def test_slice_and_sketch(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("englishroom.pipeline.slicing.slice_room", doing_nothing())
    assert main(["slice", "room", "--text", "a", "--out", str(place)]) == 0
    assert next_of(capsys.readouterr().out) == ["python", str(place / "program.py")]
    monkeypatch.setattr("englishroom.pipeline.sketching.sketch", doing_nothing())
    monkeypatch.setattr("englishroom.cli.sketch.print_sketch", doing_nothing())
    place.mkdir()
    (place / "tokenizer.json").write_text(tokenizer_to_json(load_program(shipped_room())[1]), encoding="utf-8")
    assert main(["sketch", "tiny-1l", "--out", str(place)]) == 0
    assert next_of(capsys.readouterr().out) == ["python", str(place / "sketch.py"), "Once upon a time"]


def test_a_model_of_another_alphabet_is_given_no_english_prompt(place: Path) -> None:
    place.mkdir()
    (place / "tokenizer.json").write_text(tokenizer_to_json(LETTERS), encoding="utf-8")
    assert shlex.split(talk_command(place / "program.py")) == ["python", str(place / "program.py")]


def test_a_command_is_split_into_its_words_again() -> None:
    words = ["python", Path("a b"), "c'd", '"', "$x", "", 3]
    assert shlex.split(command(*words)) == [str(word) for word in words]
