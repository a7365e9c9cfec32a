"""Stages: every run of blocks that adds up features is found, and nothing that looks almost like one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Join, Normalise, Rules, Sum, Table
from englishroom.ir.stages import stages_of
from staged import rows, staged


def test_all_stages_of_a_sparse_program_are_found() -> None:
    program = staged(0)
    stages = stages_of(program)
    wanted = ["always", "heads.0", "moved.0", "rules.0", "heads.1", "moved.1", "rules.1", "said", "votes"]
    assert list(stages) == wanted
    covered = [name for stage in stages.values() for name in stage.blocks]
    assert len(covered) == len(set(covered))
    left = [block.name for block in program.blocks if block.name not in covered]
    assert left == ["words", "places", "brought.0", "brought.1", "log_probs"]
    assert [part.variable for part in stages["rules.1"].parts] == [
        *("words", "places", "moved.0", "rules.0", "moved.1", "always")
    ]


@pytest.mark.parametrize("name", ["heads.0", "said"])
def test_a_stage_of_sums_adds_up_what_the_blocks_do(name: str) -> None:
    program = staged(1)
    stage = stages_of(program)[name]
    variables = Interpreter(program, np.float64).variables(rows()[0])
    read = np.concatenate([variables[part.variable] for part in stage.parts], axis=1)
    features, columns, weights = stage.entries()
    bias = stage.adds.bias if not isinstance(stage.adds, Rules) else None
    assert bias is not None
    sums = np.tile(bias.values.astype(np.float64), (len(read), 1))
    np.add.at(sums.T, columns, (read[:, features] * weights).T)
    loud, alone = stage.loud()
    assert stage.norm is not None
    scale = 1 / np.sqrt((read @ loud + alone) ** 2 + stage.norm.eps)
    assert stage.norm.bias is not None
    expected = sums * scale[:, None] + stage.norm.bias.values[:-1]
    assert np.abs(variables[name][:, :-1] - expected).max() < 1e-9


@pytest.mark.parametrize("spoil", ["gain", "read twice", "sum", "form"])
def test_what_is_almost_a_stage_is_none(spoil: str) -> None:
    program = staged(2)
    blocks = list(program.blocks)
    at = next(i for i, block in enumerate(blocks) if block.name == "said")
    norm = blocks[at]
    assert isinstance(norm, Normalise)
    if spoil == "gain":
        size = program.space(norm.space).size
        blocks[at] = replace(norm, gain=Table("said.gain", np.ones(size, np.float32)))
    elif spoil == "read twice":
        blocks.insert(at, Sum(name="more", space=norm.space, reads=("said.with_loudness",)))
    elif spoil == "sum":
        join = next(block for block in blocks if block.name == "said.with_loudness")
        assert isinstance(join, Join)
        blocks[blocks.index(join)] = replace(join, reads=join.reads[::-1])
    else:
        assert norm.form is not None
        blocks[at] = replace(norm, form=replace(norm.form, values=norm.form.values * 2))
    stages = stages_of(replace(program, blocks=tuple(blocks)))
    assert "said" not in stages
    assert "said.sums" in stages
    assert "rules.1" in stages
