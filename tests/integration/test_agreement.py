"""The target, the reference interpreter, the fast interpreter and the emitted file give the same answers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor, float32

from englishroom.data.documents import read_documents
from englishroom.evaluate.score import score
from englishroom.evaluate.talk import TalkOptions, continuation, talk
from englishroom.evaluate.talkers.program import EmittedTalker, ProgramTalker
from englishroom.evaluate.talkers.target import TargetTalker
from englishroom.interp.reference import log_probs as reference_log_probs
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Normalise, Program
from englishroom.ir.room import load_program
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.verify import verify
from englishroom.lower.lift import lift
from englishroom.models.load import load_target
from englishroom.models.reference import largest_difference
from englishroom.passes.base import run_passes
from englishroom.passes.fold import FoldNorms
from englishroom.pipeline import DecompileConfig, decompile, open_target
from tiny import CASES, oracle_log_probs, random_tokens

N_POS = 40
"""The whole context of the tiny models."""
GREEDY = TalkOptions(greedy=True, max_tokens=200)
GOLDEN = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One"
    " day, she saw a big, red ball. She wanted to play with it, but it was too high.\n"
    "Lily's mom said, \"Lily, let's go to the park.\" Lily was sad and didn't know what to do. She said, \"I"
    " want to play with your ball, but I can't find it.\"\n"
    "Lily was sad and didn't know what to do. She said, \"I'm sorry, Lily. I didn't know what to do.\"\n"
    "Lily didn't want to help her mom, so she"
)
"""The story that llama2.c's own tests expect of stories260K: its 200 greedy tokens, 464 characters."""


class Decompiled:
    """A tiny model, what it answers to some tokens in float64, and the room made of it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.path = CASES[name].write(folder / "model")
        self.tokens: Tensor = random_tokens(self.path, batch=3, n_pos=N_POS)
        self.expected: NDArray[np.float64] = oracle_log_probs(self.path, self.tokens)
        self.room = folder / "room"
        self.manifest = decompile(DecompileConfig(str(self.path), "exact").changed(check=False), self.room)
        self.program: Program
        self.tokenizer: Tokenizer
        self.program, self.tokenizer = load_program(self.room)


@pytest.fixture(scope="module", params=CASES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Decompiled:
    return Decompiled(request.param, tmp_path_factory.mktemp("tiny"))


def gap(found: NDArray, expected: NDArray) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max())


def test_the_room_holds_the_lifted_program(made: Decompiled):
    program, _ = lift(load_target(str(made.path)))
    assert made.program == program
    assert (made.tokenizer, made.manifest.level) == (open_target(str(made.path))[1], "exact")


def test_the_reference_interpreter_answers_as_the_published_implementation(made: Decompiled):
    assert gap(reference_log_probs(made.program, made.tokens[0].tolist()), made.expected[0]) < 1e-9


def test_the_fast_interpreter_answers_as_the_published_implementation(made: Decompiled):
    interpreter = Interpreter(made.program, np.float64)
    tokens = made.tokens.numpy()
    batched = interpreter.log_probs(tokens)
    assert batched.dtype == np.float64
    assert gap(batched, made.expected) < 1e-9
    assert gap(interpreter.log_probs(tokens[1]), made.expected[1]) < 1e-9


@pytest.mark.parametrize("sizes", [[1] * N_POS, [9, 1, 2, 14, 1, 13], [33] + [1] * 7], ids=len)
def test_the_fast_interpreter_reads_bit_by_bit(sizes: list[int], made: Decompiled):
    stream = Interpreter(made.program, np.float64).stream(batch=3)
    parts = np.split(made.tokens.numpy(), np.cumsum(sizes)[:-1], axis=1)
    answers = [stream.extend(part) for part in parts]
    assert stream.length == N_POS
    assert gap(np.concatenate(answers, axis=1), made.expected) < 1e-9


def test_the_fast_interpreter_in_float32_answers_within_rounding(made: Decompiled):
    found = Interpreter(made.program, np.float32).log_probs(made.tokens.numpy())
    assert found.dtype == np.float32
    assert gap(found, oracle_log_probs(made.path, made.tokens, float32)) < 1e-4


def test_the_emitted_file_answers_as_the_published_implementation(made: Decompiled):
    with EmittedTalker(made.room / "program.py", made.tokenizer, made.program.n_ctx) as emitted:
        assert gap(emitted.log_probs(made.tokens[:2].numpy()), made.expected[:2]) < 1e-9
        reading = emitted.stream()  # a new text, after others
        answers = [reading.extend(made.tokens[2:, at : at + 8].numpy()) for at in range(0, N_POS, 8)]
    assert gap(np.concatenate(answers, axis=1), made.expected[2:]) < 1e-9


def test_all_talk_alike(made: Decompiled):
    """The target, both interpreters' program and the emitted file tell the same story greedily."""
    target, tokenizer = open_target(str(made.path))
    start = [tokenizer.start_id]
    stories = {"target": list(continuation(TargetTalker(target, tokenizer), start, GREEDY))}
    stories["program"] = list(continuation(ProgramTalker("", made.program, tokenizer), start, GREEDY))
    with EmittedTalker(made.room / "program.py", tokenizer, made.program.n_ctx) as emitted:
        stories["emitted"] = list(continuation(emitted, start, GREEDY))
    assert len(stories["target"]) > 0
    assert stories["program"] == stories["target"]
    assert stories["emitted"] == stories["target"]


