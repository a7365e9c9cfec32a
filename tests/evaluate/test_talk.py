"""Talking: limits, stops, and the choice of tokens."""

from __future__ import annotations

import numpy as np
import pytest

from englishroom.errors import ConfigError
from englishroom.evaluate.talk import TalkOptions, choose, continuation, prompt_tokens, talk
from englishroom.evaluate.talkers.program import ProgramTalker
from englishroom.evaluate.talkers.target import TargetTalker
from englishroom.ir.room import load_program
from englishroom.pipeline import open_target


@pytest.fixture
def talkers(tiny_talker, tiny_room):
    """Return the same model as target and as program."""
    program, tokenizer = load_program(tiny_room)
    return TargetTalker(*open_target(str(tiny_talker))), ProgramTalker("program", program, tokenizer, np.float64)


@pytest.mark.parametrize("options", [TalkOptions(greedy=True), TalkOptions(seed=7), TalkOptions(seed=1, top_k=3)])
def test_target_and_program_tell_the_same_story(talkers, options) -> None:
    target, program = talkers
    assert "".join(talk(target, "Lily saw", options)) == "".join(talk(program, "Lily saw", options))


def test_seed_decides_the_story(talkers) -> None:
    _, program = talkers
    stories = ["".join(talk(program, "Tom", TalkOptions(seed=seed, temperature=2.0))) for seed in (1, 1, 2)]
    assert stories[0] == stories[1] != stories[2]


def test_greedy_temperature_zero_and_top_one_agree(talkers) -> None:
    _, program = talkers
    ways = (TalkOptions(greedy=True), TalkOptions(temperature=0.0), TalkOptions(top_k=1, seed=3))
    assert len({"".join(talk(program, "Tom", options)) for options in ways}) == 1


def test_the_context_is_used_to_its_last_position(talkers) -> None:
    for talker in talkers:
        never_stops = TalkOptions(greedy=True)
        prompt = prompt_tokens(talker, "Tom")
        tokens = list(continuation(talker, prompt, never_stops))
        assert len(prompt) + len(tokens) == talker.n_ctx + 1 or tokens == []
        assert len(list(continuation(talker, prompt, TalkOptions(greedy=True, max_tokens=2)))) <= 2
        assert list(continuation(talker, prompt, TalkOptions(max_tokens=0))) == []


def test_options_out_of_range(talkers) -> None:
    for options, name in (
        (TalkOptions(temperature=-1), "--temperature"),
        (TalkOptions(temperature=float("nan")), "--temperature"),
        (TalkOptions(top_k=0), "--top-k"),
        (TalkOptions(max_tokens=-1), "--max-tokens"),
    ):
        with pytest.raises(ConfigError, match=name):
            options.validate()


def test_choose_by_hand() -> None:
    answer = np.log([0.1, 0.2, 0.3, 0.4])
    assert [choose(answer, chance, 1.0, None) for chance in (0.0, 0.09, 0.11, 0.31, 0.59, 0.61, 0.999)] == [
        0,
        0,
        1,
        2,
        2,
        3,
        3,
    ]
    assert [choose(answer, chance, 1.0, 2) for chance in (0.0, 0.42, 0.44)] == [2, 2, 3]  # 3/7 = 0.4286
    assert choose(answer, 0.5, 1e-3, None) == 3  # cold
    shares = np.bincount([choose(answer, chance, 0.5, None) for chance in (np.arange(3000) + 0.5) / 3000]) / 3000
    assert shares == pytest.approx(np.array([1, 4, 9, 16]) / 30, abs=1e-3)
