"""A context that is set shorter than a model's configuration says, and contexts that no memory holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from englishroom.cli import main
from englishroom.data.texts import Text
from englishroom.errors import ArtifactError, ConfigError
from englishroom.evaluate.config import SampleOptions
from englishroom.evaluate.sample import samples
from englishroom.evaluate.tabulate import Known
from englishroom.evaluate.talkers.target import TargetTalker
from englishroom.interp.vectorised import Interpreter
from englishroom.lower.lift import lift
from englishroom.models.forward import log_probs
from englishroom.models.load import in_context, load_target
from englishroom.models.reference import largest_difference
from englishroom.models.spec import LONGEST_CONTEXT, weight_shapes
from englishroom.pipeline import DecompileConfig, ScoreConfig, decompile, open_talker, open_target, score_table
from englishroom.pipeline.scoring import known_of
from englishroom.talkers.record import read_training
from tiny import CASES, edit_config, make_gpt2, make_gpt_neo, make_llama, random_tokens


@pytest.mark.parametrize("name", CASES)
def test_a_shorter_context_changes_no_answer_within_it(name: str, tmp_path: Path):
    path = CASES[name].write(tmp_path / "model")
    whole, (cut, _) = load_target(str(path)), open_target(str(path), context=12)
    assert (cut.spec.n_ctx, cut.cut_from, whole.cut_from) == (12, 40, None)
    assert {key: tuple(t.shape) for key, t in cut.weights.items()} == weight_shapes(cut.spec)
    assert cut.sha256 == whole.sha256
    tokens = random_tokens(path, 2, 12)
    assert torch.equal(log_probs(cut.spec, cut.weights, tokens), log_probs(whole.spec, whole.weights, tokens))
    assert largest_difference(cut) < 1e-3  # what is printed on opening stays true


def test_where_vectors_of_positions_are_left_out_their_source_says_so(tmp_path: Path):
    target = in_context(load_target(str(make_gpt2(tmp_path))), 12)
    assert target.sources["pos_embed.W_pos"] == "transformer.wpe.weight[:12]"


@pytest.mark.parametrize("context", [-3, 0, 1, 41])
def test_a_context_that_a_model_has_not_is_refused(context: int, tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        open_target(str(make_gpt2(tmp_path / "model")), context=context)
    assert str(caught.value) == f"--context is {context}, expected 2 to 40, which model reads at most"


def test_a_room_made_with_a_shorter_context_says_so_and_is_measured_with_it(
    tiny_talker: Path, unseen_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    room, report = tmp_path / "room", tmp_path / "report"
    options = ["--context", "20", "--no-check"]
    assert main(["decompile", str(tiny_talker), "--level", "exact", "--out", str(room), *options]) == 0
    assert "context 20 of 32" in capsys.readouterr().err
    manifest = json.loads((room / "manifest.json").read_text())
    assert manifest["config"]["opening"]["context"] == 20
    assert manifest["target"]["spec"]["n_ctx"] == 20
    assert manifest["target"]["context_of_its_configuration"] == 32
    assert open_talker(str(room)).n_ctx == 20
    assert main(["report", str(room), "--report", str(unseen_file), "--max-documents", "3", "--out", str(report)]) == 0
    found = json.loads((report / "report.json").read_text())["measured"]
    assert "not_compared" not in found
    row = found["scores"]["rows"][1]
    assert row["kl_target_talker"] < 1e-5  # both were read in the same windows


def test_every_command_that_opens_models_takes_a_context(
    tiny_talker: Path, unseen_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model, options = str(tiny_talker), ["--context", "16", "--no-check"]
    text = ["--text", str(unseen_file), "--max-documents", "2"]
    assert main(["talk", model, "Once", *options]) == 0
    assert main(["score", model, *text, "--greedy-prompts", "0", "--out", str(tmp_path / "s"), *options]) == 0
    assert main(["compare", model, model, *text, *options]) == 0
    assert main(["sample", model, "--documents", "2", "--out", str(tmp_path / "s.txt"), *options]) == 0
    assert json.loads((tmp_path / "s.json").read_text())["settings"]["context"] == 16
    assert json.loads((tmp_path / "s.txt.json").read_text())["max_tokens"] == 16
    for tokens, cut in (("30", 16), ("5", 5)):
        out = str(tmp_path / f"{tokens}.txt")
        assert main(["sample", model, "--documents", "1", "--max-tokens", tokens, "--out", out, *options]) == 0
        assert json.loads((tmp_path / f"{tokens}.txt.json").read_text())["max_tokens"] == cut
    capsys.readouterr()
    assert main(["sample", model, "--out", str(tmp_path / "no.txt"), "--max-tokens", "0", *options]) == 1
    assert "--max-tokens is 0" in capsys.readouterr().err
    assert main(["sketch", model, "--context", "1", "--out", str(tmp_path / "sketch")]) == 1
    assert "--context is 1" in capsys.readouterr().err


def test_a_context_is_the_most_that_talkers_read_and_those_that_read_less_are_named(
    tiny_talker: Path, tiny_room: Path, capsys: pytest.CaptureFixture[str]
):
    said: list[str] = []
    for path in (tiny_talker, tiny_room):
        assert open_talker(str(path), check=False, context=20).n_ctx == 20
        assert open_talker(str(path), check=False, say=said.append, context=64).n_ctx == 32
        for context in (1, 0, -5):
            with pytest.raises(ConfigError, match=f"^--context is {context}, expected 2 or more$"):
                open_talker(str(path), check=False, context=context)
    assert said == [
        "tiny reads 32 tokens at most; --context 64 changes nothing for it",
        f"{tiny_room} (exact) reads 32 tokens at most; --context 64 changes nothing for it",
    ]


def test_a_training_curve_is_not_read_off_for_another_context_than_its_own(tiny_talker: Path):
    training = read_training(tiny_talker)
    assert training is not None
    text = replace(Text.of("held out", ["any"]), sha256=training["curves"][0]["sha256"])
    assert known_of(open_talker(str(tiny_talker), check=False), text).curve is not None
    assert known_of(open_talker(str(tiny_talker), check=False, context=16), text) == Known()


@pytest.mark.parametrize("make", [make_gpt2, make_gpt_neo])
def test_learned_positions_that_the_weights_do_not_have_are_refused(make, tmp_path: Path):
    key = "n_positions" if make is make_gpt2 else "max_position_embeddings"
    path = edit_config(make(tmp_path), **{key: 2**31 - 1})
    with pytest.raises(ArtifactError, match="config and weights do not belong together"):
        load_target(str(path))


SIZES = {
    make_gpt2: ("n_embd", "n_head", "n_layer", "n_inner", "vocab_size"),
    make_gpt_neo: ("hidden_size", "num_heads", "num_layers", "intermediate_size", "vocab_size"),
    make_llama: (
        *("hidden_size", "num_attention_heads", "num_key_value_heads", "num_hidden_layers"),
        *("intermediate_size", "vocab_size", "head_dim"),
    ),
}


@pytest.mark.parametrize("make", SIZES)
@pytest.mark.parametrize("value", [2**30, 2**31 - 2, 10**30])
def test_sizes_that_the_weights_do_not_bear_out_are_refused_before_anything_is_made_of_them(
    make: Callable[[Path], Path], value: int, tmp_path: Path
):
    path = make(tmp_path)
    config = (path / "config.json").read_text()
    tracemalloc.start()
    try:
        for key in SIZES[make]:
            with pytest.raises(ArtifactError):
                load_target(str(edit_config(path, **{key: value})))
            (path / "config.json").write_text(config)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_attention_types_without_end_are_refused_at_once(tmp_path: Path):
    path = edit_config(make_gpt_neo(tmp_path), attention_types=[[["global"], 10**12], [[], 10**12]])
    with pytest.raises(ArtifactError, match="does not give global or local for each of 2 layers"):
        load_target(str(path))


LIMIT = 6 * 2**30
"""Bytes that a process may ask for: torch and transformers take two to three of them."""
WITHIN = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({LIMIT}, {LIMIT}))
from englishroom.cli import main
from englishroom.data.texts import Text
sys.exit(main(sys.argv[1:]))
"""


