"""The joint fit: it goes on after a kill to the same weights, and nothing carries the network around it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from englishroom.dictionaries.config import DictionariesConfig, FitConfig, TrainerConfig
from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.fidelity import Fidelity, measure_fidelity
from englishroom.dictionaries.joint_fit import Fit, featured_specs, fit, steps_of
from englishroom.dictionaries.replacement import Replacement, clean_run
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.errors import ArtifactError, ConfigError
from englishroom.models.load import Target, load_target
from tiny import CASES

N_CTX = 24
CONFIG = FitConfig(
    local_tokens=8 * 2 * N_CTX,
    joint_tokens=12 * 2 * N_CTX,
    batch=2,
    align=0.5,
    ablate=0.5,
    widen=2.0,
    tables=True,
    tune=0.1,
    trainer=TrainerConfig(dead_after=200),
)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    return load_target(str(CASES["gpt2"].write(tmp_path_factory.mktemp("tiny") / "model")))


def text(target: Target, seed: int = 0, documents: int = 40) -> TokenRows:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(10, 40, documents)
    starts = np.cumsum([0, *sizes[:-1]])
    return TokenRows(rng.integers(0, target.spec.d_vocab, sizes.sum()).astype(np.int32), starts, N_CTX)


def started(target: Target, config: FitConfig = CONFIG, identity: str = "a", seed: int = 0, **sizes: int) -> Fit:
    specs = featured_specs(
        target.spec, DictionariesConfig(**{"moved": 48, "moved_active": 6, "rules": 64, "rules_active": 6, **sizes})
    )
    return Fit(target, specs, text(target), config, {"text": identity}, seed=seed)


def same(a: Replacement, b: Replacement) -> bool:
    pairs = [*zip(a.weights.values(), b.weights.values(), strict=True)]
    pairs += [*zip(a.tables.values(), b.tables.values(), strict=True)]
    for one, other in zip(a.dictionaries, b.dictionaries, strict=True):
        pairs += [*zip(one.weights.values(), other.weights.values(), strict=True)]
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("killed_at", [3, 8, 13])
def test_a_killed_fit_goes_on_to_the_same_weights(target: Target, tmp_path: Path, killed_at: int):
    whole = fit(started(target), tmp_path / "whole.pt")

    class Killed(Exception):
        pass

    def kill(run: Fit, _loss: float) -> None:
        if run.step == killed_at:
            run.save(tmp_path / "part.pt")
        if run.step == killed_at + 2:
            raise Killed

    with pytest.raises(Killed):
        fit(started(target), tmp_path / "part.pt", kill)
    again = started(target)
    assert same(whole, fit(again, tmp_path / "part.pt"))
    assert again.step == again.n_steps == sum(steps_of(CONFIG, N_CTX)) == 20
    assert len(again.losses) == 20


def test_a_finished_fit_is_not_fitted_further(target: Target, tmp_path: Path):
    whole = fit(started(target), tmp_path / "fit.pt")
    steps: list[int] = []
    assert same(whole, fit(started(target), tmp_path / "fit.pt", lambda run, _loss: steps.append(run.step)))
    assert steps == []


def test_a_checkpoint_of_another_fit_is_refused(target: Target, tmp_path: Path):
    fit(started(target), tmp_path / "fit.pt")
    with pytest.raises(ConfigError, match="belongs to work with another text"):
        fit(started(target, identity="b"), tmp_path / "fit.pt")
    with pytest.raises(ConfigError, match="belongs to work with another seed"):
        fit(started(target, seed=1), tmp_path / "fit.pt")
    with pytest.raises(ConfigError, match="belongs to work with another dictionaries"):
        fit(started(target, rules=65), tmp_path / "fit.pt")


def test_a_damaged_checkpoint_is_refused(target: Target, tmp_path: Path):
    fit(started(target), tmp_path / "fit.pt")
    data = (tmp_path / "fit.pt").read_bytes()
    (tmp_path / "fit.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(ArtifactError, match=r"fit.pt: damaged, .*; delete it to start over"):
        fit(started(target), tmp_path / "fit.pt")


def test_the_target_is_left_as_it_was(target: Target, tmp_path: Path):
    before = {name: tensor.clone() for name, tensor in target.weights.items()}
    found = fit(started(target), tmp_path / "fit.pt")
    assert all(torch.equal(before[name], tensor) for name, tensor in target.weights.items())
    assert not torch.equal(found.weights["blocks.0.attn.W_Q"], target.weights["blocks.0.attn.W_Q"])  # tuned along
    untuned = fit(started(target, replace(CONFIG, tune=0.0)), tmp_path / "untuned.pt")
    assert torch.equal(untuned.weights["blocks.0.attn.W_Q"], target.weights["blocks.0.attn.W_Q"])


def measured(replacement: Replacement, target: Target, seed: int = 5) -> Fidelity:
    return measure_fidelity(replacement, target.weights, text(target, seed), batch=4)


def running_kl_nats(replacement: Replacement, target: Target) -> float:
    rows = measured(replacement, target).protocols
    return next(row["kl_target_program_nats"] for row in rows if row["protocol"] == "running")


@pytest.fixture(scope="module")
def fitted(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Replacement:
    config = FitConfig(
        local_tokens=150 * 8 * N_CTX,
        joint_tokens=250 * 8 * N_CTX,
        batch=8,
        ablate=0.0,
        trainer=TrainerConfig(rate=1e-2, dead_after=20_000),
    )
    run = started(target, config, moved=256, moved_active=16, rules=256, rules_active=16)
    return fit(run, tmp_path_factory.mktemp("fit") / "fit.pt")


def changed(replacement: Replacement, how: str) -> Replacement:
    """Spoil every dictionary: shuffle its decoder's latents, draw it anew, keep its means only, set it to zero."""
    spoiled = []
    for number, d in enumerate(replacement.dictionaries):
        g = torch.Generator().manual_seed(number)
        weights = dict(d.weights)
        if how == "shuffled":
            weights["W_dec"] = weights["W_dec"][torch.randperm(d.spec.n_latents, generator=g)]
        elif how == "untrained":
            weights = dict(Dictionary.random(d.spec, g).weights)
        elif how == "means":
            weights["W_dec"] = torch.zeros_like(weights["W_dec"])
        else:
            weights = {name: torch.zeros_like(t) for name, t in weights.items()}
        spoiled.append(Dictionary.of(d.spec, weights))
    return Replacement(replacement.spec, replacement.weights, tuple(spoiled))


