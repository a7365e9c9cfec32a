"""Interventions on target and program, against the same done by hand; and a program that is the target."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from circuits.featured import PICKED, featured
from circuits.handset import INDUCTION, SPEC
from circuits.handset import replacement as make_replacement
from circuits.handset import rows as make_rows
from circuits.handset import target as make_target
from englishroom.circuits.basis import feature_basis
from englishroom.circuits.intervene import InterventionRow, sum_effects, tabulate_effects
from englishroom.circuits.pair_sums import PairSums
from englishroom.circuits.parts import (
    Direction,
    Head,
    Intervention,
    Mlp,
    block_interventions,
    feature_interventions,
)
from englishroom.dictionaries.replacement import Replacement
from englishroom.errors import ConfigError
from englishroom.models.forward import forward

HOWS = ("zero", "mean", "other_text", "other_position")


def measure_interventions(*asked: Any) -> list[InterventionRow]:
    return tabulate_effects(sum_effects(*asked))


@pytest.fixture(scope="module", params=PICKED[::2])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Replacement:
    return featured(request.param, tmp_path_factory.mktemp("featured"))


def tokens_for(model: Replacement, n_rows: int, seed: int = 0) -> Tensor:
    return torch.randint(model.spec.d_vocab, (n_rows, 7), generator=torch.Generator().manual_seed(seed))


def test_moments_are_those_of_numpy():
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, 500)
    y = 0.7 * x + rng.normal(1, 1, 500)
    a, b = (PairSums.of(torch.tensor(x[part]), torch.tensor(y[part])) for part in (slice(200), slice(200, None)))
    found = a + b
    assert found.n == 500
    assert found.pearson == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found.slope == pytest.approx(np.polyfit(x, y, 1)[0])
    assert found.rms_y == pytest.approx(np.sqrt((y**2).mean()))


def test_what_does_not_vary_has_no_correlation():
    constant = PairSums.of(torch.full((9,), 0.1), torch.arange(9.0))
    assert math.isnan(constant.pearson)
    assert math.isnan(constant.slope)


def test_a_program_that_is_the_target_predicts_it_exactly(model: Replacement):
    itself = replace(model, dictionaries=(), tables={})
    rows, spec = tokens_for(model, 3), model.spec
    vector = torch.randn(spec.d_model, generator=torch.Generator().manual_seed(2))
    direction = Direction("some", "blocks.0.hook_resid_mid", vector)
    asked = [*block_interventions(spec, HOWS), Intervention(direction, "add"), Intervention(direction, "zero")]
    found = measure_interventions(spec, model.weights, itself, rows, tokens_for(model, 2, 9), asked)
    for row in found:
        if row.rms_target_nats > 1e-4:  # a window of 1 leaves some heads nothing to change
            assert row.pearson == pytest.approx(1, abs=1e-4)
            assert row.slope == pytest.approx(1, abs=1e-3)
    heads = [row for row in found if row.part == "all" and row.kind == "head"]
    assert all(row.other_part_pearson < 0.9 for row in heads if row.measure == "centred")
    assert {row.n for row in heads if row.measure == "next_token"} == {3 * 6 * spec.n_layers * spec.n_heads}


def test_effects_are_those_done_by_hand(model: Replacement):
    """The rms of a target's effect, for each way of changing a part."""
    spec, weights, rows, texts = model.spec, model.weights, tokens_for(model, 2), tokens_for(model, 3, 9)
    z, mlp, mid = "blocks.0.attn.hook_z", "blocks.0.hook_mlp_out", "blocks.0.hook_resid_mid"
    vector = torch.randn(spec.d_model, generator=torch.Generator().manual_seed(2))

    def values(site: str, tokens: Tensor) -> Tensor:
        kept = []
        forward(spec, weights, tokens, lambda at, value: kept.append(value) or value if at == site else value)
        return kept[0]

    def effect(site: str, value: Tensor) -> Tensor:
        moved = forward(spec, weights, rows, lambda at, old: value if at == site else old).log_softmax(-1)
        return (moved - forward(spec, weights, rows).log_softmax(-1))[:, :-1]

    def head_as(part: Tensor) -> Tensor:
        value = values(z, rows).clone()
        value[:, :, 1] = part
        return value

    out, resid = values(mlp, rows), values(mid, rows)
    unit = vector / vector.norm()
    expected = {
        (Head(0, 1), "zero"): (z, head_as(torch.zeros(1))),
        (Head(0, 1), "mean"): (z, head_as(values(z, texts)[:, :, 1].mean((0, 1)))),
        (Head(0, 1), "other_text"): (z, head_as(values(z, rows).roll(1, 0)[:, :, 1])),
        (Mlp(0), "mean"): (mlp, values(mlp, texts).mean((0, 1)).expand_as(out)),
        (Mlp(0), "other_position"): (mlp, torch.cat([out[:, :1], out[:, :-1]], 1)),
        (Direction("d", mid, vector), "zero"): (mid, resid - (resid @ unit)[..., None] * unit),
        (Direction("d", mid, vector), "add"): (mid, resid + vector),
    }
    if spec.n_heads == 1:
        pytest.skip("needs a second head")
    for (part, how), (site, value) in expected.items():
        asked = [Intervention(part, how)]  # pyright: ignore[reportArgumentType]
        found = measure_interventions(spec, weights, model, rows, texts, asked)
        by_measure = {row.measure: row.rms_target_nats for row in found if row.part == part.name}
        moved = effect(site, value)
        following = moved.gather(-1, rows[:, 1:, None])
        assert by_measure["next_token"] == pytest.approx(float(following.square().mean().sqrt()), rel=1e-3, abs=1e-5)
        centred = moved - moved.mean(-1, keepdim=True)
        assert by_measure["centred"] == pytest.approx(float(centred.square().mean().sqrt()), rel=1e-3, abs=1e-5)


