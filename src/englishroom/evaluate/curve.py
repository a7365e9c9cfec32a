"""Validation curves: a talker in training, or its kept checkpoints, scored by the protocol of every other talker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from englishroom.data.tokens import read_hf_tokenizer
from englishroom.evaluate.score import score
from englishroom.evaluate.target import TargetTalker
from englishroom.models.load import Target
from englishroom.talkers.train import Run


def measure_run(run: Run, folder: Path, documents: Sequence[str]) -> dict[str, float]:
    """Score a run as it stands; ``folder`` holds its tokenizer."""
    weights = {name: weight.detach().cpu() for name, weight in run.weights.items()}
    target = Target("run", folder, "huggingface", run.spec, weights, {}, "")
    result = score(TargetTalker(target, read_hf_tokenizer(folder, run.spec.d_vocab)), documents)
    return {"nats_per_token": result.nats_per_token, "bits_per_byte": result.bits_per_byte}
