"""The ladder: its fitted curve and what is read off it, on constructed ladders with known answers; and its command."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from englishroom.cli import main
from englishroom.errors import ArtifactError, ConfigError
from englishroom.evaluate.compute_recovered.ladder import (
    Equivalent,
    Rung,
    equivalent_parameters,
    fit_ladder,
    ladder_compute_recovered,
    rungs_on,
)
from englishroom.models.spec import parameter_count
from englishroom.talkers import ladder as ladder_module
from englishroom.talkers.config import TrainConfig
from englishroom.talkers.ladder import LADDER, LadderRun, LadderScore, read_runs, run_folders, write_runs

FLOPS = np.geomspace(2e11, 2e14, 8)
SIZES = np.array([43_000, 70_000, 99_000, 167_000, 248_000, 445_000, 692_000, 988_000])
PIVOT = math.exp(np.log(FLOPS).mean())
E, A, ALPHA = 1.25, 0.75, 0.28


def nats_at(flops: float) -> float:
    return E + A * (flops / PIVOT) ** -ALPHA


def rungs(noise: float = 0.0, seed: int = 0) -> list[Rung]:
    scatter = np.exp(noise * np.random.default_rng(seed).normal(size=len(FLOPS)))
    return [
        Rung(f"r{i}", int(SIZES[i]), float(FLOPS[i]), nats_at(float(FLOPS[i])) * float(scatter[i]))
        for i in range(len(FLOPS))
    ]


def test_known_numbers_are_found_again() -> None:
    fit = fit_ladder(rungs(), n_draws=20)
    assert fit.parameters == pytest.approx([E, A, ALPHA], rel=1e-3)
    assert fit.pivot_flops == pytest.approx(PIVOT)
    assert fit.noise < 1e-6
    assert fit.intervals == pytest.approx(np.array([[E, E], [A, A], [ALPHA, ALPHA]]), rel=1e-3)
    assert fit.nats_at(3e13) == pytest.approx(nats_at(3e13), rel=1e-6)


@pytest.mark.parametrize(("e", "alpha"), [(0.1, 0.1), (1.9, 0.8), (0.001, 0.3)])
def test_other_shapes_are_found_too(e: float, alpha: float) -> None:
    fit = fit_ladder([Rung("", 1, float(c), e + float((c / PIVOT) ** -alpha)) for c in FLOPS], n_draws=5)
    assert fit.parameters == pytest.approx([e, 1.0, alpha], rel=1e-3)


def test_the_order_of_the_models_does_not_matter() -> None:
    fit, turned = fit_ladder(rungs(0.01), n_draws=20), fit_ladder(rungs(0.01)[::-1], n_draws=20)
    assert (turned.draws == fit.draws).all()
    assert turned.rungs == fit.rungs


def test_the_same_seed_gives_the_same_interval() -> None:
    first, second, other = (fit_ladder(rungs(0.01), seed, n_draws=20) for seed in (0, 0, 1))
    assert (first.draws == second.draws).all()
    assert (first.draws != other.draws).any()


@pytest.mark.parametrize("share", [0.002, 0.03, 0.269, 0.9])
def test_recovered_compute_of_a_known_ce_is_exact(share: float) -> None:
    fit = fit_ladder(rungs(), n_draws=20)
    found = ladder_compute_recovered(fit, nats_at(share * FLOPS[-1]), nats_at(FLOPS[-1]))
    assert found.outcome == "inside"
    assert [found.low, found.share, found.high] == pytest.approx([share] * 3, rel=1e-4)
    lower = ladder_compute_recovered(fit, nats_at(share * FLOPS[-1]), nats_at(FLOPS[-1] / 2))
    assert lower.share == pytest.approx(2 * share, rel=1e-4)


def test_intervals_cover_the_truth() -> None:
    n, shares = 80, (0.01, 0.3)
    covered = dict.fromkeys(("E", "alpha", *shares), 0)
    for seed in range(n):
        fit = fit_ladder(rungs(0.005, seed), n_draws=80)
        (low_e, high_e), _, (low_alpha, high_alpha) = fit.intervals
        covered["E"] += low_e <= E <= high_e
        covered["alpha"] += low_alpha <= ALPHA <= high_alpha
        for share in shares:
            found = ladder_compute_recovered(fit, nats_at(share * FLOPS[-1]), nats_at(FLOPS[-1]))
            assert found.low is not None
            assert found.high is not None
            covered[share] += found.low <= share <= found.high
    assert all(0.88 * n <= count <= n for count in covered.values()), covered


def test_a_less_certain_ce_has_a_wider_interval() -> None:
    fit = fit_ladder(rungs(0.001), n_draws=100)
    sharp, vague = (ladder_compute_recovered(fit, 1.9, nats_at(FLOPS[-1]), se) for se in (0.0, 0.05))
    assert sharp.share == vague.share
    assert sharp.low is not None
    assert vague.low is not None
    assert vague.low < 0.9 * sharp.low
    sizes = [equivalent_parameters(fit, 1.9, se) for se in (0.0, 0.05)]
    assert sizes[0].low is not None
    assert sizes[1].low is not None
    assert sizes[1].low < 0.9 * sizes[0].low


def test_a_talker_worse_than_the_smallest_model_gets_a_bound() -> None:
    fit = fit_ladder(rungs(), n_draws=20)
    for ce in (nats_at(FLOPS[0]) + 0.01, 8.0, math.inf):
        found = ladder_compute_recovered(fit, ce, nats_at(FLOPS[-1]), 0.01)
        assert found.outcome == "below"
        assert found.share == pytest.approx(FLOPS[0] / FLOPS[-1])
        assert found.describe() == "< 0.1 %"
        size = equivalent_parameters(fit, ce)
        assert size == Equivalent(43_000, None, None, "below")
        assert size.describe() == "< 43,000 (beyond the ladder)"


def test_a_talker_better_than_the_largest_model_is_extrapolated_and_flagged() -> None:
    fit = fit_ladder(rungs(0.002), n_draws=50)
    target = fit.rungs[-1].nats
    found = ladder_compute_recovered(fit, nats_at(3 * FLOPS[-1]), target)
    assert found.outcome == "beyond"
    assert found.share == pytest.approx(3, rel=0.3)
    assert found.describe().endswith(", beyond the ladder)")
    size = equivalent_parameters(fit, nats_at(3 * FLOPS[-1]))
    assert size.describe() == "> 988,000 (beyond the ladder)"


def test_a_target_better_than_the_largest_model_is_flagged() -> None:
    fit = fit_ladder(rungs(), n_draws=20)
    found = ladder_compute_recovered(fit, nats_at(1e13), nats_at(4 * FLOPS[-1]))
    assert found.outcome == "beyond"
    assert found.share == pytest.approx(1e13 / FLOPS[-1] / 4, rel=1e-3)


def test_at_or_below_the_asymptote_there_is_no_figure() -> None:
    fit = fit_ladder(rungs(), n_draws=20)
    for ce, target in ((E, 2.0), (0.5, 2.0), (2.0, E - 0.1), (0.5, 0.6)):
        found = ladder_compute_recovered(fit, ce, target)
        assert found.outcome == "beyond"
        assert found.share is None
        assert found.describe() == "beyond the ladder"


def test_the_largest_model_and_its_equals_are_at_the_target() -> None:
    fit = fit_ladder(rungs(0.005), n_draws=50)
    top = fit.rungs[-1].nats
    found = ladder_compute_recovered(fit, top, top)
    assert (found.share, found.low, found.high, found.outcome) == (1.0, 1.0, 1.0, "at or above")
    assert ladder_compute_recovered(fit, top - 1e-3, top).outcome == "at or above", "within the scatter of the models"


def test_equivalent_parameters_at_and_between_models() -> None:
    fit = fit_ladder(rungs(), n_draws=20)
    for at in (1, 4, 6):
        assert equivalent_parameters(fit, nats_at(FLOPS[at])).parameters == pytest.approx(SIZES[at], rel=1e-3)
    between = equivalent_parameters(fit, nats_at(math.sqrt(FLOPS[3] * FLOPS[4])))
    assert between.parameters == pytest.approx(math.sqrt(SIZES[3] * SIZES[4]), rel=1e-3)
    assert between.describe() == "204,000 (204,000 to 204,000)"
    noisy = fit_ladder(rungs(0.01), n_draws=100)
    found = equivalent_parameters(noisy, nats_at(FLOPS[4]))
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.parameters < found.high
    assert equivalent_parameters(noisy, noisy.rungs[0].nats).describe().count("(below the ladder to ") == 1
    assert equivalent_parameters(noisy, noisy.rungs[-1].nats).describe().endswith(" to beyond the ladder)")


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (rungs()[:4], "4 models are scored on this text, a fit needs 5; measure more"),
        (
            [*rungs()[:7], dataclasses.replace(rungs()[7], nats=math.nan)],
            "a model's compute or CE is no number above 0",
        ),
        ([*rungs()[:7], dataclasses.replace(rungs()[7], flops=0.0)], "a model's compute or CE is no number above 0"),
        ([*rungs(), rungs()[7]], "two models have the same compute, expected each its own"),
        ([dataclasses.replace(rung, nats=4 - rung.nats) for rung in rungs()], "do not get better with compute"),
    ],
)
def test_ladders_that_will_not_do(models: list[Rung], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        fit_ladder(models)


@pytest.mark.parametrize(("ce", "se"), [(math.nan, 0.0), (2.0, math.nan), (2.0, -1.0)])
def test_a_ce_that_is_no_number(ce: float, se: float) -> None:
    fit = fit_ladder(rungs(), n_draws=5)
    for ask in (lambda: ladder_compute_recovered(fit, ce, 2.0, se), lambda: equivalent_parameters(fit, ce, se)):
        with pytest.raises(ConfigError, match="expected numbers; score again"):
            ask()


def run_of(name: str, flops: int, nats: float, fit: str = "f" * 64) -> LadderRun:
    score = LadderScore("stories.txt", 10, 1000, 4000, nats, nats / math.log(2) / 4)
    return LadderRun(name, {"seed": 0}, 1000, 100, flops, fit, "b" * 64, {"a" * 64: score})


def test_runs_survive_the_disk_in_order_of_compute(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    assert read_runs(path) == []
    runs = [run_of("b", 200, 2.0), run_of("a", 100, 3.0)]
    write_runs(path, runs)
    assert read_runs(path) == runs[::-1]
    assert list(tmp_path.iterdir()) == [path]
    assert [rung.name for rung in rungs_on(runs, "a" * 64)] == ["a", "b"]
    assert rungs_on(runs, "c" * 64) == []


def test_models_trained_on_different_texts_are_no_ladder() -> None:
    with pytest.raises(ConfigError, match="b was trained on another text than a; train it again"):
        rungs_on([run_of("a", 100, 3.0), run_of("b", 200, 2.0, "e" * 64)], "a" * 64)


def test_damaged_runs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    write_runs(path, [run_of("a", 100, 3.0)])
    sound = json.loads(path.read_text())
    for change, said in (
        (lambda run: run.update(wings=2), "runs.0.wings: Unexpected keyword argument"),
        (lambda run: run.pop("flops"), "runs.0.flops: Field required"),
        (lambda run: run.update(flops="many"), "runs.0.flops: Input should be a valid integer"),
        (lambda run: run.update(fit_sha256="f"), "runs.0.fit_sha256: String should match pattern"),
        (
            lambda run: run["scores"]["a" * 64].update(nats_per_token=math.nan),
            "nats_per_token: Input should be a finite",
        ),
    ):
        values = json.loads(json.dumps(sound))
        change(values["runs"][0])
        path.write_text(json.dumps(values))
        with pytest.raises(ArtifactError, match=f"runs.json: .*{said}.*; restore the file or measure the ladder again"):
            read_runs(path)
    path.write_text("{")
    with pytest.raises(ArtifactError, match="Invalid JSON"):
        read_runs(path)
    write_runs(path, [run_of("a", 100, 3.0)] * 2)
    with pytest.raises(ArtifactError, match="run a stands there more than once, expected once"):
        read_runs(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ArtifactError, match="is a folder, expected a file"):
        read_runs(path)


def test_the_ladder_is_long_enough() -> None:
    from englishroom.models.spec import training_flops

    costs = [training_flops(config.spec(), config.n_ctx) * config.tokens for config in LADDER.values()]
    sizes = [parameter_count(config.spec()) for config in LADDER.values()]
    assert len(LADDER) >= 8
    assert sorted(costs) == costs
    assert sorted(sizes) == sizes
    assert math.log10(costs[-1] / costs[0]) >= 2.5


def test_the_shipped_ladder_fits() -> None:
    runs = read_runs()
    if not runs:
        pytest.skip("no ladder ships yet")
    assert {run.name for run in runs} == set(LADDER)
    for sha256 in {sha256 for run in runs for sha256 in run.scores}:
        fit = fit_ladder(rungs_on(runs, sha256), n_draws=50)
        assert len(fit.rungs) == len(LADDER)
        assert fit.noise < 0.05  # the models were trained on 16 to 36 tokens a parameter, so not all lie on one curve
        low, high = fit.intervals[2]
        assert 0 < low < fit.alpha < high


SMALL = {
    f"ladder-{d_model}": TrainConfig(
        n_layers=1, d_model=d_model, n_heads=1, n_ctx=16, vocabulary=270, tokens=2 * 16 * steps, batch=2
    )
    for d_model, steps in ((4, 2), (8, 3), (12, 4), (16, 5), (160, 6))
}


def test_rebuild_measure_and_show(
    story_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ladder_module, "LADDER", SMALL)
    out, runs = tmp_path / "ladder", tmp_path / "runs.json"
    measure = ["ladder", "measure", str(out), "--text", str(story_file), "--runs", str(runs), "--max-documents", "5"]
    assert main(measure) == 1
    assert "no finished run of the ladder in it; run englishroom ladder rebuild first" in capsys.readouterr().err
    assert main(["ladder", "show", "--runs", str(runs)]) == 1
    assert f"{runs}: no runs of a ladder; write it with englishroom ladder measure" in capsys.readouterr().err

    assert main(["ladder", "rebuild", str(story_file), "--out", str(out)]) == 0
    assert f"wrote 5 models to {out}" in capsys.readouterr().out
    (out / "ladder-160").rename(out / "tiny-2l")
    weights = {path: path.stat().st_mtime_ns for path in out.glob("*/model.safetensors")}
    assert main(["ladder", "rebuild", str(story_file), "--out", str(out)]) == 0
    assert capsys.readouterr().err.count("finished already") == 5
    assert weights == {path: path.stat().st_mtime_ns for path in out.glob("*/model.safetensors")}

    (out / "ladder-8" / "training.json").rename(tmp_path / "aside.json")
    assert main(measure) == 0
    assert "ladder-8: not finished, left out" in capsys.readouterr().err
    (tmp_path / "aside.json").rename(out / "ladder-8" / "training.json")
    assert [run.name for run in read_runs(runs)] == ["ladder-4", "ladder-12", "ladder-16", "ladder-160"]
    assert main(["ladder", "show", "--runs", str(runs)]) == 0
    assert "4 models are scored on this text, a fit needs 5; measure more" in capsys.readouterr().err
    before = read_runs(runs)
    assert main(measure) == 0
    assert [run for run in read_runs(runs) if run.name != "ladder-8"] == before
    assert main(measure) == 0
    top = read_runs(runs)[-1]
    assert top.config == dataclasses.asdict(SMALL["ladder-160"])
    assert top.tokens == 2 * 16 * 6
    assert top.parameters == parameter_count(SMALL["ladder-160"].spec())
    (score,) = top.scores.values()
    assert (score.text, score.documents) == ("stories.txt (first 5 documents)", 5)


def test_show_prints_models_and_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs.json"
    write_runs(runs, [run_of(rung.name, int(rung.flops), rung.nats) for rung in rungs()])
    assert main(["ladder", "show", "--runs", str(runs)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"stories.txt: 10 documents, 1,000 tokens, sha256 {'a' * 16}"
    assert printed[2].split() == [
        "r0",
        "1,000",
        "2.00e+11",
        f"{rungs()[0].nats:.4f}",
        f"{rungs()[0].nats / math.log(2) / 4:.4f}",
    ]
    assert printed[10] == "  L(C) = E + A (C / 6.325e+12)^-alpha, nats per token"
    assert printed[11] == "  E     = 1.2500 (1.2500 to 1.2500)"
    assert printed[13] == "  alpha = 0.2800 (0.2800 to 0.2800)"
    assert printed[14].endswith("one standard deviation is 0.00% of L")


def test_another_run_in_the_place_of_a_rung_is_refused(tmp_path: Path, tiny_talker: Path) -> None:
    from englishroom.evaluate.compute_recovered.rungs import measure_ladder

    ladder = tmp_path / "ladder"
    ladder.mkdir()
    (ladder / "ladder-4").symlink_to(tiny_talker)
    with pytest.raises(ConfigError, match=r"has a run with other settings than ladder-4 \(batch, d_model, n_ctx"):
        measure_ladder(ladder, {"text": ["Once"]}, tmp_path / "runs.json", SMALL)


def test_new_weights_are_scored_anew(tmp_path: Path, tiny_talker: Path, story_file: Path) -> None:
    from englishroom.evaluate.compute_recovered.rungs import measure_ladder

    ladder, runs = tmp_path / "ladder", tmp_path / "runs.json"
    ladder.mkdir()
    (ladder / "tiny").symlink_to(tiny_talker)
    settings = {"tiny": TrainConfig(**json.loads((tiny_talker / "training.json").read_text())["config"])}
    (first,) = measure_ladder(ladder, {"a": ["Lily saw the rain."]}, runs, settings)
    (both,) = measure_ladder(ladder, {"b": ["Tom saw the rain."]}, runs, settings)
    assert both.scores.items() > first.scores.items()
    assert len(both.scores) == 2
    write_runs(runs, [dataclasses.replace(both, weights_sha256="0" * 64)])
    (anew,) = measure_ladder(ladder, {"b": ["Tom saw the rain."]}, runs, settings)
    assert [score.text for score in anew.scores.values()] == ["b"]


def test_texts_of_one_name_are_refused(tmp_path: Path, story_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ladder", "measure", str(tmp_path), "--text", str(story_file), str(story_file)]) == 1
    assert "--text needs texts, each of another name" in capsys.readouterr().err
    assert main(["ladder", "measure", str(tmp_path), "--text", str(story_file), "--max-documents", "0"]) == 1
    assert "--max-documents is 0, expected 1 or more" in capsys.readouterr().err


def test_a_rung_may_stand_under_its_shipped_name(tmp_path: Path) -> None:
    assert run_folders(tmp_path, LADDER)["ladder-160"] == tmp_path / "ladder-160"
    (tmp_path / "tiny-2l").mkdir()
    assert run_folders(tmp_path, LADDER)["ladder-160"] == tmp_path / "tiny-2l"
    (tmp_path / "ladder-160").mkdir()
    assert run_folders(tmp_path, LADDER)["ladder-160"] == tmp_path / "ladder-160"
