"""Composition scores against the matrices multiplied out, and on a target in which one head feeds another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from circuits.featured import PICKED, featured
from circuits.handset import INDUCTION, PREVIOUS, SPEC
from circuits.handset import target as make_target
from englishroom.circuits.composition import score_composition
from englishroom.circuits.folded_norm import reading
from englishroom.errors import ConfigError


@pytest.mark.parametrize("case", PICKED)
def test_scores_are_those_of_the_whole_matrices(case: str, tmp_path: Path):
    model = featured(case, tmp_path)
    spec, w = model.spec, model.weights
    rows = score_composition(spec, w, torch.Generator().manual_seed(0))
    pairs = spec.n_heads**2 * spec.n_layers * (spec.n_layers - 1) // 2
    assert len(rows) == 3 * pairs
    assert all(0 <= row.score <= 1 for row in rows)

    def matrix(letter: str, layer: int, head: int) -> torch.Tensor:
        at = head if letter in "QO" else head * spec.n_kv_heads // spec.n_heads
        part, columns = w[f"blocks.{layer}.attn.W_{letter}"], slice(at * spec.d_head, (at + 1) * spec.d_head)
        return part[columns] if letter == "O" else reading(spec, w, f"blocks.{layer}.ln1").fold(part[:, columns])[0]

    for row in rows[-3:]:
        first = matrix("V", row.earlier_layer, row.earlier_head) @ matrix("O", row.earlier_layer, row.earlier_head)
        later = row.later_layer, row.later_head
        q, k = matrix("Q", *later), matrix("K", *later)
        second = {"Q": q @ k.T, "K": k @ q.T, "V": matrix("V", *later) @ matrix("O", *later)}[row.reads]
        expected = (first @ second).norm() / (first.norm() * second.norm())
        assert row.score == pytest.approx(float(expected), rel=1e-4)


def test_random_weights_score_as_the_baseline(tmp_path: Path):
    model = featured("gpt2", tmp_path)
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(t.shape, generator=generator) if ".attn.W_" in name else t
        for name, t in model.weights.items()
    } | {"blocks.1.ln1.w": torch.ones(model.spec.d_model), "blocks.0.ln1.w": torch.ones(model.spec.d_model)}
    rows = score_composition(model.spec, weights, generator)
    mean = sum(row.score for row in rows) / len(rows)
    assert mean == pytest.approx(rows[0].random_score, abs=2 * rows[0].random_deviation)
    assert 0 < rows[0].random_deviation < rows[0].random_score


def test_only_the_previous_and_the_induction_head_compose():
    rows = score_composition(SPEC, make_target().weights, torch.Generator().manual_seed(0))
    for row in rows:
        if (row.earlier_head, row.later_head, row.reads) == (PREVIOUS, INDUCTION, "K"):
            assert row.score > row.random_score + 3 * row.random_deviation
        else:
            assert row.score < row.random_score / 10


def test_too_few_draws_are_refused():
    with pytest.raises(ConfigError, match="give more draws"):
        score_composition(SPEC, make_target().weights, torch.Generator(), draws=1)
