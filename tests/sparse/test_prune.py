"""What is left out: by its cost, within bounds, its mean made up for."""

from __future__ import annotations

import pytest
import torch

from englishroom.sparse.model import SparseModel
from englishroom.sparse.prune import Bounds, choose, fan_in, leave_out, measure_moments, saliencies
from tiny_features import SPEC
from tiny_sparse import started, text, transcoded


@pytest.fixture(scope="module")
def model() -> SparseModel:
    return started(transcoded(), text())


@pytest.fixture(scope="module")
def measured(model):
    rows = text(seed=4)
    counted = torch.bincount(torch.from_numpy(rows.tokens).long(), minlength=SPEC.d_vocab).float()
    for tensor in model.parameters().values():
        tensor.requires_grad_()
    return measure_moments(model, [torch.from_numpy(rows.rows(range(20)))], counted, seed=0)


def test_bounds_hold(model, measured) -> None:
    bounds = Bounds(edges=400, reads=3.0, fan_in=5, row_limit=9, loudness=4)
    kept = choose(model, saliencies(model, measured), bounds)
    fewer = leave_out(model, kept, measured.means)
    others = rules = 0
    for stage, tables in enumerate(fewer.tables):
        columns = torch.cat([edges.columns for edges in tables.values()])
        assert int((columns == len(fewer.biases[stage])).sum()) <= 4
        for edges in tables.values():
            assert int(edges.starts.diff().max()) <= 9
        if fewer.shape.has_rules(stage):
            assert int(fan_in(fewer, stage).max()) <= 5
            rules += len(columns)
        else:
            others += len(columns)
    assert others <= 400
    assert rules <= 3 * sum(len(fewer.biases[stage]) for stage in (1, 2, 4, 5))


def test_nothing_is_left_out_where_nothing_is_bounded(model, measured) -> None:
    kept = choose(model, saliencies(model, measured), Bounds(10**9, None, None, None, None))
    assert all(part.all() for part in kept.values())


def test_means_of_what_is_left_out_go_to_the_constants(model, measured) -> None:
    """With every edge of a source gone, a stage is as with that source at its mean."""
    kept = {
        (stage, source): torch.full((len(edges.columns),), source != "moved.0")
        for stage, tables in enumerate(model.tables)
        for source, edges in tables.items()
    }
    fewer = leave_out(model, kept, measured.means)
    for stage in (2, 3, 5, 6):
        expected = model.constants[stage] + measured.means["moved.0"] @ model.tables[stage]["moved.0"].matrix()
        assert torch.allclose(fewer.constants[stage], expected, atol=1e-4)


def test_saliency_tells_what_leaving_one_edge_out_costs(model, measured) -> None:
    """Over many edges, the estimate goes with the divergence that leaving each of them out brings about."""
    rows = torch.from_numpy(text(seed=4).rows(range(20)))
    estimate = saliencies(model, measured)
    key = (6, "rules.1")
    edges = model.tables[6]["rules.1"]
    generator = torch.Generator().manual_seed(0)
    chosen = estimate[key].topk(200).indices[torch.randperm(200, generator=generator)[:24]]
    with torch.no_grad():
        before = model.run(rows).log_softmax(-1)
        costs = []
        for edge in chosen:
            stays = torch.ones(len(edges.columns), dtype=torch.bool)
            stays[edge] = False
            after = leave_out(model, {key: stays}, measured.means).run(rows).log_softmax(-1)
            costs.append(float((before.exp() * (before - after)).sum(-1).mean()))
    found = torch.corrcoef(torch.stack([estimate[key][chosen].log(), torch.tensor(costs).clamp(min=1e-12).log()]))
    assert found[0, 1] > 0.7


def test_moments_are_of_the_text(model, measured) -> None:
    kinds = model.kinds.matrix().detach()
    rows = text(seed=4)
    share = torch.bincount(torch.from_numpy(rows.tokens).long(), minlength=SPEC.d_vocab).float()
    assert torch.allclose(measured.means["words"], (share / share.sum()) @ kinds)
    assert torch.allclose(measured.means["places"].sum(), torch.tensor(1.0))
    assert all((variance >= 0).all() for variance in measured.variances.values())
    assert all(float(part.sum()) > 0 for part in measured.information)
