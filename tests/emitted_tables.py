"""Look into an emitted file: run it in a bare Python, and count what its tables hold."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from englishroom.ir.program import Program, Rules
from englishroom.ir.rule import rule_count

_LOOK = """
import json, runpy, sys
names = runpy.run_path(sys.argv[1])
def numbers(value):
    if isinstance(value, bool) or not isinstance(value, (int, float, list, tuple, dict)):
        return 0
    if isinstance(value, (int, float)):
        return 1
    return sum(map(numbers, value.values() if isinstance(value, dict) else value))
def weights(value):
    # entries of rows of pairs (feature, weight): pairs of a whole number and a float
    if isinstance(value, tuple) and len(value) == 2 and type(value[0]) is int and type(value[1]) is float:
        return 1
    return sum(map(weights, value)) if isinstance(value, (list, tuple)) else 0
tables = {name: [numbers(v), weights(v)] for name, v in names.items() if isinstance(v, (list, tuple)) and numbers(v)}
print(json.dumps([names["log_probs"](json.loads(sys.argv[2])), tables]))
"""


def looked_into(path: Path, tokens: Sequence[int]) -> tuple[list[list[float]], dict[str, list[int]]]:
    """Run an emitted file in a bare Python; return its answers, and how many numbers and weights each table holds."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LOOK, str(path), json.dumps(list(map(int, tokens)))],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    answers, tables = json.loads(done.stdout)
    return answers, tables


def check_no_matrix(program: Program, tables: dict[str, list[int]]) -> None:
    """Hold every table of an emitted file to what the verifier counted.

    A table of weights has no more of them than the program has edges, or its rules have conditions; whatever else has
    numbers in it is a list as long as a variable is, or is part of the tokenizer.
    """
    counted = rule_count(program)
    rules = [block for block in program.blocks if isinstance(block, Rules)]
    n_rules = sum(block.conditions.shape[0] for block in rules)
    longest = max(int(np.diff(block.conditions.starts).max()) for block in rules)
    edges = counted - n_rules
    longest_vector = max(space.size for space in program.spaces)
    distances = max((t.n_entries for t in program.tables().values() if t.name.endswith("distance")), default=0)
    total = 0
    for name, (n_numbers, n_weights) in tables.items():
        if name in ("BYTE_IDS", "MERGES", "PIECES"):
            continue
        assert n_weights <= max(edges, n_rules * longest), f"{name} holds {n_weights} weights"
        total += n_weights
        if name.endswith("_heads"):
            assert n_numbers <= 8 * edges, f"{name} holds {n_numbers} numbers"
        elif name.endswith("_ballots"):
            assert n_numbers <= edges + 2 * program.d_vocab, f"{name} holds {n_numbers} numbers"
        elif not n_weights:
            assert n_numbers <= max(longest_vector, distances), f"{name} holds {n_numbers} numbers"
    assert total <= edges + n_rules * longest, f"{total} weights, {counted} rules and edges counted"
