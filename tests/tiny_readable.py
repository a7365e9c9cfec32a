"""Readable models of tiny random targets, with settings that take seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from englishroom.dictionaries.token_rows import TokenRows
from englishroom.models.load import Target
from englishroom.models.spec import ModelSpec, weight_shapes
from englishroom.pipeline import DecompileConfig
from englishroom.pipeline.presets import preset_of
from englishroom.readable.config import StreamConfig, WiringConfig
from englishroom.readable.shape import shape_of
from englishroom.readable.stream import StreamModel, empty_stream
from englishroom.readable.wiring import WiredModel
from englishroom.readable.wiring_fit import WiringFit
from englishroom.readable.wiring_start import start_wiring
from tiny_features import SPEC
from tiny_sparse import rotary, text, windowed

STREAM = StreamConfig(
    matches=2,
    moved=12,
    moved_active=3,
    rules=24,
    rules_active=6,
    first_rules_active=5,
    place_factor=1.2,
    apart_tokens=20 * 48,
    look_tokens=20 * 48,
    tokens=60 * 48,
    batch=4,
    dead_after=200,
)
SHORT = WiringConfig(
    tokens=60 * 48,
    batch=4,
    reads_half=3,
    reads_p95=6,
    reads_most=8,
    look_reads=4,
    words_half=3,
    words_p95=5,
    words_most=7,
    look_words=9,
    votes=4,
    follows=6,
    first_reads=30,
    first_words=20,
    prunings=7,
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


def random_stream(name: str, config: StreamConfig, seed: int = 3) -> StreamModel:
    """Draw a stream model."""
    generator = torch.Generator().manual_seed(seed)
    model = empty_stream(shape_of(SPECS[name], config), config.place_factor)
    for table in model.tables.values():
        table.normal_(0, 0.3, generator=generator)
    return model


def wired(model: StreamModel, config: WiringConfig) -> WiredModel:
    """Write a stream model as a wired model."""
    rows = tiny_rows()
    counted = torch.bincount(torch.from_numpy(rows.tokens).long(), minlength=model.shape.d_vocab).float()
    return start_wiring(model, counted, torch.from_numpy(rows.rows(range(20))), config)


def wired_model(name: str) -> WiredModel:
    """Prune the wired model of a tiny target in a few steps."""
    config = replace(SHORT, tokens=20 * 48)
    run = WiringFit(tiny_target(SPECS[name]), wired(random_stream(name, STREAM), config), tiny_rows(), config, {})
    while run.step < run.n_steps:
        run.update()
    return run.result()


ROOM_SETTINGS = {
    "look_moved": 8,
    "look_active": 2,
    "layer_rules": 24,
    "layer_active": 5,
    "first_layer_active": 4,
    "matches": 2,
    "apart_tokens": 1500,
    "look_tokens": 1500,
    "stream_tokens": 3000,
    "short_tokens": 4000,
    "samples": (60, 20, 20),
    "report_documents": 12,
    "readability_documents": 4,
    "readability_positions": 3,
}


def readable_room_config(model: Path) -> DecompileConfig:
    """Ask for a readable room of a tiny model, fitted on next to nothing."""
    return preset_of("fast", "readable").changed(model=str(model), check=False, **ROOM_SETTINGS)
