"""Llama: rotary positions, RMSNorm, gated MLP, key and value heads shared by groups of query heads."""

from __future__ import annotations

import math

from englishroom.errors import ArtifactError, UnsupportedModelError
from englishroom.models.adapters.mapping import Config, Family, WeightSource
from englishroom.models.spec import ModelSpec


def read(config: Config) -> Family:
    """Read a Llama ``config.json``."""
    d_model, n_heads = config.size("hidden_size", 4096), config.size("num_attention_heads", 32)
    n_layers = config.size("num_hidden_layers", 32, at_most=1000)
    n_kv_heads = config.size("num_key_value_heads", n_heads)
    config.check_multiple("num_attention_heads", n_heads, "num_key_value_heads", n_kv_heads)
    if config.get("head_dim") is None:
        config.check_multiple("hidden_size", d_model, "num_attention_heads", n_heads)
    d_head = config.size("head_dim", d_model // n_heads)
    if d_head % 2:
        raise ArtifactError(f"{config.where}: heads of odd size {d_head} cannot turn in pairs; repair the config")
    attn_bias = config.flag("attention_bias", False)
    spec = ModelSpec(
        family="llama",
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        d_head=d_head,
        d_mlp=config.size("intermediate_size", 11008),
        d_vocab=config.size("vocab_size", 32000),
        n_ctx=config.size("max_position_embeddings", 2048),
        activation=config.activation("hidden_act", "silu"),
        norm="rmsnorm",
        norm_eps=config.number("rms_norm_eps", 1e-6),
        gated_mlp=True,
        rotary_theta=_theta(config),
        attn_scale=1 / math.sqrt(d_head),
        windows=(None,) * n_layers,
        tied=config.flag("tie_word_embeddings", False),
        qkv_bias=attn_bias,
        out_bias=attn_bias,
        mlp_bias=config.flag("mlp_bias", False),
    )
    return Family(spec, sources(spec), ignored=(".rotary_emb.inv_freq",))


def _theta(config: Config) -> float:
    """Read the rotary base from any place it is published in, refusing every kind of scaling."""
    config.require("partial_rotary_factor", (1.0,), 1.0)
    theta = config.number("rope_theta", 10000.0)
    for key in ("rope_parameters", "rope_scaling"):  # the later wins, as in transformers
        settings = config.get(key, {})
        if not isinstance(settings, dict):
            raise ArtifactError(f"{config.where}: {key} is {settings!r}, expected an object; repair the config")
        kind = settings.get("rope_type", settings.get("type", "default"))
        if kind != "default":
            raise UnsupportedModelError(
                f"{config.where}: {key} asks for RoPE scaling of type {kind!r}; supported: 'default' (no scaling)"
            )
        if settings.get("partial_rotary_factor", 1.0) != 1.0:
            raise UnsupportedModelError(
                f"{config.where}: {key} rotates only part of each head; supported: partial_rotary_factor 1.0"
            )
        theta = Config(settings, f"{config.where}: {key}").number("rope_theta", theta)
    return theta


def sources(spec: ModelSpec) -> tuple[WeightSource, ...]:
    """List where each of our weights stands in a Llama file."""
    found = [WeightSource("embed.W_E", "model.embed_tokens.weight")]
    for layer in range(spec.n_layers):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        found.append(WeightSource(f"{ours}.ln1.w", f"{theirs}.input_layernorm.weight"))
        found.append(WeightSource(f"{ours}.ln2.w", f"{theirs}.post_attention_layernorm.weight"))
        attn = [("Q", "q_proj"), ("K", "k_proj"), ("V", "v_proj"), ("O", "o_proj")]
        mlp = [("gate", "gate_proj"), ("in", "up_proj"), ("out", "down_proj")]
        for part, published, names in (("attn", "self_attn", attn), ("mlp", "mlp", mlp)):
            biased = {"Q": spec.qkv_bias, "K": spec.qkv_bias, "V": spec.qkv_bias, "O": spec.out_bias}
            for name, linear in names:
                at = f"{theirs}.{published}.{linear}"
                found.append(WeightSource(f"{ours}.{part}.W_{name}", f"{at}.weight", transposed=True))
                if biased.get(name, spec.mlp_bias):
                    found.append(WeightSource(f"{ours}.{part}.b_{name}", f"{at}.bias"))
    found.append(WeightSource("ln_final.w", "model.norm.weight"))
    if not spec.tied:
        found.append(WeightSource("unembed.W_U", "lm_head.weight", transposed=True))
    return tuple(found)
