"""The wired model: the stream model written as edges, pruned within its bounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from englishroom.dictionaries.checkpoint import fit_to_end
from englishroom.readable.config import WiringConfig
from englishroom.readable.firing import SPREAD_EVERY, above, cuts, misuse
from englishroom.readable.wiring import WiredModel, from_state, mean_sums, set_thresholds
from englishroom.readable.wiring_fit import WiringFit
from englishroom.readable.wiring_prune import most_important, within_bounds
from englishroom.sparse.edges import Edges
from tiny_features import SPEC
from tiny_readable import SHORT, SPECS, STREAM, random_stream, tiny_rows, tiny_target, wired

ALL = replace(SHORT, first_reads=400, first_words=64)


@pytest.mark.parametrize("name", SPECS)
def test_with_all_edges_it_says_the_same_as_the_stream_model(name: str) -> None:
    model = random_stream(name, STREAM)
    tokens = torch.from_numpy(tiny_rows().rows(range(20, 40)))
    with torch.no_grad():
        expected = model.double().logits(model.double().run(tokens)).log_softmax(-1)
        found = wired(model, ALL).double().run(tokens, sharp=0).log_softmax(-1)
    assert (found - expected).abs().max() < 1e-4


def test_an_enormous_vocabulary_keeps_the_strongest_followers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("englishroom.readable.wiring_start.MOST_FOLLOWS", 5 * SPEC.d_vocab)
    model = wired(random_stream("gpt2", STREAM), SHORT)
    assert model.edges["follows"].starts.diff().max() == 5
    assert model.edges["rules.1"].columns.bincount().max() <= SHORT.first_reads
    assert model.edges["words.rules.1"].columns.bincount().max() <= SHORT.first_words


def reads_of(model: WiredModel, group: str) -> torch.Tensor:
    """Count what each sum of a group reads: features, words for it, words against it."""
    edges, words = model.edges[group], model.edges[f"words.{group}"]
    lists = (words.columns.long() * 2 + (words.weights < 0)).unique() // 2
    return edges.columns.bincount(minlength=edges.n_columns) + lists.bincount(minlength=edges.n_columns)


def fit(name: str = "gpt2", config: WiringConfig = SHORT) -> WiringFit:
    target = tiny_target(SPECS[name])
    return WiringFit(target, wired(random_stream(name, STREAM), config), tiny_rows(), config, {"a": 1})


@pytest.mark.parametrize("name", SPECS)
def test_it_ends_within_its_bounds_and_nearer_to_the_target(name: str) -> None:
    run = fit(name, replace(SHORT, rate=0.03, tokens=80 * 48, votes_most=7))
    while run.step < run.n_steps:
        run.update()
    model = run.result()
    groups = [f"{group}.{layer}" for layer in range(model.shape.n_layers) for group in ("moved", "rules")]
    reads = torch.cat([reads_of(model, group) for group in groups]).double()
    assert reads.max() <= 8
    assert reads.quantile(0.5) <= 3
    words = torch.cat([model.edges[f"words.{group}"].columns.bincount(minlength=1) for group in groups])
    assert words.max() <= 7
    for layer in range(model.shape.n_layers):
        assert reads_of(model, f"queries.{layer}").max() <= 4
        assert model.edges[f"lone_keys.{layer}"].columns.bincount(minlength=1).max() <= 4
        assert model.edges[f"words.queries.{layer}"].columns.bincount(minlength=1).max() <= 9
    assert model.edges["votes"].starts.diff().max() <= 7
    assert len(model.edges["votes"].columns) <= 4 * model.edges["votes"].n_sources
    assert len(model.edges["follows"].columns) <= 6 * SPEC.d_vocab
    assert sum(run.losses[-10:]) < 0.8 * sum(run.losses[:10])


@pytest.mark.parametrize("stop", [3, 40])
def test_killed_and_run_again_it_ends_the_same(tmp_path: Path, stop: int) -> None:
    whole, cut, resumed = fit(), fit(), fit()
    fit_to_end(whole, tmp_path / "whole.pt", lambda _run, _loss: None, 60)
    for _ in range(stop):
        cut.update()
    cut.save(tmp_path / "cut.pt")
    fit_to_end(resumed, tmp_path / "cut.pt", lambda _run, _loss: None, 60)
    expected, found = whole.result().state(), resumed.result().state()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_model_comes_back_from_its_state() -> None:
    model = wired(random_stream("llama", STREAM), SHORT)
    tokens = torch.from_numpy(tiny_rows().rows(range(3)))
    assert torch.equal(model.run(tokens), from_state(model.shape, model.state()).run(tokens))


def test_sums_that_need_more_may_read_more() -> None:
    importance = torch.rand(30, 40, generator=torch.Generator().manual_seed(0))
    importance[:, 30:] *= 0.01  # the last sums lose little
    edges = Edges.of(importance)
    kept = within_bounds(edges.columns.long(), edges.weights, 40, [2, 4, 8])
    reads = edges.columns[kept].bincount()
    assert reads.sort().values.tolist() == [2] * 22 + [4] * 16 + [8] * 2
    assert reads[30:].max() == 2
    for column in range(40):
        own = edges.columns == column
        assert edges.weights[own & kept].min() > edges.weights[own & ~kept].max()


def test_the_most_important_edges_stay() -> None:
    assert most_important(torch.tensor([3.0, 1.0, 2.0, 5.0]), 2).tolist() == [True, False, False, True]
    assert most_important(torch.tensor([3.0, 1.0]), 2).all()


def test_bars_go_from_the_strongest_few_to_thresholds() -> None:
    strengths = torch.tensor([[3.0, 1.0, 2.0, -1.0], [0.5, 0.2, -1.0, -2.0]])
    thresholds = torch.tensor([1.5, 1.5, 2.5, 0.0])
    assert cuts(strengths, 2).tolist() == [[1.0], [0.0]]
    assert cuts(strengths, 1, groups=2).tolist() == [[1.0, 0.0], [pytest.approx(0.2), 0.0]]
    for sharp, expected in (
        (0.0, [[3.0, 0.0, 2.0, 0.0], [0.5, 0.2, 0.0, 0.0]]),
        (0.8, [[3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]),  # bars 1.4, 1.4, 2.2, 0.2; and 1.2, 1.2, 2, 0
        (1.0, [[3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]),
    ):
        values, often = above(strengths, thresholds, k=2, sharp=sharp)
        assert torch.allclose(values, torch.tensor(expected))
        assert torch.allclose(often, (torch.tensor(expected) > 0).float().mean(0))


@pytest.mark.parametrize("sharp", [1.0, 0.3])
def test_bars_feel_what_is_near_them(sharp: float) -> None:
    """As the formulas of JumpReLU say, written out for all strengths at once."""
    generator = torch.Generator().manual_seed(0)
    strengths = torch.randn(50, 6, generator=generator, requires_grad=True)
    thresholds = torch.rand(6, generator=generator, requires_grad=True)
    values, often = above(strengths, thresholds, 2, groups=2, sharp=sharp)
    by_value, by_share = torch.randn(50, 6, generator=generator), torch.randn(6, generator=generator)
    ((values * by_value).sum() + (often * by_share).sum()).backward()
    with torch.no_grad():
        bars = sharp * thresholds + (1 - sharp) * cuts(strengths, 2, 2).repeat_interleave(3, 1)
        width = 0.3 * thresholds + 0.05 * strengths[::SPREAD_EVERY].std(0, unbiased=False).mean()
        near = ((strengths - bars).abs() < width / 2) / width
        expected = -sharp * (near * (bars * by_value + by_share / 50)).sum(0)
    assert (near > 0).sum() > 10
    assert thresholds.grad is not None
    assert strengths.grad is not None
    assert torch.allclose(thresholds.grad, expected, atol=1e-4)
    assert torch.equal(strengths.grad, by_value * (strengths > bars))


def test_thresholds_are_told_whether_more_should_be_on() -> None:
    strengths = torch.tensor([[1.0, 3.0], [1.02, 3.0]])
    for together, sign in ((0.1, -1), (3.0, 1)):  # features are on once at a time and a half: too often, or too seldom
        thresholds = torch.tensor([1.01, 2.0], requires_grad=True)
        misuse(above(strengths, thresholds, k=1)[1], together, each=1.0).backward()
        assert thresholds.grad is not None
        assert torch.sign(thresholds.grad).tolist() == [sign, 0.0]  # the second is far from any strength


def test_thresholds_begin_where_only_the_strongest_few_were_on() -> None:
    model = wired(random_stream("gpt2", STREAM), ALL)
    tokens = torch.from_numpy(tiny_rows().rows(range(20)))
    seen: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        model.run(tokens, seen.__setitem__, sharp=0)
    set_thresholds(model, tokens)
    expected = cuts(seen["strengths.moved.1"], model.shape.k_moved, model.shape.n_heads).mean(0)
    found = model.vectors["moved_thresholds.1"].view(model.shape.n_heads, -1)
    assert torch.allclose(found, expected[:, None].expand_as(found))


def test_what_is_left_out_stays_as_its_mean() -> None:
    run = fit()
    run.update()
    before, features = run.result(), run.means
    run_bias = before.vectors["rule_biases.1"].detach().clone()
    assert features is not None
    run._prune(1)
    after = run.model
    for name in ("rules.1", "words.rules.1"):
        assert len(after.edges[name].columns) < len(before.edges[name].columns)

    def usual(model: WiredModel) -> torch.Tensor:
        words = mean_sums(model.edges["words.rules.1"], run.frequencies)
        return words + mean_sums(model.edges["rules.1"], features[: model.edges["rules.1"].n_sources])

    changed = after.vectors["rule_biases.1"] - run_bias
    assert torch.allclose(usual(after) + changed, usual(before), atol=1e-5)
