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
from torch.utils.flop_counter import FlopCounterMode

from englishroom.data.corpus import text_hash
from englishroom.data.documents import read_documents
from englishroom.errors import ConfigError
from englishroom.evaluate.compute_recovered.curve import measure_run
from englishroom.evaluate.score import score
from englishroom.models.forward import forward, log_probs
from englishroom.models.load import load_target
from englishroom.models.spec import training_flops
from englishroom.pipeline import open_talker
from englishroom.talkers.build import build_talker
from englishroom.talkers.config import TalkerConfig, TrainConfig
from englishroom.talkers.kernels import LinearCrossEntropy, explicit_attend
from englishroom.talkers.record import read_training
from englishroom.talkers.shipped import DEFAULT, marks_path, shipped_names, shipped_path
from englishroom.talkers.text import TokenisedText
from englishroom.talkers.train import Run, batches, curve_steps, initial_weights, rate_factor

TINY = TrainConfig(n_layers=1, d_model=16, n_heads=2, n_ctx=32, vocabulary=300, tokens=4 * 32 * 20, batch=4)


def on(text: Path, training: TrainConfig = TINY) -> TalkerConfig:
    return TalkerConfig((str(text),), training=training)


class Killed(Exception):
    pass


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_killed_run_resumes_to_the_same_weights(story_file: Path, tmp_path: Path, precision: str) -> None:
    config = dataclasses.replace(TINY, precision=precision)
    whole = build_talker(on(story_file, config), tmp_path / "whole", measure_run)
    at = random.randrange(1, config.n_steps)

    def kill(run: Run, _loss: float) -> None:
        if run.step == at:
            run.save(tmp_path / "parts" / "work" / "checkpoint.pt")
        if run.step == min(at + 2, config.n_steps):  # steps after the checkpoint are lost and done again
            raise Killed

    with pytest.raises(Killed):
        build_talker(on(story_file, config), tmp_path / "parts", measure_run, on_step=kill)
    resumed = build_talker(on(story_file, config), tmp_path / "parts", measure_run)
    assert resumed.step == config.n_steps
    assert resumed.curve == whole.curve
    for name, weight in whole.weights.items():
        assert torch.equal(weight, resumed.weights[name]), f"{name} differs after a kill at step {at}"
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert files[0] == files[1]


def test_training_lowers_the_validation_loss(story_file: Path, tmp_path: Path) -> None:
    run = build_talker(on(story_file, dataclasses.replace(TINY, tokens=4 * 32 * 60)), tmp_path / "talker", measure_run)
    assert run.curve[-1]["nats_per_token"] < 0.9 * run.curve[0]["nats_per_token"]


