"""A text that holds nothing, or nothing that a vocabulary can spell, is refused in one line by every command."""

from __future__ import annotations

from pathlib import Path

import pytest

from englishroom.cli import main
from englishroom.ir.program import Program
from tiny_slice import small_program, write_small_room


@pytest.fixture(scope="module")
def program() -> Program:
    return small_program()


@pytest.mark.parametrize(
    "arguments",
    [
        ["label", "ROOM", "--text", "TEXT"],
        ["memory", "ROOM", "--text", "TEXT", "--fit", "FINE"],
        ["memory", "ROOM", "--text", "FINE", "--fit", "TEXT"],
        ["explain-check", "ROOM", "--text", "TEXT"],
        ["report", "ROOM", "--report", "TEXT"],
        ["score", "ROOM", "--text", "TEXT"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Ünspellable!\n<|endoftext|>\n!", "none of its 2 documents can be spelled with the vocabulary of"),
        ("", "text.txt: no text in it"),
        ("\n<|endoftext|>\n \n", "text.txt: no text in it"),
    ],
    ids=["unspellable", "empty", "blank"],
)
def test_it_is_one_line(
    arguments: list[str], text: str, why: str, program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    room = write_small_room(tmp_path / "room", program)
    (tmp_path / "text.txt").write_text(text)
    (tmp_path / "fine.txt").write_text("abba\n<|endoftext|>\ncab")
    named = {"ROOM": room, "TEXT": tmp_path / "text.txt", "FINE": tmp_path / "fine.txt"}
    assert main([str(named.get(word, word)) for word in arguments]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert why in printed


@pytest.mark.parametrize("setting", ["--text", "--fit", "--choose"])
def test_frontier_refuses_an_empty_text(
    setting: str, tiny_talker: Path, tiny_room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("")
    options = ["--model", str(tiny_talker), "--out", str(tmp_path / "out")]
    assert main(["frontier", str(tiny_room), setting, str(tmp_path / "text.txt"), *options]) == 1
    refused = capsys.readouterr().err.splitlines()[-1]
    assert f"{setting}: {tmp_path / 'text.txt'}: no text in it" in refused
    assert not (tmp_path / "out").exists()