@pytest.mark.parametrize("how", ["shuffled", "untrained", "zeroed"])
def test_spoiled_dictionaries_score_as_badly_as_they_should(target: Target, fitted: Replacement, how: str):
    good = running_kl_nats(fitted, target)
    means = running_kl_nats(changed(fitted, "means"), target)
    bad = running_kl_nats(changed(fitted, how), target)
    assert good < 0.6 * means  # it holds something that can be lost
    assert bad > 0.9 * means  # and nothing of it is left


def test_zeroed_dictionaries_leave_embedding_and_position_alone(target: Target, fitted: Replacement):
    """What is left when every dictionary says nothing is computed by hand, so nothing else can have got through."""
    tokens = torch.from_numpy(text(target, 7).rows([0, 1]))
    silent = changed(fitted, "zeroed")
    w = target.weights
    stream = w["embed.W_E"][tokens] + w["pos_embed.W_pos"][: tokens.shape[1]]
    expected = torch.nn.functional.layer_norm(
        stream, (target.spec.d_model,), w["ln_final.w"], w["ln_final.b"], target.spec.norm_eps
    )
    with torch.no_grad():
        assert torch.allclose(silent.run(tokens), expected, atol=1e-6)


def test_the_protocols_are_told_apart(target: Target, fitted: Replacement):
    found = measured(fitted, target)
    kinds = [row["protocol"] for row in found.protocols]
    assert kinds == ["alone"] * 4 + ["clean", "running"]
    kl = {(row["protocol"], row["what"]): row["kl_target_program_nats"] for row in found.protocols}
    assert len(kl) == 6
    assert all(0 < value < 20 for value in kl.values())
    first = found.sites[0]
    assert first["site"] == "blocks.0.hook_attn_out"
    assert first["fvu_clean"] == pytest.approx(first["fvu_running"])  # nothing stands before it
    assert 0 < first["fvu_clean"] < 1
    assert all(0 < row["l0"] <= 16 and 0 < row["frac_alive"] <= 1 for row in found.dictionaries)


