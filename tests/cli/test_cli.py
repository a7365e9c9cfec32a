"""The command line: fast to start, and every command does what its help says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
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


@pytest.mark.parametrize("command", ["score", "sketch"])
def test_helps_flow_across_the_line_breaks_of_their_source(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    printed = capsys.readouterr().out
    assert "a tokenizer.json, a folder with one, a llama2.c tokenizer file, or a hub name. (default: None)" in printed


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
    assert main(["decompile", str(tiny_talker), "--level", "exact", "--out", str(room)]) == 0
    printed = capsys.readouterr()
    assert "largest log-probability difference from transformers" in printed.err
    assert printed.out.splitlines()[-1] == f"wrote {room}; next: python {room}/program.py 'Once upon a time'"

    stories = []
    for talker in (room, tiny_talker):
        assert main(["talk", str(talker), "Lily saw", "--seed", "4"]) == 0
        stories.append(capsys.readouterr().out)
    emitted = [sys.executable, "-I", "-S", str(room / "program.py"), "Lily saw", "--seed", "4"]
    stories.append(subprocess.run(emitted, capture_output=True, text=True, check=True).stdout)
    assert stories[0] == stories[1] == stories[2]
    assert stories[0].startswith("Lily saw")

    options = ["--text", str(story_file), "--max-documents", "20", "--greedy-prompts", "2"]
    assert main(["score", str(tiny_talker), str(room), *options, "--out", str(tmp_path / "scores")]) == 0
    printed = capsys.readouterr()
    assert "of the 20 documents of" in printed.err, "the talker was trained on this text"
    assert "its score on this text flatters it" in printed.err
    rows = json.loads((tmp_path / "scores.json").read_text())["rows"]
    assert [row["role"] for row in rows] == ["target", "talker"]
    assert rows[0]["nats_per_token"] == pytest.approx(rows[1]["nats_per_token"], abs=1e-4)
    assert abs(rows[1]["kl_target_talker"]) < 1e-6
    assert rows[1]["greedy_agreement"] == 1

    assert main(["show", str(room), "--blocks", "--records"]) == 0
    shown = capsys.readouterr().out
    assert "exact program of tiny" in shown
    assert "blocks.0.attn.hook_q: linear of blocks.0.ln1.hook_normalized; blocks.0.attn.W_Q [16, 16]" in shown
    assert "split blocks.0.attn.W_Q out of transformer.h.0.attn.c_attn.weight" in shown


def test_decompile_twice_writes_the_same_program(tiny_talker: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert (
            main(["decompile", str(tiny_talker), "--level", "exact", "--out", str(tmp_path / name), "--no-check"]) == 0
        )
    for file in ("program.py", "program.ir", "tables.safetensors", "tokenizer.json", "origins.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_score_writes_what_it_prints(
    tiny_talker: Path, unseen_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores"
    arguments = ["score", str(tiny_talker), "--text", str(unseen_file), "--no-check", "--categories"]
    assert main([*arguments, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    data = json.loads(out.with_suffix(".json").read_text())
    (row,) = data["rows"]
    assert f"{row['bits_per_byte']:.4f}" in printed
    assert f"sha256 {data['text']['sha256'][:16]}" in printed
    assert "speech: outside quotes" in printed
    table = pq.read_table(out.with_suffix(".parquet"))
    assert table.column("nats_per_token").to_pylist() == [row["nats_per_token"]]
    assert table.column("nats_per_token_low").to_pylist() == [row["nats_per_token_interval"][0]]
    assert json.loads(table.schema.metadata[b"englishroom"])["text"] == data["text"]
    categories = pq.read_table(tmp_path / "scores.categories.parquet").to_pylist()
    assert [c["category"] for c in categories] == [c["category"] for c in data["categories"]]
    kinds = [c["tokens"] for c in categories if c["category"].startswith("kind: ")]
    assert sum(kinds) == row["tokens"]


def test_score_with_baselines(
    tiny_talker: Path, tiny_room: Path, story_file: Path, unseen_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "choose.txt").write_text("Mia saw a red ball. Ben liked it.<|endoftext|>Tom saw Mia.\nTom liked it.")
    arguments = ["score", str(tiny_talker), str(tiny_room), "--text", str(unseen_file), "--baselines", "--no-check"]
    arguments += ["--fit", str(story_file), "--choose", str(tmp_path / "choose.txt"), "--greedy-prompts", "2"]
    assert main([*arguments, "--out", str(tmp_path / "scores")]) == 0
    rows = {row["talker"]: row for row in json.loads((tmp_path / "scores.json").read_text())["rows"]}
    roles = [row["role"] for row in rows.values()]
    assert [(role, roles.count(role)) for role in dict.fromkeys(roles)] == [
        *(("target", 1), ("talker", 1), ("replaced", 3), ("n-gram", 7), ("quantised", 5), ("pruned", 3)),
        ("hindsight", 1),
    ]
    assert rows["kneser-ney 5-gram"]["nats_per_token"] < rows["unigram"]["nats_per_token"]
    target = rows["tiny"]
    assert target["loss_recovered"] == {"zero": 1, "mean": 1, "unigram": 1}
    assert rows["unigram"]["loss_recovered"]["unigram"] == 0
    eight, two = (next(row for name, row in rows.items() if name.startswith(f"{bits} bits")) for bits in (8, 2))
    assert eight["kl_target_talker"] < two["kl_target_talker"]
    assert two["description_bits"] < eight["description_bits"] < target["description_bits"]
    assert all(row["kl_target_talker"] >= 0 for name, row in rows.items() if row["role"] in ("replaced", "n-gram"))


def test_baselines_are_never_fitted_on_the_text_that_is_reported(
    tiny_talker: Path, story_file: Path, unseen_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["score", str(tiny_talker), "--baselines", "--no-check", "--text", str(story_file)]
    for fit, choose in ((story_file, unseen_file), (unseen_file, story_file)):
        assert main([*arguments, "--fit", str(fit), "--choose", str(choose)]) == 1
        assert "200 of the 200 documents of" in capsys.readouterr().err


def test_compare(tiny_talker: Path, tiny_room: Path, unseen_file: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "found.json"
    arguments = ["compare", str(tiny_talker), str(tiny_room), "--text", str(unseen_file), "--no-check"]
    assert main([*arguments, "--prompt", "Lily saw", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    found = json.loads(out.read_text())
    assert abs(found["gain"]) < 1e-5
    assert found["top1_agreement"] > 0.99
    (told,) = found["stories"]
    assert told["first"] == told["second"]
    assert "A: Lily saw" in printed
    assert "B: Lily saw" in printed
    assert "category" in printed


def test_train_from_the_command_line(story_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "talker"
    options = ["--n-layers", "1", "--d-model", "16", "--n-heads", "2", "--n-ctx", "32", "--vocabulary", "300"]
    options += ["--tokens", "600", "--batch", "2"]
    assert main(["train", str(story_file), "--out", str(out), *options]) == 0
    assert f"wrote {out}; next: englishroom decompile {out}" in capsys.readouterr().out
    assert main(["decompile", str(out), "--level", "exact", "--out", str(tmp_path / "room"), "--no-check"]) == 0


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["talk", "evil\x1b[2Jname"]) == 1
    printed = capsys.readouterr().err
    assert "\x1b" not in printed
    assert "evil\\x1b[2Jname" in printed


def test_a_system_that_is_not_supported_is_told_so_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert main(["talk", "tiny-2l", "Once"]) == 1
    message = "error: englishroom runs on Linux and macOS; on Windows, run it inside WSL\n"
    assert capsys.readouterr() == ("", message)
