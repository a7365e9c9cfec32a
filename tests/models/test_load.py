"""Reading targets from disk, in every form that they are published in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from englishroom.models.adapters import gpt2, gpt_neo, llama, llama2c
from englishroom.models.adapters.mapping import Family, write_weights
from englishroom.models.forward import log_probs
from englishroom.models.load import Target, load_target
from englishroom.models.spec import weight_shapes
from englishroom.pipeline import open_target
from tiny import (
    CASES,
    HF_CASES,
    WEIGHTS,
    edit_config,
    make_gpt2,
    make_gpt_neo,
    make_llama,
    make_llama2c,
    oracle_log_probs,
    random_tokens,
    tensors_of,
    write_tensors,
)


def assert_same(a: Target, b: Target) -> None:
    assert a.spec == b.spec
    assert dict(a.sources) == dict(b.sources)
    assert set(a.weights) == set(b.weights)
    for name, tensor in a.weights.items():
        assert tensor.dtype == b.weights[name].dtype
        assert torch.equal(tensor, b.weights[name]), name


@pytest.mark.parametrize("name", CASES)
def test_a_target_holds_the_numbers_of_its_file(name: str, tmp_path: Path):
    path = CASES[name].write(tmp_path / "model")
    target, tokenizer = open_target(str(path))
    assert target.name == "model"
    assert target.path == path
    assert list(target.weights) == list(weight_shapes(target.spec))
    assert all(t.dtype == torch.float32 and t.is_contiguous() for t in target.weights.values())
    assert len(tokenizer.pieces) == target.spec.d_vocab
    file = path if path.is_file() else path / WEIGHTS
    once = hashlib.sha256(file.read_bytes()).digest()
    assert target.sha256 == hashlib.sha256(once).hexdigest()


@pytest.mark.parametrize("name", HF_CASES)
def test_weights_go_back_to_the_very_tensors_they_came_from(name: str, tmp_path: Path):
    target = load_target(str(CASES[name].write(tmp_path)))
    sources = {"gpt2": gpt2.sources, "gpt_neo": gpt_neo.sources, "llama": llama.sources}[target.spec.family](
        target.spec
    )
    written = write_weights(Family(target.spec, sources, ()), target.weights)
    published = tensors_of(tmp_path)
    assert set(written) == set(published)
    assert all(torch.equal(written[name], tensor) for name, tensor in published.items())


def test_our_own_config_makes_transformers_compute_the_same(tmp_path: Path):
    make_gpt2(tmp_path, activation_function="gelu", n_inner=40, tie_word_embeddings=False)
    target = load_target(str(tmp_path))
    tokens = random_tokens(tmp_path, 1, 20)
    (tmp_path / "config.json").write_text(json.dumps(gpt2.config_of(target.spec, start_id=0)))
    assert load_target(str(tmp_path)).spec == target.spec
    theirs = torch.from_numpy(oracle_log_probs(tmp_path, tokens, torch.float32))
    assert (log_probs(target.spec, target.weights, tokens) - theirs).abs().max() < 1e-4


def test_llama2c_file_in_a_folder_is_found_beside_its_tokenizer(tmp_path: Path):
    path = make_llama2c(tmp_path)
    assert_same(load_target(str(tmp_path)), load_target(str(path)))
    target, tokenizer = open_target(str(tmp_path))
    assert (target.path, len(tokenizer.pieces)) == (path, 270)


def test_sharded_weights(tmp_path: Path):
    whole, parts = make_gpt2(tmp_path / "whole"), make_gpt2(tmp_path / "parts")
    tensors = tensors_of(parts)
    (parts / WEIGHTS).unlink()
    transformers.GPT2LMHeadModel.from_pretrained(whole).save_pretrained(parts, max_shard_size="40KB")
    assert len(list(parts.glob("*.safetensors"))) > 2
    target = load_target(str(parts))
    assert_same(target, load_target(str(whole)))
    assert target.parameter_count == sum(t.numel() for t in tensors.values())


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("maker", [make_gpt2, make_gpt_neo, make_llama])
def test_torch_files(maker: Callable[..., Path], zipped: bool, tmp_path: Path):
    expected = load_target(str(maker(tmp_path)))
    tensors = tensors_of(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    torch.save(tensors, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    assert_same(load_target(str(tmp_path)), expected)


@pytest.mark.parametrize(
    ("maker", "bare"),
    [
        (make_gpt2, transformers.GPT2Model),
        (make_gpt_neo, transformers.GPTNeoModel),
        (make_llama, transformers.LlamaModel),
    ],
)
def test_bare_models_are_published_without_the_prefix(
    maker: Callable[..., Path], bare: type[transformers.PreTrainedModel], tmp_path: Path
):
    expected = load_target(str(maker(tmp_path, tie_word_embeddings=True)))
    bare.from_pretrained(tmp_path).save_pretrained(tmp_path)
    prefix = "model." if bare is transformers.LlamaModel else "transformer."
    assert not any(key.startswith(prefix) for key in tensors_of(tmp_path))
    assert_same(load_target(str(tmp_path)), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_are_read_as_the_float32_of_equal_value(dtype: torch.dtype, tmp_path: Path):
    published = tensors_of(make_llama(tmp_path))
    write_tensors(tmp_path, {key: t.to(dtype) for key, t in published.items()})
    weights = load_target(str(tmp_path)).weights
    assert {t.dtype for t in weights.values()} == {torch.float32}
    assert torch.equal(weights["embed.W_E"], published["model.embed_tokens.weight"].to(dtype).float())
    assert torch.equal(weights["blocks.1.mlp.W_in"], published["model.layers.1.mlp.up_proj.weight"].to(dtype).float().T)


def test_float64_files_stay_float64(tmp_path: Path):
    published = tensors_of(make_gpt2(tmp_path))
    write_tensors(tmp_path, {key: t.double() + 1e-12 for key, t in published.items()})
    weights = load_target(str(tmp_path)).weights
    assert torch.equal(weights["embed.W_E"], published["transformer.wte.weight"].double() + 1e-12)


@pytest.mark.parametrize("maker", [make_gpt2, make_gpt_neo, make_llama])
def test_a_tied_file_may_hold_an_equal_copy_of_its_embedding(maker: Callable[..., Path], tmp_path: Path):
    expected = load_target(str(maker(tmp_path, tie_word_embeddings=True)))
    tensors = tensors_of(tmp_path)
    embedding = next(t for key, t in tensors.items() if key.endswith(("wte.weight", "embed_tokens.weight")))
    write_tensors(tmp_path, tensors | {"lm_head.weight": embedding.clone()})
    assert_same(load_target(str(tmp_path)), expected)


@pytest.mark.parametrize(
    ("maker", "extra"),
    [
        (make_gpt2, ["transformer.h.0.attn.bias", "transformer.h.1.attn.masked_bias"]),
        (make_gpt_neo, ["transformer.h.0.attn.attention.bias", "transformer.h.1.attn.attention.masked_bias"]),
        (make_llama, ["model.layers.0.self_attn.rotary_emb.inv_freq"]),
    ],
)
def test_masks_and_frequencies_that_old_files_hold_are_no_weights(
    maker: Callable[..., Path], extra: list[str], tmp_path: Path
):
    expected = load_target(str(maker(tmp_path)))
    write_tensors(tmp_path, tensors_of(tmp_path) | {key: torch.ones(1, 1, 4, 4) for key in extra})
    assert_same(load_target(str(tmp_path)), expected)


def test_a_config_may_leave_out_what_has_a_default_and_say_null(tmp_path: Path):
    expected = load_target(str(make_llama(tmp_path)))
    edit_config(
        tmp_path,
        num_key_value_heads=...,
        head_dim=None,
        rope_parameters=...,
        rope_scaling=None,
        attention_bias=...,
        mlp_bias=...,
        hidden_act=...,
        tie_word_embeddings=...,
        quantization_config=None,
    )
    assert_same(load_target(str(tmp_path)), expected)


def test_llama2c_header_alone_gives_the_spec(tmp_path: Path):
    path = make_llama2c(tmp_path, n_kv_heads=2, vocab_size=-270)
    assert llama2c.read_spec(path) == load_target(str(path)).spec
    assert (llama2c.read_spec(path).tied, llama2c.read_spec(path).d_vocab) == (False, 270)


# What wrappers and ways of saving do to names


@pytest.mark.parametrize("maker", [make_gpt2, make_gpt_neo, make_llama])
@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
def test_names_may_carry_the_prefix_of_a_wrapper(maker: Callable[..., Path], wrapper: str, tmp_path: Path):
    whole = load_target(str(maker(tmp_path)))
    write_tensors(tmp_path, {f"{wrapper}{name}": t for name, t in tensors_of(tmp_path).items()})
    assert_same(load_target(str(tmp_path)), whole)


@pytest.mark.parametrize("maker", [make_gpt2, make_llama])
def test_a_tied_model_may_hold_the_unembedding_alone(maker: Callable[..., Path], tmp_path: Path):
    whole = load_target(str(maker(tmp_path, tie_word_embeddings=True)))
    tensors = tensors_of(tmp_path)
    embedding = next(name for name in tensors if name.endswith(("wte.weight", "embed_tokens.weight")))
    tensors["lm_head.weight"] = tensors.pop(embedding)
    write_tensors(tmp_path, tensors)
    assert_same(load_target(str(tmp_path)), whole)


def test_sharded_torch_files(tmp_path: Path):
    whole = load_target(str(make_gpt2(tmp_path)))
    tensors = tensors_of(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    names, shards = sorted(tensors), ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
    for at, shard in enumerate(shards):
        torch.save({name: tensors[name] for name in names[at::2]}, tmp_path / shard)
    where = {name: shards[at % 2] for at, name in enumerate(names)}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    assert_same(load_target(str(tmp_path)), whole)
