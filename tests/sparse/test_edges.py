"""Edges against the matrix that they spell out: sums, and gradients by values and by weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from englishroom.dictionaries.code import Codes
from englishroom.readable.firing import active_codes
from englishroom.sparse.edges import Edges


def sample(n_rows: int = 300, n_sources: int = 17, n_columns: int = 23) -> tuple[Edges, Tensor]:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(n_sources, n_columns, generator=generator)
    edges = Edges.of(matrix, torch.rand(n_sources, n_columns, generator=generator) < 0.3)
    return edges, torch.randn(n_rows, n_sources, generator=generator)


def gradients(out: Tensor, given: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
    weights = torch.linspace(-1, 1, out.numel()).view(out.shape)
    return torch.autograd.grad((out * weights).sum(), (given, edges.weights))


@pytest.mark.parametrize("threads", [1, 3])
def test_all_sources_on(threads: int) -> None:
    edges, values = sample()
    values.requires_grad_()
    edges.weights.requires_grad_()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ours = edges.from_all(values)
        found = gradients(ours, values, edges)
    finally:
        torch.set_num_threads(before)
    plain = values @ edges.matrix()
    assert torch.allclose(ours, plain, atol=1e-5)
    for one, other in zip(found, gradients(plain, values, edges), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)


def test_the_other_way() -> None:
    edges, _ = sample()
    given = torch.randn(50, 23, generator=torch.Generator().manual_seed(1)).requires_grad_()
    edges.weights.requires_grad_()
    ours, plain = edges.to_sources(given), given @ edges.matrix().T
    assert torch.allclose(ours, plain, atol=1e-5)
    for one, other in zip(gradients(ours, given, edges), gradients(plain, given, edges), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)


def test_some_sources_on() -> None:
    edges, dense = sample(n_rows=40)
    kept = dense.relu().topk(3, dim=1)
    codes = Codes(kept.indices.int(), kept.values, (kept.values > 0).sum(1).int())
    values = kept.values.clone().requires_grad_()
    edges.weights.requires_grad_()
    ours = edges.from_codes(codes, values)
    full = torch.zeros_like(dense).scatter(1, kept.indices, values)
    plain = full @ edges.matrix()
    assert torch.allclose(ours, plain, atol=1e-5)
    for one, other in zip(gradients(ours, values, edges), gradients(plain, values, edges), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)


def test_what_is_kept_stands_where_it_stood() -> None:
    edges, _ = sample()
    kept = torch.arange(len(edges.columns)) % 3 == 0
    fewer = edges.keep(kept)
    expected = torch.zeros(17, 23)
    expected[edges.sources[kept], edges.columns[kept].long()] = edges.weights[kept]
    assert torch.equal(fewer.matrix(), expected)
    assert len(fewer.columns) == int(kept.sum())


def test_gradients_are_the_same_whatever_the_number_of_threads() -> None:
    generator = torch.Generator().manual_seed(0)
    edges = Edges.of(torch.randn(40, 30, generator=generator))
    x = torch.rand(200, 40, generator=generator) * (torch.rand(200, 40, generator=generator) < 0.2)
    given, before, found = torch.randn(200, 30, generator=generator), torch.get_num_threads(), []
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        weights = edges.weights.clone().requires_grad_()
        codes, values = active_codes(x.clone().requires_grad_())
        values.retain_grad()
        (replace(edges, weights=weights).from_codes(codes, values) * given).sum().backward()
        found.append((weights.grad, values.grad))
    torch.set_num_threads(before)
    assert all(a is not None and b is not None and torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert found[0][0].any()
