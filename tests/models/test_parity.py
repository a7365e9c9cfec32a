"""Our forward pass against `transformers` (and, for llama2.c files, against its algorithm in numpy), site by site."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from englishroom.errors import ArtifactError
from englishroom.models.forward import forward, log_probs
from englishroom.models.load import Target, in_precision, load_target
from englishroom.models.reference import largest_difference
from tiny import CASES, HF_CASES, make_gpt2, make_llama, oracle, oracle_log_probs, precision, random_tokens

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}


def open_as(path: Path, dtype: torch.dtype) -> Target:
    return in_precision(load_target(str(path)), dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_log_probs_are_those_of_the_published_implementation(name: str, dtype: torch.dtype, tmp_path: Path):
    path = CASES[name].write(tmp_path / "model")
    tokens = random_tokens(path, batch=3, n_pos=40)
    target = open_as(path, dtype)
    ours = log_probs(target.spec, target.weights, tokens)
    assert ours.dtype == dtype
    theirs = torch.from_numpy(oracle_log_probs(path, tokens, dtype))
    assert (ours - theirs).abs().max() < TOLERANCE[dtype]


def test_transformers_itself_is_not_float64_unless_made_so(tmp_path: Path):
    path = make_llama(tmp_path)
    tokens = random_tokens(path, batch=1, n_pos=40)
    model = oracle(path)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float64}
    assert model.model.rotary_emb.inv_freq.dtype == torch.float64
    target = open_as(path, torch.float64)
    ours = log_probs(target.spec, target.weights, tokens)
    with torch.inference_mode():
        pinned = model(input_ids=tokens, use_cache=False).logits.log_softmax(-1)
    assert pinned.dtype == torch.float64
    assert (ours - pinned).abs().max() > 1e-8  # its angles, norms and softmax went through float32
    assert (ours - torch.from_numpy(oracle_log_probs(path, tokens))).abs().max() < 1e-12


@pytest.mark.parametrize(
    "change",
    [
        ("gpt2", {"attn_scale": 0.3}),
        ("gpt2", {"activation": "gelu"}),
        ("gpt2", {"norm_eps": 1e-2}),
        ("gpt_neo-local", {"windows": (None, 6)}),
        ("gpt_neo-local", {"windows": (None, 4)}),
        ("gpt_neo-local", {"windows": (5, None)}),
        ("gpt_neo-local", {"attn_scale": 0.9}),
        ("llama-untied", {"rotary_theta": 11000.0}),
        ("llama-grouped-tied", {"rotary_theta": 10000.0}),
        ("llama-untied", {"activation": "gelu"}),
    ],
    ids=str,
)
def test_these_models_show_a_wrong_setting(change: tuple[str, dict], tmp_path: Path):
    name, wrong = change
    path = CASES[name].write(tmp_path)
    tokens = random_tokens(path, batch=3, n_pos=40)
    target = load_target(str(path))
    right = log_probs(target.spec, target.weights, tokens)
    assert (log_probs(replace(target.spec, **wrong), target.weights, tokens) - right).abs().max() > 1e-3


@pytest.mark.parametrize("published", ["gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu", "relu", "silu", "swish"])
def test_every_published_name_of_an_activation_means_what_it_means_there(published: str, tmp_path: Path):
    path = make_gpt2(tmp_path, activation_function=published, n_layer=1)
    tokens = random_tokens(path, batch=1, n_pos=20)
    target = open_as(path, torch.float64)
    theirs = torch.from_numpy(oracle_log_probs(path, tokens))
    assert (log_probs(target.spec, target.weights, tokens) - theirs).abs().max() < 1e-9


@pytest.mark.parametrize("theta", [500.0, 500000.0])
@pytest.mark.parametrize("spelling", ["top", "rope_parameters", "rope_scaling"])
def test_the_rotary_base_is_read_wherever_it_is_published(spelling: str, theta: float, tmp_path: Path):
    path = make_llama(tmp_path)
    config = json.loads((path / "config.json").read_text())
    del config["rope_parameters"]
    nested = {"rope_type": "default", "rope_theta": theta}
    config |= {"rope_theta": theta} if spelling == "top" else {spelling: nested}
    (path / "config.json").write_text(json.dumps(config))
    tokens = random_tokens(path, batch=1, n_pos=20)
    target = open_as(path, torch.float64)
    assert target.spec.rotary_theta == theta
    theirs = torch.from_numpy(oracle_log_probs(path, tokens))
    assert (log_probs(target.spec, target.weights, tokens) - theirs).abs().max() < 1e-9


@pytest.mark.parametrize("name", HF_CASES)
def test_every_site_holds_what_transformers_has_there(name: str, tmp_path: Path):
    path = CASES[name].write(tmp_path)
    tokens = random_tokens(path, batch=2, n_pos=40)
    target = open_as(path, torch.float64)
    ours: dict[str, Tensor] = {}

    def keep(site: str, value: Tensor) -> Tensor:
        ours[site] = value
        return value

    with torch.inference_mode():
        forward(target.spec, target.weights, tokens, tap=keep)
    theirs = sites_of_transformers(path, tokens)
    scores = {f"blocks.{layer}.attn.hook_attn_scores" for layer in range(target.spec.n_layers)}
    assert set(theirs) == set(ours) - scores  # scores are no module's output; the pattern is their softmax
    for site, value in theirs.items():
        assert value.dtype == torch.float64, site
        assert (ours[site].reshape(value.shape) - value).abs().max() < 1e-9, site


def sites_of_transformers(path: Path, tokens: Tensor) -> dict[str, Tensor]:
    """Run `transformers` in float64 with hooks on its modules; return what stands at our sites."""
    model = oracle(path)
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, object] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple, object], None]:
        def hook(_module: nn.Module, given: tuple, made: object) -> None:
            inputs.update({name: given[0]} if given else {})
            outputs[name] = made

        return hook

    for name, module in model.named_modules():
        module.register_forward_hook(keep(name))
    with torch.inference_mode(), precision(torch.float64):
        model(input_ids=tokens, use_cache=False)
        return _named_as_ours(model.config.model_type, model.config.num_hidden_layers, inputs, outputs)


def _named_as_ours(family: str, n_layers: int, inputs: dict, outputs: dict) -> dict[str, Tensor]:
    is_llama = family == "llama"
    root, blocks = ("model", "model.layers") if is_llama else ("transformer", "transformer.h")
    found = {
        "hook_embed": outputs[f"{root}.embed_tokens" if is_llama else f"{root}.wte"],
        "ln_final.hook_normalized": outputs[f"{root}.norm" if is_llama else f"{root}.ln_f"],
        "hook_logits": outputs["lm_head"],
    }
    if not is_llama:
        found["hook_pos_embed"] = outputs[f"{root}.wpe"]
    for layer in range(n_layers):
        ours, block = f"blocks.{layer}", f"{blocks}.{layer}"
        ln1, ln2 = ("input_layernorm", "post_attention_layernorm") if is_llama else ("ln_1", "ln_2")
        attn = {"llama": f"{block}.self_attn", "gpt2": f"{block}.attn", "gpt_neo": f"{block}.attn.attention"}[family]
        out = {"llama": "o_proj", "gpt2": "c_proj", "gpt_neo": "out_proj"}[family]
        first, last = ("gate_proj", "down_proj") if is_llama else ("c_fc", "c_proj")
        if family == "gpt2":
            q, k, v = outputs[f"{attn}.c_attn"].chunk(3, dim=-1)
        else:
            q, k, v = (outputs[f"{attn}.{letter}_proj"] for letter in "qkv")
        found |= {
            f"{ours}.hook_resid_pre": inputs[block],
            f"{ours}.ln1.hook_normalized": outputs[f"{block}.{ln1}"],
            f"{ours}.attn.hook_q": q,
            f"{ours}.attn.hook_k": k,
            f"{ours}.attn.hook_v": v,
            f"{ours}.attn.hook_pattern": outputs[attn][1],
            f"{ours}.attn.hook_z": inputs[f"{attn}.{out}"],
            f"{ours}.hook_attn_out": outputs[attn][0],
            f"{ours}.hook_resid_mid": inputs[f"{block}.{ln2}"],
            f"{ours}.ln2.hook_normalized": outputs[f"{block}.{ln2}"],
            f"{ours}.mlp.hook_pre": outputs[f"{block}.mlp.{first}"],
            f"{ours}.mlp.hook_post": inputs[f"{block}.mlp.{last}"],
            f"{ours}.hook_mlp_out": outputs[f"{block}.mlp"],
            f"{ours}.hook_resid_post": outputs[block][0] if family == "gpt_neo" else outputs[block],
        }
        if is_llama:
            cos, sin = outputs["model.rotary_emb"]
            split = [x.unflatten(-1, (-1, cos.shape[-1])).transpose(1, 2) for x in (q, k)]
            turned = [x.transpose(1, 2) for x in apply_rotary_pos_emb(*split, cos, sin)]
            found |= dict(zip((f"{ours}.attn.hook_rot_q", f"{ours}.attn.hook_rot_k"), turned, strict=True))
            found[f"{ours}.mlp.hook_pre_linear"] = outputs[f"{block}.mlp.up_proj"]
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_comparison_that_users_see_finds_no_difference(name: str, tmp_path: Path):
    target = load_target(str(CASES[name].write(tmp_path / "model")))
    assert largest_difference(target) < 1e-4


@pytest.mark.parametrize("name", ["gpt2", "llama2c-grouped-untied"])
def test_the_comparison_that_users_see_finds_a_wrong_setting(name: str, tmp_path: Path):
    target = load_target(str(CASES[name].write(tmp_path / "model")))
    wrong = replace(target, spec=replace(target.spec, attn_scale=target.spec.attn_scale * 1.1))
    assert largest_difference(wrong) > 1e-3


def test_the_comparison_that_users_see_finds_wrongly_read_weights(tmp_path: Path):
    target = load_target(str(make_gpt2(tmp_path)))
    swapped = {"blocks.0.attn.W_Q": "blocks.0.attn.W_K", "blocks.0.attn.W_K": "blocks.0.attn.W_Q"}
    weights = {name: target.weights[swapped.get(name, name)] for name in target.weights}
    assert largest_difference(replace(target, weights=weights)) > 1e-3


def test_a_folder_that_transformers_refuses_is_reported_in_one_line(tmp_path: Path):
    path = make_llama(tmp_path, hidden_size=24, num_attention_heads=2, head_dim=8)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"attention_dropout": "much"}))
    with pytest.raises(ArtifactError) as caught:
        largest_difference(load_target(str(path)))
    assert str(caught.value).startswith(f"{path}: transformers cannot load it (")
    assert str(caught.value).endswith("); use --no-check to go on")
    assert "\n" not in str(caught.value)
