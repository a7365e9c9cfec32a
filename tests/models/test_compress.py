"""Quantised and pruned targets: the grids, the compensation of errors, every family, and what it costs a real model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from englishroom.errors import ConfigError, UnsupportedModelError
from englishroom.models.compress.gptq import compensated
from englishroom.models.compress.grid import CodedMatrix, dequantised, fitted_scales, nearest
from englishroom.models.compress.half import to_half
from englishroom.models.compress.quantise import BITS, fed_by, quantise, quantise_best
from englishroom.models.compress.smallest import prune
from englishroom.models.forward import Cache, final_normalized, forward, log_probs
from englishroom.models.load import Target, in_precision, load_target
from englishroom.models.spec import weight_shapes
from englishroom.talkers.shipped import DEFAULT, shipped_path
from tiny import CASES, random_tokens


@pytest.fixture(scope="module", params=CASES)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return CASES[request.param].write(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(
    scope="module", params=["gpt2-untied-gelu", "gpt_neo-local", "llama-grouped-tied", "llama2c-grouped-untied"]
)
def one_of_a_family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return CASES[request.param].write(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def target(path: Path) -> Target:
    return load_target(str(path))


@pytest.fixture(scope="module")
def rows(path: Path) -> Tensor:
    return random_tokens(path, batch=4, n_pos=24)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Target:
    return load_target(str(CASES["gpt2"].write(tmp_path_factory.mktemp("tiny") / "gpt2")))


@pytest.fixture(scope="module")
def shipped() -> Target:
    return load_target(str(shipped_path(DEFAULT)))


@pytest.fixture(scope="module")
def stories(shipped: Target) -> Tensor:
    """Sample sixty texts of 96 tokens from the shipped target, [row, pos]."""
    generator, cache = torch.Generator().manual_seed(0), Cache()
    read = [torch.full((60, 1), shipped.spec.d_vocab - 1)]
    with torch.inference_mode():
        while len(read) < 96:
            logits = forward(shipped.spec, shipped.weights, read[-1], cache=cache)[:, -1]
            read.append(torch.multinomial(logits.softmax(-1), 1, generator=generator))
    return torch.cat(read, dim=1)


def matrices(target: Target) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in target.weights.items() if tensor.ndim == 2}


def nats(target: Target, rows: Tensor) -> float:
    answers = log_probs(target.spec, target.weights, rows[:, :-1])
    return -float(answers.gather(-1, rows[:, 1:, None]).mean())


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def error(values: Tensor, scales: Tensor, n_levels: int) -> Tensor:
    return (dequantised(nearest(values, scales, n_levels), scales, n_levels) - values).square().sum(dim=0)


# Grids


@pytest.mark.parametrize(
    ("column", "n_levels", "codes", "scale"),
    [
        ([1.0, -1.0, 0.0, 1.0], 3, [2, 0, 1, 2], 1.0),
        ([0.5, 1.5, -0.5, -1.5], 4, [2, 3, 1, 0], 1.0),
        ([2.0, 2.0, -2.0, -2.0], 2, [1, 1, 0, 0], 4.0),
        ([-3.5, 0.5, 2.5, 1.5], 8, [0, 4, 6, 5], 1.0),
        ([0.0, 0.0, 0.0, 0.0], 3, [1, 1, 1, 1], 0.0),
    ],
)
def test_a_column_on_a_grid_is_found_there(column: list[float], n_levels: int, codes: list[int], scale: float):
    values = torch.tensor(column)[:, None]
    scales = fitted_scales(values, n_levels)
    assert scales.tolist() == [scale]
    found = nearest(values, scales, n_levels)
    assert found[:, 0].tolist() == codes
    assert torch.equal(dequantised(found, scales, n_levels), values)


def test_a_wild_number_is_clipped_where_that_costs_less():
    values = torch.cat([numbers(200, 1), torch.tensor([[12.0]])])
    scales = fitted_scales(values, 4)
    unclipped = torch.tensor([8.0], dtype=torch.float16)
    assert 1.5 * float(scales) < 6
    assert error(values, scales, 4) < 0.7 * error(values, unclipped, 4)


@given(st.integers(0, 10**6), st.sampled_from([2, 3, 4, 8, 16]))
@settings(max_examples=25, deadline=None)
def test_no_scale_nearby_does_better(seed: int, n_levels: int):
    values = numbers(200, 3, seed=seed) * torch.tensor([1e-3, 1.0, 100.0])
    scales = fitted_scales(values, n_levels)
    least = error(values, scales, n_levels)
    for factor in (0.7, 0.9, 1.1, 1.4):
        other = (scales.float() * factor).half()
        assert bool((least <= error(values, other, n_levels) * 1.1).all())


# Compensation


@pytest.mark.parametrize("n_levels", [3, 4, 8])
def test_errors_of_correlated_inputs_are_made_up_for(n_levels: int):
    inputs, weight = numbers(300, 24) @ numbers(24, 24, seed=1), numbers(24, 10, seed=2)
    codes, scales = compensated(weight, inputs, n_levels)
    plain = fitted_scales(weight, n_levels)

    def off(codes: Tensor, scales: Tensor) -> float:
        return float((inputs @ (dequantised(codes, scales, n_levels) - weight)).square().sum())

    assert off(codes, scales) < 0.8 * off(nearest(weight, plain, n_levels), plain)


def test_two_equal_inputs_share_what_rounding_leaves():
    """0.3 rounds to 0 and leaves 0.3; the next then wants 0.3 + 0.3 and rounds to 1; the last holds the scale at 1."""
    inputs = torch.tensor([[1.01, 1.0, 0.0], [0.0, 0.0, 9.0]])
    weight = torch.tensor([[0.3], [0.3], [1.0]])
    codes, _ = compensated(weight, inputs, 3)
    assert nearest(weight, torch.ones(1, dtype=torch.float16), 3)[:, 0].tolist() == [1, 1, 2]
    assert sorted(codes[:2, 0].tolist()) == [1, 2]


def test_inputs_that_do_not_correlate_are_rounded_to_nearest():
    weight = numbers(8, 5)
    codes, _ = compensated(weight, torch.eye(8), 256)
    assert torch.equal(codes, nearest(weight, fitted_scales(weight, 256), 256))


@pytest.mark.parametrize("dead", [slice(2, 5), slice(None)], ids=["some", "all"])
def test_inputs_that_are_never_active_do_no_harm(dead: slice):
    inputs, weight = numbers(50, 8), numbers(8, 3, seed=1)
    inputs[:, dead] = 0
    codes, scales = compensated(weight, inputs, 16)
    assert float((dequantised(codes, scales, 16) - weight).abs().max()) < 0.5


# Whole targets


@pytest.mark.parametrize(("bits", "method"), [(8, "rtn"), ("ternary", "gptq")])
def test_every_matrix_is_what_its_codes_say(bits: int | str, method: str, target: Target, rows: Tensor):
    before = {name: tensor.clone() for name, tensor in target.weights.items()}
    made = quantise(target, bits, method, rows)
    n_levels = 3 if bits == "ternary" else 2**bits
    assert list(made.target.weights) == list(target.weights) == list(weight_shapes(target.spec))
    assert list(made.matrices) == list(matrices(target))
    for name, coded in made.matrices.items():
        weight = target.weights[name]
        assert coded.codes.shape == weight.shape
        assert coded.n_levels == n_levels > int(coded.codes.max())
        assert coded.channel == ("row" if name.startswith(("embed", "pos_embed")) else "column")
        assert len(coded.scales) == weight.shape[0 if coded.channel == "row" else 1]
        assert torch.equal(coded.values(), made.target.weights[name])
        if bits == 8:
            assert float((coded.values() - weight).abs().max()) < 0.02
    for name, tensor in made.target.weights.items():
        if tensor.ndim == 1:
            assert torch.equal(tensor, target.weights[name].half().float())
    assert all(torch.equal(tensor, target.weights[name]) for name, tensor in before.items())
    answers = log_probs(made.target.spec, made.target.weights, rows)
    assert bool(answers.isfinite().all())
    assert made.target.name == f"{target.name}, {'ternary' if bits == 'ternary' else f'{bits} bits'} ({method})"


def test_maps_are_calibrated_on_what_is_quantised_before_them(one_of_a_family: Path):
    """One pass that quantises on its way, against a pass of its own for every site."""
    target, rows = load_target(str(one_of_a_family)), random_tokens(one_of_a_family, batch=4, n_pos=24)
    made = quantise(target, 3, "gptq", rows)
    weights = dict(quantise(target, 3, "rtn").target.weights)
    for name in matrices(target):
        if not name.startswith(("embed", "pos_embed")):
            weights[name] = target.weights[name]
    order: list[str] = []
    final_normalized(target.spec, target.weights, rows, lambda site, value: (order.append(site), value)[1])
    coded = 0
    for site in order:
        seen: dict[str, Tensor] = {}
        final_normalized(target.spec, weights, rows, lambda at, value: (seen.setdefault(at, value), value)[1])  # noqa: B023
        for name in (name for name in fed_by(site) if name in weights):
            inputs = seen[site].reshape(-1, len(weights[name]))
            codes, scales = compensated(target.weights[name], inputs, 8)
            coded += 1
            assert torch.equal(codes, made.matrices[name].codes), name
            weights[name] = CodedMatrix(codes, scales, 8, "column").values()
    assert coded == sum(name.startswith(("blocks", "unembed")) for name in made.matrices)


def test_a_target_in_float64_stays_so(gpt2: Target):
    wide = in_precision(gpt2, torch.float64)
    rows = torch.arange(40).reshape(2, 20)
    for made in (quantise(wide, 4).target, quantise(wide, 4, "gptq", rows).target, prune(wide, 0.5), to_half(wide)):
        assert {tensor.dtype for tensor in made.weights.values()} == {torch.float64}
        assert log_probs(made.spec, made.weights, rows).dtype == torch.float64


def test_what_quantising_costs_the_shipped_target(shipped: Target, stories: Tensor):
    calibration, held = stories[:30], stories[30:]
    before = nats(shipped, held)
    plain = {bits: nats(quantise(shipped, bits).target, held) - before for bits in BITS}
    assert abs(plain[8]) < 1e-2
    assert plain[8] < plain[4] < plain[3] < plain[2] < plain["ternary"]
    for bits in (3, 2):
        better = nats(quantise(shipped, bits, "gptq", calibration).target, held) - before
        assert 0 < better < 0.8 * plain[bits]


def test_the_better_method_is_kept(gpt2: Target):
    rows = torch.arange(20).reshape(1, 20)
    seen: list[str] = []

    def objective(candidate: Target) -> float:
        seen.append(candidate.name)
        return liked[candidate.name]

    liked: Mapping[str, float] = {f"{gpt2.name}, 2 bits (rtn)": 3.0, f"{gpt2.name}, 2 bits (gptq)": 2.0}
    assert quantise_best(gpt2, 2, rows, objective).method == "gptq"
    assert sorted(seen) == sorted(liked)
    liked = {name: 5.0 - value for name, value in liked.items()}
    assert quantise_best(gpt2, 2, rows, objective).method == "rtn"


# Pruning


def test_pruning_nothing_changes_nothing_but_the_rounding(target: Target):
    rounded = to_half(target)
    for scope in ("matrix", "model"):
        kept = prune(target, 1.0, scope)
        assert all(torch.equal(tensor, rounded.weights[name]) for name, tensor in kept.weights.items())
        again = prune(rounded, 1.0, scope)
        assert all(torch.equal(tensor, rounded.weights[name]) for name, tensor in again.weights.items())


@pytest.mark.parametrize("keep", [0.5, 0.25, 0.1])
def test_the_largest_of_every_matrix_are_kept(keep: float, target: Target):
    made = prune(target, keep)
    assert made.name == f"{target.name}, {keep} of the weights (by matrix)"
    for name, weight in target.weights.items():
        left, weight = made.weights[name], weight.half().float()
        if weight.ndim == 1:
            assert torch.equal(left, weight)
            continue
        kept = left != 0
        assert int(kept.sum()) == round(keep * weight.numel())
        assert torch.equal(left[kept], weight[kept])
        assert float(weight[kept].abs().min()) >= float(weight[~kept].abs().max())


def test_the_largest_of_the_model_are_kept(target: Target):
    made = prune(target, 0.25, "model")
    before = torch.cat([weight.half().float().flatten() for weight in matrices(target).values()])
    after = torch.cat([weight.flatten() for weight in matrices(made).values()])
    kept = after != 0
    assert int(kept.sum()) == round(0.25 * len(before))
    assert float(before[kept].abs().min()) >= float(before[~kept].abs().max())


def test_of_equal_magnitudes_the_first_is_kept(gpt2: Target):
    name = "blocks.0.attn.W_Q"
    equal = torch.ones_like(gpt2.weights[name])
    equal[:, 1::2] = -1.0
    made = prune(replace(gpt2, weights=dict(gpt2.weights) | {name: equal}), 0.1)
    left = made.weights[name].flatten()
    assert torch.equal(left.nonzero()[:, 0], torch.arange(round(0.1 * len(left))))


# What is refused


@pytest.mark.parametrize("bits", [0, 9])
def test_bits_that_there_are_not(bits: int, gpt2: Target):
    with pytest.raises(ConfigError) as error:
        quantise(gpt2, bits)
    assert str(error.value) == f"bits is {bits}; choose 1 to 8, or ternary"


@pytest.mark.parametrize("keep", [0.0, -1.0, 1.5, float("nan")])
def test_shares_that_there_are_not(keep: float, gpt2: Target):
    with pytest.raises(ConfigError) as error:
        prune(gpt2, keep)
    assert str(error.value) == f"keep is {keep:g}; choose a share above 0 and at most 1"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "calibration: found no tokens for gpt2, expected rows of text; give some text"),
        (
            torch.zeros(0, 8, dtype=torch.int64),
            "calibration: found no tokens for gpt2, expected rows of text; give some text",
        ),
        (
            torch.zeros(1, 41, dtype=torch.int64),
            "calibration: rows of 41 tokens, gpt2 reads 40; cut them",
        ),
        (
            torch.tensor([[3, 300]]),
            "calibration: tokens from 3 to 300, gpt2 knows 0 to 299; encode the text with the model's own tokenizer",
        ),
        (
            torch.tensor([[-1, 5]]),
            "calibration: tokens from -1 to 5, gpt2 knows 0 to 299; encode the text with the model's own tokenizer",
        ),
    ],
)
def test_calibration_that_will_not_do(rows: Tensor | None, message: str, gpt2: Target):
    with pytest.raises(ConfigError) as error:
        quantise(gpt2, 4, "gptq", rows)
    assert str(error.value) == message


@pytest.mark.parametrize("value", [1e5, float("inf")])
@pytest.mark.parametrize("compress", [lambda t: quantise(t, 4), lambda t: prune(t, 0.5), to_half])
def test_weights_beyond_float16(value: float, compress, gpt2: Target):
    wild = gpt2.weights["blocks.1.mlp.b_in"].clone()
    wild[3] = value
    broken = replace(gpt2, weights=dict(gpt2.weights) | {"blocks.1.mlp.b_in": wild})
    with pytest.raises(UnsupportedModelError) as error:
        compress(broken)
    assert str(error.value) == (
        f"gpt2: blocks.1.mlp.b_in holds {value:.3g}, expected at most 65504, the largest float16; "
        "this model cannot be compressed"
    )
