"""A readable program says what its wired model says, whatever runs it, and nothing that matters is left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from englishroom.interp.reference import log_probs
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Fire, Looks
from englishroom.lower.wired import features_alive, run_as, write_readable
from englishroom.readable.wiring import WiredModel
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


def silence(model: WiredModel, layer: int, features: slice) -> None:
    """Make moved features of a layer such that they can never be on."""
    with torch.no_grad():
        model.vectors[f"moved_biases.{layer}"][features] = -1.0
        for edges in (model.edges[f"moved.{layer}"], model.edges[f"words.moved.{layer}"]):
            gone = torch.zeros(edges.n_columns, dtype=torch.bool)
            gone[features] = True
            edges.weights[gone[edges.columns.long()]] = 0.0


@pytest.mark.parametrize("looks", [1, 2])
def test_looks_without_features_and_layers_without_looks_are_left_out(looks: int) -> None:
    model = wired_model("gpt2")
    silence(model, 0, slice(0, looks * model.shape.n_moved))
    alive = features_alive(model)
    assert alive["moved.0"].view(2, -1).any(1).tolist() == ([False, True] if looks == 1 else [False, False])
    program, _ = write_readable(model)
    found = [len(block.moved) for block in program.blocks if isinstance(block, Looks)]
    assert found == ([1, 2] if looks == 1 else [2])
    assert np.abs(log_probs(program, TOKENS) - run_as(model, TOKENS[None])[0]).max() < 1e-9


def test_matches_that_tell_no_position_from_another_are_left_out() -> None:
    model = wired_model("gpt2")
    n_matches = model.shape.n_matches
    with torch.no_grad():
        for name, columns in (("keys.1", [0]), ("queries.1", [n_matches])):
            for edges in (model.edges[name], model.edges[f"words.{name}"]):
                edges.weights[torch.isin(edges.columns, torch.tensor(columns))] = 0.0
        model.vectors["key_biases.1"][0] = 0.7  # the same key everywhere
        model.vectors["query_biases.1"][n_matches] = -0.1  # never asked for
    program, _ = write_readable(model)
    looks = {block.name: block.matches for block in program.blocks if isinstance(block, Looks)}
    assert looks["moved.1"] == (n_matches - 1, n_matches - 1)
    assert np.abs(log_probs(program, TOKENS) - run_as(model, TOKENS[None])[0]).max() < 1e-9


def test_one_feature_is_kept_where_nothing_reads_anything() -> None:
    model = wired_model("one layer")
    with torch.no_grad():
        for name, edges in model.edges.items():
            edges.weights.mul_(name == "follows")
    alive = features_alive(model)
    assert sum(int(kept.sum()) for kept in alive.values()) == 1
    program, _ = write_readable(model)
    assert np.abs(log_probs(program, TOKENS) - run_as(model, TOKENS[None])[0]).max() < 1e-9
