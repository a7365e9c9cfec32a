"""Every metric of a talker, declared once: its key, its heading, how it is computed and how it is written.

Tables on the terminal, JSON, Parquet, the report and the frontier all follow :data:`METRICS`. To add a metric, declare
it there; one that is taken at every token names the function that computes it (see ``per_token``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from englishroom.evaluate import per_token
from englishroom.evaluate.per_token import Answers, Numbers
from englishroom.evaluate.sums import Judgement, MetricSums
from englishroom.number import between, bits, number, text

if TYPE_CHECKING:
    from englishroom.evaluate.compute_recovered.ladder import Equivalent
    from englishroom.evaluate.compute_recovered.training import Recovered

Role = Literal["target", "talker", "replaced", "n-gram", "hindsight", "quantised", "pruned"]
Interval = tuple[float, float]
AtTokens = Callable[[Answers, Answers, NDArray[np.integer]], Numbers]
"""Takes what a talker answers, what the reference answers and the tokens that came; returns a number each, [token]."""


@dataclass(frozen=True)
class Extra:
    """What is known of a talker beside its judgement."""

    role: Role = "talker"
    description_bits: float | None = None
    greedy_agreement: float | None = None
    training: Recovered | None = None
    ladder: Recovered | None = None
    equivalent: Equivalent | None = None


@dataclass(frozen=True)
class MeasuredTalker:
    """One talker on one text: what was summed over its tokens, what is known beside that, and the seed of intervals."""

    judgement: Judgement
    extra: Extra = field(default_factory=Extra)
    seed: int = 0


@dataclass(frozen=True)
class Metric:
    """One metric. It is the mean of ``per_token`` or of ``sums``, or what ``compute`` returns.

    Attributes:
        key: its name in JSON and Parquet; its interval stands under ``KEY_interval``, without
            a ``_share`` at the end of ``KEY``.
        heading: its name where people read it; "" where it is kept but not shown.
        write: writes a value for people.
        per_token: computes it at every token.
        paired: whether that needs a reference to compare with.
        sums: combines the sums of other metrics.
        compute: computes it of anything else that was measured.
        interval: whether the mean gets a bootstrapped interval, or what computes one.
        report: whether the report shows it in its first table, under "More measures", or not at all.
        frontier: whether points of a frontier keep it, as they do all of the first table.
        categories: whether it is broken down by category of token.
    """

    key: str
    heading: str
    write: Callable[[Any], str] = number
    per_token: AtTokens | None = None
    paired: bool = True
    sums: Callable[[Judgement], MetricSums | None] | None = None
    compute: Callable[[MeasuredTalker], Any] | None = None
    interval: bool | Callable[[MeasuredTalker], Interval | None] = False
    report: Literal["first", "further", "no"] = "no"
    frontier: bool = False
    categories: bool = False

    @property
    def in_frontier(self) -> bool:
        """Whether points of a frontier keep it."""
        return self.frontier or self.report == "first"

    @property
    def interval_key(self) -> str:
        return f"{self.key.removesuffix('_share')}_interval"

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys under which the value and the interval stand."""
        return (self.key, self.interval_key) if self.interval else (self.key,)

    def summed(self, judgement: Judgement) -> MetricSums | None:
        """Return the sums over tokens that it is the mean of, where it is one and they were taken."""
        return judgement.sums.get(self.key) if self.sums is None else self.sums(judgement)

    def values(self, measured: MeasuredTalker) -> dict[str, Any]:
        """Return value and interval by their keys; ``None`` is what is not defined."""
        sums = self.summed(measured.judgement)
        mean = None if sums is None else sums.mean
        value = mean if self.compute is None else self.compute(measured)
        if not self.interval:
            return {self.key: value}
        if callable(self.interval):
            spread = self.interval(measured)
        else:
            spread = None if sums is None else pair(sums.intervals(measured.seed)[0])
        return dict(zip(self.keys, (value, spread), strict=True))

    def cell(self, row: Mapping[str, Any]) -> tuple[str, str]:
        """Write value and interval of a row of plain data: a dash, and nothing, where there is none."""
        return self.write(row.get(self.key)), between(row.get(self.interval_key), self.write)


