"""A readable program says what its wired model says, whatever runs it, and nothing that matters is left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from englishroom.interp.reference import log_probs
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Fire, Looks
from englishroom.lower.wired import features_alive, run_as, write_readable
from tiny_readable import SPECS, wired_model

TOKENS = np.array([0, 5, 9, 3, 3, 17, 29, 1, 4, 6, 8, 2])


@pytest.mark.parametrize("name", SPECS)
def test_the_program_says_what_the_wired_model_says(name: str) -> None:
    model = wired_model(name)
    program, record = write_readable(model)
    assert program.is_readable
    assert record.made_by == "readable"
    expected = run_as(model, TOKENS[None])[0]
    assert np.abs(log_probs(program, TOKENS) - expected).max() < 1e-9
    fast = Interpreter(program, np.float64).log_probs(TOKENS[None])[0]
    assert np.abs(fast - expected).max() < 1e-9
    with torch.no_grad():
        single = model.run(torch.from_numpy(TOKENS[None])).log_softmax(-1).numpy()
    assert np.abs(single - expected).max() < 1e-5


def test_dead_features_are_left_out() -> None:
    model = wired_model("gpt2")
    with torch.no_grad():
        model.vectors["rule_biases.1"][:5] = -1.0
        edges = model.edges["rules.1"]
        edges.weights[edges.columns < 5] = 0.0  # they can never be on
        votes = model.edges["votes"]
        words = model.edges["words.rules.1"]
        words.weights[words.columns < 5] = 0.0
        votes.weights[votes.sources == model.n_before(1) + 3] = 0.0
        edges.weights[edges.sources == model.n_before(1) + 3] = 0.0  # a moved feature that nothing reads
    alive = features_alive(model)
    assert not alive["rules.1"][:5].any()
    assert not alive["moved.1"][3]
    program, _ = write_readable(model)
    blocks = {block.name: block for block in program.blocks if isinstance(block, Looks | Fire)}
    assert len(blocks["rules.1"].biases.values) == int(alive["rules.1"].sum())
    expected = run_as(model, TOKENS[None])[0]
    assert np.abs(log_probs(program, TOKENS) - expected).max() < 1e-9


def test_a_look_without_features_keeps_one() -> None:
    model = wired_model("gpt2")
    with torch.no_grad():
        model.vectors["moved_biases.0"].fill_(-1.0)
        model.edges["moved.0"].weights.zero_()
        model.edges["words.moved.0"].weights.zero_()
    alive = features_alive(model)
    assert alive["moved.0"].view(2, -1).sum(1).tolist() == [1, 1]
    program, _ = write_readable(model)
    assert np.abs(log_probs(program, TOKENS) - run_as(model, TOKENS[None])[0]).max() < 1e-9
