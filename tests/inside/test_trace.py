"""What works at a position, against counting by hand in a program small enough to read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from englishroom.inside.trace import fired, reads_per_number, reads_per_rule, trace_of
from englishroom.interp.reference import run
from englishroom.ir.program import (
    Conditions,
    Fire,
    Join,
    Linear,
    Looks,
    Lookup,
    Program,
    Rules,
    Space,
    SparseTable,
    Table,
    Vote,
    Votes,
    tables_of,
)
from englishroom.ir.verify import verify
from programs import full_program, tokens_for
from readable import induction
from readable import tokens as letters


def table(name: str, rows: list[dict[int, float]], n_columns: int) -> SparseTable:
    starts = np.cumsum([0, *(len(row) for row in rows)])
    columns = np.array([c for row in rows for c in sorted(row)], np.int32)
    values = np.array([row[c] for row in rows for c in sorted(row)], np.float32)
    return SparseTable(name, starts, columns, values, n_columns)


@pytest.fixture
def program() -> Program:
    """Four words of three kinds, and three rules over the kinds and a constant."""
    kinds = table("kinds", [{0: 1.0}, {0: 1.0, 1: 2.0}, {2: 1.0}, {}], 3)
    one = Table("one", np.ones(1, np.float32))
    conditions = table("conditions", [{0: 1.0, 1: 1.0, 3: -0.5}, {1: 1.0, 3: -5.0}, {2: 1.0}], 4)
    said = table("said", [{0: 1.0}, {1: 1.0, 2: 1.0}, {3: 1.0}], 4)
    return Program(
        "sparse",
        8,
        (Space("kinds", 3), Space("one", 1), Space("seen", 4), Space("rules", 3), Space("vocab", 4)),
        (
            Lookup(name="kinds", space="kinds", index="token", table=kinds),
            Linear(name="always", space="one", reads="kinds", weight=table("none", [{}, {}, {}], 1), bias=one),
            Join(name="seen", space="seen", reads=("kinds", "always")),
            Rules(
                name="rules",
                space="rules",
                reads="seen",
                conditions=conditions,
                thresholds=Table("thresholds", np.zeros(3, np.float32)),
                effects=table("itself", [{0: 1.0}, {1: 1.0}, {2: 1.0}], 3),
                k=2,
            ),
            Linear(name="votes", space="vocab", reads="rules", weight=said),
            Vote(name="log_probs", space="vocab", reads=("votes",)),
        ),
    )


def test_rules_fired_and_edges_used_are_counted(program: Program) -> None:
    assert verify(program) == []
    found = trace_of(program, "words", [np.array([0, 1, 2, 3])])
    # word 0: rule 0; word 1: rule 0 (2.5 > 0), rule 1 not (2 - 5); word 2: rule 2; word 3: none
    assert found["rules_fired"]["mean"] == pytest.approx(3 / 4)
    assert found["rules_fired"]["positions"] == 4
    # entries of conditions under features that are on, then entries of votes of rules that are on
    always = 2
    by_word = [1 + always + 1, 1 + 2 + always + 1, 1 + always + 1, always]
    assert found["edges_used"]["mean"] == pytest.approx(sum(by_word) / 4)
    # rules 0 and 2 ever fire; of three rules one reads two features
    assert (found["rules"], found["rules_that_fired"]) == (3, 2)
    assert found["reads_per_rule"] == {"median": 1.0, "p95": pytest.approx(1.9), "most": 2.0}
    assert found["reads_per_rule_that_fired"] == {"median": 1.5, "p95": pytest.approx(1.95), "most": 2.0}


def test_of_rules_above_their_threshold_only_the_strongest_fire(program: Program) -> None:
    rules = next(block for block in program.blocks if isinstance(block, Rules))
    x = np.array([[3.0, 6.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])  # strengths 8.5, 1, 1 and -0.5, -5, 1
    assert fired(rules, x).tolist() == [[True, True, False], [False, False, True]]


def test_a_constant_is_not_read(program: Program) -> None:
    assert reads_per_rule(program).tolist() == [2, 1, 1]


def test_numbers_of_heads_read_features_too(program: Program) -> None:
    assert len(reads_per_number(program)) == 0
    sums = Linear(
        name="heads.0.sums", space="seen", reads="kinds", weight=table("sums", [{0: 1.0, 1: 2.0}, {1: 1.0}, {}], 4)
    )
    longer = replace(program, blocks=(program.blocks[0], sums, *program.blocks[1:]))
    assert reads_per_number(longer).tolist() == [1, 2, 0, 0]


def test_moved_features_and_rules_of_readable_programs_are_on_where_the_reference_says() -> None:
    program, text = induction(), letters("abcabca")
    told = run(program, text.tolist())
    found = trace_of(program, "letters", [text])
    blocks = [block for block in program.blocks if isinstance(block, Looks | Fire)]
    assert [block.name for block in blocks] == ["moved.0", "rules.0", "moved.1", "rules.1"]
    on = {block.name: told[block.name] != 0 for block in blocks}
    assert found["rules"] == 4 + 2 + 5 + 1
    assert found["rules_that_fired"] == sum(which.any(0).sum() for which in on.values()) == 3 + 2 + 4 + 1
    assert found["rules_fired"]["mean"] == pytest.approx(sum(which.sum() for which in on.values()) / len(text))
    # a, then b, is on at both words b; a b was found after the second a, and after the third
    assert np.flatnonzero(told["rules.0"][:, 0]).tolist() == [2, 5]
    read = ("lists", "position_basis", *on)
    assert found["features_on"]["mean"] == pytest.approx(sum((told[n] != 0).sum() for n in read) / len(text))


def test_edges_of_readable_programs_are_the_entries_of_what_is_on_by_the_reference() -> None:
    program, text = induction(), letters("abcabca")
    told = run(program, text.tolist())
    edges = 0
    for block in program.blocks:
        if isinstance(block, Lookup) and isinstance(block.table, SparseTable):
            edges += np.count_nonzero(block.table.dense()[text if block.index == "token" else np.arange(len(text))])
        elif isinstance(block, Linear | Looks | Fire | Votes):
            reads = (block.reads,) if isinstance(block, Linear) else block.reads
            on = np.concatenate([told[name] != 0 for name in reads], axis=1).sum(0)  # at how many positions
            tables = [table for table in tables_of(block) if isinstance(table, SparseTable)]
            entries = [table.dense() != 0 for table in tables]
            edges += sum((one if one.shape[1] == len(on) else one.T).dot(on).sum() for one in entries)
    assert trace_of(program, "letters", [text])["edges_used"]["mean"] == pytest.approx(edges / len(text))
    assert edges == 89


@pytest.mark.parametrize("seed", range(3))
def test_conditions_that_hold_count_as_rules_that_read_nothing(seed: int) -> None:
    program = full_program("explained", seed)
    text = tokens_for(program)[0]
    told = run(program, text.tolist())
    on = [told[block.name] != 0 for block in program.blocks if isinstance(block, Conditions)]
    found = trace_of(program, "tokens", [text])
    assert found["rules"] == sum(which.shape[1] for which in on) > 0
    assert found["rules_fired"]["mean"] == pytest.approx(sum(which.sum() for which in on) / len(text))
    assert found["reads_per_rule"] == {"median": 0.0, "p95": 0.0, "most": 0.0}


def test_reads_of_readable_programs_are_the_rows_of_their_conditions() -> None:
    assert reads_per_rule(induction()).tolist() == [1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2]
    assert trace_of(induction(), "letters", [letters("ab")])["reads_per_rule"]["most"] == 2.0
