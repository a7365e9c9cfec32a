"""Training compute recovered, on constructed curves with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.evaluate.compute_recovered.training import Recovered, smooth, training_compute_recovered
from englishroom.talkers.record import Curve
from englishroom.talkers.train import curve_steps

STEPS = np.array(sorted(curve_steps(4000)), dtype=np.float64)
SHARES = STEPS / STEPS[-1]


def power_law(share: NDArray | float) -> NDArray:
    """Nats per token after a share of the run: 1.5 at its end."""
    return 1.2 + 0.3 * np.asarray(share, dtype=np.float64) ** -0.35


def curve_of(nats: NDArray, steps: NDArray = STEPS) -> Curve:
    return Curve("a text", "0" * 64, 3, steps * 8192, steps * 8192 * 6e6, np.asarray(nats, dtype=np.float64))


@pytest.mark.parametrize("share", [0.006, 0.011, 0.08, 0.269, 0.5, 0.93, 0.99])
def test_an_exact_curve_gives_the_exact_share(share: float) -> None:
    found = training_compute_recovered(curve_of(power_law(SHARES)), float(power_law(share)))
    assert found.outcome == "inside"
    assert found.share == pytest.approx(share, rel=1e-3)
    assert found.low == pytest.approx(share, rel=1e-2)
    assert found.high == pytest.approx(share, rel=1e-2)


def test_a_straight_line_in_log_compute_is_solved_exactly() -> None:
    curve = curve_of(5 - np.log(SHARES[:12]), STEPS[:12])
    share = STEPS[4] / STEPS[11]
    found = training_compute_recovered(curve, float(5 - np.log(SHARES[4])))
    assert found.share == pytest.approx(share, rel=1e-9)


@pytest.mark.parametrize("share", [0.02, 0.269, 0.6])
@pytest.mark.parametrize(("noise", "se"), [(0.002, 0.0), (0.01, 0.0), (0.01, 0.005)])
def test_intervals_of_noisy_curves_cover_the_truth(share: float, noise: float, se: float) -> None:
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        curve = curve_of(power_law(SHARES) + noise * rng.normal(size=len(SHARES)))
        found = training_compute_recovered(curve, float(power_law(share) + se * rng.normal()), se)
        assert found.low is not None
        assert found.high is not None
        assert found.share is not None
        assert found.low <= found.share <= found.high
        covered += found.low <= share <= found.high
        assert found.high - found.low < 0.5, "an interval that says nothing covers everything"
    assert 180 <= covered <= 200


def test_the_noise_of_a_curve_is_measured() -> None:
    rng = np.random.default_rng(0)
    found = [smooth(curve_of(power_law(SHARES) + 0.01 * rng.normal(size=len(SHARES)))).noise_nats for _ in range(50)]
    assert np.mean(found) == pytest.approx(0.01, rel=0.1)
    assert smooth(curve_of(power_law(SHARES))).noise_nats < 1e-4


def test_smoothing_takes_noise_away_where_points_are_many() -> None:
    rng = np.random.default_rng(1)
    smoothed = smooth(curve_of(power_law(SHARES) + 0.01 * rng.normal(size=len(SHARES))))
    error = smoothed.nats - power_law(SHARES)
    assert np.sqrt(np.mean(error[40:] ** 2)) < 0.006


def test_a_less_certain_ce_has_a_wider_interval() -> None:
    curve = curve_of(power_law(SHARES) + 0.002 * np.random.default_rng(0).normal(size=len(SHARES)))
    sharp, vague = (training_compute_recovered(curve, float(power_law(0.3)), se) for se in (0.0, 0.01))
    assert sharp.share == vague.share
    assert sharp.low is not None
    assert vague.low is not None
    assert sharp.high is not None
    assert vague.high is not None
    assert vague.high - vague.low > 2 * (sharp.high - sharp.low)


def test_a_curve_that_rises_again_is_reached_the_first_time() -> None:
    bump = 0.2 * np.exp(-(((np.log(SHARES) - math.log(0.4)) / 0.2) ** 2))
    curve = curve_of(power_law(SHARES) + bump)
    ce = float(power_law(0.15))
    assert (curve.nats > ce)[SHARES > 0.3].any(), "the curve is above the CE again later"
    found = training_compute_recovered(curve, ce)
    assert found.share == pytest.approx(0.15, rel=0.02)
    assert found.high is not None
    assert found.high < 0.2


def test_one_bad_checkpoint_is_not_where_a_ce_is_reached() -> None:
    nats = power_law(SHARES) + 0.003 * np.random.default_rng(0).normal(size=len(SHARES))
    ce = float(power_law(1.1 * SHARES[40]))
    nats[40] = ce - 0.005
    found = training_compute_recovered(curve_of(nats), ce)
    assert found.share == pytest.approx(1.1 * SHARES[40], rel=0.02)


def test_below_the_first_point() -> None:
    curve = curve_of(power_law(SHARES))
    for ce in (curve.nats[0] + 0.5, 20.0, math.inf):
        found = training_compute_recovered(curve, ce, 0.001)
        assert found.outcome == "below"
        assert found.share == pytest.approx(SHARES[0])
        assert found.low == 0
        assert found.describe() == "< 0.4 %"


@pytest.mark.parametrize("better", [0.0, 1e-4, 0.1, 5.0])
def test_at_or_above_the_target(better: float) -> None:
    nats = power_law(SHARES) + 0.002 * np.random.default_rng(0).normal(size=len(SHARES))
    found = training_compute_recovered(curve_of(nats), float(nats[-1]) - better)
    assert found == Recovered(1.0, 1.0, 1.0, "at or above")
    assert found.describe() == "100 % (at or above the target)"


def test_the_target_itself_is_at_the_target_even_when_its_last_point_lies_high() -> None:
    nats = power_law(SHARES)
    nats[-1] += 0.01
    assert training_compute_recovered(curve_of(nats), float(nats[-1])).outcome == "at or above"


def test_at_the_target_within_the_uncertainty_of_the_ce() -> None:
    curve = curve_of(power_law(SHARES))
    found = training_compute_recovered(curve, float(curve.nats[-1]), 0.01)
    assert found.outcome == "at or above"
    assert found.low is not None
    assert 0.7 < found.low < 0.95
    assert found.describe() == f"100 % ({100 * found.low:.1f} to 100, at or above the target)"
    almost = training_compute_recovered(curve, float(power_law(0.97)), 0.01)
    assert almost.outcome == "inside"
    assert almost.high == 1


@pytest.mark.parametrize("gap", [1e-9, 1e-6, 9e-4, 1.1e-3])
def test_points_side_by_side_do_no_harm(gap: float) -> None:
    steps = np.sort(np.concatenate([STEPS, STEPS[10:70:7] * (1 + gap)]))
    nats = power_law(steps / STEPS[-1]) + 0.002 * np.random.default_rng(0).normal(size=len(steps))
    found = training_compute_recovered(curve_of(nats, steps), float(power_law(0.269)))
    assert found.share == pytest.approx(0.269, rel=0.02)
    assert found.low is not None
    assert found.high is not None
    assert 0.002 < found.high - found.low < 0.03


def test_a_flat_curve_is_below_or_above() -> None:
    curve = curve_of(np.full(len(STEPS), 2.0))
    assert training_compute_recovered(curve, 2.1).outcome == "below"
    assert training_compute_recovered(curve, 2.0).outcome == "at or above"


@pytest.mark.parametrize(
    ("nats", "steps", "said"),
    [
        ([], [], "has 0 points with compute for 0, expected 4 or more"),
        ([3, 2, 1], [1, 2, 3], "has 3 points with compute for 3, expected 4 or more of both; measure it at more"),
        ([4, 3, 2, 1], [1, 2, 3], "has 4 points with compute for 3"),
        ([4, math.nan, 2, 1], [1, 2, 3, 4], "has points that are no numbers, or compute not rising from 0"),
        ([4, math.inf, 2, 1], [1, 2, 3, 4], "the curve on a text has points that are no numbers"),
        ([4, 3, 2, 1], [1, 2, 2, 4], "compute not rising from 0"),
        ([4, 3, 2, 1], [0, 1, 2, 3], "compute not rising from 0"),
        ([4, 3, 2, 1], [1, 2, 3, 3.001], "has 3 points that do not stand side by side, expected 4 or more"),
        ([4, 3, 2, 1], [1, 2, math.nan, 4], "measure it again"),
    ],
)
def test_curves_that_will_not_do(nats: list[float], steps: list[float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        training_compute_recovered(curve_of(np.array(nats), np.array(steps, dtype=np.float64)), 2.0)


@pytest.mark.parametrize(("ce", "se"), [(math.nan, 0.0), (2.0, math.nan), (2.0, -1.0), (2.0, math.inf)])
def test_a_ce_that_is_no_number(ce: float, se: float) -> None:
    with pytest.raises(ConfigError, match="expected numbers; score again"):
        training_compute_recovered(curve_of(power_law(SHARES)), ce, se)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Recovered(0.269, 0.251, 0.284, "inside"), "26.9 % (25.1 to 28.4)"),
        (Recovered(0.0043, 0.0, 0.00512, "inside"), "0.43 % (0 to 0.51)"),
        (Recovered(0.9999, 0.98, 1.0, "inside"), "99.9 % (98.0 to 100)"),
        (Recovered(0.00402, 0.0, 0.0045, "below"), "< 0.4 %"),
        (Recovered(1.0, 1.0, 1.0, "at or above"), "100 % (at or above the target)"),
        (Recovered(1.25, 1.1, 1.4, "at or above"), "125.0 % (110.0 to 140.0, at or above the target)"),
        (Recovered(1.43, 0.98, None, "beyond"), "143.0 % (98.0 or more, beyond the ladder)"),
        (Recovered(None, 0.9, None, "beyond"), "beyond the ladder"),
    ],
)
def test_how_it_is_said(found: Recovered, said: str) -> None:
    assert found.describe() == said
