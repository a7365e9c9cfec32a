"""A program becomes as small as its tolerance lets it, and no part is missed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from englishroom.dictionaries.checkpoint import fit_to_end
from englishroom.readable.config import SmallestConfig
from englishroom.readable.parts import FAR, merged_alike, with_curve, without
from englishroom.readable.smallest import Pool, Shrinking
from englishroom.readable.wiring import WiredModel, feature_groups
from englishroom.readable.words_start import start_from_words, word_shape
from englishroom.sparse.edges import Edges
from tiny_readable import SPECS, tiny_rows, tiny_target

SPEC = replace(SPECS["one layer"], d_vocab=4, d_model=4, n_heads=2, d_head=2, d_mlp=4)
CONFIG = SmallestConfig(tolerance=0.05, first_steps=40, steps=5, batch=8)


def pools() -> tuple[Pool, Pool]:
    target, rows = tiny_target(SPEC), tiny_rows(SPEC)
    return Pool.of(target, rows, range(40)), Pool.of(target, rows, range(40, 60))


def shrinking(config: SmallestConfig = CONFIG) -> Shrinking:
    fit, held = pools()
    start = start_from_words(word_shape(SPEC), fit.follows(), 0)
    return Shrinking(start, fit, held, config, {"a": 1}, 0, from_words=True)


def values_of(model: WiredModel, tokens: torch.Tensor) -> torch.Tensor:
    seen: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        model.run(tokens, seen.__setitem__)
    return seen["features"]


def test_moved_features_of_words_are_on_where_their_look_finds_them() -> None:
    fit, _ = pools()
    model = start_from_words(word_shape(SPEC), fit.follows(), 0)
    groups, n_words = feature_groups(model.shape), SPEC.d_vocab
    assert groups["moved.0"].stop == groups["rules.0"].start
    values = values_of(model, fit.tokens[:1])
    seen: dict[str, torch.Tensor] = {}
    model.run(fit.tokens[:1], seen.__setitem__)
    pattern = seen["scores.0"].softmax(-1)[0]  # [look, here, there]
    moved = values[:, groups["moved.0"]].view(-1, SPEC.n_heads, model.shape.n_moved)
    for word in range(n_words):
        expected = (pattern * (fit.tokens[0] == word)).sum(-1).T
        assert torch.allclose(moved[:, :, word], expected, atol=1e-6)


def test_it_ends_with_fewer_parts_within_the_tolerance() -> None:
    run = shrinking()
    whole = sum(len(edges.columns) for edges in run.model.edges.values())
    losses = []
    while run.step < run.n_steps:
        losses.append(run.update())
    assert run.best <= min(losses)
    assert losses[-1] <= run.best + CONFIG.tolerance + 1e-6
    assert sum(len(edges.columns) for edges in run.result().edges.values()) < whole / 2


def test_killed_and_run_again_it_ends_the_same(tmp_path: Path) -> None:
    whole, cut, resumed = shrinking(), shrinking(), shrinking()
    fit_to_end(whole, tmp_path / "whole.pt", lambda _run, _loss: None, 60)
    for _ in range(4):
        cut.update()
    cut.save(tmp_path / "cut.pt")
    fit_to_end(resumed, tmp_path / "cut.pt", lambda _run, _loss: None, 60)
    expected, found = whole.result().state(), resumed.result().state()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert (resumed.step, resumed.best) == (whole.step, whole.best)


def test_what_is_left_out_is_off_and_stays_as_its_mean() -> None:
    fit, _ = pools()
    model = start_from_words(word_shape(SPEC), fit.follows(), 0)
    groups = feature_groups(model.shape)
    before = values_of(model, fit.tokens)
    feature = groups["moved.0"].start + 3
    left = without(model, [("moved", 0, 3), ("matches", 0, 2)], before.mean(0), fit.frequencies())
    values = values_of(left, fit.tokens)
    assert (before[:, feature] > 0).any()
    assert not values[:, feature].any()
    votes = model.edges["votes"].matrix()[feature] * before[:, feature].mean()
    assert torch.allclose(left.vectors["vote_bias"] - model.vectors["vote_bias"], votes, atol=1e-6)
    assert not (left.edges["words.queries.0"].columns == 2).any()
    assert left.vectors["query_biases.0"][2] < 0


@pytest.mark.parametrize("back", [0, 2])
def test_a_look_at_one_distance_looks_nowhere_else(back: int) -> None:
    fit, _ = pools()
    model = start_from_words(word_shape(SPEC), fit.follows(), 0)
    found = with_curve(model, 0, 1, back)
    assert found.vectors["distance.0"][1].tolist() == [0.0 if at == back else FAR for at in range(SPEC.n_ctx)]
    assert torch.equal(found.vectors["distance.0"][0], model.vectors["distance.0"][0])
    assert not with_curve(model, 0, 0, None).vectors["distance.0"][0].any()


def test_features_that_fire_alike_are_merged_without_a_change() -> None:
    fit, _ = pools()
    model = start_from_words(word_shape(SPEC), fit.follows(), 0)
    groups = feature_groups(model.shape)
    rules = groups["rules.0"]
    for name, by in (("rules.0", 3.0), ("words.rules.0", 3.0)):
        edges = model.edges[name]
        matrix = edges.matrix()
        matrix[:, 3] = matrix[:, 2] * by
        model = replace(model, edges={**model.edges, name: Edges.of(matrix, torch.ones_like(matrix, dtype=torch.bool))})
    values = values_of(model, fit.tokens)
    merged, gone = merged_alike(model, values)
    assert ("rules", 0, 3) in gone
    assert ("rules", 0, 2) not in gone
    votes, before = (of.edges["votes"].matrix() for of in (merged, model))
    assert torch.allclose(votes[rules.start + 2], before[rules.start + 2] + 3 * before[rules.start + 3], atol=1e-5)
    assert not votes[rules.start + 3].any()
    left = without(merged, gone, values.mean(0), fit.frequencies())
    assert torch.allclose(left.run(fit.tokens), model.run(fit.tokens), atol=0.05)  # others are nearly alike
