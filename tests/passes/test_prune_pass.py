"""Leaving edges out: what matters least goes, its mean stays, and the laws of passes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from englishroom.errors import ConfigError
from englishroom.inside.measure_moments import measure_moments
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Linear, Program
from englishroom.passes.base import run_passes
from englishroom.passes.moments import InputMoments, TableMoments
from englishroom.passes.prune import Prune, edge_tables
from programs import full_program, programs, tokens_for
from summing import summing


def count(program: Program) -> int:
    return sum(table.n_entries for table in edge_tables(program).values())


@given(programs(level="sparse"), st.floats(0, 1.2), st.booleans())
@settings(deadline=None, max_examples=50)
def test_so_many_edges_stay_and_again_all_of_them(program: Program, share: float, weighed: bool) -> None:
    moments = measure_moments(program, "drawn", list(tokens_for(program, 5, 2))) if weighed else None
    step = Prune(int(share * count(program)), moments)
    once, _ = run_passes(program, [step])
    assert count(once) == min(step.edges, count(program))
    twice, (record,) = run_passes(once, [step])
    assert twice == once
    assert record.rewrites == ()
    for name, table in edge_tables(once).items():
        before = program.tables()[name]
        kept = table.dense() != 0
        np.testing.assert_array_equal(table.dense()[kept], before.dense()[kept])


@given(programs(level="sparse"))
@settings(deadline=None, max_examples=20)
def test_keeping_all_is_the_identity(program: Program) -> None:
    assert Prune(count(program))(program) == (program, ())


def test_the_mean_of_what_goes_stays() -> None:
    program = summing(np.random.default_rng(0).standard_normal(1200).astype(np.float32))
    texts = list(tokens_for(program, 5, 4))
    found, (record,) = run_passes(program, [Prune(500, measure_moments(program, "drawn", texts))])
    interpreters = [Interpreter(p, np.float64) for p in (program, found)]
    means = [np.mean([i.variables(row)["y"] for row in texts], axis=(0, 1)) for i in interpreters]
    np.testing.assert_allclose(means[1], means[0], atol=1e-5)
    assert record.rewrites == ("W: kept 500 of 1,200 entries",)


def test_what_never_varies_goes_first() -> None:
    program = full_program("sparse", 3)
    block = next(b for b in program.blocks if isinstance(b, Linear) and b.weight.n_entries > 1)
    table = edge_tables(program)[block.weight.name]
    axis = "column" if block.transposed else "row"
    size = table.shape[1 if block.transposed else 0]
    lively = np.zeros(size)
    lively[0] = 1.0
    others = {
        name: InputMoments("row", np.zeros(t.shape[0]), np.zeros(t.shape[0]))
        for name, t in edge_tables(program).items()
    }
    sources = others | {table.name: InputMoments(axis, np.zeros(size), lively)}
    alive = int(((table.columns if block.transposed else _rows(table)) == 0).sum())
    found, _ = run_passes(program, [Prune(alive, TableMoments("made up", sources))])
    assert edge_tables(found).keys() <= {table.name}
    assert sum(t.n_entries for t in edge_tables(found).values()) == alive


def _rows(table) -> np.ndarray:
    return np.repeat(np.arange(table.shape[0]), np.diff(table.starts))


def test_fewer_than_no_edges_are_refused() -> None:
    with pytest.raises(ConfigError, match="edges is -1; choose how many to keep, 0 or more"):
        Prune(-1)
