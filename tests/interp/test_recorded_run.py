"""Effects followed through a text: derivatives against differences, and changes against running the program anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from englishroom.errors import ConfigError
from englishroom.interp.recorded_run import RecordedRun
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Match, Rules
from programs import KINDS, full_program, random_program, tokens_for
from tiny_slice import small_program, small_texts


@pytest.mark.parametrize("seed", range(8))
def test_gradients_are_those_of_small_differences(seed: int) -> None:
    """Push each variable a little, run what comes after it, and compare; where a rule or a choice turns, leave out."""
    program = full_program("sparse", seed) if seed else small_program()
    interpreter = Interpreter(program, np.float64)
    tokens = tokens_for(program, seed)[0]
    reading, rng = RecordedRun(interpreter, tokens), np.random.default_rng(seed)
    direction = rng.normal(size=reading.log_probs.shape)
    back = reading.back(direction, "everything")
    names, compared = [block.name for block in program.blocks], 0
    for at, name in enumerate(names[:-1]):
        push = rng.normal(size=reading.variables[name].shape)

        def pushed(step: float, at: int = at, name: str = name, push: np.ndarray = push) -> float:
            given = [reading.variables[before] for before in names[:at]] + [reading.variables[name] + step * push]
            stream = interpreter.stream()
            stream.resume(tokens[None, :], given)
            return sum((stream.values[names.index(read)] * direction).sum() for read in program.vote.reads)

        up, here, down = pushed(1e-6), pushed(0.0), pushed(-1e-6)
        if name in back and (up - here) == pytest.approx(here - down, rel=1e-2, abs=1e-9):
            assert (back[name] * push).sum() == pytest.approx((up - down) / 2e-6, rel=1e-3, abs=1e-4), name
            compared += 1
    assert compared >= len(back) // 2


@pytest.mark.parametrize("seed", range(8))
def test_a_rule_out_of_the_votes_alone_is_predicted_exactly(seed: int) -> None:
    kinds = [kind for kind in KINDS["sparse"] if kind != "select"]  # which may choose otherwise
    program = random_program("sparse", (*kinds, *reversed(kinds)), seed)
    reading = RecordedRun(Interpreter(program, np.float64), tokens_for(program, seed)[0])
    for name, block in reading.blocks.items():
        if isinstance(block, Rules):
            for rule in range(block.conditions.shape[0]):
                said = reading.without(name, rule, direct=True)
                assert np.abs(said - reading.votes_without(name, rule)).max() < 1e-9


def test_a_rule_is_really_taken_out() -> None:
    program = small_program()
    text = small_texts(1)[0][:-1]
    reading = RecordedRun(Interpreter(program, np.float64), text)
    name, parts = next((n, p) for n, p in reading.rules.items() if p.fired.any())
    rule = int(parts.fired.sum(0).argmax())
    block = reading.blocks[name]
    assert isinstance(block, Rules)
    high = block.thresholds.values.copy()
    high[rule] = 1e9
    never = replace(block, thresholds=replace(block.thresholds, values=high))
    without = replace(program, blocks=tuple(never if b.name == name else b for b in program.blocks))
    expected = Interpreter(without, np.float64).log_probs(text)
    assert np.abs(reading.really_without(name, rule) - expected).max() < 1e-9
    assert np.abs(expected - reading.log_probs).max() > 1e-3


def test_weights_are_those_by_which_heads_mix() -> None:
    program = small_program()
    reading = RecordedRun(Interpreter(program, np.float64), small_texts(1)[0][:-1])
    for name, block in reading.blocks.items():
        if isinstance(block, Match):
            mixed = reading.mix(block, reading.variables[block.values])
            assert np.abs(mixed - reading.variables[name]).max() < 1e-12


def test_what_is_not_sparse_is_refused() -> None:
    program = full_program("exact", 0)
    reading = RecordedRun(Interpreter(program, np.float64), tokens_for(program)[0])
    with pytest.raises(ConfigError, match=r"only programs at the sparse level can be followed, give one"):
        reading.back(np.ones_like(reading.log_probs), "everything")
