"""Pruning and refitting: it ends within its bounds, mends what pruning broke, and goes on after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from englishroom.errors import ArtifactError, ConfigError
from englishroom.sparse.config import SparseConfig
from englishroom.sparse.fit import SparseFit, fit_sparse
from englishroom.sparse.prune import fan_in
from englishroom.sparse.saved import started_once, state_of
from tiny_features import SPEC
from tiny_sparse import started, target_of, text, transcoded

CONFIG = SparseConfig(
    tokens=60 * 8 * 12,
    edges=500,
    first_edges=1500,
    reads=4,
    fan_in=8,
    most=12,
    row_limit=12,
    prunings=4,
    batch=8,
    rate=0.05,
)


def new(config: SparseConfig = CONFIG) -> SparseFit:
    replacement, rows = transcoded(), text(n_documents=200)
    return SparseFit(target_of(replacement), started(replacement, rows), rows, config, {"target": "tiny"})


def test_it_ends_within_its_bounds_and_mends_what_pruning_broke() -> None:
    run = new()
    while run.step < run.n_steps:
        run.update()
    model = run.result()
    rules = sum(int(fan_in(model, stage).sum()) for stage in (1, 2, 4, 5))
    assert model.n_edges - rules <= 500 + 3 * 128
    assert max(int(fan_in(model, stage).max()) for stage in (1, 2, 4, 5)) <= 12
    pruned = run.prune_at[-1]
    after, end = (sum(run.losses[at : at + 5]) / 5 for at in (pruned, len(run.losses) - 5))
    assert end < 0.9 * after
    about = run.about()
    assert about["reads_per_rule_p95"] <= 8
    assert 0 < about["reads_per_rule_median"] <= 4


@pytest.mark.parametrize("stop", [1, 13, 37])
def test_killed_and_run_again_it_ends_at_the_same_model(tmp_path: Path, stop: int) -> None:
    config = replace(CONFIG, tokens=40 * 8 * 12)
    whole = fit_sparse(new(config), tmp_path / "whole.pt")
    run = new(config)
    for _ in range(stop):
        run.update()
    run.save(tmp_path / "cut.pt")
    resumed = fit_sparse(new(config), tmp_path / "cut.pt")
    expected, found = state_of(whole), state_of(resumed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_refit_that_diverges_is_one_line(tmp_path: Path) -> None:
    message = "the fit has diverged: its loss is nan at step [0-9]+ of [0-9]+; give a smaller --sparse-rate, and"
    with pytest.raises(ConfigError, match=message):
        fit_sparse(new(replace(CONFIG, rate=1e30)), tmp_path / "sparse.pt")
    assert not (tmp_path / "sparse.pt").exists()


def test_a_checkpoint_that_will_not_do_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sparse.pt"
    new().save(path)
    with pytest.raises(ConfigError, match="belongs to work with another rate"):
        new(replace(CONFIG, rate=0.01)).restore(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ArtifactError, match=r"sparse.pt: damaged, "):
        new().restore(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": 0}, "--sparse-tokens is 0, expected 1 or more"),
        ({"reads": 0}, "--reads is 0, expected 1 or more"),
        ({"pruned": 0.0}, "--pruned is 0, expected above 0 and at most 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **changes).validate()


def test_no_network_runs_beside_the_model() -> None:
    """With its edges set to zero a sparse model says the same at every position: nothing carries the text around it."""
    run = new()
    with torch.no_grad():
        for name, tensor in run.model.parameters().items():
            if name.startswith("edges"):
                tensor.zero_()
        said = run.model.run(torch.from_numpy(text(SPEC).rows([0, 1, 2])))
    assert torch.allclose(said, said[:1].expand_as(said), atol=1e-6)


def test_a_model_that_was_started_is_taken_up_as_it_was(tmp_path: Path) -> None:
    replacement, rows = transcoded(), text()
    calls = []

    def start_one():
        calls.append(1)
        return started(replacement, rows)

    first = started_once(tmp_path / "start.pt", {"a": 1}, start_one)
    again = started_once(tmp_path / "start.pt", {"a": 1}, start_one)
    assert len(calls) == 1
    anew = start_one()
    tokens = torch.from_numpy(rows.rows(range(3)))
    with torch.no_grad():
        assert torch.equal(first.run(tokens), again.run(tokens))
        assert torch.equal(first.run(tokens), anew.run(tokens))
    assert again.shape == first.shape
    with pytest.raises(ConfigError, match="another a"):
        started_once(tmp_path / "start.pt", {"a": 2}, start_one)


def test_weights_end_up_as_few_numbers() -> None:
    run = new(replace(CONFIG, bits=2, rounded=0.3))
    while run.step < run.n_steps:
        run.update()
    model = run.result()
    for tables in model.tables:
        kept = torch.cat([edges.weights[edges.columns < edges.n_columns - 1] for edges in tables.values()])
        assert len(kept.unique()) <= 4
    with pytest.raises(ConfigError, match="--bits is 13, expected 1 to 12 or ternary"):
        SparseConfig(bits=13).validate()
