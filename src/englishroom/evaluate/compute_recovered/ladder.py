"""Ladder compute recovered: where on a scaling curve, fitted to a ladder of models, a talker stands.

1. Fit L(C) = E + A C^-alpha to CE and training compute of the ladder's models, by least squares on log L from several
   starts (the form of Hoffmann et al. 2022; so few models have no outliers to be robust against).
2. Invert it: the compute that would reach the talker's CE, over the compute that would reach the target's.
3. Refit to data drawn about the fit (parametric bootstrap) for the interval.

Outside the CEs that the ladder's models reach, every figure says that it is extrapolated, or is a bound.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.evaluate.compute_recovered.training import LEVEL, Recovered, check_ce
from englishroom.talkers.ladder import LadderRun

MIN_RUNGS = 5
"""Models that a fit needs: three numbers are fitted, and the rest says how well."""
DRAWS = 500
STARTS = tuple(itertools.product((0.05, 0.5, 0.9), (0.1, 0.3, 1.0)))
"""Asymptote, as a share of the lowest CE, and exponent that the fit starts from."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Rung:
    """A model of the ladder: its size, what its training cost, and its CE on the text at hand."""

    name: str
    parameters: int
    flops: float
    nats: float


@dataclass(frozen=True)
class LadderFit:
    """The scaling curve L(C) = E + A (C / pivot)^-alpha of a ladder, in nats per token.

    Attributes:
        rungs: what it was fitted to, smallest compute first.
        pivot_flops: the geometric mean of their compute.
        asymptote_nats: E.
        scale_nats: A, what the curve stands above its asymptote at the pivot.
        alpha: the exponent.
        noise: standard deviation of log L about the fit.
        draws: fits to data drawn about the fit, [draw, (E, A, alpha)].
    """

    rungs: tuple[Rung, ...]
    pivot_flops: float
    asymptote_nats: float
    scale_nats: float
    alpha: float
    noise: float
    draws: Numbers

    @property
    def parameters(self) -> Numbers:
        """E, A and alpha, [3]."""
        return np.array([self.asymptote_nats, self.scale_nats, self.alpha])

    @property
    def range_nats(self) -> tuple[float, float]:
        """The lowest and the highest CE that is not extrapolated.

        Of a model, or of the curve at its compute, and as much further as the models scatter about the curve.
        """
        ends = [self.nats_at(self.rungs[at].flops) for at in (0, -1)] + [rung.nats for rung in self.rungs]
        return min(ends) * math.exp(-self.noise), max(ends) * math.exp(self.noise)

    def nats_at(self, flops: float) -> float:
        """Return the CE that the curve gives to a compute."""
        return self.asymptote_nats + self.scale_nats * (flops / self.pivot_flops) ** -self.alpha

    @property
    def intervals(self) -> Numbers:
        """The intervals of E, A and alpha at :data:`LEVEL`, [3, (low, high)]."""
        return np.quantile(self.draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0).T


@dataclass(frozen=True)
class Equivalent:
    """The parameter count of the ladder model with some CE.

    Attributes:
        parameters: their number; for "below" and "beyond" that of the smallest and the largest model, a bound.
        low, high: interval at ``level``; ``None`` where it leaves the ladder.
    """

    parameters: float
    low: float | None
    high: float | None
    outcome: Literal["inside", "below", "beyond"]
    level: float = LEVEL

    def describe(self) -> str:
        """Say it as a cell of a table: ``412,000 (380,000 to 450,000)``."""
        if self.outcome != "inside":
            return f"{'<' if self.outcome == 'below' else '>'} {_rounded(self.parameters)} (beyond the ladder)"
        low = "below the ladder" if self.low is None else _rounded(self.low)
        high = "beyond the ladder" if self.high is None else _rounded(self.high)
        return f"{_rounded(self.parameters)} ({low} to {high})"


def _rounded(count: float) -> str:
    """Write a count to three digits."""
    return f"{float(f'{count:.3g}'):,.0f}"


def rungs_on(runs: Sequence[LadderRun], text_sha256: str) -> list[Rung]:
    """Pick the runs that were scored on a text, smallest compute first.

    Raises:
        ConfigError: they were not all trained on the same text.
    """
    scored = [run for run in runs if text_sha256 in run.scores]
    other = [run.name for run in scored if run.fit_sha256 != scored[0].fit_sha256]
    if other:
        raise ConfigError(f"ladder: {other[0]} was trained on another text than {scored[0].name}; train it again")
    rungs = [Rung(run.name, run.parameters, float(run.flops), run.scores[text_sha256].nats_per_token) for run in scored]
    return sorted(rungs, key=lambda rung: rung.flops)


