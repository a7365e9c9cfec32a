"""The stream model: with every part exact it is the target with constant scales, and its fits go on after a kill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from englishroom.circuits.folded_norm import reading
from englishroom.dictionaries.checkpoint import fit_to_end
from englishroom.dictionaries.code import Codes
from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.replacement import clean_run
from englishroom.errors import ConfigError
from englishroom.models.forward import unembedding
from englishroom.models.load import Target
from englishroom.models.spec import ModelSpec
from englishroom.readable.config import StreamConfig
from englishroom.readable.look_fit import LookFit
from englishroom.readable.pieces import PiecesFit, pieces_of
from englishroom.readable.stream import Part, StreamModel
from englishroom.readable.stream_fit import StreamFit
from englishroom.readable.stream_start import fold_in, scales_of, start_stream
from tiny_features import SPEC
from tiny_readable import SPECS, STREAM, tiny_rows, tiny_target

LINEAR_MLP = replace(STREAM, moved=8, moved_active=8, rules=16, rules_active=16, first_rules_active=16, place_factor=1)


def exact_pieces(target: Target) -> dict[Part, Dictionary]:
    """Make dictionaries of heads that pass on everything, its positive and its negative part; MLPs become a ReLU's."""
    spec, found = target.spec, {}
    for part, d in pieces_of(spec, LINEAR_MLP).items():
        if part[1] is None:
            name = f"blocks.{part[0]}.mlp"
            weights = {"W_enc": target.weights[f"{name}.W_in"], "W_dec": target.weights[f"{name}.W_out"]}
            none = {"b_enc": torch.zeros(spec.d_mlp), "b_dec": torch.zeros(spec.d_model)}
            biases = {"b_enc": target.weights.get(f"{name}.b_in"), "b_dec": target.weights.get(f"{name}.b_out")}
            weights |= {key: none[key] if bias is None else bias for key, bias in biases.items()}
        else:
            both = torch.cat([torch.eye(spec.d_head), -torch.eye(spec.d_head)], 1)
            weights = {"W_enc": both, "b_enc": torch.zeros(2 * spec.d_head)}
            weights |= {"W_dec": both.T, "b_dec": torch.zeros(spec.d_head)}
        found[part] = Dictionary.of(d, weights)
    return found


