"""What is left out: by its cost, within bounds, its mean made up for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from englishroom.sparse.model import SparseModel
from englishroom.sparse.prune import Bounds, choose, fan_in, fired_rules, leave_out, measure_moments, saliencies
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
    bounds = Bounds(edges=400, reads=3, fan_in=5, most=8, numbers=6, row_limit=9, loudness=4)
    kept = choose(model, saliencies(model, measured), bounds, fired_rules(model, measured))
    fewer = leave_out(model, kept, measured)
    others, reads = 0, []
    for stage, tables in enumerate(fewer.tables):
        columns = torch.cat([edges.columns for edges in tables.values()])
        assert int((columns == len(fewer.biases[stage])).sum()) <= 4
        for edges in tables.values():
            assert int(edges.starts.diff().max()) <= 9
        if fewer.shape.has_rules(stage):
            reads.append(fan_in(fewer, stage).double())
        else:
            others += len(columns)
        if fewer.shape.is_heads(stage):
            assert int(fan_in(fewer, stage).max()) <= 6
    assert others <= 400
    counted = torch.cat(reads)
    assert counted.max() <= 8
    assert counted.quantile(0.95) <= 5
    assert counted.quantile(0.5) <= 3


def test_nothing_is_left_out_where_nothing_is_bounded(model, measured) -> None:
    kept = choose(model, saliencies(model, measured), Bounds(), fired_rules(model, measured))
    assert all(part.all() for part in kept.values())


def test_rules_that_never_fire_are_not_counted_and_can_be_buried(model, measured) -> None:
    silent = {**measured.means, "rules.0": measured.means["rules.0"].clone()}
    silent["rules.0"][:10] = 0
    told = replace(measured, means=silent)
    fired = fired_rules(model, told)
    assert not fired[2][:10].any()
    bounds = Bounds(reads=3, fan_in=5, most=8, bury=True)
    kept = choose(model, saliencies(model, told), bounds, fired)
    fewer = leave_out(model, kept, told, bury=True)
    reads = torch.cat([fan_in(fewer, stage)[fired[stage]].double() for stage in (1, 2, 4, 5)])
    assert reads.quantile(0.5) <= 3
    assert reads.quantile(0.95) <= 5
    assert not fan_in(fewer, 2)[:10].any()
    seen = []

    def look(name: str, values: torch.Tensor) -> None:
        if name == "rules.0":
            seen.append(values)

    fewer.run(torch.from_numpy(text(seed=4).rows(range(6))), look)
    assert not seen[0][:, :10].any()
    assert seen[0][:, 10:].any()


def test_rules_that_are_left_read_no_more_than_half_of_what_there_is(model, measured) -> None:
    silent = {**measured.means, "moved.0": measured.means["moved.0"].clone()}
    silent["moved.0"][4:] = 0
    told = replace(measured, means=silent)
    fired = fired_rules(model, told)
    bounds = Bounds(reads=100, fan_in=100, most=100, share=0.49, bury=True)
    kept = choose(model, saliencies(model, told), bounds, fired)[1, "brought.0"]
    columns = model.tables[1]["brought.0"].columns
    there = model.tables[1]["brought.0"].n_sources * int(fired[1].sum())
    reads = torch.bincount(columns[kept].long(), minlength=4)[:4]
    assert 0.3 * there < int(reads[fired[1][:4]].sum()) <= 0.49 * there


def test_means_of_what_is_left_out_go_to_the_constants(model, measured) -> None:
    """With every edge of a source gone, a stage is as with that source at its mean."""
    kept = {
        (stage, source): torch.full((len(edges.columns),), source != "moved.0")
        for stage, tables in enumerate(model.tables)
        for source, edges in tables.items()
    }
    fewer = leave_out(model, kept, measured)
    for stage in (2, 3, 5, 6):
        lost = measured.means["moved.0"] @ model.tables[stage]["moved.0"].matrix()
        if model.shape.has_rules(stage):
            given = (model.constants[stage] + lost)[:-1] / measured.loudness[stage]
            assert torch.allclose(fewer.biases[stage], model.biases[stage] + given, atol=1e-4)
            assert not fewer.constants[stage][:-1].any()
        else:
            assert torch.allclose(fewer.constants[stage], model.constants[stage] + lost, atol=1e-4)


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
            after = leave_out(model, {key: stays}, measured).run(rows).log_softmax(-1)
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
