"""Start a stream model where a target stands, with looks and pieces in place of its parts.

1. Norms are folded into what reads them; what they divide by becomes its harmonic mean on a sample.
2. Moved features read what their head's values are made of, through W_V and the encoder of the head's dictionary, and
   write through its decoder and W_O. Rules are the latents of the MLP's transcoder.
3. Layer by layer, strengths are scaled and shifted until they are as near to the pieces' own as a line can bring them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from englishroom.circuits.folded_norm import FoldedNorm, reading
from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.replacement import clean_run
from englishroom.models.forward import unembedding
from englishroom.models.load import Target
from englishroom.readable.config import StreamConfig
from englishroom.readable.shape import shape_of
from englishroom.readable.stream import Part, StreamModel, empty_stream

LEAST_SLOPE, MOST_SLOPE = 0.3, 3.0
"""Bounds of the factor by which strengths are scaled."""


def start_stream(
    target: Target,
    looks: Mapping[str, Tensor],
    pieces: Mapping[Part, Dictionary],
    rows: Int[Tensor, "row pos"],
    config: StreamConfig,
) -> StreamModel:
    """Write a target as a stream model.

    Args:
        looks: the tables of all looks.
        rows: text on which scales and strengths are measured.
    """
    model = fold_in(target, looks, pieces, scales_of(target, rows), config)
    match_strengths(model, target, pieces, rows)
    return model


def scales_of(target: Target, rows: Int[Tensor, "row pos"]) -> dict[str, float]:
    """Return the harmonic mean, on some text, of what each norm of a target divides by."""
    norms = _norms(target)
    values = clean_run(target.spec, target.weights, rows, [norm.site for norm in norms.values()])[1]
    return {name: float(1 / (1 / norm.scale(values[norm.site].double())).mean()) for name, norm in norms.items()}


def fold_in(
    target: Target,
    looks: Mapping[str, Tensor],
    pieces: Mapping[Part, Dictionary],
    scales: Mapping[str, float],
    config: StreamConfig,
) -> StreamModel:
    """Put a target's weights and its pieces into a stream model, with constants for the scales of its norms."""
    spec, norms = target.spec, _norms(target)
    weights = {name: tensor.detach().double() for name, tensor in target.weights.items()}
    model = empty_stream(shape_of(spec, config), config.place_factor)
    found: dict[str, Tensor] = dict(looks) | {"token.0": weights["embed.W_E"]}
    if model.shape.n_places:
        found["places"] = torch.linalg.lstsq(model.places.double(), weights["pos_embed.W_pos"]).solution
    group = spec.n_heads // spec.n_kv_heads
    none = torch.zeros(1, dtype=torch.float64)
    for layer in range(spec.n_layers):
        part, norm = f"blocks.{layer}.attn", norms[f"blocks.{layer}.ln1"]
        reads, biases, writes = [], [], []
        mean = torch.zeros(spec.d_model, dtype=torch.float64) + weights.get(f"{part}.b_O", none)
        for head in range(spec.n_heads):
            d = pieces[layer, head].double().weights
            shared = slice(head // group * spec.d_head, (head // group + 1) * spec.d_head)
            own = slice(head * spec.d_head, (head + 1) * spec.d_head)
            w_v, w_o = weights[f"{part}.W_V"][:, shared], weights[f"{part}.W_O"][own]
            b_v = weights[f"{part}.b_V"][shared] if f"{part}.b_V" in weights else w_v.new_zeros(spec.d_head)
            read, bias = norm.fold(w_v @ d["W_enc"], b_v @ d["W_enc"] + d["b_enc"])
            reads.append(read / scales[norm.norm])
            biases.append(bias)
            writes.append(d["W_dec"] @ w_o)
            mean = mean + d["b_dec"] @ w_o
        found |= {f"moved.{layer}": torch.cat(reads, 1), f"moved_biases.{layer}": torch.cat(biases)}
        found |= {f"moved_out.{layer}": torch.cat(writes), f"moved_mean.{layer}": mean}
        d, norm = pieces[layer, None].double().weights, norms[f"blocks.{layer}.ln2"]
        read, bias = norm.fold(d["W_enc"], d["b_enc"])
        found |= {f"rules.{layer}": read / scales[norm.norm], f"rule_biases.{layer}": bias}
        found |= {f"rules_out.{layer}": d["W_dec"], f"rules_mean.{layer}": d["b_dec"]}
    read, bias = norms["ln_final"].fold(unembedding(spec, weights))
    found |= {"unembed": read / scales["ln_final"], "unembed_bias": bias}
    for name, table in found.items():
        model.tables[name].copy_(table)
    return model


@torch.no_grad()
def match_strengths(
    model: StreamModel, target: Target, pieces: Mapping[Part, Dictionary], rows: Int[Tensor, "row pos"]
) -> None:
    """Scale and shift strengths, layer by layer, until they are nearest to what the pieces make of the target's values.

    The model's tables are changed in place.
    """
    spec = target.spec
    sites = [f"blocks.{at}.{site}" for at in range(spec.n_layers) for site in ("attn.hook_z", "ln2.hook_normalized")]
    values = clean_run(spec, target.weights, rows, sites)[1]
    for layer in range(spec.n_layers):
        z = values[f"blocks.{layer}.attn.hook_z"].flatten(0, 1)
        each = [_strengths(pieces[layer, head], z[:, head]) for head in range(spec.n_heads)]
        x = values[f"blocks.{layer}.ln2.hook_normalized"].flatten(0, 1)
        for name, bias, aim in (
            (f"moved.{layer}", f"moved_biases.{layer}", torch.cat(each, 1)),
            (f"rules.{layer}", f"rule_biases.{layer}", _strengths(pieces[layer, None], x)),
        ):
            seen: dict[str, Tensor] = {}
            model.run(rows, lambda site, value, seen=seen: seen.__setitem__(site, value))
            strengths = model.strengths(name, seen[f"read.{name}"])
            off, aim_off = strengths - strengths.mean(0), aim - aim.mean(0)
            slope = (off * aim_off).mean(0) / off.square().mean(0).clamp(min=1e-12)
            slope = slope.clamp(LEAST_SLOPE, MOST_SLOPE)
            model.tables[name].mul_(slope)
            model.tables[bias].copy_((model.tables[bias] - strengths.mean(0)) * slope + aim.mean(0))


def _strengths(piece: Dictionary, x: Float[Tensor, "row d"]) -> Float[Tensor, "row latent"]:
    return x @ piece.weights["W_enc"] + piece.weights["b_enc"]


def _norms(target: Target) -> dict[str, FoldedNorm]:
    weights = {name: tensor.detach().double() for name, tensor in target.weights.items()}
    names = [f"blocks.{layer}.{norm}" for layer in range(target.spec.n_layers) for norm in ("ln1", "ln2")]
    return {name: reading(target.spec, weights, name) for name in (*names, "ln_final")}
