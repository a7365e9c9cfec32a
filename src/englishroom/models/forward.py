"""The target's own computation: one plain forward pass with a tap at every named site."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from englishroom.kernels.attention import attend_small, suits
from englishroom.models.spec import Activation, ModelSpec

Tap = Callable[[str, Tensor], Tensor]
"""Called with a site's name and value; what it returns takes the value's place."""
Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None, float], Tensor]
"""Mixes values: (q, k, v, visible or ``None`` for causal, scale) -> z, all [batch, head, pos, d_head]."""


@dataclass
class Cache:
    """Keys and values of the positions already read, per layer, each [batch, kv_head, pos, d_head]."""

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    @property
    def length(self) -> int:
        return self.keys[0].shape[2] if self.keys else 0

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append the new positions of ``layer`` and return all of its keys and values."""
        if layer == len(self.keys):
            self.keys.append(k)
            self.values.append(v)
        else:
            self.keys[layer] = torch.cat([self.keys[layer], k], dim=2)
            self.values[layer] = torch.cat([self.values[layer], v], dim=2)
        return self.keys[layer], self.values[layer]


def forward(
    spec: ModelSpec,
    weights: Mapping[str, Tensor],
    tokens: Int[Tensor, "batch pos"],
    tap: Tap | None = None,
    cache: Cache | None = None,
) -> Float[Tensor, "batch pos d_vocab"]:
    """Compute the logits of the next token at every position.

    Without a tap, attention runs in torch's fused kernel; with one, its scores and pattern are formed explicitly so
    that they can be read and replaced. The two agree to float rounding.

    Args:
        tap: sees, and may replace, the value at every site (names of TransformerLens; ``hook_normalized`` has the
            norm's gain and bias applied, there it has not).
        cache: keys and values of earlier positions; extended in place. ``tokens`` are then the positions after them.
    """
    x = final_normalized(spec, weights, tokens, tap, cache)
    return (tap or _untouched)("hook_logits", x @ unembedding(spec, weights))


def unembedding(spec: ModelSpec, weights: Mapping[str, Tensor]) -> Float[Tensor, "d_model d_vocab"]:
    """Return the matrix that turns the last residual into logits."""
    return weights["embed.W_E"].T if spec.tied else weights["unembed.W_U"]


def final_normalized(
    spec: ModelSpec,
    weights: Mapping[str, Tensor],
    tokens: Int[Tensor, "batch pos"],
    tap: Tap | None = None,
    cache: Cache | None = None,
    attend: Attend | None = None,
    skipped: Collection[str] = (),
) -> Float[Tensor, "batch pos d_model"]:
    """Compute all of :func:`forward` but the last product, for losses that form the logits piece by piece.

    Args:
        attend: mixes values in place of torch's fused attention; with it a tap does not see scores and patterns.
        skipped: MLPs (``blocks.0.mlp``) that are not computed; a tap sees zeros as their output.
    """
    at = tap or _untouched
    start = cache.length if cache is not None else 0
    n_pos = tokens.shape[1]
    resid = at("hook_embed", weights["embed.W_E"][tokens])  # [batch, pos, d_model]
    rotation = None
    if spec.rotary_theta is None:
        resid = resid + at("hook_pos_embed", weights["pos_embed.W_pos"][start : start + n_pos])
    else:
        rotation = rotary_angles(spec, start, n_pos, resid)

    for layer in range(spec.n_layers):
        block = f"blocks.{layer}"
        resid = at(f"{block}.hook_resid_pre", resid)
        x = at(f"{block}.ln1.hook_normalized", _norm(spec, weights, f"{block}.ln1", resid))
        resid = resid + at(f"{block}.hook_attn_out", _attention(spec, weights, layer, x, rotation, tap, cache, attend))
        resid = at(f"{block}.hook_resid_mid", resid)
        x = at(f"{block}.ln2.hook_normalized", _norm(spec, weights, f"{block}.ln2", resid))
        skip = f"{block}.mlp" in skipped
        out = torch.zeros_like(resid) if skip else _mlp(spec, weights, f"{block}.mlp", x, at)
        resid = resid + at(f"{block}.hook_mlp_out", out)
        resid = at(f"{block}.hook_resid_post", resid)

    return at("ln_final.hook_normalized", _norm(spec, weights, "ln_final", resid))