def run_within(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WITHIN, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


def test_a_context_of_two_thousand_million_takes_memory_as_it_is_used(tmp_path: Path):
    model = edit_config(make_llama(tmp_path / "model"), max_position_embeddings=2**31 - 1)
    room = tmp_path / "room"
    made = run_within("decompile", str(model), "--level", "exact", "--out", str(room), "--no-check")
    assert made.returncode == 0, made.stderr
    told = run_within("talk", str(room), "Once", "--max-tokens", "5")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("Once")


def test_reading_on_past_the_first_room_changes_nothing(tmp_path: Path):
    model = make_llama(tmp_path / "model", max_position_embeddings=600, num_hidden_layers=1)
    program, _ = lift(load_target(str(model)))
    interpreter = Interpreter(program, np.float64)
    tokens = random_tokens(model, 2, 540).numpy()
    stream = interpreter.stream(2)
    pieces = [stream.extend(tokens[:, start : start + 90]) for start in range(0, 540, 90)]
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), interpreter.log_probs(tokens), atol=1e-9)


def test_where_whole_contexts_are_needed_one_without_end_is_refused(tmp_path: Path):
    model = edit_config(make_llama(tmp_path / "model"), max_position_embeddings=2**31 - 1)
    for level in ("featured", "sparse"):
        with pytest.raises(ConfigError, match=f"of {LONGEST_CONTEXT:,} at most; give a shorter --context"):
            decompile(DecompileConfig(str(model), level).changed(check=False), tmp_path / "room")
    talker = TargetTalker(*open_target(str(model)))
    with pytest.raises(ConfigError, match="give a shorter --max-tokens or --context"):
        next(samples(talker, range(1), SampleOptions()))
    assert len(next(samples(talker, range(1), SampleOptions(max_tokens=3))).tokens) <= 3


def test_settings_of_a_score_name_the_context(tiny_talker: Path, unseen_file: Path):
    config = ScoreConfig((str(tiny_talker),), text=str(unseen_file), max_documents=2, greedy_prompts=0)
    assert score_table(config.changed(check=False, context=16)).settings["context"] == 16