def fit_ladder(rungs: Sequence[Rung], seed: int = 0, n_draws: int = DRAWS) -> LadderFit:
    """Fit the scaling curve of a ladder.

    Each draw of the bootstrap has a noise of its own, as uncertain as so few models leave it (a scaled inverse
    chi-square), so that intervals are as wide as Student's.

    Args:
        seed: of the draws.

    Raises:
        ConfigError: the models are too few, have no numbers, or do not get better with compute.
    """
    if len(rungs) < MIN_RUNGS:
        raise ConfigError(f"ladder: {len(rungs)} models are scored on this text, a fit needs {MIN_RUNGS}; measure more")
    rungs = sorted(rungs, key=lambda rung: rung.flops)
    flops, nats = (np.array([getattr(rung, key) for rung in rungs], dtype=np.float64) for key in ("flops", "nats"))
    if not (np.isfinite(flops).all() and np.isfinite(nats).all() and flops[0] > 0 and nats.min() > 0):
        raise ConfigError("ladder: a model's compute or CE is no number above 0; measure the ladder again")
    if (np.diff(flops) <= 0).any():
        raise ConfigError("ladder: two models have the same compute, expected each its own; measure the ladder again")
    slope = float(np.polyfit(np.log(flops), np.log(nats), 1)[0])
    if slope >= 0:
        raise ConfigError("ladder: the models do not get better with compute, so no curve can be fitted; train again")
    x = np.log(flops)
    pivot = float(x.mean())
    x -= pivot
    fits = [_least_squares(x, np.log(nats), _start(nats, share, alpha)) for share, alpha in STARTS]
    best, cost = min(fits, key=lambda fit: fit[1])
    dof = len(rungs) - 3
    noise = math.sqrt(cost / dof)
    expected, rng = np.log(_curve(best, x)), np.random.default_rng(seed)
    spread = noise * np.sqrt(dof / rng.chisquare(dof, n_draws))
    drawn = expected + spread[:, None] * rng.normal(size=(n_draws, len(rungs)))
    draws = np.exp(np.array([_least_squares(x, row, best)[0] for row in drawn]).reshape(n_draws, 3))
    asymptote, scale, alpha = (float(value) for value in np.exp(best))
    return LadderFit(tuple(rungs), math.exp(pivot), asymptote, scale, alpha, noise, draws)


def _start(nats: Numbers, share: float, alpha: float) -> Numbers:
    asymptote = share * nats.min()
    return np.log([asymptote, float(np.median(nats)) - asymptote, alpha])


def _curve(logs: Numbers, x: Numbers) -> Numbers:
    """Evaluate the curve of log E, log A and log alpha at log compute above the pivot."""
    return np.exp(logs[0]) + np.exp(logs[1] - np.exp(logs[2]) * x)


def _least_squares(x: Numbers, log_nats: Numbers, start: Numbers) -> tuple[Numbers, float]:
    """Fit by least squares on log L; return the logarithms of E, A and alpha, and the sum of squares."""

    def errors(logs: Numbers) -> Numbers:
        return np.log(_curve(logs, x)) - log_nats

    def slopes(logs: Numbers) -> Numbers:
        asymptote, alpha = np.exp(logs[0]), np.exp(logs[2])
        excess = np.exp(logs[1] - alpha * x)
        total = asymptote + excess
        return np.stack([asymptote / total, excess / total, -excess * alpha * x / total], axis=1)

    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # on the way from a poor start
        found = scipy.optimize.leastsq(errors, start, Dfun=slopes, full_output=True)[0]
        cost = float((errors(found) ** 2).sum())
    return found, cost if math.isfinite(cost) else math.inf


