"""Decompilations of the smallest models, and dictionaries that cannot work, which are refused before the work."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from englishroom.cli import main
from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.joint_fit import featured_specs
from englishroom.errors import ConfigError
from englishroom.evaluate.readability_metrics import READABILITY_METRICS
from englishroom.models.load import load_target
from englishroom.pipeline import decompile, fitting, preset_of
from englishroom.pipeline.evidence import FeaturedSummary, ReadableSummary, SparseSummary
from tiny import make_gpt2
from tiny_readable import ROOM_SETTINGS as READABLE_SETTINGS
from tiny_sparse import ROOM_SETTINGS

CHECKED = {
    *("measured_positions", "measured_random_positions", "greedy_tokens_equal"),
    *("emitted_positions", "emitted_random_positions", "emitted_vs_program_nats"),
}
FEATURED = {field.name for field in fields(FeaturedSummary)} - {"correlation_of_effects"}
EFFECTS = {f"correlation_of_effects_{part}_{how}" for part in ("head", "mlp") for how in ("zero", "mean")}
READABLE = {field.name for field in fields(ReadableSummary)} - {"readability"}
READS = {f"reads_per_rule_{at}" for at in ("median", "p95", "most")}
WITH_NULL = {metric.key for metric in READABILITY_METRICS if not metric.nulls} - READS
READABILITY = READS | WITH_NULL | {f"{key}_null" for key in WITH_NULL}
EVIDENCE = {
    "exact": {"program_vs_target_nats"},
    "featured": {"program_vs_dictionaries_nats"} | FEATURED | EFFECTS,
    "sparse": {"program_vs_sparse_model_nats"} | {field.name for field in fields(SparseSummary)},
    "readable": {"program_vs_wired_model_nats"}
    | READABLE
    | READABILITY
    | {f"correlation_of_effects_{kind}_zero" for kind in ("head", "mlp")},
}


@pytest.mark.parametrize("level", EVIDENCE)
def test_a_model_of_one_layer_one_head_and_one_mlp_goes_through_every_level(level: str, tmp_path: Path) -> None:
    model = make_gpt2(tmp_path / "model", n_layer=1, n_head=1)
    settings = ROOM_SETTINGS | READABLE_SETTINGS
    config = preset_of("fast", level).changed(model=str(model), check=False, **settings)
    evidence = decompile(config, tmp_path / "room").evidence
    assert math.isfinite(evidence["emitted_vs_program_nats"])
    assert set(evidence) == CHECKED | EVIDENCE[level]
    assert main(["show", str(tmp_path / "room")]) == 0


@pytest.mark.parametrize(
    ("level", "change", "message"),
    [
        ("featured", "twice", "2 dictionaries that read blocks.0.hook_attn_out and write"),
        ("sparse", "no attention", "a sparse program starts from one dictionary for each attention output"),
        ("sparse", "skip", "expected topk without a skip"),
    ],
)
def test_dictionaries_that_cannot_work_are_refused_before_the_fit(
    level: str, change: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_gpt2(tmp_path / "model")
    config = preset_of("fast", level).changed(model=str(model), check=False, **ROOM_SETTINGS)
    generator = torch.Generator().manual_seed(0)
    specs = list(featured_specs(load_target(str(model)).spec, replace(config.dictionaries, skip=change == "skip")))
    given = [Dictionary.random(spec, generator) for spec in specs if change != "no attention" or "mlp" in spec.name]
    monkeypatch.setattr(fitting, "read_dictionaries", lambda _folder: given + given[:1] * (change == "twice"))
    with pytest.raises(ConfigError, match=message):
        decompile(config.changed(dictionaries=tmp_path / "given"), tmp_path / "room")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_a_fit_that_diverges_is_one_line(tmp_path: Path) -> None:
    model = make_gpt2(tmp_path / "model", n_layer=1, n_head=1)
    config = preset_of("fast", "featured").changed(model=str(model), check=False, **ROOM_SETTINGS)
    message = "the fit has diverged: its loss is inf at step [0-9]+ of [0-9]+; give a smaller --rate, and another --out"
    with pytest.raises(ConfigError, match=f"^{message}$"):
        decompile(config.changed(rate=1e30), tmp_path / "room")
    assert not (tmp_path / "room").exists()
