"""Emitted programs as their user meets them: the command line, the module, and how they choose tokens."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from englishroom.emit.prelude import arithmetic, talking
from englishroom.evaluate.talk import TalkOptions, choose, continuation, talk
from englishroom.evaluate.talkers.program import EmittedTalker, ProgramTalker
from englishroom.ir.program import Lookup, Program, Table
from englishroom.ir.tokenizer import Tokenizer
from programs import LETTERS, chain, run_file, tokenizer_for, write_emitted

N_CTX = chain().n_ctx


def endless(program: Program) -> Program:
    """Forbid the end of the story."""
    lookup = program.blocks[0]
    assert isinstance(lookup, Lookup)
    scores = lookup.table.values.copy()
    scores[:, 0] = -1e6
    return replace(program, blocks=(replace(lookup, table=Table("W", scores)), program.blocks[1]))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_emitted(tmp_path_factory.mktemp("story"), chain())


@pytest.fixture(scope="module")
def told(story: Path) -> dict[str, Any]:
    return run_file(story)


def run(path: Path, *arguments: str | bytes, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run an emitted file in a bare Python; return its status and what it printed."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", path, *arguments],
        capture_output=True,
        cwd="/",
        env=None if env is None else {**os.environ, **env},
    )
    return done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8")


@pytest.mark.parametrize("arguments", [("--greedy",), ("--temperature", "0"), ("--top-k", "1", "--seed", "3")])
def test_three_ways_of_taking_the_likeliest(story: Path, arguments: tuple[str, ...]) -> None:
    assert run(story, "cd", *arguments) == (0, "cdefgh\n", "")


def test_an_empty_prompt_starts_a_new_story(story: Path) -> None:
    assert run(story, "--greedy") == (0, f"{LETTERS}\n", "")


def test_a_seed_tells_the_same_story_again(story: Path, told: dict[str, Any]) -> None:
    stories = {seed: run(story, "a", "--seed", str(seed)) for seed in (1, 2)}
    assert run(story, "a", "--seed", "1") == stories[1]
    assert stories[1][0] == 0
    assert len({"".join(told["talk"]("a", seed=seed)) for seed in range(20)}) > 5
    for seed, (_, text, _) in stories.items():
        assert text == "a" + "".join(told["talk"]("a", seed=seed)) + "\n"


def test_the_number_of_tokens_is_bounded(story: Path) -> None:
    assert run(story, "c", "--greedy", "--max-tokens", "0") == (0, "c\n", "")
    assert run(story, "c", "--greedy", "--max-tokens", "2") == (0, "cde\n", "")
    assert run(story, "c", "--greedy", "--max-tokens", "99") == (0, "cdefgh\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--temperature", "-0.1"), "argument --temperature: '-0.1' is not a number of 0 or more"),
        (("--temperature", "nan"), "argument --temperature: 'nan' is not a number of 0 or more"),
        (("--temperature", "inf"), "argument --temperature: 'inf' is not a number of 0 or more"),
        (("--temperature", "warm"), "argument --temperature: 'warm' is not a number of 0 or more"),
        (("--top-k", "0"), "argument --top-k: '0' is not a number of 1 or more"),
        (("--top-k", "1.5"), "argument --top-k: '1.5' is not a number of 1 or more"),
        (("--max-tokens", "-1"), "argument --max-tokens: '-1' is not a number of 0 or more"),
        (("--seed", "x"), "argument --seed: invalid int value: 'x'"),
        (("--loud",), "unrecognized arguments: --loud"),
        (("a", "b"), "unrecognized arguments: b"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    arguments: tuple[str, ...], message: str, told: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        told["main"](list(arguments))
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {message}\n")


def test_a_refused_setting_is_exit_status_2(story: Path) -> None:
    status, out, err = run(story, "--top-k", "0")
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].endswith("error: argument --top-k: '0' is not a number of 1 or more")


def test_help_lists_every_option(story: Path) -> None:
    status, out, err = run(story, "--help")
    assert (status, err) == (0, "")
    for option in ("prompt", "--temperature", "--top-k", "--seed", "--max-tokens", "--greedy"):
        assert option in out


def test_a_prompt_may_fill_the_context_and_no_more(story: Path) -> None:
    """With the start token it has one token less than the context has positions; one more token can be told."""
    status, out, err = run(story, "a" * (N_CTX - 1), "--greedy")
    assert (status, out, err) == (0, "a" * (N_CTX - 1) + "b\n", "")
    message = f"error: the prompt has {N_CTX + 1} tokens, the context holds {N_CTX}; shorten the prompt\n"
    assert run(story, "a" * N_CTX) == (1, "", message)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("abx", "the vocabulary has no token for byte 0x78 of character 'x'"),
        ("\x1b[31m", r"the vocabulary has no token for byte 0x1b of character '\x1b'"),
        ("\u202e", r"the vocabulary has no token for byte 0xe2 of character '\u202e'"),
        (b"\xff", r"'utf-8' codec can't encode character '\udcff' in position 0: surrogates not allowed"),
    ],
)
def test_a_prompt_outside_the_vocabulary_is_one_line(story: Path, prompt: str | bytes, message: str) -> None:
    assert run(story, prompt) == (1, "", f"error: {message}\n")


def test_a_story_ends_with_the_context(tmp_path: Path) -> None:
    program = endless(chain())
    path = write_emitted(tmp_path, program)
    names = run_file(path)
    for prompt in ("", "abc", "a" * (N_CTX - 1)):
        text = "".join(names["talk"](prompt, seed=4))
        assert len(prompt) + len(text) == N_CTX
        talker = ProgramTalker("p", program, tokenizer_for(program.d_vocab), np.float64)
        assert text == "".join(talk(talker, prompt, TalkOptions(seed=4)))


@given(
    prompt=st.text(LETTERS, max_size=N_CTX - 1),
    seed=st.integers(0, 2**64),
    temperature=st.sampled_from([0.0, 0.1, 0.7, 1.0, 3.0]),
    top_k=st.none() | st.integers(1, 12),
    max_tokens=st.none() | st.integers(0, 12),
    greedy=st.booleans(),
)
@settings(deadline=None, max_examples=80)
def test_the_file_and_the_package_tell_the_same_story(
    told: dict[str, Any],
    prompt: str,
    seed: int,
    temperature: float,
    top_k: int | None,
    max_tokens: int | None,
    greedy: bool,
) -> None:
    program = chain()
    talker = ProgramTalker("chain", program, tokenizer_for(program.d_vocab), np.float64)
    options = TalkOptions(temperature, top_k, seed, max_tokens, greedy)
    expected = "".join(talk(talker, prompt, options))
    assert "".join(told["talk"](prompt, temperature, top_k, seed, max_tokens, greedy)) == expected


def test_the_file_is_a_talker(story: Path) -> None:
    program = chain()
    with EmittedTalker(story, tokenizer_for(program.d_vocab), N_CTX) as emitted:
        tokens = np.array([[0, 3, 1], [0, 1, 2]])
        inside = ProgramTalker("chain", program, tokenizer_for(program.d_vocab), np.float64)
        np.testing.assert_allclose(emitted.log_probs(tokens), inside.log_probs(tokens), atol=1e-12)
        options = TalkOptions(seed=11)
        assert list(continuation(emitted, [0, 3], options)) == list(continuation(inside, [0, 3], options))


def test_it_is_a_module(story: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.dont_write_bytecode = True; import program\n"
        "print(''.join(program.talk('ab', greedy=True)))\n"
        "print([round(sum(map(program.math.exp, answer)), 12) for answer in program.log_probs([0, 1])])\n"
        "print(program.N_CTX, program.D_VOCAB, program.TOKENIZER.encode('ab'))\n"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, story.parent], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["cdefgh", "[1.0, 1.0]", f"{N_CTX} 9 [1, 2]"]


def test_the_module_refuses_what_the_interpreter_refuses(told: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{N_CTX + 1} tokens do not fit the context of {N_CTX}$"):
        told["log_probs"]([0] * (N_CTX + 1))
    for wrong in (-1, 9):
        with pytest.raises(ValueError, match=r"^a token is outside the vocabulary, expected 0\.\.8$"):
            told["log_probs"]([0, wrong])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda path: path.unlink(),
            "No such file or directory; the program needs its tables beside it, restore the room",
        ),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-1]),
            "not the tables this program was written with (sha256 differs); restore the room",
        ),
        (
            lambda path: (path.unlink(), path.mkdir()),
            "Is a directory; the program needs its tables beside it, restore the room",
        ),
    ],
    ids=["missing", "changed", "folder"],
)
def test_tables_that_are_not_there_are_one_line(tmp_path: Path, spoil: Any, message: str) -> None:
    path = write_emitted(tmp_path, chain())
    spoil(tmp_path / "tables.safetensors")
    assert run(path) == (1, "", f"{tmp_path / 'tables.safetensors'}: {message}\n")


WILD = (b"\x1b", b"[31m", b"\x07\r\x08", b"\xe2\x80\xae", b"\n\t", b"\xff", b"\xf0\x9f\x8e\x88", b"\xc2\x9b")
SHOWN = "\\x1b[31m\\x07\\r\\x08\\u202e\n\t\ufffd\U0001f388\\x9b"


def test_control_characters_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    """Whether they come from the prompt or from the vocabulary."""
    tokenizer = Tokenizer(
        kind="byte_bpe",
        pieces=(b"<s>", *WILD),
        merges=(),
        scores=(),
        byte_ids=tuple({0x1B: 1, 0xFF: 6}.get(byte, -1) for byte in range(256)),
        specials=(0,),
        start_id=0,
        stop_ids=(0,),
        prefix_space=False,
    )
    path = write_emitted(tmp_path, chain(), tokenizer)
    assert run(path, "--greedy") == (0, f"{SHOWN}\n", "")
    assert run(path, "\x1b", "--greedy") == (0, f"{SHOWN}\n", "")
    assert run(path, "--greedy", env={"LC_ALL": "C"}) == (0, f"{SHOWN}\n", "")


@given(st.text())
@settings(deadline=None, max_examples=200)
def test_what_is_shown_can_be_printed(text: str) -> None:
    shown = talking.shown(text)
    kept = shown.replace("\n", "").replace("\t", "")
    assert not any(
        character < " " or "\x7f" <= character <= "\x9f" or "\ud800" <= character <= "\udfff" for character in kept
    )
    assert not set(kept) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2028\u2029\u200b\u200e\ufeff\xad")
    plain = "".join(character for character in text if character.isprintable() or character in "\n\t")
    if plain == text:
        assert shown == text


SCORES = st.lists(st.floats(-30, 0), min_size=1, max_size=30)


@given(SCORES, st.floats(0, 1, exclude_max=True), st.floats(0.05, 5), st.none() | st.integers(1, 40))
@settings(deadline=None, max_examples=300)
def test_tokens_are_chosen_alike_inside_and_outside(
    answer: list[float], chance: float, temperature: float, top_k: int | None
) -> None:
    scores = np.array(answer)
    kept = np.sort(np.argsort(-scores, kind="stable")[:top_k])
    summed = np.cumsum(np.exp((scores[kept] - scores.max()) / temperature))
    assume(np.abs(summed / summed[-1] - chance).min() > 1e-9)
    token = talking.choose(answer, chance, temperature, top_k)
    assert token == choose(scores, chance, temperature, top_k)
    assert token == kept[np.argmax(summed > chance * summed[-1])]


@given(st.lists(st.sampled_from([-1.0, -2.0, -2.5]), min_size=1, max_size=9), st.integers(1, 9))
@example([-1.0], 1)
@settings(deadline=None, max_examples=100)
def test_the_last_chance_still_chooses(answer: list[float], top_k: int) -> None:
    """At the largest chance below 1 the last of the k likeliest is taken; ties among them go to the lower index."""
    almost = 1 - 2**-53
    allowed = sorted(sorted(range(len(answer)), key=lambda token: -answer[token])[:top_k])
    assert talking.choose(answer, almost, 1.0, top_k) == choose(np.array(answer), almost, 1.0, top_k) == allowed[-1]
    assert talking.choose(answer, 0.0, 1.0, top_k) == choose(np.array(answer), 0.0, 1.0, top_k) == allowed[0]
    assert talking.likeliest(answer) == answer.index(max(answer))


def test_what_has_no_chance_is_never_chosen() -> None:
    for answer, token in (([-5000.0, 0.0, -1.0], 1), ([-1.0, 0.0, -5000.0], 0)):
        assert talking.choose(answer, 0.0, 1.0, None) == choose(np.array(answer), 0.0, 1.0, None) == token
    assert talking.choose([-1.0, 0.0, -5000.0], 1 - 2**-53, 1.0, None) == 1


def test_chances_are_shares_of_the_probabilities() -> None:
    answer = np.log([0.1, 0.2, 0.3, 0.4])
    generator = random.Random(0)
    for temperature, top_k, expected in (
        (1.0, None, [0.1, 0.2, 0.3, 0.4]),
        (1.0, 2, [0, 0, 3 / 7, 4 / 7]),
        (0.5, None, [1 / 30, 4 / 30, 9 / 30, 16 / 30]),
    ):
        counts = np.zeros(4)
        for _ in range(4000):
            counts[talking.choose(answer.tolist(), generator.random(), temperature, top_k)] += 1
        np.testing.assert_allclose(counts / counts.sum(), expected, atol=0.03)


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=9))
@settings(deadline=None, max_examples=60)
def test_the_sum_of_products_of_old_pythons(pairs: list[tuple[float, float]]) -> None:
    """Python 3.11 has no ``math.sumprod``; the spare one gives the same up to rounding."""
    p, q = map(list, zip(*pairs, strict=True))
    np.testing.assert_allclose(arithmetic.sumprod(p, q), np.dot(p, q), rtol=1e-9, atol=1e-9)
