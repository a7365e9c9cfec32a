"""Training compute recovered: at which share of its own training run a target was as good as a talker is.

1. Smooth the target's validation curve, nats against the logarithm of training compute: a natural cubic smoothing
   spline, how smooth being chosen by maximum likelihood (Wahba 1985; Green and Silverman 1994).
2. Find where the smoothed curve first reaches the talker's CE. That compute over the whole run's is the answer.
3. Its interval is where the curve's own band of confidence, widened by the uncertainty of the CE, reaches it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.interpolate
import scipy.special
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.talkers.record import Curve

LEVEL = 0.95
"""Confidence level of every interval here."""
MIN_POINTS = 4
SAME_NATS = 1e-6
"""CEs closer than this are equal; float32 sums in another order differ by less."""
CLOSEST = 1e-3
"""Points closer in log compute to the next are left out: they say nothing more, and rounding would drown the fit."""
BETWEEN = 32
"""Places looked at between two points of a curve."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Recovered:
    """A share of compute with its interval.

    Attributes:
        share: of the target's training compute; for "below" that of the first point, which it stays under; ``None``
            where it cannot be said.
        low, high: interval of the share at ``level``; ``None`` where there is none. A ``low`` of 0 means anywhere below
            the first point.
        outcome: "inside" what was measured; "below" the first point of the curve; "at or above" the target, whose CE is
            no lower; "beyond" the models of the ladder, where a figure is extrapolated.
    """

    share: float | None
    low: float | None
    high: float | None
    outcome: Literal["inside", "below", "at or above", "beyond"]
    level: float = LEVEL

    def describe(self) -> str:
        """Say it as a cell of a table: ``26.9 % (25.1 to 28.4)``."""
        if self.share is None:
            return "beyond the ladder"
        if self.outcome == "below":
            return f"< {percent(self.share)} %"
        low, high = (None if bound is None else percent(bound) for bound in (self.low, self.high))
        notes = [] if low == high == "100" else [f"{low} to {high}" if high else f"{low} or more"]
        notes += {"at or above": ["at or above the target"], "beyond": ["beyond the ladder"]}.get(self.outcome, [])
        return f"{percent(self.share)} % ({', '.join(notes)})"


def percent(share: float) -> str:
    """Write a share as a percentage: one decimal, two digits below one percent; only the whole is 100."""
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f}"
    return f"{value:.2g}" if value < 1 else f"{min(value, 99.9) if value < 100 else value:.1f}"


@dataclass(frozen=True)
class SmoothedCurve:
    """A smoothed curve, [point]; of points side by side (:data:`CLOSEST`) the last.

    Attributes:
        log_flops: natural logarithm of training compute.
        nats, sd_nats: the smoothed curve and its standard deviation.
        noise_nats: standard deviation of a measured point about the curve.
        dof: degrees of freedom that the noise was estimated from.
    """

    log_flops: Numbers
    nats: Numbers
    sd_nats: Numbers
    noise_nats: float
    dof: float


def training_compute_recovered(curve: Curve, ce_nats: float, ce_se_nats: float = 0.0) -> Recovered:
    """Compute the share of a target's training run at which its smoothed curve first reaches a CE.

    At constant batch the share of compute is also that of tokens.

    Args:
        curve: the target's, on the text that the CE was measured on.
        ce_nats: nats per token of the talker, tokens being the target's.
        ce_se_nats: standard error of the CE. The curve read the same documents, so the sampling of documents counts
            only as far as talker and target differ on them: give the standard error of the mean difference between the
            two, paired by document.

    Raises:
        ConfigError: the CE is no number, or the curve is too short or damaged.
    """
    check_ce(ce_nats, ce_se_nats)
    smoothed = smooth(curve)
    x, nats, sd_nats = _dense(smoothed)
    quantile = float(scipy.special.stdtrit(smoothed.dof, (1 + LEVEL) / 2))
    margin = quantile * np.hypot(sd_nats, ce_se_nats)
    low, high = (_share_reached(x, nats + sign * margin, ce_nats) for sign in (-1, 1))
    if ce_nats <= max(nats[-1], curve.nats[-1]) + SAME_NATS:
        surely = ce_nats + quantile * ce_se_nats <= curve.nats[-1] + SAME_NATS
        return Recovered(1.0, 1.0 if surely else low, 1.0, "at or above")
    share = _share_reached(x, nats, ce_nats)
    if share == 0:
        first = math.exp(x[0] - x[-1])
        return Recovered(first, 0.0, max(first, high), "below")
    return Recovered(share, low, high, "inside")


