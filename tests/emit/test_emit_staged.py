"""A sparse program as it is emitted: the lists are the program, names change nothing, and there is no matrix in it."""

from __future__ import annotations

import hashlib
import math
import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emitted_tables import check_no_matrix, looked_into
from englishroom.emit.python import Emitted, Header, emit
from englishroom.inside.labelling import label
from englishroom.interp import reference
from englishroom.ir.labels import Feature, Labels
from englishroom.ir.program import Linear, Program, Rules, Space, SparseTable, Table, tables_of
from englishroom.ir.room import pack
from englishroom.ir.rule import rule_count
from englishroom.ir.verify import verify
from englishroom.names import TABLES
from programs import emitted, full_program, run_file
from staged import D_VOCAB, N_RULES, rows, staged, tokenizer

TESTS = Path(__file__).resolve().parents[1]
TOKENS = [int(token) for token in rows()[0]]
AWKWARD = Labels({"moved.0": tuple(Feature(f'{i} """ | # > \\ \u202e') for i in range(N_RULES))})


def written(folder: Path, program: Program, labels: Labels | None = None) -> Emitted:
    """Write ``program.py`` and its tables."""
    data = pack(program, tokenizer())[TABLES]
    (folder / TABLES).write_bytes(data)
    found = emit(program, tokenizer(), Header("tiny"), hashlib.sha256(data).hexdigest(), labels)
    (folder / "program.py").write_text(found.text, encoding="utf-8")
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", ["plain", "thresholds", "turned"])
def test_it_says_what_the_program_says(seed: int, dtype: type, form: str, tmp_path: Path) -> None:
    program = staged(seed, dtype, thresholds=form == "thresholds", turned=form == "turned")
    written(tmp_path, program, AWKWARD if seed % 2 else None)
    answers, _ = looked_into(tmp_path / "program.py", TOKENS)
    assert np.abs(np.array(answers) - reference.log_probs(program, TOKENS)).max() < 1e-9


def test_there_is_no_matrix_in_it(tmp_path: Path) -> None:
    program = staged(3)
    written(tmp_path, program)
    answers, tables = looked_into(tmp_path / "program.py", TOKENS)
    assert np.abs(np.array(answers) - reference.log_probs(program, TOKENS)).max() < 1e-9
    assert sum(weights for _, weights in tables.values()) > rule_count(program) / 2
    check_no_matrix(program, tables)


def test_a_matrix_would_be_found(tmp_path: Path) -> None:
    """A dense matrix, which the verifier refuses, does not pass for rules in the emitted file either."""
    program = staged(3)
    blocks = list(program.blocks)
    at = next(i for i, block in enumerate(blocks) if block.name == "always")
    spaces = program.spaces
    matrix = Table("hidden", np.random.default_rng(0).normal(size=(1, 60)))
    again = Table("hidden.out", np.random.default_rng(0).normal(size=(60, D_VOCAB)))
    hidden = Linear(name="hidden", space="hidden", reads="always", weight=matrix)
    out = Linear(name="hidden.out", space="vocab", reads="hidden", weight=again)
    vote = blocks[-1]
    assert vote.name == "log_probs"
    blocks = [*blocks[: at + 1], hidden, out, *blocks[at + 1 : -1], replace(vote, reads=("votes", "hidden.out"))]
    dense = replace(program, blocks=tuple(blocks), spaces=(*spaces, Space("hidden", 60)))
    assert any("dense matrix" in fault for fault in verify(dense))
    written(tmp_path, dense)
    _, tables = looked_into(tmp_path / "program.py", TOKENS)
    with pytest.raises(AssertionError, match=r"hidden\w* holds \d+ numbers"):
        check_no_matrix(dense, tables)


def test_a_full_table_of_pairs_would_be_found(tmp_path: Path) -> None:
    """Weights that the count of rules does not admit are found as well."""
    program = staged(3)
    written(tmp_path, program)
    _, tables = looked_into(tmp_path / "program.py", TOKENS)
    name = next(name for name, (_, weights) in tables.items() if weights)
    full = tables | {name: [0, rule_count(program) + 1]}
    with pytest.raises(AssertionError, match=f"{name} holds {rule_count(program) + 1} weights"):
        check_no_matrix(program, full)


