"""Leave out rules that can fire no more."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from englishroom.sparse.edges import Edges
from englishroom.sparse.model import SparseModel
from englishroom.sparse.prune import GROUPS, fan_in


def without_dead(model: SparseModel) -> SparseModel:
    """Leave out rules that read nothing and whose bias is not above 0; what the model says stays the same."""
    tables = [dict(stage) for stage in model.tables]
    constants, biases = list(model.constants), list(model.biases)
    for layer in range(model.shape.n_layers):
        for at, group in GROUPS:
            stage, name = 3 * layer + at, f"{group}.{layer}"
            alive = (fan_in(model, stage) > 0) | (biases[stage] > 0) | (constants[stage][:-1] != 0)
            alive[0] |= not alive.any()
            with_loudness = torch.cat([alive, alive.new_ones(1)])
            tables[stage] = {source: _columns(edges, with_loudness) for source, edges in tables[stage].items()}
            constants[stage], biases[stage] = constants[stage][with_loudness], biases[stage][alive]
            for later in range(stage + 1, model.shape.n_stages):
                if name in tables[later]:
                    tables[later][name] = _sources(tables[later][name], alive)
    return replace(model, tables=tuple(tables), constants=tuple(constants), biases=tuple(biases))


def _columns(edges: Edges, kept: Tensor) -> Edges:
    """Keep some columns of a table, and number them anew."""
    numbers = (kept.cumsum(0) - 1).int()
    fewer = edges.keep(kept[edges.columns.long()])
    return replace(fewer, columns=numbers[fewer.columns.long()], n_columns=int(kept.sum()))


def _sources(edges: Edges, kept: Tensor) -> Edges:
    """Keep some sources of a table."""
    fewer = edges.keep(kept[edges.sources])
    counts = fewer.starts.diff()[kept]
    return replace(fewer, starts=torch.cat([counts.new_zeros(1), counts.cumsum(0)]))
