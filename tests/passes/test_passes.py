"""What holds of every pass: its output is valid, it can be run again, its neutral setting changes nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from englishroom.errors import InvalidProgramError
from englishroom.interp import reference
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Linear, Normalise, Origin, Program
from englishroom.ir.text import parse_program, print_program
from englishroom.ir.verify import require_valid
from englishroom.passes.base import Record, run_passes
from englishroom.passes.fold import FoldNorms
from programs import KINDS, chain, full_program, programs, random_program, tokens_for

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
NORMS = st.lists(st.sampled_from([*KINDS["exact"], "normalise", "normalise", "linear"]), max_size=8)


@dataclass(frozen=True)
class Shorten:
    """A pass for tests: give the program a context of so many positions."""

    n_ctx: int = 1
    name = "shorten"

    def __call__(self, program: Program) -> tuple[Program, tuple[str, ...]]:
        return replace(program, n_ctx=self.n_ctx), (f"shortened to {self.n_ctx}",)


class Nothing:
    """A pass without options that does nothing."""

    name = "nothing"

    def __call__(self, program: Program) -> tuple[Program, tuple[str, ...]]:
        return program, ()


def test_no_passes_change_nothing() -> None:
    program = full_program("featured")
    assert run_passes(program, []) == (program, ())
    assert run_passes(program, [])[0] is program


def test_every_pass_is_recorded_in_order() -> None:
    program = chain()
    seen: list[Record] = []
    result, records = run_passes(program, [Shorten(3), Nothing(), Shorten(2)], seen.append)
    assert result == replace(program, n_ctx=2)
    assert tuple(seen) == records
    assert [(r.made_by, r.options, r.rewrites, r.cost_nats) for r in records] == [
        ("shorten", {"n_ctx": 3}, ("shortened to 3",), None),
        ("nothing", {}, (), None),
        ("shorten", {"n_ctx": 2}, ("shortened to 2",), None),
    ]
    assert all(0 <= record.seconds < 1 for record in records)
    assert json.loads(json.dumps([asdict(record) for record in records]))[0]["rewrites"] == ["shortened to 3"]


def test_a_pass_that_makes_an_invalid_program_is_caught_at_once() -> None:
    seen: list[Record] = []
    with pytest.raises(InvalidProgramError, match=r"1 fault: n_ctx is 0, expected at least 1"):
        run_passes(full_program("sparse"), [Nothing(), Shorten(0), Nothing()], seen.append)
    assert [record.made_by for record in seen] == ["nothing"]


@given(st.builds(random_program, st.just("exact"), NORMS, st.integers(0, 2**32 - 1)) | programs())
@settings(deadline=None, max_examples=80)
def test_folding_norms_keeps_the_answers(program: Program) -> None:
    folded, (record,) = run_passes(program, [FoldNorms()])
    tokens = tokens_for(program)
    np.testing.assert_allclose(
        Interpreter(folded, np.float64).log_probs(tokens), Interpreter(program, np.float64).log_probs(tokens), **CLOSE
    )
    assert [block.name for block in folded.blocks] == [block.name for block in program.blocks]
    assert (folded.level, folded.spaces, folded.n_ctx) == (program.level, program.spaces, program.n_ctx)
    changed = [new for new, old in zip(folded.blocks, program.blocks, strict=True) if new != old]
    norms = {block.name for block in changed if isinstance(block, Normalise)}
    linears = [block for block in changed if isinstance(block, Linear)]
    assert len(norms) + len(linears) == len(changed)
    assert {block.reads for block in linears} == norms
    assert list(record.rewrites) == [
        f"folded the gain and bias of {block.reads} into {block.name}" for block in linears
    ]
    origins = {block.name: block.origin.sources for block in program.blocks}
    expected = {block.name: Origin("fold-norms", origins[block.name] + origins[block.reads]) for block in linears}
    assert {block.name: block.origin for block in changed} == expected | dict.fromkeys(norms, Origin("fold-norms"))


@given(programs())
@settings(deadline=None, max_examples=60)
def test_folding_norms_again_changes_nothing(program: Program) -> None:
    once, _ = run_passes(program, [FoldNorms()])
    twice, (record,) = run_passes(once, [FoldNorms()])
    assert twice == once
    assert record.rewrites == ()


@given(programs(level="exact"))
@settings(deadline=None, max_examples=40)
def test_folding_leaves_a_program_without_gains_and_biases_alone(program: Program) -> None:
    plain = replace(
        program,
        blocks=tuple(
            replace(block, gain=None, bias=None) if isinstance(block, Normalise) else block for block in program.blocks
        ),
    )
    assert FoldNorms()(plain) == (plain, ())


HEAD = """\
Program(level='featured', n_ctx=1)
Space('vocab', 3)
Space('resid', 2)
Lookup('x', 'resid', index='token', table=Table('E'), origin=Origin('lift'))
"""
TABLES = """\
Dense('E', 'float32', (3, 2), '1.0 2.0 3.0 4.0 5.0 6.0')
"""
NORM = (
    "Normalise('n', 'resid', reads='x', centred=False, eps=0.5, gain={}, bias={}, form=None, "
    "origin=Origin('lift', 'ln_f'))\n"
)
VOTE = "Vote('v', 'vocab', reads=({},), origin=Origin('lift'))\n"


def test_gain_and_bias_move_into_the_map_behind() -> None:
    given_text = (
        HEAD
        + NORM.format("Table('g')", "Table('b')")
        + "Linear('l', 'vocab', reads='n', weight=Table('W'), bias=Table('c'), transposed=True, "
        + "origin=Origin('lift', 'lm_head.weight', 'lm_head.bias'))\n"
        + VOTE.format("'l'")
        + TABLES
        + "Dense('g', 'float32', (2,), '2.0 10.0')\n"
        + "Dense('b', 'float32', (2,), '1.0 -1.0')\n"
        + "Dense('W', 'float32', (3, 2), '1.0 2.0 3.0 4.0 5.0 6.0')\n"
        + "Dense('c', 'float32', (3,), '0.5 0.0 0.0')\n"
    )
    expected_text = (
        HEAD
        + NORM.format("None", "None").replace("'lift', 'ln_f'", "'fold-norms'")
        + "Linear('l', 'vocab', reads='n', weight=Table('l.folded_W'), bias=Table('l.folded_b'), transposed=False, "
        + "origin=Origin('fold-norms', 'lm_head.weight', 'lm_head.bias', 'ln_f'))\n"
        + VOTE.format("'l'")
        + TABLES
        + "Dense('l.folded_W', 'float64', (2, 3), '2.0 6.0 10.0 20.0 40.0 60.0')\n"
        + "Dense('l.folded_b', 'float64', (3,), '-0.5 -1.0 -1.0')\n"
    )
    program = require_valid(parse_program(given_text))
    folded, records = run_passes(program, [FoldNorms()])
    assert print_program(folded) == expected_text
    assert records[0].rewrites == ("folded the gain and bias of n into l",)
    for token in range(3):
        before, after = (reference.log_probs(p, [token]) for p in (program, folded))
        np.testing.assert_allclose(after, before, rtol=1e-12)


@pytest.mark.parametrize(
    "readers",
    [
        "Linear('l', 'vocab', reads='x', weight=Table('W'))\n",
        "Linear('l', 'vocab', reads='n', weight=Table('S'))\n",
        "Linear('l', 'vocab', reads='n', weight=Table('W'))\nActivate('a', 'resid', reads='n', function='relu')\n",
        "Sum('s', 'resid', reads=('n', 'x'))\nLinear('l', 'vocab', reads='s', weight=Table('W'))\n",
        "Linear('l', 'vocab', reads='n', weight=Table('W'))\nNormalise('m', 'resid', reads='n', centred=True, eps=1)\n",
    ],
    ids=["nobody", "a sparse map", "a function", "a sum", "another norm"],
)
def test_a_norm_that_others_read_is_left_as_it_is(readers: str) -> None:
    text = (
        HEAD
        + NORM.format("Table('g')", "None")
        + readers
        + VOTE.format("'l'")
        + TABLES
        + "Dense('g', 'float32', (2,), '2.0 10.0')\n"
        + "Dense('W', 'float32', (2, 3), '1.0 2.0 3.0 4.0 5.0 6.0')\n"
        + "Sparse('S', 'int64', 'int64', 'float64', 3, '0 1 1', '0', '1.0')\n"
    )
    program = require_valid(parse_program(text))
    assert FoldNorms()(program) == (program, ())


def test_shared_maps_are_folded_each_for_itself() -> None:
    """Two maps that share a table read two norms of different gains."""
    text = (
        HEAD
        + NORM.format("Table('g')", "None")
        + NORM.format("Table('h')", "None").replace("'n'", "'m'")
        + "Linear('l', 'vocab', reads='n', weight=Table('W'))\n"
        + "Linear('k', 'vocab', reads='m', weight=Table('W'))\n"
        + "Linear('j', 'vocab', reads='x', weight=Table('E'), transposed=True)\n"
        + VOTE.format("'l', 'k', 'j'")
        + TABLES
        + "Dense('g', 'float32', (2,), '2.0 10.0')\n"
        + "Dense('h', 'float32', (2,), '-1.0 0.5')\n"
        + "Dense('W', 'float32', (2, 3), '1.0 2.0 3.0 4.0 5.0 6.0')\n"
    )
    program = require_valid(parse_program(text))
    folded, _ = run_passes(program, [FoldNorms()])
    assert set(folded.tables()) == {"E", "l.folded_W", "k.folded_W"}
    np.testing.assert_allclose(reference.log_probs(folded, [1]), reference.log_probs(program, [1]), rtol=1e-12)
