"""Quantising: few numbers a table, errors weighed by what entries are multiplied with, and the laws of passes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from englishroom.errors import ConfigError
from englishroom.evaluate.description import describe
from englishroom.inside.measure_moments import measure_moments
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Linear, Program, SparseTable, Table
from englishroom.passes.base import run_passes
from englishroom.passes.moments import InputMoments, TableMoments
from englishroom.passes.palette import on_palette, on_signs, stored
from englishroom.passes.quantise import FULL, Bits, Quantise, without_zeros
from programs import full_program, programs, tokens_for
from summing import summing

BITS = st.sampled_from([1, 2, 3, 5, 8, 16, "ternary"])


def moments_of(program: Program) -> TableMoments:
    """Measure a program on random tokens."""
    return measure_moments(program, "drawn", list(tokens_for(program, 5, 4)))


@given(programs(level="sparse"), BITS)
@settings(deadline=None, max_examples=40)
def test_no_table_has_more_numbers_than_its_bits_allow(program: Program, bits: Bits) -> None:
    step = Quantise(bits=bits, vector_bits=4, finer=(), moments=moments_of(program))
    found, _ = run_passes(program, [step])
    for name, table in found.tables().items():
        limit = 2 ** (4 if isinstance(table, Table) else 1 if bits == "ternary" else bits)
        assert len(np.unique(table.values)) <= limit, name
        np.testing.assert_array_equal(stored(table.values.astype(np.float64)), table.values)
        assert table.values.dtype == program.tables()[name].values.dtype
    assert [block.name for block in found.blocks] == [block.name for block in program.blocks]


@given(programs(level="sparse"), BITS, st.booleans())
@settings(deadline=None, max_examples=40)
def test_quantising_again_changes_nothing(program: Program, bits: Bits, weighed: bool) -> None:
    step = Quantise(bits=bits, vector_bits=6, moments=moments_of(program) if weighed else None)
    once, _ = run_passes(program, [step])
    twice, (record,) = run_passes(once, [step])
    assert twice == once
    assert record.rewrites == ()


@given(programs(level="sparse"))
@settings(deadline=None, max_examples=20)
def test_full_precision_is_the_identity(program: Program) -> None:
    step = Quantise(bits=FULL, vector_bits=FULL, moments=moments_of(program))
    assert step(program) == (program, ())


def test_what_moments_came_from_is_no_option() -> None:
    program = full_program("sparse")
    _, (record,) = run_passes(program, [Quantise(bits=3, moments=moments_of(program))])
    assert record.options == {"bits": 3, "vector_bits": 16, "finer": ("loudness.weight",)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 0}, r"bits is 0; choose 1 to 16, 32 \(no change\), or ternary"),
        ({"bits": 17}, r"bits is 17; choose"),
        ({"vector_bits": 20}, r"vector_bits is 20; choose 1 to 16, or 32 \(no change\)"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Quantise(**options)


def test_more_bits_are_nearer_and_longer() -> None:
    rng = np.random.default_rng(0)
    program = summing(rng.standard_normal(1200).astype(np.float32))
    tokens = tokens_for(program, n_texts=3)
    exact = Interpreter(program, np.float64).log_probs(tokens)
    errors, lengths = [], []
    for bits in (1, 2, 3, 4, 6, 8):
        found, _ = run_passes(program, [Quantise(bits=bits)])
        errors.append(float(np.abs(Interpreter(found, np.float64).log_probs(tokens) - exact).mean()))
        lengths.append(describe(found).table_bits)
    assert errors == sorted(errors, reverse=True)
    assert lengths == sorted(lengths)
    assert lengths[-1] < describe(program).table_bits / 2


def test_biases_take_over_the_mean_of_what_rounding_changes() -> None:
    rng = np.random.default_rng(0)
    program = summing(rng.standard_normal(1200).astype(np.float32))
    moments = moments_of(program)
    found, _ = run_passes(program, [Quantise(bits=1, vector_bits=FULL, moments=moments)])
    sums = {
        p: np.mean([Interpreter(p, np.float64).variables(row)["y"] for row in tokens_for(program, 5, 4)], axis=(0, 1))
        for p in (program, found)
    }
    np.testing.assert_allclose(sums[found], sums[program], atol=1e-5)
    assert not np.array_equal(found.tables()["b"].values, program.tables()["b"].values)


def test_entries_that_ternary_rounds_to_nothing_are_gone() -> None:
    values = np.tile(np.array([3.0, -3.0, 2.8, -0.1, 0.2], np.float32), 240)
    found, (record,) = run_passes(summing(values), [Quantise(bits="ternary")])
    table = found.tables()["W"]
    assert table.n_entries == 720
    assert set(np.abs(table.values).tolist()) == {float(np.float16(8.8 / 3))}
    assert "W: 5 numbers became 2, 480 entries left out" in record.rewrites


def test_two_levels_are_the_means_of_the_halves() -> None:
    values = np.concatenate([np.full(50, -1.0), np.linspace(0.9, 1.1, 51)])
    found = on_palette(values, 2)
    np.testing.assert_array_equal(found, np.where(values < 0, -1, 1))


@given(st.integers(0, 2**32 - 1), st.integers(2, 20))
@settings(deadline=None, max_examples=30)
def test_a_palette_is_nearer_than_equal_steps(seed: int, n_levels: int) -> None:
    values = np.random.default_rng(seed).standard_t(3, 2000)
    found = on_palette(values, n_levels)
    steps = np.linspace(values.min(), values.max(), n_levels)
    even = steps[np.abs(values[:, None] - steps).argmin(axis=1)]
    assert ((found - values) ** 2).sum() < ((even - values) ** 2).sum()


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_signs_have_the_least_error_of_all_thresholds(seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal(40)
    error = ((on_signs(values) - values) ** 2).sum()
    for threshold in np.abs(values):
        kept = np.abs(values) >= threshold
        size = np.abs(values)[kept].mean()
        assert error <= ((np.where(kept, np.copysign(size, values), 0) - values) ** 2).sum() + 1e-3


def test_what_float16_cannot_hold_is_bfloat16() -> None:
    assert stored(np.array([1e6, 2e-9]))[0] == pytest.approx(1e6, rel=2**-8)
    assert stored(np.array([0.1]))[0] == float(np.float16(0.1))


def test_entries_of_zero_go_and_rows_stay() -> None:
    table = SparseTable("t", np.array([0, 2, 2, 3]), np.array([0, 3, 1]), np.array([0.0, 2.0, 0.0]), 4)
    found = without_zeros(table)
    np.testing.assert_array_equal(found.dense(), table.dense())
    assert found.n_entries == 1
    assert found.shape == table.shape


def test_moments_are_those_of_what_runs() -> None:
    program = full_program("sparse")
    texts = tokens_for(program, 7, 3)
    moments = measure_moments(program, "drawn", list(texts))
    interpreter = Interpreter(program, np.float64)
    checked = 0
    for block in program.blocks:
        if isinstance(block, Linear) and block.weight.name in moments.sources:
            x = np.concatenate([interpreter.variables(row)[block.reads] for row in texts])
            source = moments.sources[block.weight.name]
            assert isinstance(source, InputMoments)
            np.testing.assert_allclose(source.mean, x.mean(0), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(source.square, (x**2).mean(0), rtol=1e-4, atol=1e-5)
            assert source.axis == ("column" if block.transposed else "row")
            checked += 1
    assert checked
