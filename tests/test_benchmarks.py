"""Every benchmark runs at its smallest size, and prints what it measures row by row."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from englishroom.data.texts import open_text

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SMALLEST = {
    "dictionaries": "--sizes 8x16x2 --batch 16 --batches 2 --steps 1 --rounds 1",
    "dot_products": "--size 4 --rows 4",
    "ngrams": "text.txt --score text.txt --tokens 2000 --rounds 1",
    "ngrams_infini": "--text text.txt --queries 10 --rounds 1",
    "pruning": "--model tiny-1l --latents 48 --local-tokens 600 --joint-tokens 600 --steps 1 --held-out 1"
    " --sampled-edges 2",
    "readable": "--tokens 2",
    "readable_fit": "--model tiny-1l --moved 8 --rules 16 --apart-tokens 1024 --stream-tokens 1024 --steps 1"
    " --held-out 1",
    "small_algorithms": "--tasks majority --steps 2 --documents 20 8 8 --held-out 2 --smallest 0.5"
    " --smallest-first-steps 2 --smallest-steps 1",
    "source_lines": "--before here --at here",
    "run": "--models tiny-1l --rounds 1 --stories 1 --tokens 4",
}
ROWS = {
    "dictionaries": ["train a TopK SAE, 8 numbers", "train a TopK transcoder, 8 numbers"],
    "dot_products": ["sum(map(mul, row, x))    lists"],
    "ngrams": ["tokenise 40 documents", "count and smooth, order 5", "log-probabilities of", "whole distributions"],
    "ngrams_infini": ["suffix array, build", "count, one query a call", "longest match at every position"],
    "pruning": ["base: ", "at random", "attribution", "learned gates", "2 edges taken out one at a time"],
    "readable": ["tokens a second over 2", "seconds to import", "nats from the interpreter"],
    "readable_fit": ["fitted together", "all edges", "80 votes a feature, by cost", "all of these, by size"],
    "small_algorithms": ["| algorithm | target, usual | program |", "| majority | ", " of 10 | "],
    "source_lines": ["| all |", "| Blank lines kept |"],
    "run": ["score, torch, tiny-1l", "talk, one stream, greedy", "program.py, pure Python", "peak memory, tiny-1l"],
}
PARTS = {"table", "dictionary_steps"}
"""Modules that benchmarks import or start."""
ELSEWHERE = {"blind_reader"}
"""Benchmarks that have a test file of their own."""


def test_every_benchmark_has_a_smallest_size() -> None:
    assert {path.stem for path in BENCHMARKS.glob("*.py")} - PARTS - ELSEWHERE == SMALLEST.keys()


@pytest.mark.parametrize("name", SMALLEST)
def test_benchmark_runs_at_its_smallest_size(name: str, tmp_path: Path) -> None:
    documents = open_text("sampled:report").documents[:40]
    (tmp_path / "text.txt").write_text("\n<|endoftext|>\n".join(documents), encoding="utf-8")
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *SMALLEST[name].split()]
    peers = {key for key in os.environ if key.startswith("ENGLISHROOM_") and key.endswith("_PYTHON")}
    environment = {key: value for key, value in os.environ.items() if key not in peers} | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    for row in ROWS[name]:
        assert row in run.stdout


def test_rows_are_printed_as_they_come(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import table

    def rows():
        yield table.Row("first", "1 tok/s", "", "", "")
        assert "| first | 1 tok/s |" in capsys.readouterr().out
        yield table.Row("second", "2 tok/s", "", "", "")

    table.print_table(rows())
    assert "| second | 2 tok/s |" in capsys.readouterr().out


def test_code_lines_leave_out_prose_and_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import source_lines

    text = (
        '"""Prose."""\n\nN = (  # why\n    1,\n)\n"""About N."""\n\n\n'
        'class C:\n    @staticmethod\n    def f():\n        # why\n        return """a\n\nb"""\n'
    )
    assert source_lines.code_lines(text) == {3, 4, 5, 9, 10, 11, 13, 14, 15}
    modules = {"c.py": text}
    assert source_lines.lines_of("c.py::C.f", modules) == {10, 11, 13, 14, 15}
    assert source_lines.lines_of("c.py::N", modules) == {3, 4, 5}
    assert not source_lines.lines_of("c.py::C.g", modules)
    assert not source_lines.lines_of("d.py", modules)
