"""The command line: fast to start, and every command does what its help says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from englishroom.cli import COMMANDS, main

HEAVY = ("torch", "transformers", "numpy", "tyro", "pydantic")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from englishroom.cli import main\n"
        "try: main(['--help'])\n"
        f"finally: print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stderr.strip() == "[]"
    assert all(name in run.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself_without_torch(command: str) -> None:
    code = (
        "import sys; from englishroom.cli import main\n"
        f"try: main([{command!r}, '--help'])\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0
    assert f"usage: englishroom {command}" in run.stdout
    assert run.stderr.strip() == "False"


def test_unknown_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["fly"], "invalid choice: 'fly'"),
        (["talk", "room", "--wings"], "Unrecognized options: --wings"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        printed = capsys.readouterr()
        assert said in printed.err + printed.out


def test_decompile_talk_score_show(
    tiny_talker: Path, story_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    room = tmp_path / "room"
    assert main(["decompile", str(tiny_talker), "--out", str(room)]) == 0
    printed = capsys.readouterr()
    assert "largest log-probability difference from transformers" in printed.err
    assert printed.out.splitlines()[-1] == f'wrote {room}; next: python {room}/program.py "Once upon a time"'

    stories = []
    for talker in (room, tiny_talker):
        assert main(["talk", str(talker), "Lily saw", "--seed", "4"]) == 0
        stories.append(capsys.readouterr().out)
    emitted = [sys.executable, "-I", "-S", str(room / "program.py"), "Lily saw", "--seed", "4"]
    stories.append(subprocess.run(emitted, capture_output=True, text=True, check=True).stdout)
    assert stories[0] == stories[1] == stories[2]
    assert stories[0].startswith("Lily saw")

    scores = []
    for talker in (room, tiny_talker):
        assert main(["score", str(talker), "--text", str(story_file), "--max-documents", "20"]) == 0
        scores.append(capsys.readouterr().out.splitlines()[1:])
    assert scores[0] == scores[1]
    assert [line.split()[:3] for line in scores[0][:2]] == [["nats", "per", "token"], ["bits", "per", "byte"]]

    assert main(["show", str(room), "--blocks", "--records"]) == 0
    shown = capsys.readouterr().out
    assert "exact program of tiny" in shown
    assert "blocks.0.attn.hook_q: linear of blocks.0.ln1.hook_normalized; blocks.0.attn.W_Q [16, 16]" in shown
    assert "split blocks.0.attn.W_Q out of transformer.h.0.attn.c_attn.weight" in shown


def test_decompile_twice_writes_the_same_program(tiny_talker: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert main(["decompile", str(tiny_talker), "--out", str(tmp_path / name), "--no-check"]) == 0
    for file in ("program.py", "program.ir", "tables.safetensors", "tokenizer.json", "origins.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_train_from_the_command_line(story_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "talker"
    options = ["--n-layers", "1", "--d-model", "16", "--n-heads", "2", "--n-ctx", "32", "--vocabulary", "300"]
    options += ["--tokens", "600", "--batch", "2"]
    assert main(["train", str(story_file), "--out", str(out), *options]) == 0
    assert f"wrote {out}; next: englishroom decompile {out}" in capsys.readouterr().out
    assert main(["decompile", str(out), "--out", str(tmp_path / "room"), "--no-check"]) == 0


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["talk", "evil\x1b[2Jname"]) == 1
    printed = capsys.readouterr().err
    assert "\x1b" not in printed
    assert "evil\\x1b[2Jname" in printed
