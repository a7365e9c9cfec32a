"""Fold the gain and bias of a norm into the linear maps that read it. Exact up to rounding."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from englishroom.ir.program import Block, Linear, Normalise, Origin, Program, Table, reads_of


@dataclass(frozen=True)
class FoldNorms:
    """Multiply gains, and add biases, into every linear map behind a norm; the norm keeps only its scaling.

    ``norm(x) * g + b`` read by ``W`` is ``norm(x)`` read by ``diag(g) W`` with bias ``b @ W`` added. A norm that
    anything but a linear map with a dense table reads, or nothing, is left as it is. New tables are float64, so nothing
    is rounded that float32 would have to round. A folded map comes from its own tensors and the norm's.
    """

    name = "fold-norms"

    def __call__(self, program: Program) -> tuple[Program, tuple[str, ...]]:
        readers: dict[str, list[Block]] = {}
        for block in program.blocks:
            for variable in reads_of(block):
                readers.setdefault(variable, []).append(block)
        norms = {
            block.name: block
            for block in program.blocks
            if isinstance(block, Normalise)
            and (block.gain is not None or block.bias is not None)
            and block.name in readers
            and all(isinstance(r, Linear) and isinstance(r.weight, Table) for r in readers[block.name])
        }
        rewrites: list[str] = []
        blocks: list[Block] = []
        for block in program.blocks:
            if isinstance(block, Normalise) and block.name in norms:
                block = replace(block, gain=None, bias=None, origin=Origin(self.name))
            elif isinstance(block, Linear) and block.reads in norms:
                block = _folded(block, norms[block.reads], self.name)
                rewrites.append(f"folded the gain and bias of {block.reads} into {block.name}")
            blocks.append(block)
        return replace(program, blocks=tuple(blocks)), tuple(rewrites)


def _folded(linear: Linear, norm: Normalise, made_by: str) -> Linear:
    weight = linear.weight.values.astype(np.float64)
    weight = weight.T if linear.transposed else weight  # [in, out]
    bias = np.zeros(weight.shape[1]) if linear.bias is None else linear.bias.values.astype(np.float64)
    if norm.bias is not None:
        bias = bias + norm.bias.values.astype(np.float64) @ weight
    if norm.gain is not None:
        weight = norm.gain.values.astype(np.float64)[:, None] * weight
    has_bias = linear.bias is not None or norm.bias is not None
    return replace(
        linear,
        weight=Table(f"{linear.name}.folded_W", weight),
        bias=Table(f"{linear.name}.folded_b", bias) if has_bias else None,
        transposed=False,
        origin=Origin(made_by, (*linear.origin.sources, *norm.origin.sources)),
    )
