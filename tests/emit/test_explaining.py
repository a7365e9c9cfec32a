"""Explanations: they add up, they are about what the program says, and the emitted file alone gives them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from englishroom.cli import main
from englishroom.emit.graph import graph, rows_of
from englishroom.emit.prelude import explaining, removing
from englishroom.inside.shares import shares
from englishroom.interp.recorded_run import RecordedRun
from englishroom.interp.vectorised import Interpreter
from programs import full_program, run_file, tokens_for, write_emitted
from tiny_slice import small_program, small_texts, write_small_room


@pytest.mark.parametrize("seed", range(10))
def test_what_is_explained_is_what_the_program_says(seed: int) -> None:
    program = full_program("sparse", seed)
    tokens = tokens_for(program, seed)[0].tolist()
    expected = Interpreter(program, np.float64).variables(np.array(tokens))
    blocks, seen = graph(program, rows_of), []
    for position, token in enumerate(tokens):
        seen.append(explaining.read_on(blocks, seen, token))
        for name, value in expected.items():
            np.testing.assert_allclose(seen[-1]["variables"][name], value[position], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_shares_and_parts_add_up(seed: int) -> None:
    program = full_program("sparse", seed)
    tokens = tokens_for(program, seed)[0].tolist()
    blocks, seen = graph(program, rows_of), []
    by_name = {block["name"]: block for block in blocks}
    for token in tokens:
        seen.append(explaining.read_on(blocks, seen, token))
    here, last = seen[-1], blocks[-1]["name"]
    for token in range(program.d_vocab):
        parts, brought, baseline = explaining.shares(blocks, here, token)
        for name, weights in brought.items():
            copied = explaining.copied(by_name[name], seen, weights)
            whole = sum(weight * here["variables"][name][at] for at, weight in weights.items())
            assert sum(part for part, _ in copied.values()) == pytest.approx(whole, abs=1e-9)
            baseline += whole
        assert baseline + sum(parts.values()) == pytest.approx(here["variables"][last][token], abs=1e-6)
    for name, firing in here["fired"].items():
        for rule, passed in firing.items():
            parts, brought, constant = explaining.strength_of(blocks, here, name, rule)
            terms = (w * here["variables"][n][at] for n, weights in brought.items() for at, w in weights.items())
            assert constant + sum(parts.values()) + sum(terms) == pytest.approx(passed, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_it_is_what_is_checked(seed: int) -> None:
    """The file's own arithmetic and the fast one, by which explanations are checked, say the same."""
    program = full_program("sparse", seed)
    tokens = tokens_for(program, seed)[0]
    reading = RecordedRun(Interpreter(program, np.float64), tokens)
    said = np.roll(tokens, -1)
    found = shares(reading, said)
    blocks, seen = graph(program, rows_of), []
    for position, token in enumerate(tokens.tolist()):
        seen.append(explaining.read_on(blocks, seen, token))
        parts, _, baseline = explaining.shares(blocks, seen[-1], int(said[position]))
        assert baseline == pytest.approx(found.baseline[position], abs=1e-9)
        for (name, at), share in parts.items():
            assert share == pytest.approx(found.of[name][position, at], abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_what_would_be_without_a_rule_is_what_the_program_says_without_it(seed: int) -> None:
    """The file reads the text again; the interpreter, which shares no code with it, runs without the rule."""
    program = full_program("sparse", seed)
    tokens = tokens_for(program, seed)[0]
    reading = RecordedRun(Interpreter(program, np.float64), tokens)
    blocks, seen = graph(program, rows_of), []
    removed: dict[tuple[str, int], list] = {}
    changed = 0
    for position, token in enumerate(tokens.tolist()):
        seen.append(explaining.read_on(blocks, seen, token))
        token = int(np.roll(tokens, -1)[position])
        rules = [(name, rule) for name, firing in seen[-1]["fired"].items() for rule in firing]
        looked_up = [b["name"] for b in blocks if b["kind"] in ("lookup", "product")]
        kinds = [(name, int(at)) for name in looked_up for at in np.flatnonzero(seen[-1]["variables"][name])]
        for at in rules + kinds:
            expected = (reading.really_without(*at) - reading.log_probs)[position, token]
            known = removing.without(blocks, seen, *at, token, removed.setdefault(at, []))
            assert known == pytest.approx(expected, abs=1e-9)
            assert removing.without(blocks, seen, *at, token) == pytest.approx(known, abs=1e-12)
            changed += abs(known) > 1e-3
    assert changed > len(tokens)


def test_shares_of_a_small_program_add_up() -> None:
    for text in small_texts(3):
        reading = RecordedRun(Interpreter(small_program(), np.float64), text[:-1])
        found = shares(reading, text[1:])
        assert np.abs(found.unexplained).max() < 1e-6
        assert any(part.any() for part in found.of.values())


def run(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd="/")


def test_the_emitted_file_explains_itself_and_the_room_says_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = small_program()
    room = write_small_room(tmp_path / "room", program)
    alone = run(room / "program.py", "abc", "--explain", "--greedy", "--max-tokens", "3")
    assert alone.returncode == 0, alone.stderr
    heads = re.findall(r"log p (\S+) = (\S+) if only the constants voted (\S+) by", alone.stdout)
    assert len(heads) == 3
    for blocks in alone.stdout.strip().split("\n\n"):
        lines = blocks.splitlines()
        whole, baseline, _ = map(
            float, re.findall(r"log p (\S+) = (\S+) if only the constants voted (\S+) by", lines[0])[0]
        )
        listed = [float(m[1]) for line in lines if (m := re.match(r"  ([+-]\d+\.\d+) ", line))]
        assert baseline + sum(listed) == pytest.approx(whole, abs=0.005)
        assert any("looked at" in line for line in lines)
    assert main(["talk", str(room), "abc", "--explain", "--greedy", "--max-tokens", "3"]) == 0
    said = capsys.readouterr().out
    assert said.strip() == alone.stdout.strip()


def test_a_given_text_is_explained_token_by_token(tmp_path: Path) -> None:
    path = write_emitted(tmp_path, small_program())
    told = run(path, "ab", "--told", "cde")
    assert re.findall(r"^'(\w)' after", told.stdout, re.MULTILINE) == ["c", "d", "e"]
    long = run(path, "ab", "--told", "c" * 50)
    assert long.returncode == 1
    assert long.stderr == "error: the text has 53 tokens, the context holds 12; shorten the text\n"


def test_other_levels_have_no_such_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = full_program("exact", 1)
    assert "unrecognized arguments: --explain" in run(write_emitted(tmp_path, program), "--explain").stderr
    room = write_small_room(tmp_path / "room", program)
    assert main(["talk", str(room), "--explain"]) == 1
    assert capsys.readouterr().err == (
        "error: the program is at the exact level, and only sparse programs can be explained; give a room made with "
        "englishroom decompile --level sparse\n"
    )


def test_nothing_is_explained_that_the_program_does_not_say(tmp_path: Path) -> None:
    names = run_file(write_emitted(tmp_path, small_program()))
    size = names["D_VOCAB"]
    names["step"] = lambda _token, _position, _memory: [0.0] * size
    with pytest.raises(SystemExit, match=r"at position 0 the program differs by .* nats from what is explained"):
        names["main"](["abc", "--explain"])
