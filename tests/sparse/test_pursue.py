"""Few edges from the start: pursuit explains what it can, and what it loses has a constant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from englishroom.errors import ConfigError
from englishroom.kernels import pursuit as kernels
from englishroom.sparse.config import BOUNDED, MOST_EDGES, StartConfig
from englishroom.sparse.edges import Edges
from englishroom.sparse.kinds import learn_kinds
from englishroom.sparse.model import SparseModel
from englishroom.sparse.observed import Observed
from englishroom.sparse.prune import fan_in
from englishroom.sparse.pursue import pursue
from tiny_sparse import ALL_KINDS, started, text, transcoded


def observed_of(x: torch.Tensor, sizes: dict[str, int]) -> Observed:
    x = x.double()
    none = torch.zeros(0, dtype=torch.float64)
    return Observed(sizes, (), len(x), x.sum(0), x.T @ x, none, torch.zeros(x.shape[1], 0, dtype=torch.float64))


def by_definition(covariance: np.ndarray, against: np.ndarray, picks: int) -> tuple[list[int], np.ndarray]:
    """Pursue by solving anew after every choice."""
    chosen: list[int] = []
    for _ in range(picks):
        gains = {}
        for j in set(range(len(against))) - set(chosen):
            some = [*chosen, j]
            gains[j] = against[some] @ np.linalg.solve(covariance[np.ix_(some, some)], against[some])
        chosen.append(max(gains, key=lambda j: gains[j]))
    return chosen, np.linalg.solve(covariance[np.ix_(chosen, chosen)], against[chosen])


def test_the_kernel_is_the_definition() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12))
    covariance = x.T @ x / len(x)
    against = covariance @ rng.normal(size=(12, 5))
    chosen, weights, counts = np.zeros((5, 4), np.int32), np.zeros((5, 4)), np.zeros(5, np.int32)
    candidates = np.tile(np.arange(12, dtype=np.int32), (5, 1))
    kernels.pursue(0, 5, covariance, against.T.copy(), candidates, 1e-9, chosen, weights, counts)
    for column in range(5):
        expected, values = by_definition(covariance, against[:, column], 4)
        assert counts[column] == 4
        assert chosen[column].tolist() == expected
        np.testing.assert_allclose(weights[column], values, rtol=1e-6)


@pytest.fixture(scope="module")
def model() -> SparseModel:
    return started(transcoded(), text())


def features_of(model: SparseModel, stage: int) -> tuple[torch.Tensor, dict[str, int]]:
    """Return what a stage of a model reads on a text, side by side."""
    seen: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        model.run(torch.from_numpy(text(seed=4).rows(range(30))), lambda name, values: seen.update({name: values}))
    names = model.shape.sources(stage)
    return torch.cat([seen[name] for name in names], 1), {name: seen[name].shape[1] for name in names}


def test_few_features_explain_more_than_the_largest_products_do(model: SparseModel) -> None:
    stage = 2
    x, sizes = features_of(model, stage)
    fewer = pursue(model, observed_of(x, sizes), {stage: 6})
    assert int(fan_in(fewer, stage).max()) <= 6

    def sums(m: SparseModel) -> torch.Tensor:
        tables = torch.cat([m.tables[stage][name].matrix().detach() for name in sizes])
        return (x @ tables + m.constants[stage])[:, :-1]

    whole = sums(model)
    matrix = torch.cat([model.tables[stage][name].matrix() for name in sizes])
    largest = (matrix.square() * x.var(0)[:, None]).topk(6, dim=0).indices
    kept = torch.zeros_like(matrix, dtype=torch.bool).scatter(0, largest, True)
    tables = dict(zip(sizes, (matrix * kept).split(list(sizes.values())), strict=True))
    pruned = model.with_tables({(stage, name): Edges.of(table) for name, table in tables.items()})
    lost = x.mean(0) @ (matrix * ~kept)
    pruned = replace(pruned, constants=tuple(c + lost if s == stage else c for s, c in enumerate(pruned.constants)))
    by_pursuit, by_size = ((sums(m) - whole).square().mean() / whole.var() for m in (fewer, pruned))
    assert by_pursuit < 0.7 * by_size
    assert float((sums(fewer) - whole).mean(0).abs().max()) < 1e-3  # means are kept


def test_stages_that_are_not_named_stay(model: SparseModel) -> None:
    x, sizes = features_of(model, 2)
    fewer = pursue(model, observed_of(x, sizes), {2: 3})
    for stage in set(range(model.shape.n_stages)) - {2}:
        assert fewer.tables[stage] == model.tables[stage]


def test_a_start_can_be_bounded() -> None:
    bounded = started(transcoded(), text(), replace(ALL_KINDS, reads=5))
    for stage in range(bounded.shape.n_stages):
        if stage % 3 != 1:
            most = {0: 10, 2: 5}[stage % 3] if stage < bounded.shape.n_stages - 1 else 20
            assert 0 < int(fan_in(bounded, stage).max()) <= most


def test_where_edges_are_too_many_the_start_is_bounded() -> None:
    assert StartConfig(reads=None).bound(MOST_EDGES) is None
    assert StartConfig(reads=None).bound(MOST_EDGES + 1) == BOUNDED
    assert StartConfig(reads=7).bound(1) == 7
    with pytest.raises(ConfigError, match="--first-reads is 0, expected 1 or more"):
        StartConfig(reads=0).validate()


def test_with_as_many_kinds_as_tokens_each_is_its_own() -> None:
    vectors = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    frequencies = torch.arange(1.0, 10.0)
    kinds = learn_kinds(vectors, frequencies, 9, 3, seed=0)
    assert torch.equal(kinds.edges.matrix(), torch.eye(9))
    assert torch.allclose(kinds.directions + kinds.mean, vectors, atol=1e-6)
    assert kinds.fvu == 0
