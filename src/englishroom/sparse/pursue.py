"""Start with few edges: for every sum the features that together explain most of it.

All edges that a target implies are far too many to fit (39 million for five narrow layers), and most of them say the
same, since many features share few directions. Orthogonal matching pursuit (Pati et al. 1993) takes features one at a
time, each time the one that explains most of what is left of the sum on a text, and fits the weights of those taken
anew. It needs no more than how the features vary together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch

from englishroom.kernels import pursuit as kernels
from englishroom.kernels.threads import array, run
from englishroom.sparse.edges import Edges
from englishroom.sparse.model import SparseModel
from englishroom.sparse.observed import Observed

DAMPING = 1e-3
"""Added to every feature's variance, as a share of it, since rare ones are seen a few times."""
LEAST = 2e-2
"""Variance that a feature must have beyond those taken already, as a share of its own."""
CANDIDATES = 8
"""Times as many features that a sum chooses from: those that by themselves explain most of it."""
SUMS_AT_ONCE = 64


def pursue(
    model: SparseModel,
    observed: Observed,
    reads: Mapping[int, int],
    progress: Callable[[str, int, int], None] = lambda _step, _done, _total: None,
) -> SparseModel:
    """Keep, of every sum of some stages, as many edges as ``reads`` says; weights and constants are fitted anew.

    Args:
        model: a model none of whose edges has been left out.
        reads: by stage, features that each of its sums may read; stages that are not named stay as they are.
    """
    tables: dict[tuple[int, str], Edges] = {}
    constants = list(model.constants)
    total = sum(len(model.constants[stage]) for stage in reads)
    done = 0
    for stage, most in reads.items():
        names = model.shape.sources(stage)
        sizes = [observed.sizes[name] for name in names]
        n, n_columns = sum(sizes), len(model.constants[stage])
        covariance = observed.covariance(n)
        covariance.diagonal().mul_(1 + DAMPING)
        full = torch.cat([model.tables[stage][name].matrix() for name in names]).double()  # [feature, column]
        against = (covariance @ full).T.float().contiguous()
        shared = covariance.float().contiguous()
        found = torch.zeros(n, n_columns)
        for first in range(0, n_columns, SUMS_AT_ONCE):
            part = against[first : first + SUMS_AT_ONCE].contiguous()
            chosen = torch.zeros(len(part), min(most, n), dtype=torch.int32)
            weights, counts = torch.zeros(chosen.shape), torch.zeros(len(part), dtype=torch.int32)
            alone = part.square() / shared.diagonal().clamp(min=1e-30)
            candidates = alone.topk(min(CANDIDATES * most, n)).indices.int()
            given = (array(shared), array(part), array(candidates), np.float32(LEAST))
            run(kernels.pursue, len(part), *given, *map(array, (chosen, weights, counts)))
            used = torch.arange(chosen.shape[1]) < counts[:, None]
            columns = torch.arange(first, first + len(part))[:, None].expand(used.shape)
            found[chosen[used].long(), columns[used]] = weights[used]
            done += len(part)
            progress("choosing edges", done, total)
        lost = (observed.sums[:n] / observed.count) @ (full - found.double())
        constants[stage] = constants[stage] + lost.float()
        for name, part in zip(names, found.split(sizes), strict=True):
            tables[stage, name] = Edges.of(part)
    return replace(model.with_tables(tables), constants=tuple(constants))
