"""GPT-2: learned positions, LayerNorm, Conv1D weights already [in, out], query, key and value in one tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from englishroom.models.adapters.mapping import Config, Family, WeightSource
from englishroom.models.spec import ModelSpec


def read(config: Config) -> Family:
    """Read a GPT-2 ``config.json``."""
    for key, default in (("scale_attn_weights", True), ("add_cross_attention", False)):
        config.require(key, (default,), default)
    config.require("scale_attn_by_inverse_layer_idx", (False,), False)
    d_model, n_heads = config.size("n_embd", 768), config.size("n_head", 12)
    n_layers = config.size("n_layer", 12, at_most=1000)
    config.check_multiple("n_embd", d_model, "n_head", n_heads)
    d_head = d_model // n_heads
    tied = config.flag("tie_word_embeddings", True)
    spec = ModelSpec(
        family="gpt2",
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_head=d_head,
        d_mlp=config.size("n_inner", 4 * d_model),
        d_vocab=config.size("vocab_size", 50257),
        n_ctx=config.size("n_positions", 1024),
        activation=config.activation("activation_function", "gelu_new"),
        norm="layernorm",
        norm_eps=config.number("layer_norm_epsilon", 1e-5),
        gated_mlp=False,
        rotary_theta=None,
        attn_scale=1 / math.sqrt(d_head),
        windows=(None,) * n_layers,
        tied=tied,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
    )
    return Family(spec, sources(spec), ignored=(".attn.bias", ".attn.masked_bias"))


def sources(spec: ModelSpec) -> tuple[WeightSource, ...]:
    """List where each of our weights stands in a GPT-2 file."""
    return gpt_sources(spec, _layer)


def _layer(ours: str, theirs: str) -> Iterator[WeightSource]:
    for i, letter in enumerate("QKV"):
        yield WeightSource(f"{ours}.attn.W_{letter}", f"{theirs}.attn.c_attn.weight", part=(i, 3))
        yield WeightSource(f"{ours}.attn.b_{letter}", f"{theirs}.attn.c_attn.bias", part=(i, 3))
    for part, name, linear in (("attn", "O", "c_proj"), ("mlp", "in", "c_fc"), ("mlp", "out", "c_proj")):
        yield WeightSource(f"{ours}.{part}.W_{name}", f"{theirs}.{part}.{linear}.weight")
        yield WeightSource(f"{ours}.{part}.b_{name}", f"{theirs}.{part}.{linear}.bias")


def gpt_sources(spec: ModelSpec, layer_of: Callable[[str, str], Iterable[WeightSource]]) -> tuple[WeightSource, ...]:
    """List where weights stand in a file with the names of GPT-2.

    Args:
        layer_of: lists those of a layer but for its norms, given our prefix and theirs.
    """
    found = [
        WeightSource("embed.W_E", "transformer.wte.weight"),
        WeightSource("pos_embed.W_pos", "transformer.wpe.weight"),
    ]
    for layer in range(spec.n_layers):
        ours, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
        for norm, name in (("ln1", "ln_1"), ("ln2", "ln_2")):
            found.append(WeightSource(f"{ours}.{norm}.w", f"{theirs}.{name}.weight"))
            found.append(WeightSource(f"{ours}.{norm}.b", f"{theirs}.{name}.bias"))
        found += layer_of(ours, theirs)
    found += [
        WeightSource("ln_final.w", "transformer.ln_f.weight"),
        WeightSource("ln_final.b", "transformer.ln_f.bias"),
    ]
    if not spec.tied:
        found.append(WeightSource("unembed.W_U", "lm_head.weight", transposed=True))
    return tuple(found)


def config_of(spec: ModelSpec, start_id: int) -> dict[str, object]:
    """Write the ``config.json`` that makes ``transformers`` load our talkers as ordinary GPT-2 models."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_layer": spec.n_layers,
        "n_embd": spec.d_model,
        "n_head": spec.n_heads,
        "n_inner": spec.d_mlp,
        "n_positions": spec.n_ctx,
        "vocab_size": spec.d_vocab,
        "activation_function": spec.activation,
        "layer_norm_epsilon": spec.norm_eps,
        "tie_word_embeddings": spec.tied,
        "bos_token_id": start_id,
        "eos_token_id": start_id,
    }
