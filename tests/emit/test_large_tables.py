"""Emitted files with tables so large that they stay arrays: every path of theirs, held against that of small ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from englishroom.emit import tables as table_text
from englishroom.emit.prelude import loading
from englishroom.emit.python import Header, emit
from englishroom.interp import reference
from englishroom.ir.program import LEVELS, Level, Program
from englishroom.ir.room import pack
from englishroom.ir.tokenizer import Tokenizer
from englishroom.names import PROGRAM, TABLES
from englishroom.pipeline.commands import SliceConfig
from englishroom.pipeline.slicing import slice_room
from englishroom.store import sha256
from programs import full_program, run_file, tokenizer_for, tokens_for
from staged import rows, staged, tokenizer
from tiny_slice import small_program, write_small_room


@pytest.fixture(autouse=True)
def nothing_in_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write vectors beside the code too, as those of large programs are."""
    monkeypatch.setattr(table_text, "LITERAL_ENTRIES", 0)


def enlarged(path: Path) -> Path:
    """Let a file take its tables for large ones."""
    text = path.read_text(encoding="utf-8")
    before = f"LARGE = 2**{loading.LARGE.bit_length() - 1} "
    assert text.count(before) == 1
    found = path.with_name("enlarged.py")
    found.write_text(text.replace(before, "LARGE = 0 "), encoding="utf-8")
    return found


def both(folder: Path, program: Program, words: Tokenizer) -> tuple[Path, Path]:
    """Write a program, and once more with its tables taken for large ones."""
    files = pack(program, words)
    (folder / TABLES).write_bytes(files[TABLES])
    path = folder / PROGRAM
    path.write_text(emit(program, words, Header("x"), sha256(files[TABLES])).text, encoding="utf-8")
    return path, enlarged(path)


def said(path: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a file prints."""
    run_file(path)["main"](list(arguments))
    return capsys.readouterr().out


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("level", [level for level in LEVELS if level != "explained"])  # whose small tables are lines
def test_every_kind_of_block_reads_large_tables(
    level: Level, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = full_program(level, seed)
    small, large = both(tmp_path, program, tokenizer_for(program.d_vocab))
    tokens = tokens_for(program)[0].tolist()
    answers = np.array(run_file(large)["log_probs"](tokens))
    assert np.abs(answers - reference.log_probs(program, tokens)).max() < 1e-9
    assert said(large, capsys, "--seed", "1") == said(small, capsys, "--seed", "1")


@pytest.mark.parametrize("form", ["plain", "thresholds", "turned"])
def test_a_staged_program_reads_looks_back_and_explains(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its heads add a distance to what they find, which failed where distances stood in an array."""
    program = staged(1, thresholds=form == "thresholds", turned=form == "turned")
    small, large = both(tmp_path, program, tokenizer())
    tokens = rows()[0].tolist()
    answers = np.array(run_file(large)["log_probs"](tokens))
    assert np.abs(answers - reference.log_probs(program, tokens)).max() < 1e-9
    for options in (["--greedy"], ["once", "--seed", "2"], ["once", "--explain", "--seed", "2", "--max-tokens", "3"]):
        assert said(large, capsys, *options) == said(small, capsys, *options)


def test_rules_are_taken_out_of_large_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, large = both(tmp_path, small_program(), tokenizer_for(small_program().d_vocab))
    told = said(large, capsys, "ab", "--told", "cdef")
    assert told == said(small, capsys, "ab", "--told", "cdef")
    changes = [line[9:16].strip() for line in told.splitlines() if line.startswith(("  +", "  -"))]
    assert any(change not in ("", "+0.000", "-0.000") for change in changes)


def test_a_slice_reads_large_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    room = write_small_room(tmp_path / "room", small_program())
    slice_room(SliceConfig(room, "abcd", 0.2, evaluations=10), tmp_path / "slice")
    path = tmp_path / "slice" / PROGRAM
    assert said(enlarged(path), capsys, "--told", "abcd") == said(path, capsys, "--told", "abcd")
