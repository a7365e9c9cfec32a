"""Quantised targets: every matrix on a grid of a few levels, everything else at float16.

1. Embeddings (of tokens and positions) are rounded to nearest, a scale for every row. A tied embedding is one matrix.
2. The maps follow in the order of the forward pass, a scale for every output, rounded to nearest or error-compensated.
   Their inputs are taken from a pass in which everything before is quantised already.
3. Biases and the gains of norms stay float16.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, assert_never, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from englishroom.errors import ConfigError
from englishroom.models.checked_rows import checked_rows
from englishroom.models.compress.gptq import compensated
from englishroom.models.compress.grid import CodedMatrix, fitted_scales, nearest
from englishroom.models.compress.half import half
from englishroom.models.forward import final_normalized
from englishroom.models.load import Target

Bits = int | Literal["ternary"]
"""1 to 8, or three levels."""
Method = Literal["rtn", "gptq"]
BITS: tuple[Bits, ...] = (8, 4, 3, 2, "ternary")
"""The points of the curve that programs are compared with."""
METHODS: tuple[Method, ...] = get_args(Method)
_EMBEDDINGS = ("embed.W_E", "pos_embed.W_pos")
_FED = (
    ("ln1.hook_normalized", ("attn.W_Q", "attn.W_K", "attn.W_V")),
    ("attn.hook_z", ("attn.W_O",)),
    ("ln2.hook_normalized", ("mlp.W_gate", "mlp.W_in")),
    ("mlp.hook_post", ("mlp.W_out",)),
)
"""The sites of a block, and the matrices that read each of them."""


@dataclass(frozen=True)
class QuantisedTarget:
    """A target that stores its matrices as codes.

    Attributes:
        target: what the codes stand for; it runs like any target.
        matrices: every matrix of the target, by name. The other weights of ``target`` are exact in float16.
    """

    target: Target
    bits: Bits
    method: Method
    matrices: Mapping[str, CodedMatrix]


def quantise(
    target: Target, bits: Bits, method: Method = "rtn", calibration: Int[Tensor, "row pos"] | None = None
) -> QuantisedTarget:
    """Quantise every matrix of a target.

    Args:
        bits: 1 to 8, which is 2 to 256 levels, or ``ternary``, which is three.
        method: ``rtn`` rounds to nearest, with the scale of least squared error; ``gptq`` compensates errors.
        calibration: tokens to take the inputs of every map from, full rows, read all at once; only for ``gptq``.

    Raises:
        ConfigError: there are no such bits, or the calibration does not fit the target.
        UnsupportedModelError: a weight is beyond float16.
    """
    if bits != "ternary" and not 1 <= bits <= 8:
        raise ConfigError(f"bits is {bits}; choose 1 to 8, or ternary")
    n_levels = 3 if bits == "ternary" else 2**bits
    weights = {name: half(target, name, tensor) for name, tensor in target.weights.items()}
    matrices: dict[str, CodedMatrix] = {}

    def store(name: str, coded: CodedMatrix) -> None:
        matrices[name], weights[name] = coded, coded.values().to(weights[name].dtype)

    for name in _EMBEDDINGS:
        if name in weights:
            store(name, _rounded(target.weights[name], n_levels, "row"))
    match method:
        case "rtn":
            for name, tensor in target.weights.items():
                if tensor.ndim == 2 and name not in matrices:
                    store(name, _rounded(tensor, n_levels, "column"))
        case "gptq":
            _quantise_while_reading(target, weights, checked_rows(target, calibration, "calibration"), n_levels, store)
        case _:
            assert_never(method)
    name = f"{target.name}, {bits if bits == 'ternary' else f'{bits} bits'} ({method})"
    ordered = {key: matrices[key] for key in weights if key in matrices}
    return QuantisedTarget(replace(target, name=name, weights=weights), bits, method, ordered)


def _quantise_while_reading(
    target: Target,
    weights: Mapping[str, Tensor],
    calibration: Tensor,
    n_levels: int,
    store: Callable[[str, CodedMatrix], None],
) -> None:
    """Quantise the maps during one forward pass: each as its inputs come by, before the pass looks it up."""

    def tap(site: str, value: Tensor) -> Tensor:
        for name in fed_by(site):
            if name in weights:
                inputs = value.reshape(-1, target.weights[name].shape[0])
                codes, scales = compensated(target.weights[name], inputs, n_levels)
                store(name, CodedMatrix(codes, scales, n_levels, "column"))
        return value

    with torch.no_grad():
        final_normalized(target.spec, weights, calibration, tap)


def quantise_best(
    target: Target, bits: Bits, calibration: Int[Tensor, "row pos"], objective: Callable[[Target], float]
) -> QuantisedTarget:
    """Quantise by every method and keep the one with the lowest objective (the first of equals).

    Args:
        objective: nats per token on text to choose by, never on the text that is reported.
    """
    made = [quantise(target, bits, method, calibration) for method in METHODS]
    return min(made, key=lambda quantised: objective(quantised.target))


def fed_by(site: str) -> tuple[str, ...]:
    """Name the matrices that read a site, of whatever family (a target may lack some)."""
    if site == "ln_final.hook_normalized":
        return ("unembed.W_U",)
    for end, parts in _FED:
        if site.startswith("blocks.") and site.endswith(f".{end}"):
            return tuple(site.removesuffix(end) + part for part in parts)
    return ()


def _rounded(tensor: Tensor, n_levels: int, channel: Literal["row", "column"]) -> CodedMatrix:
    columns = tensor.T if channel == "row" else tensor
    scales = fitted_scales(columns, n_levels)
    codes = nearest(columns.float(), scales, n_levels)
    return CodedMatrix(codes.T.contiguous() if channel == "row" else codes, scales, n_levels, channel)
