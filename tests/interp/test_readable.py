"""A readable program by hand: its variables and answers, in every reading of it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emitted_tables import looked_into
from englishroom.emit.graph import graph, rows_of
from englishroom.errors import ConfigError
from englishroom.interp import reference
from englishroom.interp.recorded_run import RecordedRun
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Fire, Looks
from englishroom.ir.room import pack
from englishroom.ir.rule import rule_at, rule_count
from englishroom.ir.text import parse_code, parse_program, print_code, print_program
from englishroom.ir.verify import verify
from englishroom.names import CODE
from englishroom.passes.compact import Compact
from programs import random_readable, run_file, tokenizer_for, tokens_for, write_emitted
from readable import WORDS, induction, tokens

ABA = tokens("aba")
NAMES = (0.0, 3 / (3 + 1 / 2) - 0.25, (3 + 3 / 2) / (3 + 3 / 2 + 1 / 2) - 0.25, (3 + 3) / (3 + 3 + 1 / 2) - 0.25)
"""How far there are names, at each position."""
BY_HAND = {
    "lists": [[0] * 6, [1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 1, 0], [1, 0, 0, 0, 1, 0]],
    "position_basis": [[1, 0], [0, 1], [0, 1], [0, 1]],
    "moved.0": [[0] * 4, [0] * 4, [0.75, 0, 0, 0], [0, 0.75, 0, 0]],
    "rules.0": [[0, 1], [0, 0], [4 * 0.75 + 1 - 3, 0], [0, 0]],
    "moved.1": [[0, 0, 0, 0, there] for there in NAMES[:3]] + [[0, 9 / 12, 0, 0, NAMES[3]]],
    "rules.1": [[0], [0], [0], [2 * 9 / 12 + NAMES[3] - 1.5]],
    "list_votes": [[0] * 6] * 3 + [[0, 0, 0, 0, 0, 2 * NAMES[3]]],
}
VOTES = {
    0: {"<s>": -5.0, "a": 1.0},
    1: {"<s>": -5.0, "b": 0.5},
    2: {"<s>": -5.0, "a": -0.25, "c": 1.0},
    3: {"<s>": -5.0, "b": 0.5 + 4 * 9 / 12, "e": 4 * NAMES[3], "f": 4 * NAMES[3]},
}


def log_softmax(scores: list[float]) -> list[float]:
    return [score - math.log(sum(map(math.exp, scores))) for score in scores]


def by_hand() -> list[list[float]]:
    return [log_softmax([votes.get(word, 0.0) for word in WORDS]) for votes in VOTES.values()]


def test_the_answers_are_those_computed_by_hand(tmp_path: Path) -> None:
    program = induction()
    expected, found = reference.run(program, ABA.tolist()), Interpreter(program, np.float64).variables(ABA)
    for name, values in BY_HAND.items():
        np.testing.assert_allclose(expected[name], values, rtol=1e-12, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(found[name], values, rtol=1e-12, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(expected["log_probs"], by_hand(), rtol=1e-12)
    np.testing.assert_allclose(found["log_probs"], by_hand(), rtol=1e-12)
    answers, _ = looked_into(write_emitted(tmp_path, program), ABA.tolist())
    np.testing.assert_allclose(answers, by_hand(), rtol=1e-12)
    assert WORDS[int(np.argmax(answers[-1]))] == "b"


def test_single_precision_says_nearly_the_same() -> None:
    np.testing.assert_allclose(Interpreter(induction(), np.float32).log_probs(ABA), by_hand(), rtol=1e-5)


@pytest.mark.parametrize("text", ["abcabca", "abababa", "ddddddd", "kjihgfe"])
def test_longer_texts_are_read_alike_by_all_and_piece_by_piece(text: str, tmp_path: Path) -> None:
    program, read = induction(), tokens(text)
    expected = reference.log_probs(program, read.tolist())
    interpreter = Interpreter(program, np.float64)
    np.testing.assert_allclose(interpreter.log_probs(read), expected, rtol=1e-12)
    stream = interpreter.stream(batch=2)
    both = np.stack([read, read[::-1]])
    parts = [stream.extend(both[:, low:high]) for low, high in ((0, 1), (1, 2), (2, 5), (5, 8))]
    np.testing.assert_allclose(np.concatenate(parts, axis=1)[0], expected, rtol=1e-12)
    names = run_file(write_emitted(tmp_path, program))
    np.testing.assert_allclose(names["log_probs"](read.tolist()), expected, rtol=1e-12)


def test_it_goes_on_as_it_went_before(tmp_path: Path) -> None:
    """After ``abca`` comes b and after ``abcab`` c, in the emitted file as it talks."""
    names = run_file(write_emitted(tmp_path, induction()))
    assert "".join(names["talk"]("abca", greedy=True, max_tokens=2)) == "bc"


def test_it_is_printed_and_read_back_whole() -> None:
    program = induction()
    assert parse_program(print_program(program)) == program
    assert parse_code(print_code(program), program.tables()) == program
    lines = pack(program, tokenizer_for(12))[CODE].decode().splitlines()
    line = next(line for line in lines if line.startswith("Looks('moved.1'"))
    assert line.startswith("Looks('moved.1', 'moved.1', reads=('lists', 'position_basis', 'moved.0'), queries=Table(")
    assert "matches=(4, 0), lone_keys=Table('moved.1.lone_keys'), distance=" in line
    assert line.endswith("moved=(4, 1), window=None, origin=Origin('unknown'))")


def test_its_rules_are_counted_and_seen() -> None:
    program = induction()
    moved, rules = (next(b for b in program.blocks if b.name == name) for name in ("moved.1", "rules.0"))
    assert isinstance(moved, Looks)
    assert isinstance(rules, Fire)
    in_lists, positions, follows, matches, votes = 4 + 2 + 2, 8, 2, 4 + 4 + 1, 1 + 4 + 2
    assert rule_count(program) == (4 + 2 + 5 + 1) + in_lists + positions + follows + matches + votes
    first, last = rule_at(rules, 0), rule_at(moved, 4)
    assert (first.reads, first.bias, first.threshold, first.adds) == (((1, 1.0), (8, 4.0)), -3.0, 0.5, ((0, 1.0),))
    assert (last.reads, last.bias, last.threshold, last.adds) == (((4, 1.0),), -0.25, 0.0, ((4, 1.0),))


def test_a_run_says_where_it_looked_and_what_was_on() -> None:
    run = RecordedRun(Interpreter(induction(), np.float64), ABA)
    np.testing.assert_allclose(run.weights["moved.0"][0, 3], [0, 0, 0.75, 0.25], atol=1e-12)
    np.testing.assert_allclose(run.weights["moved.1"][0, 3], [1 / 12, 1 / 12, 9 / 12, 1 / 12], atol=1e-12)
    np.testing.assert_allclose(run.weights["moved.1"][1, 1], [1 / 7, 6 / 7, 0, 0], atol=1e-12)
    assert (run.variables["moved.1"] != 0).tolist()[3] == [False, True, False, False, True]


@pytest.mark.parametrize("seed", range(8))
def test_gradients_of_readable_programs_are_those_of_small_differences(seed: int) -> None:
    """Push each variable a little and run what comes after it; where a feature turns on or off, leave out."""
    program = random_readable(seed) if seed else induction()
    interpreter, read = Interpreter(program, np.float64), tokens_for(program, seed)[0]
    run, rng = RecordedRun(interpreter, read), np.random.default_rng(seed)
    direction = rng.normal(size=run.log_probs.shape)
    back = run.back(direction, "everything")
    names, compared = [block.name for block in program.blocks], 0
    for at, name in enumerate(names[:-1]):
        push = rng.normal(size=run.variables[name].shape)

        def pushed(step: float, at: int = at, name: str = name, push: np.ndarray = push) -> float:
            given = [run.variables[before] for before in names[:at]] + [run.variables[name] + step * push]
            stream = interpreter.stream()
            stream.resume(read[None, :], given)
            return sum((stream.values[names.index(r)] * direction).sum() for r in program.vote.reads)

        up, here, down = pushed(1e-6), pushed(0.0), pushed(-1e-6)
        if (up - here) == pytest.approx(here - down, rel=1e-2, abs=1e-9):
            assert (back[name] * push).sum() == pytest.approx((up - down) / 2e-6, rel=1e-3, abs=1e-4), name
            compared += 1
    assert compared >= len(back) // 2


@pytest.mark.parametrize("seed", range(8))
def test_what_a_feature_votes_by_itself_is_taken_out_exactly(seed: int) -> None:
    program = random_readable(seed)
    run = RecordedRun(Interpreter(program, np.float64), tokens_for(program, seed)[0])
    compared = 0
    for name, block in run.blocks.items():
        if isinstance(block, Looks | Fire):
            for index in range(block.conditions.shape[0]):
                told = run.without(name, index, direct=True)
                np.testing.assert_allclose(told, run.votes_without(name, index), rtol=1e-9, atol=1e-9)
                compared += 1
    assert compared > 4


def test_effects_spread_as_the_text_was_read() -> None:
    """What is taken out is predicted exactly until something that fired would fall silent, for it goes on firing."""
    program = induction()
    run = RecordedRun(Interpreter(program, np.float64), ABA)
    told, really = run.without("rules.1", 0), run.really_without("rules.1", 0)
    np.testing.assert_allclose(told, really, rtol=1e-12)
    assert np.abs(told - run.log_probs).max() > 0.1
    told, really = run.without("moved.1", 1), run.really_without("moved.1", 1)
    assert np.abs(told[:3] - really[:3]).max() < 1e-12
    votes = {**VOTES[3], "b": 0.5, "e": 4 * (NAMES[3] - 1.5), "f": 4 * (NAMES[3] - 1.5)}  # rules.1 goes on
    assert told[3] == pytest.approx(log_softmax([votes.get(word, 0.0) for word in WORDS]))
    assert really[3] == pytest.approx(log_softmax([{"<s>": -5.0, "b": 0.5}.get(word, 0.0) for word in WORDS]))


def test_compacting_leaves_out_looks_that_nothing_reads() -> None:
    program = induction()
    silent = tuple(block for block in program.blocks if block.name not in ("rules.1", "list_votes", "votes_of_lists"))
    votes = next(b for b in silent if b.name == "votes")
    keep = votes.weights.keep(votes.weights.rows() < 18)  # nothing votes or reads that there are names
    votes = replace(votes, reads=votes.reads[:-1], weights=replace(keep, starts=keep.starts[:-1]))
    vote = replace(program.vote, reads=("follows", "votes"))
    changed = replace(program, blocks=(*silent[:-2], votes, vote))
    assert verify(changed) == []
    smaller, rewrites = Compact()(changed)
    assert verify(smaller) == []
    looks = next(b for b in smaller.blocks if b.name == "moved.1")
    assert (looks.matches, looks.moved, looks.distance.shape) == ((4,), (4,), (1, 2))
    assert "moved.1: kept 4 of 5" in rewrites
    for text in ("abcabca", "abababa", "ddddddd"):
        expected = reference.log_probs(changed, tokens(text).tolist())
        np.testing.assert_allclose(reference.log_probs(smaller, tokens(text).tolist()), expected, rtol=1e-12)


def test_explaining_is_refused_for_now() -> None:
    with pytest.raises(ConfigError, match=r"^the program is made of looks, rules and votes, and such programs cannot"):
        graph(induction(), rows_of)