def with_constant_scales(
    target: Target, scales: Mapping[str, float], tokens: Tensor, patterns: Mapping[int, Tensor]
) -> Tensor:
    """Compute the target's logits, written plainly, with constant scales, given attention and a ReLU in its MLPs."""
    spec = target.spec
    w = {name: tensor.double() for name, tensor in target.weights.items()}

    def read(norm: str, x: Tensor) -> Tensor:
        return reading(spec, w, norm).normalized(x, torch.tensor(scales[norm]))

    x = w["embed.W_E"][tokens]
    if spec.rotary_theta is None:
        x = x + w["pos_embed.W_pos"][: tokens.shape[1]]
    for layer in range(spec.n_layers):
        part, mlp = f"blocks.{layer}.attn", f"blocks.{layer}.mlp"
        v = read(f"blocks.{layer}.ln1", x) @ w[f"{part}.W_V"] + w.get(f"{part}.b_V", 0)
        v = v.unflatten(-1, (spec.n_kv_heads, spec.d_head)).transpose(1, 2)
        v = v.repeat_interleave(spec.n_heads // spec.n_kv_heads, 1)
        z = (patterns[layer].double() @ v).transpose(1, 2).flatten(-2)
        x = x + z @ w[f"{part}.W_O"] + w.get(f"{part}.b_O", 0)
        h = (read(f"blocks.{layer}.ln2", x) @ w[f"{mlp}.W_in"] + w.get(f"{mlp}.b_in", 0)).relu()
        x = x + h @ w[f"{mlp}.W_out"] + w.get(f"{mlp}.b_out", 0)
    return read("ln_final", x) @ unembedding(spec, w)


def looks_of(target: Target, config: StreamConfig) -> dict[str, Tensor]:
    return LookFit(target, tiny_rows(target.spec), config, {}).result()


@pytest.mark.parametrize("name", SPECS)
def test_with_every_part_exact_it_is_the_target_with_constant_scales(name: str) -> None:
    target = tiny_target(SPECS[name])
    tokens = torch.from_numpy(tiny_rows(target.spec).rows(range(5)))
    scales = scales_of(target, tokens)
    model = fold_in(target, looks_of(target, LINEAR_MLP), exact_pieces(target), scales, LINEAR_MLP).double()
    sites = [f"blocks.{layer}.attn.hook_pattern" for layer in range(target.spec.n_layers)]
    patterns = clean_run(target.spec, target.weights, tokens, sites, attend=None)[1]
    given = {layer: patterns[site].double() for layer, site in enumerate(sites)}
    expected = with_constant_scales(target, scales, tokens, given).flatten(0, 1).log_softmax(-1)
    found = model.logits(model.run(tokens, patterns=given)).log_softmax(-1)
    assert torch.allclose(found, expected, atol=1e-4)


def test_looks_come_nearer_to_the_attention_and_see_no_farther() -> None:
    target = tiny_target(SPECS["gpt_neo"])
    run = LookFit(target, tiny_rows(), replace(STREAM, look_tokens=90 * 48), {})
    losses = [run.update() for _ in range(run.n_steps)]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    tables = run.result()
    assert [tables[f"distance.{layer}"].shape[1] for layer in (0, 1)] == [12, 3]


def started(spec: ModelSpec, config: StreamConfig = STREAM) -> tuple[Target, StreamModel]:
    target, rows = tiny_target(spec), tiny_rows(spec)
    pieces = PiecesFit(target, rows, config, {})
    while pieces.step < pieces.n_steps:
        pieces.update()
    looks = LookFit(target, rows, config, {})
    while looks.step < looks.n_steps:
        looks.update()
    first = torch.from_numpy(rows.batch(0, 0, 12))
    return target, start_stream(target, looks.result(), pieces.result(), first, config)


@pytest.mark.parametrize("name", SPECS)
def test_the_fit_together_brings_it_nearer_to_the_target(name: str) -> None:
    config = replace(STREAM, tokens=60 * 48, rate=0.03)
    target, model = started(SPECS[name], config)
    run = StreamFit(target, model, tiny_rows(target.spec), config, {})
    while run.step < run.n_steps:
        run.update()
    assert sum(run.losses[-10:]) < 0.8 * sum(run.losses[:10])


FITS = {
    "pieces": lambda target, model, rows: PiecesFit(target, rows, STREAM, {"a": 1}),
    "looks": lambda target, model, rows: LookFit(target, rows, STREAM, {"a": 1}),
    "stream": lambda target, model, rows: StreamFit(target, model, rows, STREAM, {"a": 1}),
}


@pytest.mark.parametrize("name", FITS)
def test_killed_and_run_again_a_fit_ends_the_same(tmp_path: Path, name: str) -> None:
    target, model = started(SPEC)

    def new():
        return FITS[name](target, model, tiny_rows())

    whole, cut = new(), new()
    fit_to_end(whole, tmp_path / "whole.pt", lambda _run, _loss: None, 60)
    for _ in range(7):
        cut.update()
    cut.save(tmp_path / "cut.pt")
    resumed = new()
    fit_to_end(resumed, tmp_path / "cut.pt", lambda _run, _loss: None, 60)

    def tensors(run) -> list[Tensor]:
        found = run.result()
        if name == "pieces":
            return [tensor for d in found.values() for tensor in d.weights.values()]
        return list((found.tables if name == "stream" else found).values())

    assert all(torch.equal(a, b) for a, b in zip(tensors(whole), tensors(resumed), strict=True))
    other = {"pieces": "--apart-rate", "looks": "--look-rate", "stream": "--stream-rate"}
    assert resumed.rate_flag == other[name]


def test_dead_features_come_back() -> None:
    config = replace(STREAM, tokens=90 * 48, revive=1.0, rate=0.05, ablate=0.0)
    target, model = started(SPEC, config)
    model.tables["rule_biases.1"][:16] = -5.0
    counts = {}
    for revive in (0.0, 1.0):
        run = StreamFit(target, model, tiny_rows(), replace(config, revive=revive), {})
        while run.step < run.n_steps:
            run.update()
        counts[revive] = int((run.silent["rules.1"] > config.dead_after).sum())
    assert counts[1.0] < counts[0.0]


def test_a_part_that_is_off_says_nothing() -> None:
    _, model = started(SPEC)
    tokens = torch.from_numpy(tiny_rows().rows(range(2)))
    fired: dict[str, Codes] = {}
    model.run(tokens, off=(1, 0), fired=fired)
    heads = fired["moved.1"].dense(2 * STREAM.moved).view(-1, 2, STREAM.moved)
    assert not heads[:, 0].any()
    assert heads[:, 1].any()
    model.run(tokens, off=(0, None), fired=fired)
    assert not fired["rules.0"].values.any()
    assert fired["rules.1"].values.any()


def test_bfloat16_changes_little() -> None:
    _, model = started(SPEC)
    tokens = torch.from_numpy(tiny_rows().rows(range(2)))
    exact, rounded = (model.run(tokens, half=half) for half in (False, True))
    assert 0 < (exact - rounded).square().mean() < 0.05 * exact.var()


def test_more_active_features_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="--look-active is 13, expected 1 to 12, the value of --look-moved"):
        replace(STREAM, moved_active=13).validate()
    with pytest.raises(ConfigError, match="--layer-active is 30, expected 1 to 24, the value of --layer-rules"):
        replace(STREAM, rules_active=30).validate()
