"""A sparse program that is read back as a model is written as the same program again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from englishroom.errors import ConfigError
from englishroom.ir.program import Rules, Table
from englishroom.ir.room import load_program
from englishroom.lower.reopen import reopen
from englishroom.lower.sparsify import run_as, sparsify
from englishroom.models.spec import ModelSpec
from englishroom.talkers.shipped import shipped_room
from programs import full_program
from tiny_features import SPEC
from tiny_sparse import pruned, rotary, windowed


@pytest.mark.parametrize("spec", [SPEC, windowed(), rotary()], ids=["gpt2", "gpt_neo", "llama"])
def test_it_is_the_model_that_was_written(spec: ModelSpec) -> None:
    model = pruned(spec)
    program, _ = sparsify(model)
    again = reopen(program)
    assert again.shape.windows == model.shape.windows
    assert again.shape.rotary_theta == model.shape.rotary_theta
    tokens = np.array([[0, 5, 9, 3, 3, 17, 29, 1]])
    assert np.abs(run_as(again, tokens) - run_as(model, tokens)).max() < 1e-9
    assert sparsify(again)[0].tables() == program.tables()


def test_the_shipped_program_is_read_back() -> None:
    program, _ = load_program(shipped_room())
    assert sparsify(reopen(program))[0].tables() == program.tables()


def test_a_program_that_says_something_else_is_refused() -> None:
    program, _ = sparsify(pruned(SPEC))
    rules = next(block for block in program.blocks if isinstance(block, Rules))
    raised = replace(rules, thresholds=Table(rules.thresholds.name, rules.thresholds.values + np.float32(50)))
    other = replace(program, blocks=tuple(raised if block is rules else block for block in program.blocks))
    with pytest.raises(ConfigError, match=r"cannot be refitted; give a room as it was decompiled"):
        reopen(other)


@pytest.mark.parametrize("level", ["exact", "sparse"])
def test_programs_of_another_form_are_refused(level: str) -> None:
    with pytest.raises(ConfigError, match=r"is not of the form that englishroom decompile --level sparse writes"):
        reopen(full_program(level, 0))