def lists_of(text: str, name: str) -> list[list[str]]:
    """Return the lines of a list, as words."""
    found = re.search(rf"^{name}_names, [^\n]* = \w+\(\s*r\"\"\"\n(.*?)\n\"\"\"", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return [line.split() for line in found[1].split("\n")]


def test_the_lines_of_rules_are_their_conditions(tmp_path: Path) -> None:
    program = staged(5)
    text = written(tmp_path, program).text
    lines = {int(line[0]): line for line in lists_of(text, "rules_1")}
    block = next(block for block in program.blocks if block.name == "rules.1")
    assert isinstance(block, Rules)
    assert block.biases is not None
    assert sorted(lines) == [-1, *range(N_RULES)]
    for rule in range(N_RULES):
        line, end = lines[rule], lines[rule].index("|")
        weights = [np.float32(float(word)) for word in line[2:end:2]]
        assert sorted(weights) == sorted(np.float32(value) for _, value in block.conditions.row(rule))
        assert np.abs(weights).tolist() == sorted(np.abs(weights).tolist(), reverse=True)
        assert np.float32(float(line[end + 1])) == block.biases.values[rule]
        assert all(re.fullmatch(r"(words|places|always|moved\.[01]|rules\.0)\[\d+\]", name) for name in line[3:end:2])


def test_names_change_nothing_but_names(tmp_path: Path) -> None:
    program = staged(6)
    labels = label(program, tokenizer(), rows(), "random")
    (tmp_path / "plain").mkdir()
    (tmp_path / "named").mkdir()
    (tmp_path / "awkward").mkdir()
    plain = written(tmp_path / "plain", program)
    named = written(tmp_path / "named", program, labels)
    awkward = written(tmp_path / "awkward", program, AWKWARD)
    answers = [looked_into(tmp_path / which / "program.py", TOKENS)[0] for which in ("plain", "named", "awkward")]
    assert answers[0] == answers[1] == answers[2]
    for file in (plain, named, awkward):
        assert file.text.replace("\n", " ").isprintable()
        lines = file.text.splitlines()
        assert [run["last"] for run in file.origins][-1] == len(lines)
        compile(file.text, "program.py", "exec")
    rules = labels.features["rules.0"]
    strongest = max(range(N_RULES), key=lambda rule: rules[rule].importance)
    listed = [line for line in lists_of(named.text, "rules_0") if line[0] not in ("#", "-1")]
    assert [line[1] for line in listed if int(line[0]) == strongest] == [rules[strongest].label]
    by_group: dict[str, list[float]] = {}
    for line in listed:
        feature = rules[int(line[0])]
        by_group.setdefault(feature.group, []).append(feature.importance)
    assert all(values == sorted(values, reverse=True) for values in by_group.values())
    totals = [math.fsum(values) for values in by_group.values()]
    assert totals == sorted(totals, reverse=True)


def test_the_bytes_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "import hashlib\n"
        "from englishroom.emit.python import Header, emit\n"
        "from englishroom.inside.labelling import label\n"
        "from staged import rows, staged, tokenizer\n"
        "program = staged(1)\n"
        "labels = label(program, tokenizer(), rows())\n"
        "text = emit(program, tokenizer(), Header('x'), '0' * 64, labels).text\n"
        "print(hashlib.sha256(text.encode() + labels.to_json()).hexdigest())\n"
    )
    digests = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    ]
    assert len(digests[0]) == 65
    assert digests[0] == digests[1]


def test_every_number_of_the_program_is_in_the_file_or_beside_it(tmp_path: Path) -> None:
    """Changing any table changes what the emitted file says, so none is left out."""
    program = staged(7, n_layers=1)
    written(tmp_path, program)
    own = np.array(run_file(tmp_path / "program.py")["log_probs"](TOKENS))
    for block in program.blocks:
        for table in tables_of(block):
            if table.name.endswith(("form", "itself", "scores", "moves", "thresholds")) or not table.n_entries:
                continue
            changed = _louder(program, table)
            written(tmp_path, changed)
            answers = np.array(run_file(tmp_path / "program.py")["log_probs"](TOKENS))
            assert np.abs(answers - reference.log_probs(changed, TOKENS)).max() < 1e-9, table.name
            assert np.abs(answers - own).max() > 0, table.name


def _louder(program: Program, table: Table | SparseTable) -> Program:
    louder = replace(table, values=table.values * np.float32(1.5))

    def swapped(value: Any) -> Any:
        return louder if value is table else value

    blocks = [
        replace(block, **{item.name: swapped(getattr(block, item.name)) for item in fields(block)})
        for block in program.blocks
    ]
    return replace(program, blocks=tuple(blocks))


def test_a_program_of_another_form_is_written_block_by_block() -> None:
    text = emitted(full_program("sparse", 3)).text
    assert "add_up(" not in text
    assert "apply_rules(" in text
