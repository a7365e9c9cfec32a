"""The code of arrays: cases by hand, bounds it must keep, and a real coder that reads back what it wrote."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from englishroom.evaluate.code_lengths import (
    PRIORS,
    TAG_BITS,
    adaptive_bits,
    bytes_bits,
    exact_patterns,
    floats,
    integers,
    natural_bits,
    positions_bits,
    stream_bits,
)

CHANCE = np.random.default_rng(0)


def kraft(lengths: Sequence[int]) -> float:
    """Sum up what share of all bit strings a code takes; a decodable one takes at most all of them."""
    return sum(2.0**-bits for bits in lengths)


# Natural numbers


@pytest.mark.parametrize(("number", "bits"), [(0, 1), (1, 3), (2, 3), (3, 5), (6, 5), (7, 7), (2**40, 81)])
def test_natural_numbers(number: int, bits: int):
    assert natural_bits(number) == bits


# Streams


def test_two_different_symbols_by_hand():
    """With a count of 1 before: 1/2 * 1/3, which is 2.6 bits; every other prior needs more."""
    assert adaptive_bits(np.array([1, 1])) == TAG_BITS + 3 + 1


def test_a_stream_of_one_symbol_by_hand():
    """With a count of 1/256 before: (a / 2a) * (1 + a) / (1 + 2a) * (2 + a) / (2 + 2a), just above 1 bit."""
    assert adaptive_bits(np.array([3, 0])) == TAG_BITS + 2 + 1


class Coder:
    """The order-0 adaptive arithmetic coder that ``adaptive_bits`` speaks of, in exact fractions."""

    def __init__(self, size: int) -> None:
        self.size = size

    def parts(self, counts: Counter[int], prior: Fraction) -> list[Fraction]:
        total = sum(counts.values()) + prior * self.size
        return [(counts[symbol] + prior) / total for symbol in range(self.size)]

    def encode(self, symbols: Sequence[int]) -> str:
        return min((self._encode(symbols, index) for index in range(len(PRIORS))), key=len)

    def _encode(self, symbols: Sequence[int], index: int) -> str:
        low, width, counts = Fraction(0), Fraction(1), Counter[int]()
        for symbol in symbols:
            parts = self.parts(counts, Fraction(PRIORS[index]))
            low, width = low + width * sum(parts[:symbol]), width * parts[symbol]
            counts[symbol] += 1
        n_bits = 1
        while Fraction(math.ceil(low * 2**n_bits) + 1, 2**n_bits) > low + width:
            n_bits += 1
        return f"{index:0{TAG_BITS}b}" + f"{math.ceil(low * 2**n_bits):0{n_bits}b}"

    def decode(self, bits: str, n_symbols: int) -> list[int]:
        """Read symbols back from the beginning of ``bits``, whatever stands behind them."""
        prior, bits = Fraction(PRIORS[int(bits[:TAG_BITS], 2)]), bits[TAG_BITS:]
        at, counts, found = Fraction(int(bits, 2), 2 ** len(bits)), Counter[int](), []
        for _ in range(n_symbols):
            parts = self.parts(counts, prior)
            edges = [sum(parts[:symbol], Fraction(0)) for symbol in range(self.size + 1)]
            symbol = next(s for s in range(self.size) if edges[s] <= at < edges[s + 1])
            at = (at - edges[symbol]) / parts[symbol]
            counts[symbol] += 1
            found.append(symbol)
        return found


@given(
    st.integers(1, 6).flatmap(lambda size: st.tuples(st.just(size), st.lists(st.integers(0, size - 1), max_size=40)))
)
@settings(max_examples=60, deadline=None)
def test_a_coder_of_that_length_is_read_back(drawn: tuple[int, list[int]]):
    size, symbols = drawn
    coder = Coder(size)
    written = coder.encode(symbols)
    assert coder.decode(written + "1011", len(symbols)) == symbols
    counted = adaptive_bits(np.bincount(np.array(symbols, dtype=np.int64), minlength=size))
    assert len(written) <= counted <= len(written) + 2


@pytest.mark.parametrize("n_levels", [3, 4, 16, 256])
def test_even_codes_cost_what_they_must(n_levels: int):
    codes = CHANCE.integers(n_levels, size=(200, 100))
    per_entry = integers(codes).bits / codes.size
    assert math.log2(n_levels) <= per_entry <= 1.02 * math.log2(n_levels) + 0.02


def test_uneven_codes_cost_their_entropy():
    codes = CHANCE.choice(3, size=20_000, p=[0.9, 0.05, 0.05])
    entropy = -0.9 * math.log2(0.9) - 0.1 * math.log2(0.05)
    assert integers(codes).bits / len(codes) == pytest.approx(entropy, rel=0.03)


def test_what_repeats_costs_next_to_nothing():
    codes = np.tile(CHANCE.integers(256, size=64), 1000)
    assert integers(codes).bits < 64 * 8 + 64_000 / 20


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.int64, np.uint64, np.bool_])
@pytest.mark.parametrize("value", [0, 1])
def test_a_constant_table_costs_next_to_nothing(value: int, dtype: type):
    table = np.full((100, 100), value, dtype=dtype)
    assert (floats(table) if table.dtype.kind == "f" else integers(table)).bits < 80


def test_streams_are_decodable():
    assert kraft([stream_bits(np.array(symbols), 3) for symbols in itertools.product(range(3), repeat=6)]) <= 1


def test_bytes_are_decodable():
    assert kraft([bytes_bits(bytes(data)) for data in itertools.product(range(0, 256, 17), repeat=2)]) <= 1


# Integers


@pytest.mark.parametrize(
    "values",
    [
        np.array([-(2**63), 2**63 - 1, 0]),
        np.array([0, 2**64 - 1], dtype=np.uint64),
        np.array([2**64 - 2, 2**64 - 1], dtype=np.uint64),
        np.array([-128, 127], dtype=np.int8),
        np.array([5]),
        np.array([], dtype=np.int64),
        np.array(7),
    ],
)
def test_integers_at_the_ends_of_their_range(values: NDArray):
    assert 0 < integers(values).bits < 64 * values.size + 300


def test_integers_are_decodable():
    assert kraft([integers(np.array(values)).bits for values in itertools.product(range(-4, 5), repeat=3)]) <= 1


def test_rising_keys_cost_little_more_than_their_number_allows():
    keys = np.unique(CHANCE.integers(2**40, size=20_000).astype(np.uint64))
    least = (math.lgamma(2**40 + 1) - math.lgamma(2**40 - len(keys) + 1) - math.lgamma(len(keys) + 1)) / math.log(2)
    found = integers(keys)
    assert "steps" in found.form
    assert least <= found.bits < 1.03 * least


def test_order_is_paid_for():
    keys = np.unique(CHANCE.integers(2**40, size=5000))
    assert integers(CHANCE.permutation(keys)).bits > integers(keys).bits + 8 * len(keys)


# Floats


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ([0.5, -3.0, 65504.0], "float16"),
        ([0.5, 2.0**-24], "float16"),
        ([0.5, 65536.0], "bfloat16"),
        ([2.0**100, -1.5], "bfloat16"),
        ([1 / 3], "float64"),
        ([float(np.float32(1 / 3))], "float32"),
        ([math.inf, -math.inf], "float16"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_smallest_format_that_is_exact(values: list[float], name: str, dtype: type):
    array = np.array(values, dtype=dtype)
    patterns, found = exact_patterns(array)
    assert found == ("float32" if (name, dtype) == ("float64", np.float32) else name)
    match found:
        case "float16":
            back = patterns.view(np.float16)
        case "bfloat16":
            back = (patterns.astype(np.uint32) << np.uint32(16)).view(np.float32)
        case "float32":
            back = patterns.view(np.float32)
        case _:
            back = patterns.view(np.float64)
    assert np.array_equal(back.astype(dtype), array)


def test_a_float16_table_costs_the_same_in_any_precision():
    table = CHANCE.normal(size=(60, 50)).astype(np.float16)
    assert len({floats(table.astype(dtype)).bits for dtype in (np.float16, np.float32, np.float64)}) == 1
    assert floats(table).form == "float16 bytes"
    assert 12 < floats(table).bits / table.size < 16
    full = floats(CHANCE.normal(size=(60, 50)).astype(np.float32))
    assert full.form == "float32 bytes"
    assert 26 < full.bits / table.size < 32


def test_a_table_of_few_numbers_costs_their_indices():
    palette = CHANCE.normal(size=16)
    table = palette[CHANCE.integers(16, size=(100, 100))]
    found = floats(table)
    assert found.form == "16 distinct float64"
    assert 4 <= found.bits / table.size < 4.2


def test_zeros_cost_their_places():
    table = np.where(CHANCE.random((200, 100)) < 0.1, CHANCE.normal(size=(200, 100)), 0).astype(np.float16)
    kept = table[table != 0]
    entropy = -0.1 * math.log2(0.1) - 0.9 * math.log2(0.9)
    found = floats(table)
    assert found.form == f"{len(kept) / table.size:.1%} of float16 bytes"
    assert found.bits == pytest.approx(table.size * entropy + floats(kept).bits, rel=0.02)


def test_zeros_have_no_sign():
    table = CHANCE.normal(size=100).astype(np.float16)
    table[::2] = 0
    signed = table.copy()
    signed[::4] = -0.0
    assert floats(signed) == floats(table)


def test_floats_are_decodable():
    kinds = (0.0, 1.0, -2.0, 1 / 3, 65536.0)
    assert kraft([floats(np.array(values).reshape(2, 2)).bits for values in itertools.product(kinds, repeat=4)]) <= 1


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
def test_empty_tables(shape: tuple[int, ...]):
    assert floats(np.zeros(shape)).bits == integers(np.zeros(shape, dtype=np.int64)).bits == TAG_BITS


# Places


def test_places_by_hand():
    """Two of four: gamma of 2 takes 3 bits, one of six sets another 3."""
    assert positions_bits(np.array([0, 3]), (1, 4)) == TAG_BITS + 3 + 3


def test_places_are_decodable():
    sets = [np.flatnonzero(held) for held in itertools.product((0, 1), repeat=8)]
    assert kraft([positions_bits(held, (2, 4)) for held in sets]) <= 1


def test_places_in_few_rows_or_columns_cost_less():
    even = np.sort(CHANCE.choice(10_000, size=500, replace=False))
    rows, columns = np.divmod(even, 100)
    in_rows = np.unique(rows % 5 * 100 + columns)
    in_columns = np.unique(rows * 100 + columns % 5)
    fewer = min(len(in_rows), len(in_columns))
    per_place = positions_bits(even, (100, 100)) / 500
    assert positions_bits(in_rows[:fewer], (100, 100)) < 0.7 * per_place * fewer
    assert positions_bits(in_columns[:fewer], (100, 100)) < 0.85 * per_place * fewer
