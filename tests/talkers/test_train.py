"""Training: resumable, deterministic, and written as an ordinary GPT-2 folder."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from englishroom.errors import ConfigError
from englishroom.models.forward import log_probs
from englishroom.models.load import load_target
from englishroom.talkers.build import build_talker
from englishroom.talkers.config import TrainConfig
from englishroom.talkers.shipped import DEFAULT, shipped_names, shipped_path
from englishroom.talkers.text import TokenisedText
from englishroom.talkers.train import Run, batches, curve_steps, rate_factor

TINY = TrainConfig(n_layers=1, d_model=16, n_heads=2, n_ctx=32, vocabulary=300, tokens=4 * 32 * 20, batch=4)


class Killed(Exception):
    pass


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_killed_run_resumes_to_the_same_weights(story_file: Path, tmp_path: Path, precision: str) -> None:
    config = dataclasses.replace(TINY, precision=precision)
    whole = build_talker([story_file], tmp_path / "whole", config)
    at = random.randrange(1, config.n_steps)

    def kill(run: Run, _loss: float) -> None:
        if run.step == at:
            run.save(tmp_path / "parts" / "work" / "checkpoint.pt")
        if run.step == min(at + 2, config.n_steps):  # steps after the checkpoint are lost and done again
            raise Killed

    with pytest.raises(Killed):
        build_talker([story_file], tmp_path / "parts", config, on_step=kill)
    resumed = build_talker([story_file], tmp_path / "parts", config)
    assert resumed.step == config.n_steps
    assert resumed.curve == whole.curve
    for name, weight in whole.weights.items():
        assert torch.equal(weight, resumed.weights[name]), f"{name} differs after a kill at step {at}"
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert files[0] == files[1]


def test_training_lowers_the_validation_loss(story_file: Path, tmp_path: Path) -> None:
    run = build_talker([story_file], tmp_path / "talker", dataclasses.replace(TINY, tokens=4 * 32 * 60))
    assert run.curve[-1]["nats"] < 0.8 * run.curve[0]["nats"]


def test_another_run_in_the_same_folder_is_refused(story_file: Path, tmp_path: Path) -> None:
    build_talker([story_file], tmp_path / "talker", TINY)
    with pytest.raises(ConfigError, match="holds a run with other settings or texts"):
        build_talker([story_file], tmp_path / "talker", dataclasses.replace(TINY, seed=1))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_heads": 3}, "not a multiple of n_heads"),
        ({"vocabulary": 60_000}, "lower --vocabulary or give more text"),
        ({"vocabulary": 100}, "--vocabulary is 100, expected 257"),
        ({"batch": 10_000}, "fewer than one batch"),
        ({"batch": 0}, "--batch is 0, expected 1 or more"),
        ({"n_layers": 0}, "--n-layers is 0, expected 1 or more"),
        ({"seed": -1}, "--seed is -1, expected 0 or more"),
        ({"matrix_rate": float("nan")}, "--matrix-rate is nan, expected a number above 0"),
        ({"choose_share": 1.5}, "--choose-share is 1.5, expected 0 to 1"),
        ({"n_ctx": 100_000}, "too few for a context of 100000"),
    ],
)
def test_settings_that_make_no_sense(story_file: Path, tmp_path: Path, changes: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_talker([story_file], tmp_path / "talker", dataclasses.replace(TINY, **changes))


def test_no_text_and_places_that_hold_other_things(story_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no text to train on"):
        build_talker([], tmp_path / "talker", TINY)
    (tmp_path / "config.json").write_text("precious")
    with pytest.raises(ConfigError, match="holds other things, and no run to go on with"):
        build_talker([story_file], tmp_path, TINY)
    with pytest.raises(ConfigError, match="is a file"):
        build_talker([story_file], tmp_path / "config.json", TINY)
    assert (tmp_path / "config.json").read_text() == "precious"


def test_the_folder_loads_in_transformers(tiny_talker: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_talker, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_talker)
    tokens = torch.tensor([tokenizer("Once upon a time there was Lily")["input_ids"]])
    assert tokenizer.decode(tokens[0]) == "Once upon a time there was Lily"
    target = load_target(str(tiny_talker))
    with torch.inference_mode():
        theirs = model(tokens).logits.log_softmax(-1)
    assert (log_probs(target.spec, target.weights, tokens) - theirs).abs().max() < 1e-4


def test_training_record_names_texts_seed_and_versions(tiny_talker: Path) -> None:
    record = json.loads((tiny_talker / "training.json").read_text())
    assert record["config"]["seed"] == 0
    assert record["texts"] == ["stories.txt"]
    assert len(record["text_sha256"]["fit"]) == 64
    assert record["versions"]["torch"] == torch.__version__
    assert record["curve"][-1]["tokens"] == 4 * 32 * 12


def test_batches_depend_on_seed_and_step_alone() -> None:
    text = TokenisedText(np.arange(400, dtype=np.uint16), np.arange(0, 400, 20))
    config = TrainConfig(n_ctx=4, batch=3, seed=5)
    stream = batches(text, config, 0)
    first = [next(stream) for _ in range(12)]  # six batches an epoch
    later = batches(text, config, 8)
    assert torch.equal(first[8], next(later))
    assert not torch.equal(first[0], first[6])
    assert all((rows[:, 1:] - rows[:, :-1] == 1).all() for rows in first), "windows are runs of the text"


def test_rate_rises_holds_and_falls_to_zero() -> None:
    factors = [rate_factor(step, 100, 0.5) for step in range(100)]
    assert factors[0] == 0.5
    assert factors[1:51] == [1.0] * 50
    assert factors[-1] == pytest.approx(0.02)
    assert all(a >= b for a, b in itertools.pairwise(factors[50:]))


def test_curve_covers_the_run() -> None:
    steps = sorted(curve_steps(5000))
    assert steps[0] == 10
    assert steps[-1] == 5000
    assert max(b - a for a, b in itertools.pairwise(steps)) <= 100


def test_shipped_models_are_small_ordinary_and_recorded() -> None:
    assert DEFAULT in shipped_names()
    for name in shipped_names():
        folder = shipped_path(name)
        assert folder is not None
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 4_000_000
        record = json.loads((folder / "training.json").read_text())
        assert record["curve"][-1]["nats"] < record["curve"][0]["nats"]
        target = load_target(str(folder))
        assert 800_000 < target.parameter_count < 1_300_000
        assert target.spec.d_vocab == 2048
