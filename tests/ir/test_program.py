"""What holds of programs, tables and rules as data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from englishroom.ir.levels import EXPLAINED_BLOCKS, READABLE_BLOCKS
from englishroom.ir.program import (
    LEVELS,
    Block,
    Level,
    Linear,
    Lookup,
    Origin,
    Program,
    Rules,
    Space,
    SparseTable,
    Table,
    Vote,
    reads_of,
    tables_of,
)
from englishroom.ir.rule import rule_at, rule_count
from englishroom.ir.verify import verify
from programs import full_program, programs, random_readable

CSR = SparseTable("m", np.array([0, 2, 2, 3]), np.array([0, 3, 1]), np.array([1.5, -2.0, 0.25]), 4)


@pytest.mark.parametrize("array", [np.zeros((2, 3)), np.zeros((3, 2)).T, np.arange(6.0)[::2]])
def test_numbers_of_a_table_cannot_be_written(array: np.ndarray) -> None:
    table = Table("t", array)
    with pytest.raises(ValueError, match="read-only"):
        table.values[0] = 1.0
    assert np.array_equal(table.values, array)


@pytest.mark.parametrize("part", ["starts", "columns", "values"])
def test_parts_of_a_sparse_table_cannot_be_written(part: str) -> None:
    with pytest.raises(ValueError, match="read-only"):
        getattr(CSR, part)[0] = 1


def test_making_a_table_leaves_its_array_writable() -> None:
    array = np.zeros(3)
    Table("t", array)
    array[0] = 1.0


def test_a_sparse_table_reads_by_rows() -> None:
    assert CSR.shape == (3, 4)
    assert CSR.n_entries == 3
    assert [CSR.row(i) for i in range(3)] == [[(0, 1.5), (3, -2.0)], [], [(1, 0.25)]]
    assert CSR.dense().tolist() == [[1.5, 0, 0, -2.0], [0, 0, 0, 0], [0, 0.25, 0, 0]]


@pytest.mark.parametrize(
    "other",
    [
        Table("u", np.arange(3.0)),
        Table("t", np.arange(3.0).astype(np.float32)),
        Table("t", np.arange(3.0).reshape(3, 1)),
        Table("t", np.array([0.0, 1.0, 2.5])),
        SparseTable("t", np.array([0, 3]), np.arange(3), np.arange(3.0), 3),
        "t",
    ],
    ids=["name", "precision", "shape", "number", "sparse", "no table"],
)
def test_tables_that_differ_anywhere_are_not_equal(other: object) -> None:
    assert Table("t", np.arange(3.0)) != other


def test_equal_tables_are_equal_and_hash_alike() -> None:
    dense = [Table("t", np.arange(3.0)) for _ in range(2)]
    assert dense[0] == dense[1]
    assert len(set(dense)) == 1
    again = SparseTable("m", CSR.starts.copy(), CSR.columns.copy(), CSR.values.copy(), 4)
    assert again == CSR
    assert len({again, CSR}) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "n"},
        {"n_columns": 5},
        {"starts": np.array([0, 1, 2, 3])},
        {"columns": np.array([0, 2, 1])},
        {"columns": CSR.columns.astype(np.int32)},
        {"values": CSR.values + 1},
    ],
    ids=["name", "width", "starts", "columns", "index type", "values"],
)
def test_sparse_tables_that_differ_anywhere_are_not_equal(changes: dict) -> None:
    assert replace(CSR, **changes) != CSR


def test_a_rule_is_a_view_of_one_row_of_each_table() -> None:
    effects = SparseTable("e", np.array([0, 1, 1, 2]), np.array([1, 0]), np.array([4.0, 5.0]), 2)
    block = Rules(
        name="r",
        space="out",
        reads="x",
        conditions=CSR,
        thresholds=Table("t", np.array([0.5, 0.0, -1.0])),
        effects=effects,
    )
    assert rule_at(block, 1).bias == 0.0
    block = replace(block, biases=Table("b", np.array([0.25, 2.0, 0.0])))
    first, second, _ = (rule_at(block, i) for i in range(3))
    assert (first.index, first.reads, first.adds) == (0, ((0, 1.5), (3, -2.0)), ((1, 4.0),))
    assert (first.bias, first.threshold) == (0.25, 0.5)
    assert (second.index, second.reads, second.threshold, second.adds) == (1, (), 0.0, ())


def test_shared_tables_are_listed_and_counted_once() -> None:
    shared, own = Table("shared", np.zeros((2, 3))), Table("own", np.zeros((4, 3)))
    blocks = (
        Lookup(name="a", space="s", index="token", table=shared),
        Lookup(name="b", space="s", index="position", table=own),
        Lookup(name="c", space="s", index="token", table=Table("shared", np.zeros((2, 3)))),
        Vote(name="v", space="s", reads=("a",)),
    )
    program = Program("exact", 4, (Space("s", 3),), blocks)
    assert list(program.tables()) == ["shared", "own"]
    assert program.n_entries == 6 + 12
    assert (program.d_vocab, program.vote) == (3, blocks[-1])


def test_rules_are_counted_by_rows_and_edges_by_entries() -> None:
    square = SparseTable("S", np.array([0, 1, 3, 3, 4]), np.array([0, 1, 2, 3]), np.array([1.0, 0.0, 2.0, 3.0]), 4)
    rules = Rules(
        name="r",
        space="s",
        reads="a",
        conditions=CSR,
        thresholds=Table("t", np.zeros(3)),
        effects=replace(CSR, name="e"),
    )
    blocks = (
        Lookup(name="a", space="s", index="token", table=square),
        Linear(name="l", space="s", reads="a", weight=square, bias=Table("b", np.ones(4))),
        Linear(name="m", space="s", reads="l", weight=replace(square, name="T")),
        rules,
        replace(rules, name="q"),
        Vote(name="v", space="s", reads=("m", "r", "q")),
    )
    program = Program("sparse", 4, (Space("s", 4),), blocks)
    assert verify(program) == []
    assert rule_count(program) == 3 + 3 + 3 + 3
    assert rule_count(replace(program, blocks=blocks[:1])) == 3
    assert rule_count(full_program("exact")) == 0


def test_an_unknown_space_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="nowhere"):
        full_program("exact").space("nowhere")


@pytest.mark.parametrize("level", LEVELS)
def test_every_kind_of_the_level_is_drawn(level: Level) -> None:
    new = {"Looks", "Fire", "Votes", "Conditions"}
    every = {kind.__name__ for kind in get_args(Block)}
    expected = {
        "exact": every - {"Join", "Select", "Match", "Rules", "Unexplained"} - new,
        "featured": every - {"Conditions"},
        "sparse": every - {"Activate", "Rotate", "Attend", "Unexplained"} - new,
        "explained": {kind.__name__ for kind in EXPLAINED_BLOCKS},
    }[level]
    drawn = {type(block).__name__ for seed in range(5) for block in full_program(level, seed).blocks}
    assert drawn == expected
    readable = {type(block) for seed in range(5) for block in random_readable(seed).blocks}
    assert readable == set(READABLE_BLOCKS)


def leaves(value: object) -> Iterator[object]:
    """Yield what a tuple of tuples holds in the end."""
    if isinstance(value, tuple):
        for part in value:
            yield from leaves(part)
    else:
        yield value


@given(programs())
@settings(deadline=None, max_examples=40)
def test_what_blocks_read_and_hold_is_found_by_their_fields(program: Program) -> None:
    made: set[str] = set()
    for block in program.blocks:
        values = [getattr(block, item.name) for item in fields(block) if item.name not in ("name", "space", "origin")]
        flat = list(leaves(tuple(values)))
        assert list(tables_of(block)) == [part for part in flat if isinstance(part, Table | SparseTable)]
        named = [part for part in flat if isinstance(part, str) and part in made]
        assert set(reads_of(block)) <= set(named)
        assert set(reads_of(block)) <= made
        made.add(block.name)


def test_programs_are_equal_by_what_they_hold() -> None:
    one, same = full_program("featured", 3), full_program("featured", 3)
    assert one == same
    assert one != replace(one, n_ctx=one.n_ctx + 1)
    first = replace(one.blocks[0], origin=Origin("someone else"))
    assert one != replace(one, blocks=(first, *one.blocks[1:]))


@given(st.integers(0, 2**32 - 1), st.integers(0, 7), st.integers(1, 7))
def test_a_sparse_table_is_seen_as_rows_as_a_matrix_and_as_scipy_has_it(seed: int, n_rows: int, n_columns: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n_rows, n_columns)).astype(np.float32) * (rng.random((n_rows, n_columns)) < 0.4)
    rows, columns = np.nonzero(matrix)
    starts = np.append(0, np.cumsum(np.bincount(rows, minlength=n_rows)))
    table = SparseTable("t", starts, columns.astype(np.int32), matrix[rows, columns], n_columns)
    assert table.rows().tolist() == rows.tolist()
    assert table.dense().dtype == np.float64
    assert np.array_equal(table.dense(), matrix)
    assert table.csr().dtype == np.float32
    assert table.csr(np.float64).dtype == np.float64
    assert np.array_equal(table.csr().toarray(), matrix)
    assert [table.row(at) for at in range(n_rows)] == [
        [(int(column), float(matrix[at, column])) for column in np.flatnonzero(matrix[at])] for at in range(n_rows)
    ]
    some = rng.random(table.n_entries) < 0.5
    kept = table.keep(some)
    assert np.array_equal(kept.dense()[rows, columns], np.where(some, table.values, 0))
    assert (kept.n_entries, kept.shape, kept.name) == (some.sum(), table.shape, "t")
    assert kept.starts.dtype == table.starts.dtype
    assert table.keep(np.ones(table.n_entries, bool)) == table


def test_a_large_table_is_spelt_out_at_once() -> None:
    n = 300_000
    table = SparseTable("t", np.arange(n + 1), np.zeros(n, np.int32), np.ones(n, np.float32), 2)
    began = time.process_time()
    assert table.dense()[:, 0].sum() == n
    assert time.process_time() - began < 0.5