def ladder_compute_recovered(
    fit: LadderFit, ce_nats: float, ce_target_nats: float, ce_se_nats: float = 0.0, seed: int = 0
) -> Recovered:
    """Divide the compute at which the ladder's curve reaches a talker's CE by that at which it reaches the target's.

    "below": the talker is worse than the smallest model; the share is that model's, a bound. "beyond": talker or target
    is outside the ladder otherwise, and the share is extrapolated, or ``None`` where one of them is at or below the
    curve's asymptote. Above 1 the talker is better than the target.

    Args:
        ce_se_nats: standard error of the talker's CE, paired with the target by document.
        seed: of the draws of the talker's CE.

    Raises:
        ConfigError: a CE is no number.
    """
    check_ce(ce_nats, ce_se_nats)
    check_ce(ce_target_nats, 0.0)
    lowest, highest = fit.range_nats
    worse = ce_nats > highest
    ce = highest if worse else ce_nats
    drawn = ce + (0.0 if worse else ce_se_nats) * np.random.default_rng(seed).normal(size=len(fit.draws))
    share = float(_share(fit.parameters[None], np.array([ce]), ce_target_nats)[0])
    low, high = _quantiles(_share(fit.draws, drawn, ce_target_nats))
    if not lowest <= ce_target_nats <= highest or ce_nats < lowest:
        known = math.isfinite(share) and share > 0
        return Recovered(share if known else None, low, high, "beyond")
    if worse:
        return Recovered(share, 0.0, high, "below")
    return Recovered(share, low, high, "at or above" if ce_nats <= ce_target_nats else "inside")


def equivalent_parameters(fit: LadderFit, ce_nats: float, ce_se_nats: float = 0.0, seed: int = 0) -> Equivalent:
    """Compute the parameter count of the ladder model that would have a CE.

    The curve gives the compute that reaches the CE; between the two models of the ladder on either side of it the
    logarithm of the parameter count goes with that of compute. Outside the ladder the nearest model is a bound.

    Raises:
        ConfigError: the CE is no number.
    """
    check_ce(ce_nats, ce_se_nats)
    lowest, highest = fit.range_nats
    smallest, largest = fit.rungs[0].parameters, fit.rungs[-1].parameters
    if ce_nats > highest:
        return Equivalent(smallest, None, None, "below")
    if ce_nats < lowest:
        return Equivalent(largest, None, None, "beyond")
    log_flops, log_sizes = np.log([[rung.flops, rung.parameters] for rung in fit.rungs]).T
    drawn = ce_nats + ce_se_nats * np.random.default_rng(seed).normal(size=len(fit.draws))
    found = _log_flops(fit, fit.parameters[None], np.array([ce_nats]))
    ends = _log_flops(fit, fit.draws, drawn)
    tail = (1 - LEVEL) / 2
    low, high = (float(np.quantile(ends, at, method="inverted_cdf")) for at in (tail, 1 - tail))
    sizes = np.exp(np.interp([found[0], low, high], log_flops, log_sizes))
    return Equivalent(
        float(sizes[0]),
        float(sizes[1]) if low >= log_flops[0] else None,
        float(sizes[2]) if high <= log_flops[-1] else None,
        "inside",
    )


def _log_flops(fit: LadderFit, parameters: Numbers, ce_nats: Numbers) -> Numbers:
    """Find the log compute that reaches a CE, [draw], by parameters [draw, 3]; infinite below the asymptote."""
    asymptote, scale, alpha = parameters.T
    with np.errstate(divide="ignore"):
        return math.log(fit.pivot_flops) - np.log(np.maximum(ce_nats - asymptote, 0) / scale) / alpha


def _share(parameters: Numbers, ce_nats: Numbers, ce_target_nats: float) -> Numbers:
    """Compute C(ce) / C(ce_target), [draw], of parameters [draw, 3]; nan where the curve reaches neither."""
    asymptote, _, alpha = parameters.T
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        excess = np.maximum(ce_target_nats - asymptote, 0) / np.maximum(ce_nats - asymptote, 0)
        return np.where(ce_nats == ce_target_nats, 1.0, excess ** (1 / alpha))


def _quantiles(shares: Numbers) -> tuple[float, float | None]:
    """Take the interval of drawn shares, ``None`` for no upper end; nan counts against both ends."""
    tail = (1 - LEVEL) / 2
    low = float(np.quantile(np.nan_to_num(shares, nan=0.0, posinf=np.inf), tail, method="inverted_cdf"))
    high = float(np.quantile(np.nan_to_num(shares, nan=np.inf, posinf=np.inf), 1 - tail, method="inverted_cdf"))
    return low, high if math.isfinite(high) else None
