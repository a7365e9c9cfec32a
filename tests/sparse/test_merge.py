"""Features that say the same are merged, and the program goes on saying what it said."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from englishroom.dictionaries.losses import kl_nats
from englishroom.sparse.config import SparseConfig
from englishroom.sparse.edges import Edges
from englishroom.sparse.fit import SparseFit
from englishroom.sparse.merge import find_twins, merge
from englishroom.sparse.model import SparseModel
from tiny_sparse import N_RULES, started, target_of, text, transcoded


@pytest.fixture(scope="module")
def model() -> SparseModel:
    return started(transcoded(), text())


def with_a_twin(model: SparseModel, share: float) -> SparseModel:
    """Let rule 1 of layer 0 be rule 0 at another strength, and let as many fire as there are."""
    tables = [dict(stage) for stage in model.tables]
    biases = list(model.biases)
    for source, edges in tables[2].items():
        matrix = edges.matrix().detach()
        matrix[:, 1] = share * matrix[:, 0]
        tables[2][source] = Edges.of(matrix)
    constants = [c.detach().clone() for c in model.constants]
    constants[2][1] = share * constants[2][0]
    biases[2] = biases[2].detach().clone()
    biases[2][1] = share * biases[2][0]
    shape = replace(model.shape, k_rules=N_RULES)
    return replace(model, shape=shape, tables=tuple(tables), constants=tuple(constants), biases=tuple(biases))


def batches() -> list[torch.Tensor]:
    return [torch.from_numpy(text(seed=5).rows(range(24)))]


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_twins_are_merged_and_nothing_changes(model: SparseModel, share: float) -> None:
    doubled = with_a_twin(model, share)
    twins = find_twins(doubled, batches(), 0.999)
    assert {int(twins["rules.0"].gone[0]), int(twins["rules.0"].kept[0])} == {0, 1}
    assert int(twins["rules.0"].kept[0]) == (0 if share < 1 else 1)  # the stronger stays
    merged, n_gone = merge(doubled, twins, None)
    assert n_gone == sum(len(pairs.gone) for pairs in twins.values())
    only = {
        **twins,
        **{
            name: replace(pairs, gone=pairs.gone[:0], kept=pairs.kept[:0], shares=pairs.shares[:0])
            for name, pairs in twins.items()
            if name != "rules.0"
        },
    }
    merged, n_gone = merge(doubled, only, None)
    assert n_gone == len(twins["rules.0"].gone)
    with torch.no_grad():
        expected, found = doubled.run(batches()[0]), merged.run(batches()[0])
    assert float(kl_nats(expected, found)[0].mean()) < 1e-6
    gone = int(twins["rules.0"].gone[0])
    assert all(not (edges.columns == gone).any() for edges in merged.tables[2].values())
    later = [tables["rules.0"] for tables in merged.tables[3:] if "rules.0" in tables]
    assert all(int(edges.starts.diff()[gone]) == 0 for edges in later)


def test_rows_that_would_be_too_long_are_not_merged(model: SparseModel) -> None:
    doubled = with_a_twin(model, 0.5)
    _, n_gone = merge(doubled, find_twins(doubled, batches(), 0.999), 1)
    assert n_gone == 0


def test_a_fit_merges_at_its_last_pruning() -> None:
    replacement, rows = transcoded(), text()
    doubled = with_a_twin(started(replacement, rows), 0.5)
    config = SparseConfig(
        tokens=12 * 8, edges=300, first_edges=900, reads=3, fan_in=5, most=8, prunings=2, batch=4, merge=0.9
    )
    run = SparseFit(target_of(replacement), doubled, rows, config, {})
    while run.step < run.n_steps:
        run.update()
    assert run.n_merged > 0
    alone = SparseFit(target_of(replacement), doubled, rows, replace(config, merge=None), {})
    assert alone.n_merged == 0
