"""Readable models of tiny random targets, with settings that take seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from englishroom.dictionaries.token_rows import TokenRows
from englishroom.models.load import Target
from englishroom.models.spec import ModelSpec, weight_shapes
from englishroom.readable.config import ShortConfig, StreamConfig
from tiny_features import SPEC
from tiny_sparse import rotary, text, windowed

STREAM = StreamConfig(
    matches=2,
    moved=12,
    moved_active=3,
    rules=24,
    rules_active=6,
    place_factor=1.2,
    apart_tokens=20 * 48,
    look_tokens=20 * 48,
    tokens=60 * 48,
    batch=4,
    dead_after=200,
)
SHORT = ShortConfig(
    lists=16,
    lists_active=3,
    tokens=60 * 48,
    batch=4,
    reads_half=3,
    reads_p95=6,
    reads_most=8,
    match_reads=4,
    lone_reads=5,
    votes=4,
    follows=6,
    first_reads=30,
    prune_every=5,
)
SPECS: dict[str, ModelSpec] = {
    "gpt2": SPEC,
    "one layer": replace(SPEC, n_layers=1, windows=(None,)),
    "llama": rotary(),
    "gpt_neo": windowed(),
}


def tiny_target(spec: ModelSpec = SPEC, seed: int = 0) -> Target:
    """Make a target of random weights."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in weight_shapes(spec).items():
        weights[name] = torch.empty(shape).normal_(float(name.endswith(".w")), 0.4, generator=generator)
    return Target("tiny", Path("tiny"), "huggingface", spec, weights, {}, "0" * 64)


def tiny_rows(spec: ModelSpec = SPEC) -> TokenRows:
    """Draw documents of random tokens."""
    return text(spec, n_documents=60)
