"""What a program is compared on: far enough that heads look back and past their windows, whatever the model says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from englishroom.errors import ConfigError
from englishroom.evaluate.talkers.program import EmittedTalker, ProgramTalker
from englishroom.ir.program import Program, Table
from englishroom.lower.lift import lift
from englishroom.models.load import load_target
from englishroom.pipeline import DecompileConfig, checking, decompile
from englishroom.pipeline.checking import (
    EMITTED_POSITIONS,
    check_emitted,
    lengthened,
    positions_to_emit,
    positions_to_read,
    windows_of,
)
from englishroom.pipeline.evidence import CheckedText, EmittedAgreement
from programs import chain, tokenizer_for, write_emitted
from readable import induction
from tiny import make_gpt2, make_gpt_neo, tensors_of, write_tensors

WINDOW = 150


def silent(model: Path) -> Path:
    """Let a GPT-Neo end every story at once, and what it says depend on the text all the same."""
    tensors = tensors_of(model)
    tensors["transformer.ln_f.weight"] *= 0.05
    tensors["transformer.ln_f.bias"] = 20 * tensors["transformer.wte.weight"][0]
    write_tensors(model, tensors)
    return model


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("local")
    return silent(make_gpt_neo(folder / "model", window_size=WINDOW, max_position_embeddings=200, vocab_size=300))


def test_a_model_that_says_nothing_is_checked_on_random_tokens_past_its_window(local: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    manifest = decompile(DecompileConfig(str(local), "exact"), tmp_path / "room", lines.append)
    evidence = manifest.evidence
    assert evidence["measured_positions"] == WINDOW + checking.BEYOND
    assert evidence["measured_random_positions"] == WINDOW + checking.BEYOND - 1
    assert evidence["emitted_positions"] == WINDOW + checking.BEYOND
    assert evidence["emitted_random_positions"] == WINDOW + checking.BEYOND - 1
    assert evidence["emitted_vs_program_nats"] < 1e-9
    assert any(f"({WINDOW + checking.BEYOND} random tokens)" in line for line in lines)
    header = (tmp_path / "room" / "program.py").read_text(encoding="utf-8")[:1500]
    assert f"on a greedy story of 1 tokens and {WINDOW + checking.BEYOND - 1} random ones its log-probab" in header


def test_a_program_that_is_wrong_behind_the_window_is_found(
    local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(given: object) -> object:
        program, record = lift(given)  # type: ignore[arg-type]
        blocks = [replace(b, window=None) if getattr(b, "window", None) else b for b in program.blocks]
        return replace(program, blocks=tuple(blocks)), record

    monkeypatch.setattr("englishroom.lower.lift.lift", forgetful)
    with pytest.raises(ConfigError, match="the program differs from the target by"):
        decompile(DecompileConfig(str(local), "exact").changed(check=False), tmp_path / "room")


def test_larger_models_are_run_far_enough_to_look_back(
    local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "EMITTED_NUMBERS", 1)
    monkeypatch.setattr(checking, "CROSSING_NUMBERS", 1)
    model = make_gpt2(tmp_path / "model")
    evidence = decompile(DecompileConfig(str(model), "exact").changed(check=False), tmp_path / "room").evidence
    assert evidence["emitted_positions"] == EMITTED_POSITIONS
    lines: list[str] = []
    decompile(DecompileConfig(str(local), "exact").changed(check=False), tmp_path / "windowed", lines.append)
    assert f"program.py is checked on {EMITTED_POSITIONS} positions, inside the window of {WINDOW}" in lines


def test_how_far_is_read() -> None:
    assert positions_to_read([None, None], 256, 64) == 64
    assert positions_to_read([None, 256], 2048, 64) == 256 + checking.BEYOND
    assert positions_to_read([None, 256], 260, 64) == 260
    assert positions_to_read([], 12, 64) == 12


def test_how_far_the_file_reads_depends_on_what_a_position_costs(local: Path) -> None:
    program, _ = lift(load_target(str(local)))
    assert windows_of(program) == [WINDOW]
    assert windows_of(induction()) == [2]
    assert positions_to_emit(program) == program.n_ctx
    assert positions_to_emit(widened(chain(), 20_000)) == chain().n_ctx


def widened(program: Program, n_rows: int) -> Program:
    """Give a program a table of so many rows, of which every position reads one."""
    lookup, vote = program.blocks
    table = Table("W", np.zeros((n_rows, program.d_vocab)))
    return replace(program, blocks=(replace(lookup, table=table), vote))


def test_random_tokens_are_the_same_every_time() -> None:
    text = lengthened([0, 5], 40, 9)
    assert text.tokens[:2] == [0, 5]
    assert len(text.tokens) == 40
    assert text.n_random == 38
    assert set(text.tokens) <= set(range(9))
    assert text == lengthened([0, 5], 40, 9)
    assert lengthened([0, 5], 2, 9) == CheckedText([0, 5])
    assert text.first(2) == CheckedText([0, 5])
    assert text.first(3) == CheckedText(text.tokens[:3], 1)
    assert text.first(99) == text


def test_a_file_that_says_something_else_is_refused(tmp_path: Path) -> None:
    program = chain()
    path = write_emitted(tmp_path, program)
    tokenizer = tokenizer_for(program.d_vocab)
    text = lengthened([0], 6, program.d_vocab)
    expected = ProgramTalker("", program, tokenizer, np.float64).log_probs(np.array([text.tokens]))[0]
    found = check_emitted(EmittedTalker(path, tokenizer, program.n_ctx), text, expected, lambda _s, _d, _t: None)
    assert found == EmittedAgreement(text, found.gap_nats)
    assert found.gap_nats < 1e-9
    expected[5, 2] += 1
    with pytest.raises(ConfigError, match="the program differs from the interpreter by 1 nats"):
        check_emitted(EmittedTalker(path, tokenizer, program.n_ctx), text, expected, lambda _s, _d, _t: None)
