"""What selections keep is counted."""

from __future__ import annotations

import numpy as np

from englishroom.inside.selected import count_selected
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Program, Select
from programs import chain, random_program, tokens_for


def test_what_selections_keep_is_counted() -> None:
    program = random_program("featured", ("lookup", "select", "linear", "select"), 5)
    names = [block.name for block in program.blocks if isinstance(block, Select)]
    texts = list(tokens_for(program, 1, 3))
    expected = [
        sum(np.count_nonzero(values[name][at]) for name in names)
        for values in (Interpreter(program, np.float32).variables(row) for row in texts)
        for at in range(program.n_ctx)
    ]
    found = count_selected(program, texts)
    assert found == np.mean(expected)
    assert found > 0


def test_a_program_that_selects_nothing_has_no_count() -> None:
    program: Program = chain()
    assert count_selected(program, list(tokens_for(program))) is None
