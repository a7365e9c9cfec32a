"""Memory and algorithm: parts by who has a say, bits of each, and programs with features held at their means."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from englishroom.errors import ConfigError
from englishroom.evaluate.description import describe_program
from englishroom.inside.memory import (
    ALGORITHM,
    MEMORY,
    PARTS,
    POSITION,
    bits_of,
    held_at_means,
    measure_memory,
    parts_of,
    silenced,
    summary_lines,
)
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Lookup, Match, Program, Rules
from programs import full_program
from readable import induction
from staged import N_CTX, rows, staged

ROWS, HELD_OUT = rows(8, 1), rows(8, 2)


def with_simple_rules() -> Program:
    """Let the first rule of rules.0 read kinds of words alone, and the third places too."""
    program = staged(4)
    blocks = []
    for block in program.blocks:
        if isinstance(block, Rules) and block.name == "rules.0":
            table = block.conditions
            row_of = np.repeat(np.arange(table.shape[0]), np.diff(table.starts))
            words, places = program.space("words").size, program.space("places").size
            drop = ((row_of == 0) & (table.columns >= words)) | ((row_of == 2) & (table.columns >= words + places))
            kept = ~drop
            starts = np.concatenate([[0], np.cumsum(np.bincount(row_of[kept], minlength=table.shape[0]))])
            conditions = replace(table, starts=starts, columns=table.columns[kept], values=table.values[kept])
            block = replace(block, conditions=conditions)
        blocks.append(block)
    return replace(program, blocks=tuple(blocks))


PROGRAM = with_simple_rules()


def means(program: Program) -> dict[str, np.ndarray]:
    interpreter = Interpreter(program, np.float64)
    read = [interpreter.variables(row) for row in ROWS]
    return {name: np.concatenate([variables[name] for variables in read]).mean(0) for name in read[0]}


def test_a_rule_is_memory_only_where_nothing_but_the_token_at_hand_has_a_say() -> None:
    parts = parts_of(PROGRAM)
    assert set(parts["words"]) == {MEMORY}
    assert set(parts["places"]) == {POSITION}
    assert set(parts["brought.0"]) == {ALGORITHM}
    assert parts["rules.0"][0] == MEMORY
    assert parts["rules.0"][2] == POSITION
    reads = [b for b in PROGRAM.blocks if isinstance(b, Rules) and b.name == "moved.0"]
    n_brought = PROGRAM.space("brought.0").size
    looks = (reads[0].conditions.dense()[:, :n_brought] != 0).any(1)
    assert np.array_equal(parts["moved.0"] == ALGORITHM, looks)


def test_what_is_memory_does_not_depend_on_earlier_tokens_once_the_rest_is_held() -> None:
    parts = parts_of(PROGRAM)
    makers = {b.name for b in PROGRAM.blocks if isinstance(b, Lookup | Match | Rules)}
    fixed = {name: part == ALGORITHM for name, part in parts.items() if name in makers}
    program = held_at_means(PROGRAM, fixed, means(PROGRAM))
    interpreter = Interpreter(program, np.float64)
    first, second = ROWS[0].copy(), ROWS[1].copy()
    second[-1] = first[-1]
    assert (first[1:-1] != second[1:-1]).any()
    here, there = (interpreter.log_probs(row)[-1] for row in (first, second))
    assert np.abs(here - there).max() < 1e-12
    whole = Interpreter(PROGRAM, np.float64)
    assert np.abs(whole.log_probs(first)[-1] - whole.log_probs(second)[-1]).max() > 1e-6
    fixed = {name: part >= POSITION for name, part in parts.items() if name in makers}
    memory = Interpreter(held_at_means(PROGRAM, fixed, means(PROGRAM)), np.float64)
    twice = memory.log_probs(np.full(N_CTX, 5))
    assert np.abs(twice - twice[0]).max() < 1e-12


def test_holding_nothing_changes_nothing_and_voting_at_the_mean_is_a_constant() -> None:
    tokens = ROWS[0]
    own = Interpreter(PROGRAM, np.float64).log_probs(tokens)
    none = {"moved.0": np.zeros(PROGRAM.space("moved.0").size, bool)}
    assert np.array_equal(Interpreter(held_at_means(PROGRAM, none, {}), np.float64).log_probs(tokens), own)
    voting = {name: np.ones(len(mean), bool) for name, mean in means(PROGRAM).items() if name in parts_of(PROGRAM)}
    said = Interpreter(silenced(PROGRAM, voting, means(PROGRAM)), np.float64).log_probs(tokens)
    assert np.abs(said - said[0]).max() < 1e-12


def test_every_entry_is_counted_in_one_part() -> None:
    bits = bits_of(PROGRAM)
    whole = describe_program(PROGRAM)
    assert bits["whole"] == whole.bits
    assert bits["source"] == whole.source_bits
    assert all(bits[part] > 0 for part in PARTS)
    assert 0.7 < sum(bits[part] for part in PARTS) / whole.table_bits < 1.5
    words = PROGRAM.blocks[0]
    assert isinstance(words, Lookup)
    louder = replace(words, table=replace(words.table, values=words.table.values * np.float32(1.1)))
    changed = bits_of(replace(PROGRAM, blocks=(louder, *PROGRAM.blocks[1:])))
    assert changed["algorithm"] == bits["algorithm"]
    assert changed["position"] == bits["position"]


def test_nats_are_those_of_the_programs_that_are_left() -> None:
    measured = measure_memory(PROGRAM, ROWS, HELD_OUT)
    rows_of = {row["name"]: row for row in measured["programs"]}
    answers = [Interpreter(PROGRAM, np.float64).log_probs(row[:-1]) for row in HELD_OUT]
    said = [answer[np.arange(len(row) - 1), row[1:]] for answer, row in zip(answers, HELD_OUT, strict=True)]
    assert rows_of["whole"]["ce_nats"] == pytest.approx(-np.concatenate(said).mean(), abs=1e-4)
    assert rows_of["whole"]["kl_whole_part_nats"] == 0
    assert all(row["kl_whole_part_nats"] >= 0 for row in rows_of.values())
    assert measured["positions"] == 8 * (N_CTX - 1)
    nats = measured["nats"]
    total = rows_of["constants"]["ce_nats"] - rows_of["whole"]["ce_nats"]
    assert nats["memory"] + nats["position"] + nats["algorithm"] == pytest.approx(total)
    assert sum(measured["rules"].values()) == 48
    assert measured["rules"]["memory"] >= 1
    lines = summary_lines(measured)
    assert lines[0].startswith("memory: ")
    assert f"{nats['algorithm']:+.3f} nats" in lines[2]


def test_what_has_no_parts_is_refused() -> None:
    with pytest.raises(ConfigError, match="the program is featured; memory and algorithm are told apart in sparse"):
        parts_of(full_program("featured", 1))
    with pytest.raises(ConfigError, match="the program is made of looks, rules and votes; memory and algorithm cannot"):
        parts_of(induction())
    with pytest.raises(ConfigError, match="words: the first block of a program cannot be held"):
        held_at_means(PROGRAM, {"words": np.ones(20, bool)}, means(PROGRAM))
    with pytest.raises(ConfigError, match="places: only some coordinates are to be held, which is for rules"):
        held_at_means(PROGRAM, {"places": np.array([True, False, False, False])}, means(PROGRAM))
    with pytest.raises(ConfigError, match="the features of the program do not vote side by side"):
        silenced(full_program("sparse", 1), {"nothing": np.ones(1, bool)}, {})


def test_rules_that_make_no_feature_each_are_refused() -> None:
    """Programs of other hands may let several rules add to one feature; the parts are told by feature."""
    programs = (full_program("sparse", seed) for seed in range(20))
    uneven = next(
        program
        for program in programs
        if any(isinstance(b, Rules) and b.conditions.shape[0] > program.space(b.space).size for b in program.blocks)
    )
    with pytest.raises(ConfigError, match=r"rules add to \d+ features, expected one rule for each"):
        parts_of(uneven)