def pair(interval: Any) -> Interval:
    """Return an interval as two plain numbers."""
    return float(interval[0]), float(interval[1])


def _bits_per_byte(measured: MeasuredTalker) -> float:
    return measured.judgement.sums["nats_per_token"].total / math.log(2) / int(measured.judgement.bytes.sum())


def _bits_per_byte_interval(measured: MeasuredTalker) -> Interval:
    sums, sizes = measured.judgement.sums["nats_per_token"], measured.judgement.bytes.astype(np.float64)
    return pair(sums.intervals(measured.seed, per=sizes)[0] / math.log(2))


def _limits(recovered: Recovered | None) -> Interval | None:
    if recovered is None or recovered.low is None or recovered.high is None:
        return None
    return recovered.low, recovered.high


_fine, _signed = partial(number, form=".4f"), partial(number, form="+.4f")
METRICS: Sequence[Metric] = (
    Metric(
        "nats_per_token",
        "nats/token",
        _fine,
        per_token=lambda ours, _reference, came: per_token.nats(ours.log, came),
        paired=False,
        interval=True,
        report="first",
        categories=True,
    ),
    Metric("target_nats", "", per_token=lambda _ours, reference, came: per_token.nats(reference.log, came)),
    Metric(
        "ce_increase",
        "CE increase",
        _signed,
        sums=lambda judgement: judgement.ce_increase,
        interval=True,
        report="first",
        categories=True,
    ),
    Metric(
        "kl_target_talker",
        "KL(target‖talker)",
        _fine,
        per_token=lambda ours, reference, _came: per_token.kl_nats(reference.log, ours.log, reference.p),
        report="first",
        categories=True,
    ),
    Metric(
        "kl_talker_target",
        "KL(talker‖target)",
        _fine,
        per_token=lambda ours, reference, _came: per_token.kl_nats(ours.log, reference.log, ours.p),
        report="further",
        frontier=True,
    ),
    Metric(
        "bits_per_byte", "bits/byte", _fine, compute=_bits_per_byte, interval=_bits_per_byte_interval, report="further"
    ),
    Metric(
        "top1",
        "top-1",
        per_token=lambda ours, _reference, came: per_token.agreement(ours.best, came),
        paired=False,
        report="further",
    ),
    Metric(
        "top1_agreement",
        "same top-1",
        per_token=lambda ours, reference, _came: per_token.agreement(ours.best, reference.best),
        report="first",
    ),
    Metric("greedy_agreement", "same greedy text", compute=lambda m: m.extra.greedy_agreement, report="further"),
    Metric(
        "calibration_error",
        "calibration error",
        compute=lambda m: m.judgement.calibration.expected_error,
        report="further",
    ),
    Metric("description_bits", "description", bits, compute=lambda m: m.extra.description_bits, report="first"),
    Metric(
        "training_compute_recovered",
        "training compute recovered",
        text,
        compute=lambda m: m.extra.training and m.extra.training.describe(),
        report="first",
    ),
    Metric(
        "training_compute_share",
        "",
        compute=lambda m: m.extra.training and m.extra.training.share,
        interval=lambda m: _limits(m.extra.training),
        frontier=True,
    ),
    Metric(
        "ladder_compute_recovered",
        "ladder compute recovered",
        text,
        compute=lambda m: m.extra.ladder and m.extra.ladder.describe(),
        report="further",
    ),
    Metric(
        "ladder_compute_share",
        "",
        compute=lambda m: m.extra.ladder and m.extra.ladder.share,
        interval=lambda m: _limits(m.extra.ladder),
    ),
    Metric(
        "equivalent_parameters",
        "parameters of the ladder model as good",
        text,
        compute=lambda m: m.extra.equivalent and m.extra.equivalent.describe(),
        report="further",
    ),
    Metric("equivalent_parameters_count", "", compute=lambda m: m.extra.equivalent and m.extra.equivalent.parameters),
)
"""Every metric, in the order in which tables show them."""