def test_shards_add_up(model: Replacement):
    rows, means = tokens_for(model, 4), tokens_for(model, 2, 9)
    asked = block_interventions(model.spec, ("zero", "mean"))
    seen: list[tuple[str, int, int]] = []
    whole = sum_effects(model.spec, model.weights, model, rows, means, asked, 3, lambda *at: seen.append(at))
    parts = [sum_effects(model.spec, model.weights, model, half, means, asked) for half in rows.split(2)]
    for a, b in zip(tabulate_effects(whole), tabulate_effects(parts[0] + parts[1]), strict=True):
        assert (a.kind, a.part, a.how, a.measure, a.n) == (b.kind, b.part, b.how, b.measure, b.n)
        for name in ("pearson", "other_part_pearson", "slope", "rms_target_nats", "rms_program_nats"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-3, abs=1e-3, nan_ok=True)
    assert seen == [("interventions", 3, 4), ("interventions", 4, 4)]


def test_random_dictionaries_predict_little(model: Replacement):
    rows = tokens_for(model, 4)
    found = measure_interventions(model.spec, model.weights, model, rows, rows, block_interventions(model.spec))
    (row,) = (r for r in found if (r.part, r.kind, r.how, r.measure) == ("all", "head", "zero", "next_token"))
    assert abs(row.pearson) < 0.5


def test_the_program_of_the_handset_predicts_its_target():
    target, program, rows = make_target(), make_replacement(), make_rows(4)
    latents = [feature_basis(program).find(f"{name}.5") for name in ("moved.0", "moved.1", "token")]
    asked = [*block_interventions(SPEC), *feature_interventions(feature_basis(program), latents)]
    found = measure_interventions(SPEC, target.weights, program, rows, make_rows(3, seed=5), asked)
    for row in found:
        if row.part == "all" and row.measure == "centred":
            assert row.pearson > 0.95, row
            assert not row.other_part_pearson > 0.6, row
            assert row.slope == pytest.approx(1, abs=0.1), row
    by_part = {row.part: row for row in found if (row.how, row.measure) == ("zero", "centred")}
    assert by_part[Head(1, INDUCTION).name].rms_target_nats > 1
    assert by_part[Head(1, 1 - INDUCTION).name].rms_target_nats < 1e-4
    sites = {i.part.name: i.part.site for i in asked if isinstance(i.part, Direction)}
    assert sites == {
        "moved.0.5": "blocks.0.hook_resid_mid",
        "moved.1.5": "blocks.1.hook_resid_mid",
        "token.5": "blocks.0.hook_resid_pre",
    }


def test_what_makes_no_sense_is_refused():
    program, rows = make_replacement(), make_rows(2)
    weights = make_target().weights
    none = rows[:0]
    flat = Direction("flat", "blocks.0.hook_resid_mid", torch.zeros(SPEC.d_model))
    short = Direction("short", "blocks.0.hook_resid_mid", torch.ones(3))
    for asked, read, means, said in (
        ([], rows, rows, "0 on (2, 20) tokens"),
        ([Intervention(Mlp(0), "zero")], rows[:, :1], rows, "rows of two tokens"),
        ([Intervention(Mlp(0), "mean")], rows, none, "give mean_rows"),
        ([Intervention(Mlp(0), "other_text")], rows[:1], rows, "give two rows"),
        ([Intervention(Mlp(2), "zero")], rows, rows, "blocks.2.mlp: the model has no such part"),
        ([Intervention(Head(0, 2), "zero")], rows, rows, "2 layers of 2 heads"),
        ([Intervention(flat, "zero")], rows, rows, "not all zero"),
        ([Intervention(short, "zero")], rows, rows, "directions of 64 numbers"),
        ([Intervention(Mlp(0), "add")], rows, rows, "add is for directions"),
    ):
        with pytest.raises(ConfigError) as error:
            measure_interventions(SPEC, weights, program, read, means, asked)
        assert said in str(error.value)
    with pytest.raises(ConfigError, match="another shape"):
        measure_interventions(replace(SPEC, n_ctx=8), weights, program, rows, rows, block_interventions(SPEC))
