"""A readable program read back is the wired model that it was written from, and trains on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from englishroom.errors import ConfigError
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.text import print_program
from englishroom.lower.rewired import rewired
from englishroom.lower.wired import run_as, write_readable
from englishroom.readable.wiring_fit import WiringFit
from readable import induction
from tiny_features import SPEC
from tiny_readable import SHORT, SPECS, STREAM, tiny_rows, tiny_target, wired_model

TOKENS = np.array([[0, 5, 9, 3, 3, 17, 29, 1, 4, 6, 8, 2]])


@pytest.mark.parametrize("name", SPECS)
def test_what_is_read_back_says_the_same_and_is_written_the_same(name: str) -> None:
    program, _ = write_readable(wired_model(name))
    back = rewired(program, SPECS[name], STREAM)
    np.testing.assert_allclose(run_as(back, TOKENS), Interpreter(program, np.float64).log_probs(TOKENS), atol=1e-9)
    again, _ = write_readable(back)
    assert print_program(again) == print_program(program)
    assert again == program


def test_it_trains_on_from_where_it_was() -> None:
    target, config = tiny_target(SPEC), replace(SHORT, tokens=60 * 48, rate=0.02)
    model = rewired(write_readable(wired_model("gpt2"))[0], SPEC, STREAM)
    run = WiringFit(target, model, tiny_rows(), config, {}, sharp=True)
    before = {name: vector.detach().clone() for name, vector in run.model.vectors.items()}
    rows = torch.from_numpy(tiny_rows().rows(range(20)))
    first = run.model.run(rows).detach()
    run.update()
    for name in ("moved_thresholds.0", "rule_thresholds.1"):
        assert torch.allclose(run.model.vectors[name], before[name], atol=0.01)  # they are not set anew
    while run.step < run.n_steps:
        run.update()
    assert not torch.equal(run.model.run(rows), first)
    assert sum(run.losses[-10:]) < sum(run.losses[:10])


def test_other_programs_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"over 12 tokens is not what decompile --level readable writes for this model"
    ):
        rewired(induction(), SPEC, STREAM)
    program, _ = write_readable(wired_model("gpt2"))
    with pytest.raises(ConfigError, match=r"is not what decompile --level readable writes for this model"):
        rewired(program, replace(SPEC, n_ctx=SPEC.n_ctx + 1), STREAM)