def test_measures_are_those_of_a_plain_computation(target: Target, fitted: Replacement):
    rows = text(target, 5)
    found = measure_fidelity(fitted, target.weights, rows, batch=7, alone=False)
    kl, ce, agreed, n, m, wrong, values = 0.0, 0.0, 0, 0, 0, 0.0, []
    site = "blocks.1.hook_mlp_out"
    ends = np.append(rows.starts[1:], len(rows.tokens))
    for start, end in zip(rows.starts, ends, strict=True):
        tokens = torch.from_numpy(rows.tokens[start : min(end, start + N_CTX)].astype(np.int64))[None]
        final, clean = clean_run(target.spec, target.weights, tokens, [site])
        seen: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            ours = fitted.run(tokens, lambda s, v, seen=seen: seen.setdefault(s, v))
        p = fitted.logits(final).log_softmax(-1)[0]
        q = fitted.logits(ours).log_softmax(-1)[0]
        kl += float((p.exp() * (p - q)).sum())
        agreed += int((p.argmax(-1) == q.argmax(-1)).sum())
        nexts = tokens[0, 1:]
        ce += float(p[:-1].gather(1, nexts[:, None]).sum() - q[:-1].gather(1, nexts[:, None]).sum())
        wrong += float((seen[site] - clean[site]).square().sum())
        values.append(clean[site][0])
        n, m = n + len(p), m + len(nexts)
    running = found.protocols[-1]
    every = torch.cat(values).double()
    variance = float((every - every.mean(0)).square().sum())
    assert running["positions"] == n
    assert running["kl_target_program_nats"] == pytest.approx(kl / n, rel=1e-4)
    assert running["ce_increase_nats"] == pytest.approx(ce / m, rel=1e-3)
    assert running["top1_agreement"] == pytest.approx(agreed / n)
    row = next(row for row in found.sites if row["site"] == site)
    assert row["fvu_running"] == pytest.approx(wrong / variance, rel=1e-4)


def test_the_start_token_is_left_out_of_the_variance_unless_asked_for(target: Target, fitted: Replacement):
    rows = text(target, 5)
    start = 3
    tokens = np.where(rows.tokens == start, start + 1, rows.tokens)
    tokens[rows.starts] = start
    rows = replace(rows, tokens=tokens, specials=(start,))
    loud = dict(target.weights)
    loud["embed.W_E"] = loud["embed.W_E"].clone()
    loud["embed.W_E"][start] *= 100
    found = measure_fidelity(fitted, loud, rows, batch=7, alone=False)
    site = "blocks.1.hook_resid_post"
    sums = {True: 0.0, False: 0.0}
    values: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    for first, end in zip(rows.starts, np.append(rows.starts[1:], len(tokens)), strict=True):
        one = torch.from_numpy(tokens[first : min(end, first + N_CTX)].astype(np.int64))[None]
        clean = clean_run(target.spec, loud, one, [site])[1][site][0]
        seen: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            fitted.run(one, lambda s, v, seen=seen: seen.setdefault(s, v))
        for specials in (True, False):
            where = slice(None) if specials else slice(1, None)
            sums[specials] += float((seen[site][0][where] - clean[where]).double().square().sum())
            values[specials].append(clean[where].double())
    row = next(row for row in found.sites if row["site"] == site)
    for specials, key in ((False, "fvu_running"), (True, "fvu_running_with_specials")):
        every = torch.cat(values[specials])
        assert row[key] == pytest.approx(sums[specials] / float((every - every.mean(0)).square().sum()), rel=1e-3)
    assert row["fvu_running"] != pytest.approx(row["fvu_running_with_specials"], rel=0.1)


def test_distances_of_the_fit_leave_special_tokens_out_where_asked(target: Target):
    rows = replace(text(target), specials=(3, 4))
    specs = featured_specs(target.spec, DictionariesConfig(None, 24, 4, 0, 32, 4))
    config = replace(CONFIG, count_specials=False)

    def losses(weights_of_3: float, config: FitConfig) -> list[float]:
        weights = dict(target.weights)
        weights["embed.W_E"] = weights["embed.W_E"].clone()
        weights["embed.W_E"][3] *= weights_of_3
        run = Fit(replace(target, weights=weights), specs, rows, config, {})
        return [run.update() for _ in range(2)]

    assert np.isfinite(losses(1, config)).all()
    assert losses(1, replace(config, count_specials=True)) == losses(1, CONFIG)
    assert losses(1, config) != losses(1, CONFIG)
    run = Fit(target, specs, rows, config, {})
    while run.step < run.n_steps:
        assert np.isfinite(run.update())
    tokens = torch.from_numpy(rows.batch(0, 0, 4))
    values = {"site": torch.arange(tokens.numel()).view(*tokens.shape, 1)}
    counted = run._counted(tokens, values)["site"]
    assert counted.flatten().tolist() == [i for i, t in enumerate(tokens.flatten().tolist()) if t not in (3, 4)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 0}, "--batch is 0, expected 1 or more"),
        ({"joint_tokens": -1}, "--joint-tokens is -1, expected 0 or more"),
        ({"ablate": 1.5}, "--ablate is 1.5, expected 0 to 1"),
        ({"widen": 0.5}, "--widen is 0.5, expected 1 or more"),
    ],
)
def test_senseless_settings_are_refused(change: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        FitConfig(**change).validate()