def log_probs(
    spec: ModelSpec, weights: Mapping[str, Tensor], tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos d_vocab"]:
    """Compute the natural-log probabilities of the next token at every position."""
    with torch.inference_mode():
        return F.log_softmax(forward(spec, weights, tokens), dim=-1)


def rotary_angles(spec: ModelSpec, start: int, n_pos: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Tabulate cosine and sine of every rotary angle, each [pos, d_head].

    Coordinate ``i`` pairs with ``i + d_head / 2``; both turn by ``pos * theta ** (-2 i / d_head)``. Angles are formed
    in float64 and rounded once to the model's precision.
    """
    assert spec.rotary_theta is not None
    half = torch.arange(0, spec.d_head, 2, dtype=torch.float64, device=like.device) / spec.d_head
    frequency = spec.rotary_theta ** (-half)  # [d_head / 2]
    position = torch.arange(start, start + n_pos, dtype=torch.float64, device=like.device)
    angle = torch.outer(position, frequency).repeat(1, 2)  # [pos, d_head]
    return angle.cos().to(like.dtype), angle.sin().to(like.dtype)


def _untouched(_site: str, value: Tensor) -> Tensor:
    return value


def _norm(spec: ModelSpec, weights: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    gain = weights[f"{name}.w"]
    if spec.norm == "rmsnorm":
        return F.rms_norm(x, (spec.d_model,), gain, spec.norm_eps)
    return F.layer_norm(x, (spec.d_model,), gain, weights[f"{name}.b"], spec.norm_eps)


def _linear(weights: Mapping[str, Tensor], part: str, name: str, x: Tensor) -> Tensor:
    """Apply ``x @ W + b``; the bias is absent in families that have none."""
    w, b = weights[f"{part}.W_{name}"], weights.get(f"{part}.b_{name}")
    if b is None:
        return x @ w
    return torch.addmm(b, x.reshape(-1, w.shape[0]), w).view(*x.shape[:-1], w.shape[1])


def _rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def _attention(
    spec: ModelSpec,
    weights: Mapping[str, Tensor],
    layer: int,
    x: Float[Tensor, "batch pos d_model"],
    rotation: tuple[Tensor, Tensor] | None,
    tap: Tap | None,
    cache: Cache | None,
    attend: Attend | None,
) -> Float[Tensor, "batch pos d_model"]:
    part = f"blocks.{layer}.attn"
    at = tap or _untouched
    batch, n_pos, _ = x.shape

    def heads(letter: str, count: int) -> Tensor:
        flat = _linear(weights, part, letter, x)
        split = flat.view(batch, n_pos, count, spec.d_head)
        return at(f"{part}.hook_{letter.lower()}", split).transpose(1, 2)  # [batch, head, pos, d_head]

    q, k, v = heads("Q", spec.n_heads), heads("K", spec.n_kv_heads), heads("V", spec.n_kv_heads)
    if rotation is not None:
        q = at(f"{part}.hook_rot_q", _rotate(q, rotation).transpose(1, 2)).transpose(1, 2)
        k = at(f"{part}.hook_rot_k", _rotate(k, rotation).transpose(1, 2)).transpose(1, 2)
    if cache is not None:
        k, v = cache.extend(layer, k, v)
    if tap is None or attend is not None:
        visible = None
        if spec.windows[layer] is not None or (n_pos > 1 and k.shape[2] > n_pos):
            visible = visible_keys(n_pos, k.shape[2], spec.windows[layer], x.device)  # [query, key]
        z = (attend or fused_attend)(q, k, v, visible, spec.attn_scale)
    else:
        group = spec.n_heads // spec.n_kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        scores = (q @ k.transpose(-1, -2)) * spec.attn_scale  # [batch, head, query, key]
        hidden = ~visible_keys(n_pos, k.shape[2], spec.windows[layer], x.device)
        scores = at(f"{part}.hook_attn_scores", scores.masked_fill(hidden, -torch.inf))
        z = at(f"{part}.hook_pattern", scores.softmax(dim=-1)) @ v
    z = at(f"{part}.hook_z", z.transpose(1, 2))  # [batch, pos, head, d_head]
    return _linear(weights, part, "O", z.reshape(batch, n_pos, -1))


def fused_attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, scale: float) -> Tensor:
    """Mix values by a fused kernel: torch's, or on the CPU, for small heads, our own."""
    if suits(q, visible):
        return attend_small(q, k, v, scale)
    causal = visible is None and q.shape[2] > 1
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=visible, is_causal=causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )


def visible_keys(n_query: int, n_key: int, window: int | None, device: torch.device) -> Tensor:
    """Say which keys each query may read: none after it and, in local attention, none ``window`` or more before it."""
    query = torch.arange(n_key - n_query, n_key, device=device)[:, None]
    key = torch.arange(n_key, device=device)[None, :]
    seen = key <= query
    return seen if window is None else seen & (query - key < window)


def _mlp(spec: ModelSpec, weights: Mapping[str, Tensor], part: str, x: Tensor, at: Tap) -> Tensor:
    if spec.gated_mlp:
        gate = at(f"{part}.hook_pre", _linear(weights, part, "gate", x))
        post = activate(spec.activation, gate) * at(f"{part}.hook_pre_linear", _linear(weights, part, "in", x))
    else:
        post = activate(spec.activation, at(f"{part}.hook_pre", _linear(weights, part, "in", x)))
    return _linear(weights, part, "out", at(f"{part}.hook_post", post))


def activate(kind: Activation, x: Tensor) -> Tensor:
    """Apply the MLP's pointwise function. ``gelu_new`` is the tanh approximation, ``gelu`` the exact one."""
    match kind:
        case "gelu_new":
            return F.gelu(x, approximate="tanh")
        case "gelu":
            return F.gelu(x)
        case "relu":
            return F.relu(x)
        case "silu":
            return F.silu(x)
