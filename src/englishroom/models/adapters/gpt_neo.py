"""GPT-Neo: like GPT-2, but with [out, in] linear layers, alternating global and local attention, and no scaling."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from englishroom.errors import ArtifactError
from englishroom.models.adapters.gpt2 import gpt_sources
from englishroom.models.adapters.mapping import Config, Family, WeightSource
from englishroom.models.spec import ModelSpec


def read(config: Config) -> Family:
    """Read a GPT-Neo ``config.json``."""
    d_model, n_heads, n_layers = (
        config.size("hidden_size", 2048),
        config.size("num_heads", 16),
        config.size("num_layers", 24, at_most=1000),
    )
    config.check_multiple("hidden_size", d_model, "num_heads", n_heads)
    window = config.size("window_size", 256)
    spec = ModelSpec(
        family="gpt_neo",
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_head=d_model // n_heads,
        d_mlp=config.size("intermediate_size", 4 * d_model),
        d_vocab=config.size("vocab_size", 50257),
        n_ctx=config.size("max_position_embeddings", 2048),
        activation=config.activation("activation_function", "gelu_new"),
        norm="layernorm",
        norm_eps=config.number("layer_norm_epsilon", 1e-5),
        gated_mlp=False,
        rotary_theta=None,
        attn_scale=1.0,
        windows=tuple(window if kind == "local" else None for kind in _kinds(config, n_layers)),
        tied=config.flag("tie_word_embeddings", True),
        qkv_bias=False,
        out_bias=True,
        mlp_bias=True,
    )
    return Family(spec, sources(spec), ignored=(".attn.attention.bias", ".attn.attention.masked_bias"))


def _kinds(config: Config, n_layers: int) -> list[str]:
    """Spell out ``attention_types``, for example [[["global", "local"], 4]], as one word a layer."""
    given = config.get("attention_types", [[["global", "local"], 12]])
    try:
        spelt = (str(kind) for pattern, times in given for _ in range(min(times, n_layers + 1)) for kind in pattern)
        kinds = list(islice(spelt, n_layers + 1))
    except (TypeError, ValueError):
        kinds = []
    if len(kinds) != n_layers or set(kinds) - {"global", "local"}:
        raise ArtifactError(
            f"{config.where}: attention_types {given!r} does not give global or local for each of {n_layers} layers; "
            "repair the config"
        )
    return kinds


def sources(spec: ModelSpec) -> tuple[WeightSource, ...]:
    """List where each of our weights stands in a GPT-Neo file."""
    return gpt_sources(spec, _layer)


def _layer(ours: str, theirs: str) -> Iterator[WeightSource]:
    for letter, name in (("Q", "q_proj"), ("K", "k_proj"), ("V", "v_proj"), ("O", "out_proj")):
        yield WeightSource(f"{ours}.attn.W_{letter}", f"{theirs}.attn.attention.{name}.weight", transposed=True)
    yield WeightSource(f"{ours}.attn.b_O", f"{theirs}.attn.attention.out_proj.bias")
    for side, name in (("in", "c_fc"), ("out", "c_proj")):
        yield WeightSource(f"{ours}.mlp.W_{side}", f"{theirs}.mlp.{name}.weight", transposed=True)
        yield WeightSource(f"{ours}.mlp.b_{side}", f"{theirs}.mlp.{name}.bias")