def test_another_run_in_the_same_folder_is_refused(story_file: Path, tmp_path: Path) -> None:
    build_talker(on(story_file), tmp_path / "talker", measure_run)
    with pytest.raises(ConfigError, match="identity: belongs to work with another seed"):
        build_talker(on(story_file, dataclasses.replace(TINY, seed=1)), tmp_path / "talker", measure_run)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_heads": 3}, "--d-model is 16, expected a multiple of --n-heads, which is 3"),
        ({"vocabulary": 60_000}, "lower --vocabulary or give more text"),
        ({"vocabulary": 100}, "--vocabulary is 100, expected 257"),
        ({"batch": 10_000}, "fewer than a batch"),
        ({"batch": 0}, "--batch is 0, expected 1 or more"),
        ({"n_layers": 0}, "--n-layers is 0, expected 1 or more"),
        ({"seed": -1}, "--seed is -1, expected 0 or more"),
        ({"matrix_rate": float("nan")}, "--matrix-rate is nan, expected a finite number"),
        ({"vector_rate": 0.0}, "--vector-rate is 0, expected above 0"),
        ({"choose_share": 1.5}, "--choose-share is 1.5, expected 0 to 1"),
        ({"n_ctx": 100_000}, "too few for a context of 100000"),
    ],
)
def test_settings_that_make_no_sense(story_file: Path, tmp_path: Path, changes: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_talker(on(story_file, dataclasses.replace(TINY, **changes)), tmp_path / "talker", measure_run)


def test_no_text_and_places_that_hold_other_things(story_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no text to train on"):
        build_talker(TalkerConfig(()), tmp_path / "talker", measure_run)
    (tmp_path / "config.json").write_text("precious")
    with pytest.raises(ConfigError, match="holds other things, and no run to go on with"):
        build_talker(on(story_file), tmp_path, measure_run)
    with pytest.raises(ConfigError, match="is a file"):
        build_talker(on(story_file), tmp_path / "config.json", measure_run)
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
    assert len(record["fit_sha256"]) == 64
    assert record["versions"]["torch"] == torch.__version__
    (curve,) = record["curves"]
    assert curve["points"][-1]["tokens"] == 4 * 32 * 12
    assert curve["points"][-1]["flops"] == training_flops(load_target(str(tiny_talker)).spec, 32) * 4 * 32 * 12


def test_checkpoints_along_the_way_are_the_weights_of_their_step(story_file: Path, tmp_path: Path) -> None:
    run = build_talker(on(story_file), tmp_path / "talker", measure_run)
    kept = sorted((tmp_path / "talker" / "work" / "checkpoints").iterdir())
    assert [path.name for path in kept] == [f"step-{point['step']:07}.safetensors" for point in run.curve]
    assert kept[-1].read_bytes() == (tmp_path / "talker" / "model.safetensors").read_bytes()
    assert kept[0].read_bytes() != kept[-1].read_bytes()


def test_the_curve_is_what_score_says_of_the_talker(story_file: Path, tmp_path: Path) -> None:
    build_talker(on(story_file), tmp_path / "talker", measure_run)
    held = read_documents(tmp_path / "talker" / "work" / "choose.txt")
    talker = open_talker(str(tmp_path / "talker"), check=False)
    (curve,) = json.loads((tmp_path / "talker" / "training.json").read_text())["curves"]
    assert curve["sha256"] == text_hash(held)
    assert curve["points"][-1]["nats_per_token"] == pytest.approx(score(talker, held).nats_per_token, abs=1e-3)


def test_flops_count_every_product_of_a_forward_pass() -> None:
    spec = TINY.spec()
    weights = initial_weights(spec, 0)
    with FlopCounterMode(display=False) as counted:
        forward(spec, weights, torch.zeros((1, 32), dtype=torch.long), tap=lambda _site, value: value)
    scores_above_the_diagonal = 2 * 2 * spec.n_layers * spec.n_heads * spec.d_head * (32 * 31 // 2)
    assert 3 * (counted.get_total_flops() - scores_above_the_diagonal) == training_flops(spec, 32) * 32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fused_loss_has_the_gradients_of_cross_entropy(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2500, 16, generator=generator, requires_grad=True)
    w = torch.randn(16, 300, generator=generator, requires_grad=True)
    targets = torch.randint(300, (2500,), generator=generator)
    ours = LinearCrossEntropy.apply(x, w, targets, dtype)
    gradients = torch.autograd.grad(3 * ours, [x, w])
    theirs = torch.nn.functional.cross_entropy(x @ w, targets)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert abs(ours - theirs) < tolerance * theirs
    for mine, expected in zip(gradients, torch.autograd.grad(3 * theirs, [x, w]), strict=True):
        assert (mine - expected).norm() < tolerance * expected.norm()


def test_explicit_attention_is_fused_attention() -> None:
    q, k, v = torch.randn(3, 2, 4, 10, 8, generator=torch.Generator().manual_seed(0))
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3)
    assert (explicit_attend(q, k, v, None, 0.3) - fused).abs().max() < 1e-5


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
    assert steps[0] == 16
    assert steps[-1] == 5000
    assert max(b - a for a, b in itertools.pairwise(steps)) <= 125


def test_shipped_models_are_a_family_that_differs_in_layers_alone() -> None:
    assert DEFAULT in shipped_names()
    assert shipped_names() == ["tiny-1l", "tiny-2l", "tiny-4l"]
    records, ends = [], []
    for name in shipped_names():
        folder = shipped_path(name)
        assert folder is not None
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 4_000_000
        record = read_training(folder)
        assert record is not None
        records.append(record)
        target = load_target(str(folder))
        assert target.spec.n_layers == record["config"].pop("n_layers") == int(name[5])
        assert target.spec.d_vocab == 2048
        points = record["curves"][0]["points"]
        ends.append(points[-1]["bits_per_byte"])
        assert points[-1]["tokens"] == points[-1]["step"] * 32 * 256
        assert marks_path(folder) is not None
    assert records[0]["config"] == records[1]["config"] == records[2]["config"]
    assert len({record["fit_sha256"] for record in records}) == 1
    assert ends == sorted(ends, reverse=True)
    tokenizers = {(path / "tokenizer.json").read_bytes() for name in shipped_names() if (path := shipped_path(name))}
    assert len(tokenizers) == 1
