"""Rounded weights: few numbers, gradients as if nothing had been rounded."""

from __future__ import annotations

import pytest
import torch

from englishroom.sparse.fit import trainable
from englishroom.sparse.model import SparseModel
from englishroom.sparse.rounding import in_half, palettes, rounded
from tiny_sparse import started, text, transcoded


@pytest.fixture(scope="module")
def model() -> SparseModel:
    return started(transcoded(), text())


@pytest.mark.parametrize("bits", [1, 3, 5])
def test_a_stage_has_few_numbers(model: SparseModel, bits: int) -> None:
    fewer = rounded(model, palettes(model, bits))
    for stage, tables in enumerate(fewer.tables):
        kept = [edges.weights[edges.columns < edges.n_columns - 1] for edges in tables.values()]
        assert 1 < len(torch.cat(kept).unique()) <= 2**bits
        for source, edges in tables.items():  # edges to the loudness stay as they are
            loud = edges.columns == edges.n_columns - 1
            assert torch.equal(edges.weights[loud], model.tables[stage][source].weights[loud])
    assert len(fewer.kinds.weights.unique()) <= 2**bits


def test_more_bits_are_nearer(model: SparseModel) -> None:
    tokens = torch.from_numpy(text(seed=4).rows(range(4)))
    with torch.no_grad():
        exact = model.run(tokens)
        errors = [float((rounded(model, palettes(model, bits)).run(tokens) - exact).abs().mean()) for bits in (2, 4, 8)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_rounding_twice_changes_nothing(model: SparseModel) -> None:
    numbers = palettes(model, 3)
    once = rounded(model, numbers)
    assert torch.equal(once.said.weights, rounded(once, numbers).said.weights)


def test_gradients_pass_through(model: SparseModel) -> None:
    learning = trainable(model)
    fewer = rounded(learning, palettes(model, 2))
    fewer.said.weights.sum().backward()
    assert torch.equal(learning.said.weights.grad, torch.ones_like(learning.said.weights))


def test_no_palettes_leave_the_model_as_it_is(model: SparseModel) -> None:
    assert rounded(model, {}).said is model.said


def test_what_no_palette_holds_is_rounded_to_16_bits(model: SparseModel) -> None:
    fewer = in_half(model)
    for old, new in zip((*model.biases, *model.constants), (*fewer.biases, *fewer.constants), strict=True):
        assert torch.equal(new, new.half().float())
        assert torch.allclose(new, old, rtol=1e-3, atol=1e-4)
    old, new = (m.tables[6]["rules.1"] for m in (model, fewer))
    loud = old.columns == old.n_columns - 1
    assert torch.equal(new.weights[~loud], old.weights[~loud])
    assert not torch.equal(new.weights[loud], old.weights[loud])