def test_folding_norms_keeps_the_answers(made: Decompiled):
    folded, (record,) = run_passes(made.program, (FoldNorms(),))
    assert verify(folded) == []
    norms = [block for block in folded.blocks if isinstance(block, Normalise)]
    assert norms
    assert all(norm.gain is None and norm.bias is None for norm in norms)
    for norm in norms:
        assert any(f"folded the gain and bias of {norm.name} into " in rewrite for rewrite in record.rewrites)
    assert gap(Interpreter(folded, np.float64).log_probs(made.tokens.numpy()), made.expected) < 1e-9
    assert gap(reference_log_probs(folded, made.tokens[0].tolist()), made.expected[0]) < 1e-9
    assert FoldNorms()(folded) == (folded, ())


def test_a_changed_program_does_not_agree(made: Decompiled):
    """The comparisons above would notice one table that is off by a thousandth."""
    blocks = list(made.program.blocks)
    at = next(i for i, block in enumerate(blocks) if block.name == "blocks.0.attn.hook_v")
    weight = blocks[at].weight
    blocks[at] = replace(blocks[at], weight=replace(weight, values=weight.values * 1.001))
    changed = replace(made.program, blocks=tuple(blocks))
    assert gap(Interpreter(changed, np.float64).log_probs(made.tokens.numpy()), made.expected) > 1e-6


def decompile_shared(name: str, shared_dir: Path, out: Path) -> Path:
    decompile(DecompileConfig(str(shared_dir / "models" / name), "exact").changed(check=False), out)
    return out


@pytest.fixture(scope="module")
def room_260k(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return decompile_shared("stories260K", shared_dir, tmp_path_factory.mktemp("stories260K") / "room")


@pytest.mark.shared
def test_stories260k_tells_its_golden_story(room_260k: Path):
    """The story that llama2.c's own tests expect of this model (its 200 greedy tokens)."""
    command = [sys.executable, "-I", "-S", str(room_260k / "program.py"), "--greedy", "--max-tokens", "200"]
    printed = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    assert printed.stderr == ""
    story = printed.stdout.removesuffix("\n")
    assert len(story) == 464
    assert story == GOLDEN
    program, tokenizer = load_program(room_260k)
    for dtype in (np.float32, np.float64):
        assert "".join(talk(ProgramTalker("", program, tokenizer, dtype), "", GREEDY)) == story


@pytest.mark.shared
def test_stories260k_is_what_transformers_computes(shared_dir: Path):
    target = load_target(str(shared_dir / "models" / "stories260K"))
    assert largest_difference(target, n_positions=512) < 1e-4


@pytest.mark.shared
def test_stories260k_scores_the_same_as_its_program(shared_dir: Path, room_260k: Path):
    documents = read_documents(shared_dir / "data" / "tinystories_valid.txt")[:200]
    target, tokenizer = open_target(str(shared_dir / "models" / "stories260K"))
    of_target = score(TargetTalker(target, tokenizer), documents)
    of_program = score(ProgramTalker("", load_program(room_260k)[0], tokenizer), documents)
    assert (of_target.documents, of_target.tokens) == (200, of_program.tokens)
    assert abs(of_program.bits_per_byte - of_target.bits_per_byte) < 1e-5
    assert 0.5 < of_target.bits_per_byte < 1.0


@pytest.mark.shared
def test_stories15m_program_says_what_the_target_says(shared_dir: Path, tmp_path: Path):
    """Fed the target's greedy story, the emitted file finds each of its 200 tokens likeliest: it tells the same."""
    room = decompile_shared("stories15M", shared_dir, tmp_path / "room")
    target, tokenizer = open_target(str(shared_dir / "models" / "stories15M"))
    story = [tokenizer.start_id, *continuation(TargetTalker(target, tokenizer), [tokenizer.start_id], GREEDY)]
    assert len(story) == 201
    with EmittedTalker(room / "program.py", tokenizer, target.spec.n_ctx) as emitted:
        answers = emitted.log_probs(np.array([story[:-1]]))[0]
    assert answers.argmax(axis=-1).tolist() == story[1:]
    expected = TargetTalker(target, tokenizer).log_probs(np.array([story[:-1]]))[0]
    assert gap(answers, expected) < 1e-3
