"""Read the dictionaries of a featured program back out of it, to probe them or to hand them to other tools."""

from __future__ import annotations

import numpy as np
import torch

from englishroom.dictionaries.dictionary import Dictionary, DictionarySpec
from englishroom.errors import ConfigError
from englishroom.ir.program import AnyTable, Linear, Program, Select, Sum, Table
from englishroom.lower.featurise import MADE_BY


def dictionaries_of(program: Program) -> list[Dictionary]:
    """Return the dictionaries that a program was made with, in the order in which they run.

    A BatchTopK dictionary comes back as JumpReLU with equal thresholds, which is how it runs.

    Raises:
        ConfigError: the program has none.
    """
    linears = {block.name: block for block in program.blocks if isinstance(block, Linear)}
    sites = {part: block.name for block in program.blocks if isinstance(block, Sum) for part in block.reads}
    found: list[Dictionary] = []
    for select in program.blocks:
        if isinstance(select, Select) and select.origin.made_by == MADE_BY:
            found.append(_dictionary(select, linears, sites))
    if not found:
        raise ConfigError(f"the program is {program.level} and has no dictionaries; decompile with --level featured")
    return found


def _dictionary(select: Select, linears: dict[str, Linear], sites: dict[str, str]) -> Dictionary:
    name = select.name
    pre = linears[f"{name}.pre"]
    outs = [block for key, block in linears.items() if key == f"{name}.out" or key.startswith(f"{name}.out.")]
    skips = [block for key, block in linears.items() if key == f"{name}.skip" or key.startswith(f"{name}.skip.")]
    weights = {"W_enc": _tensor(pre.weight), "b_enc": _tensor(pre.bias)}
    weights["W_dec"] = torch.cat([_tensor(block.weight) for block in outs], dim=1)
    weights["b_dec"] = torch.cat([_tensor(block.bias) for block in outs])
    if skips:
        weights["W_skip"] = torch.cat([_tensor(block.weight) for block in skips], dim=1)
    if select.thresholds is not None:
        weights["threshold"] = _tensor(select.thresholds)
    d_in, n_latents = weights["W_enc"].shape
    spec = DictionarySpec(
        reads=_site(pre.reads),
        writes=tuple(_site(sites[block.name]) for block in outs),
        d_in=d_in,
        d_out=weights["W_dec"].shape[1] // len(outs),
        n_latents=n_latents,
        activation="topk" if select.thresholds is None else "jumprelu",
        k=select.k,
        skip=bool(skips),
    )
    return Dictionary.of(spec, weights)


def _tensor(table: AnyTable | None) -> torch.Tensor:
    assert isinstance(table, Table), "dictionaries are written with dense tables"
    return torch.from_numpy(np.array(table.values))


def _site(variable: str) -> str:
    """Name the site whose variable, or whose part, this is."""
    return variable.removesuffix(".before").removesuffix(".explained")
