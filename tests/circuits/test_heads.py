"""Detectors of heads: against places marked by hand, and on models of every family."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from circuits.featured import PICKED, featured
from englishroom.circuits.folded_norm import reading, votes
from englishroom.circuits.heads import (
    DETECTORS,
    positions_of_detectors,
    repeated_tokens,
    replaced_runner,
    score_copying,
    score_heads,
    sum_attention,
    tabulate_heads,
    target_runner,
)
from englishroom.dictionaries.replacement import Replacement
from englishroom.errors import ConfigError


@pytest.fixture(scope="module", params=PICKED)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Replacement:
    return featured(request.param, tmp_path_factory.mktemp("featured"))


def test_places_are_those_marked_by_hand():
    found = positions_of_detectors(torch.tensor([[5, 6, 5, 5]]))

    def marked(detector: str) -> set[tuple[int, int]]:
        return {(int(q), int(k)) for _, q, k in found[detector].nonzero()}  # pyright: ignore[reportArgumentType]

    assert marked("previous") == {(1, 0), (2, 1), (3, 2)}
    assert marked("duplicate") == {(2, 0), (3, 0), (3, 2)}
    assert marked("induction") == {(2, 1), (3, 1), (3, 3)}


def test_repeated_tokens_say_everything_twice():
    rows = repeated_tokens(50, 3, 8, torch.Generator().manual_seed(0), first=1)
    assert rows.shape == (3, 17)
    assert (rows[:, 0] == 1).all()
    assert torch.equal(rows[:, 1:9], rows[:, 9:])
    assert torch.equal(rows, repeated_tokens(50, 3, 8, torch.Generator().manual_seed(0), first=1))
    assert repeated_tokens(50, 3, 8, torch.Generator()).shape == (3, 16)


def test_even_attention_is_even(model: Replacement):
    """With queries of zero, every head scores what is said of even attention."""
    weights = {name: torch.zeros_like(t) if name.endswith(("W_Q", "b_Q")) else t for name, t in model.weights.items()}
    rows = repeated_tokens(model.spec.d_vocab, 3, 6, torch.Generator().manual_seed(1))
    for row in score_heads(model.spec, target_runner(model.spec, weights), rows, rows_at_once=2):
        assert row.attention == pytest.approx(row.even_attention, abs=1e-5, nan_ok=True)


def test_both_runners_see_patterns_and_shards_add_up(model: Replacement):
    rows = repeated_tokens(model.spec.d_vocab, 4, 6, torch.Generator().manual_seed(1))
    itself = replace(model, dictionaries=(), tables={})
    seen: list[tuple[str, int, int]] = []
    target = score_heads(model.spec, target_runner(model.spec, model.weights), rows, 3, lambda *at: seen.append(at))
    assert seen == [("patterns", 3, 4), ("patterns", 4, 4)]
    same = score_heads(model.spec, replaced_runner(itself), rows)
    other = score_heads(model.spec, replaced_runner(model), rows)
    assert len(target) == model.spec.n_layers * model.spec.n_heads * len(DETECTORS)

    def attention(found: list) -> Tensor:
        return torch.tensor([row.attention for row in found]).nan_to_num()

    assert torch.allclose(attention(target), attention(same), atol=1e-5)
    if model.spec.windows[-1] != 1:
        assert not torch.allclose(attention(target), attention(other), atol=1e-3)
    run = target_runner(model.spec, model.weights)
    parts = [sum_attention(model.spec, run, part) for part in rows.split(1)]
    added = tabulate_heads(parts[0] + parts[1] + parts[2] + parts[3])
    assert torch.allclose(attention(added), attention(target), atol=1e-6)


def test_eigenvalues_are_those_of_the_whole_circuit(model: Replacement):
    spec, w = model.spec, model.weights
    row = score_copying(spec, w)[-1]
    own, d, layer = spec.n_kv_heads - 1, spec.d_head, spec.n_layers - 1
    part = f"blocks.{layer}.attn"
    value = reading(spec, w, f"blocks.{layer}.ln1").fold(w[f"{part}.W_V"][:, own * d : (own + 1) * d])[0]
    circuit = votes(spec, w, w["embed.W_E"] @ value @ w[f"{part}.W_O"][-d:]).double()  # [d_vocab, d_vocab]
    values = torch.linalg.eigvals(circuit)
    assert row.eigenvalue_magnitude == pytest.approx(float(values.abs().sum()), rel=1e-2)
    assert row.eigenvalue_share == pytest.approx(float(values.real.sum() / values.abs().sum()), abs=1e-2)
    assert row.copied_share == pytest.approx(float((circuit.argmax(1) == torch.arange(spec.d_vocab)).float().mean()))


def test_nothing_to_read_is_refused(model: Replacement):
    with pytest.raises(ConfigError, match="found no tokens"):
        score_heads(model.spec, replaced_runner(model), torch.zeros(0, 4, dtype=torch.long))