def check_ce(ce_nats: float, ce_se_nats: float) -> None:
    """Refuse a CE that no talker can have."""
    if math.isnan(ce_nats) or not 0 <= ce_se_nats < math.inf:
        raise ConfigError(f"the CE is {ce_nats} with standard error {ce_se_nats}, expected numbers; score again")


def smooth(curve: Curve) -> SmoothedCurve:
    """Smooth a validation curve.

    The smoothing spline is the mean of a Gaussian process given the points, and its band that process's (Wahba 1983):
    curves that are no lines stay within it, for it also holds what smoothing takes away.

    Raises:
        ConfigError: the curve has too few points, or points that are no numbers or out of order.
    """
    where = f"the curve on {curve.text}"
    if len(curve.flops) != len(curve.nats) or len(curve.nats) < MIN_POINTS:
        raise ConfigError(
            f"{where} has {len(curve.nats)} points with compute for {len(curve.flops)}, expected {MIN_POINTS} or more "
            "of both; measure it at more checkpoints"
        )
    usable = np.isfinite(curve.nats).all() and np.isfinite(curve.flops).all()
    if not usable or not (curve.flops[0] > 0 and (np.diff(curve.flops) > 0).all()):
        raise ConfigError(f"{where} has points that are no numbers, or compute not rising from 0; measure it again")
    apart = np.append(np.diff(np.log(curve.flops)) > CLOSEST, True)
    x, nats = np.log(curve.flops[apart]), curve.nats[apart]
    if len(x) < MIN_POINTS:
        raise ConfigError(
            f"{where} has {len(x)} points that do not stand side by side, expected {MIN_POINTS} or more; measure more"
        )
    rough, basis = np.linalg.eigh(_roughness(x))
    rough = np.maximum(rough, 0)
    rough[:2] = 0  # straight lines
    parts = basis.T @ nats
    kept = 1 / (1 + _stiffness(rough, parts) * rough)  # [part], the share of each that is curve and not noise
    dof = len(x) - 2
    noise = math.sqrt(float((parts**2 * (1 - kept)).sum()) / dof)
    return SmoothedCurve(x, basis @ (kept * parts), noise * np.sqrt((basis**2 * kept).sum(axis=1)), noise, dof)


def _roughness(x: Numbers) -> Numbers:
    """Build the matrix of the integrated squared second derivative of a natural cubic spline, [point, point]."""
    gaps, inner = np.diff(x), np.arange(len(x) - 2)
    second = np.zeros((len(x), len(x) - 2))
    second[inner, inner] = 1 / gaps[:-1]
    second[inner + 1, inner] = -1 / gaps[:-1] - 1 / gaps[1:]
    second[inner + 2, inner] = 1 / gaps[1:]
    mass = np.diag((gaps[:-1] + gaps[1:]) / 3) + np.diag(gaps[1:-1] / 6, 1) + np.diag(gaps[1:-1] / 6, -1)
    return second @ np.linalg.solve(mass, second.T)


def _stiffness(rough: Numbers, parts: Numbers) -> float:
    """Choose how much roughness costs, by the likelihood of the points (Wahba's generalised maximum likelihood)."""
    bent = rough[2:]
    tries = np.exp(np.arange(-math.log(bent.max()) - 16, -math.log(max(bent.min(), 1e-12 * bent.max())) + 16, 0.1))
    lost = 1 / (1 + 1 / (tries[:, None] * bent))  # [try, part]
    errors = np.maximum((parts[2:] ** 2 * lost).sum(axis=1), 1e-300)
    return float(tries[np.argmin(len(bent) * np.log(errors) - np.log(lost).sum(axis=1))])


def _dense(smoothed: SmoothedCurve) -> tuple[Numbers, Numbers, Numbers]:
    """Evaluate a smoothed curve and its standard deviation between its points as well, each [place]."""
    x = smoothed.log_flops
    steps = np.arange(BETWEEN) / BETWEEN
    places = np.append((x[:-1, None] + np.diff(x)[:, None] * steps).ravel(), x[-1])
    spline = scipy.interpolate.CubicSpline(x, smoothed.nats, bc_type="natural")
    return places, spline(places), np.interp(places, x, smoothed.sd_nats)


def _share_reached(x: Numbers, nats: Numbers, ce_nats: float) -> float:
    """Find where a curve over log compute is first at or below a CE, as a share of its end's compute.

    Returns:
        0 where it starts there, 1 where it never gets there.
    """
    reached = np.flatnonzero(nats <= ce_nats)
    if not len(reached):
        return 1.0
    at = int(reached[0])
    if at == 0:
        return 0.0
    part = (nats[at - 1] - ce_nats) / (nats[at - 1] - nats[at])
    return math.exp(x[at - 1] + part * (x[at] - x[at - 1]) - x[-1])
