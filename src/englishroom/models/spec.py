"""The shape of a target: everything about a transformer that is not a weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Family = Literal["gpt2", "gpt_neo", "llama"]
Activation = Literal["gelu_new", "gelu", "relu", "silu"]
LONGEST_CONTEXT = 2**17
"""Tokens up to which whole contexts are read or written at once; a configuration may say any number."""


@dataclass(frozen=True)
class ModelSpec:
    """The architecture of one decoder-only transformer.

    Attributes:
        family: the architecture family its weights were published in.
        n_kv_heads: key and value heads; each serves ``n_heads / n_kv_heads`` query heads.
        norm: ``layernorm`` centres and has gain and bias; ``rmsnorm`` has a gain only.
        norm_eps: added to the variance (or mean square) before the root.
        gated_mlp: whether the MLP multiplies its activation by a second linear map (``W_in``).
        rotary_theta: base of the rotary angles, or ``None`` where positions are learned vectors.
        attn_scale: factor on every query-key score.
        windows: per layer, how many positions back a query may look (itself included); ``None`` is all of them.
        tied: whether the unembedding is the transposed embedding.
        qkv_bias, out_bias, mlp_bias: which linear maps carry a bias.
    """

    family: Family
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_mlp: int
    d_vocab: int
    n_ctx: int
    activation: Activation
    norm: Literal["layernorm", "rmsnorm"]
    norm_eps: float
    gated_mlp: bool
    rotary_theta: float | None
    attn_scale: float
    windows: tuple[int | None, ...]
    tied: bool
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool


def weight_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """List every weight that ``spec`` needs, by name, in the order of the forward pass.

    Names follow TransformerLens; every matrix is [in, out] and is applied as ``x @ W``. A tied model has no
    ``unembed.W_U``: it uses ``embed.W_E`` transposed.
    """
    d, q, kv = spec.d_model, spec.n_heads * spec.d_head, spec.n_kv_heads * spec.d_head
    shapes: dict[str, tuple[int, ...]] = {"embed.W_E": (spec.d_vocab, d)}
    if spec.rotary_theta is None:
        shapes["pos_embed.W_pos"] = (spec.n_ctx, d)

    def norm(name: str) -> None:
        shapes[f"{name}.w"] = (d,)
        if spec.norm == "layernorm":
            shapes[f"{name}.b"] = (d,)

    for layer in range(spec.n_layers):
        block = f"blocks.{layer}"
        norm(f"{block}.ln1")
        for letter, size in (("Q", q), ("K", kv), ("V", kv)):
            shapes[f"{block}.attn.W_{letter}"] = (d, size)
            if spec.qkv_bias:
                shapes[f"{block}.attn.b_{letter}"] = (size,)
        shapes[f"{block}.attn.W_O"] = (q, d)
        if spec.out_bias:
            shapes[f"{block}.attn.b_O"] = (d,)
        norm(f"{block}.ln2")
        for name in ("gate", "in") if spec.gated_mlp else ("in",):
            shapes[f"{block}.mlp.W_{name}"] = (d, spec.d_mlp)
            if spec.mlp_bias:
                shapes[f"{block}.mlp.b_{name}"] = (spec.d_mlp,)
        shapes[f"{block}.mlp.W_out"] = (spec.d_mlp, d)
        if spec.mlp_bias:
            shapes[f"{block}.mlp.b_out"] = (d,)
    norm("ln_final")
    if not spec.tied:
        shapes["unembed.W_U"] = (d, spec.d_vocab)
    return shapes


def site_sizes(spec: ModelSpec) -> dict[str, int]:
    """List the sites of the forward pass that hold one vector a position, in its order, and the vectors' sizes.

    Sites with a vector for every head, scores and patterns, and position vectors, which have no batch, are left out.
    """
    d = spec.d_model
    sizes = {"hook_embed": d}
    for layer in range(spec.n_layers):
        block = f"blocks.{layer}"
        for name in ("hook_resid_pre", "ln1.hook_normalized", "hook_attn_out", "hook_resid_mid", "ln2.hook_normalized"):
            sizes[f"{block}.{name}"] = d
        for name in ("hook_pre", "hook_pre_linear", "hook_post") if spec.gated_mlp else ("hook_pre", "hook_post"):
            sizes[f"{block}.mlp.{name}"] = spec.d_mlp
        sizes |= {f"{block}.hook_mlp_out": d, f"{block}.hook_resid_post": d}
    return sizes | {"ln_final.hook_normalized": d}


def parameter_count(spec: ModelSpec) -> int:
    """Count the numbers in every weight of ``spec``, tied weights once."""
    return sum(math.prod(shape) for shape in weight_shapes(spec).values())


def training_flops(spec: ModelSpec, n_ctx: int) -> int:
    """Count the floating-point operations of training on one token, in contexts of ``n_ctx`` tokens.

    Every matrix entry is a multiply and an add in the forward pass and twice that in the backward pass (Kaplan et al.
    2020); so is every product of a query with a key, or of a weight with a value, at half the context on average.
    Embeddings are looked up; a tied unembedding counts as the matrix it is.
    """
    matrices = sum(
        shape[0] * shape[1]
        for name, shape in weight_shapes(spec).items()
        if len(shape) == 2 and name.startswith(("blocks.", "unembed."))
    )
    if spec.tied:
        matrices += spec.d_model * spec.d_vocab
    attention = spec.n_layers * 2 * spec.n_heads * spec.d_head * (n_ctx + 1) // 2
    return 6 * (matrices + attention)
