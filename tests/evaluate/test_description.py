"""Descriptions: the same code for targets, compressed targets, programs and tables, and what it says of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from englishroom.emit.tables import is_literal
from englishroom.errors import ConfigError
from englishroom.evaluate.code_lengths import floats, integers
from englishroom.evaluate.description import (
    Description,
    describe,
    describe_arrays,
    describe_program,
    describe_quantised,
    describe_target,
)
from englishroom.evaluate.talkers.program import ProgramTalker
from englishroom.evaluate.talkers.target import TargetTalker
from englishroom.ir.program import SparseTable, Table
from englishroom.lower.lift import lift
from englishroom.models.compress.half import to_half
from englishroom.models.compress.quantise import BITS, quantise
from englishroom.models.compress.smallest import prune
from englishroom.models.load import Target, load_target
from englishroom.talkers.shipped import DEFAULT, shipped_path
from programs import emitted, full_program, tokenizer_for
from tiny import CASES

CHANCE = np.random.default_rng(0)
PICKED = ("gpt2", "gpt_neo-untied-window-1", "llama-grouped-tied", "llama2c-grouped-untied")


@pytest.fixture(scope="module", params=PICKED)
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Target:
    return load_target(str(CASES[request.param].write(tmp_path_factory.mktemp("tiny") / "model")))


@pytest.fixture(scope="module")
def shipped() -> Target:
    return load_target(str(shipped_path(DEFAULT)))


class Counts:
    """A talker that is its tables."""

    name = "counts"

    def arrays(self) -> Mapping[str, NDArray]:
        return {"keys": np.arange(0, 90, 3, dtype=np.uint64), "log_probs": np.zeros(30, dtype=np.float32)}


def test_a_description_is_the_sum_of_its_parts():
    arrays = {"a": CHANCE.normal(size=(30, 20)), "b": CHANCE.integers(9, size=50)}
    both = describe_arrays(arrays, "how to use them")
    assert both.tables == {"a": floats(arrays["a"]), "b": integers(arrays["b"])}
    assert both.bits == both.table_bits + both.source_bits
    assert both.table_bits == sum(describe_arrays({name: array}).table_bits for name, array in arrays.items())
    assert both.source_bits > describe_arrays(arrays).source_bits
    assert Description().bits == 0


def test_the_source_is_compressed():
    text = "".join(f"line {number} says what line {number - 1} said\n" for number in range(400))
    assert 8 * 100 < describe_arrays({}, text).source_bits < 8 * len(text) / 4


def test_a_target_is_its_weights_each_once(target: Target):
    found = describe_target(target)
    assert list(found.tables) == list(target.weights)
    for name, length in found.tables.items():
        assert length == floats(target.weights[name].numpy())
        if target.weights[name].numel() > 500:
            assert 26 < length.bits / target.weights[name].numel() < 32
    assert describe_target(to_half(target)).table_bits < 0.55 * found.table_bits


def test_a_target_and_its_exact_program_have_the_same_tables(target: Target):
    program, _ = lift(target)
    ours, theirs = describe_program(program), describe_target(target)
    assert ours.table_bits == theirs.table_bits
    assert ours.source_bits < 100_000


def test_fewer_bits_make_shorter_descriptions(shipped: Target):
    plain = describe_target(shipped)
    found = [describe_quantised(quantise(shipped, bits)).bits for bits in BITS]
    assert plain.bits > found[0]
    assert found == sorted(found, reverse=True)
    n_numbers = shipped.parameter_count
    for bits, total in zip((8, 4, 3, 2), found, strict=False):
        assert total < 1.01 * (bits * n_numbers + 16 * 2 * 8000)


def test_codes_are_shorter_than_the_numbers_they_stand_for(target: Target):
    made = quantise(target, 4)
    assert describe_quantised(made).bits < describe_target(made.target).bits
    coded = {name for name in describe_quantised(made).tables if name.endswith(":codes")}
    assert coded == {f"{name}:codes" for name in made.matrices}


def test_the_more_is_pruned_the_shorter(target: Target):
    bits = [describe_target(prune(target, keep)).bits for keep in (1.0, 0.5, 0.1)]
    assert bits == sorted(bits, reverse=True)
    assert bits[-1] < 0.2 * bits[0]


@pytest.mark.parametrize("level", ["exact", "featured", "sparse"])
def test_programs_of_every_level(level: str):
    program = full_program(level)
    found = describe_program(program)
    assert list(found.tables) == list(program.tables())
    for name, table in program.tables().items():
        if isinstance(table, Table):
            assert found.tables[name] == floats(table.values)


def test_a_sparse_table_is_its_places_and_its_values():
    program = full_program("sparse")
    name, table = next((n, t) for n, t in program.tables().items() if isinstance(t, SparseTable) and t.n_entries > 5)
    bits = describe_program(program).tables[name].bits
    assert floats(table.values).bits < bits < floats(table.values).bits + 20 + 2 * table.shape[0] * table.shape[1]


def test_what_the_source_spells_out_is_counted_there():
    program = full_program("sparse")
    text = emitted(program).text
    found = describe_program(program, text)
    spelt = {name for name, table in program.tables().items() if is_literal(table)}
    assert spelt
    assert set(found.tables) == set(program.tables()) - spelt
    assert found.source_bits > describe_program(program).source_bits


@pytest.mark.parametrize("target", ["llama-grouped-tied"], indirect=True)
def test_anything_with_tables_is_described(target: Target):
    program = full_program("featured")
    talker = ProgramTalker("program", program, tokenizer_for(program.d_vocab))
    assert describe(program) == describe(talker) == describe_program(program)
    assert describe(target) == describe(TargetTalker(target, tokenizer_for(20))) == describe_target(target)
    made = quantise(target, 2)
    assert describe(made) == describe_quantised(made)
    assert describe(Counts()) == describe_arrays(Counts().arrays())


def test_what_has_no_tables_is_refused():
    talker = replace_name(object.__new__(type("Talker", (), {})), "silent")
    with pytest.raises(ConfigError) as error:
        describe(talker)
    expected = "found no tables to count; give a program, a target or a talker with arrays()"
    assert str(error.value) == f"silent: {expected}"
    with pytest.raises(ConfigError) as error:
        describe(3.5)
    assert str(error.value) == f"float: {expected}"


def replace_name(thing: object, name: str) -> object:
    thing.name = name
    return thing


def test_tables_of_other_things_than_numbers_are_refused():
    with pytest.raises(ConfigError) as error:
        describe_arrays({"words": np.array(["a", "b"])})
    assert str(error.value) == "table words: holds <U1, expected whole numbers or floats; store it as one of them"


def test_weights_in_bfloat16_are_described_as_such(target: Target):
    rounded = {name: tensor.to(torch.bfloat16).float() * 2.0**40 for name, tensor in target.weights.items()}
    found = describe_target(replace(target, weights=rounded))
    assert all("bfloat16" in found.tables[name].form for name, tensor in rounded.items() if tensor.numel() > 500)


def test_describing_a_program_needs_no_torch():
    code = "import sys, englishroom.evaluate.description; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=False).returncode == 0
