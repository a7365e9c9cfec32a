"""Metrics against hand-computed cases, and tallies under sharding and resampling."""

from __future__ import annotations

import math

import numpy as np
import pytest

from englishroom.errors import ConfigError
from englishroom.evaluate.per_token import agreement, kl_nats, nats
from englishroom.evaluate.sums import Calibration, MetricSums

HALF = np.log([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
SURE = np.array([[0.0, -np.inf, -np.inf], [-np.inf, 0.0, -np.inf]])


def test_nats_and_top1() -> None:
    targets = np.array([1, 1])
    assert nats(HALF, targets) == pytest.approx([math.log(4), -math.log(0.8)])
    assert agreement(HALF.argmax(axis=1), targets).tolist() == [0, 1]


def test_kl_in_both_directions() -> None:
    forward = kl_nats(HALF, HALF[::-1])
    assert forward[0] == pytest.approx(0.5 * math.log(5) + 0.25 * math.log(0.25 / 0.8) + 0.25 * math.log(2.5))
    assert forward[1] == pytest.approx(0.1 * math.log(0.2) + 0.8 * math.log(3.2) + 0.1 * math.log(0.4))
    assert kl_nats(SURE, HALF) == pytest.approx([math.log(2), -math.log(0.8)]), "what never happens costs nothing"
    assert kl_nats(HALF, SURE).tolist() == [np.inf, np.inf]
    assert kl_nats(SURE, SURE).tolist() == [0, 0]


def test_agreement() -> None:
    assert agreement(np.array([1, 2]), np.array([1, 0])).tolist() == [1, 0]


def test_tallies_by_document_and_category() -> None:
    tally = MetricSums.empty(3, 3)
    values, documents = np.array([1.0, 2.0, 4.0]), np.array([0, 2, 2])
    tally.add(values, documents, np.array([[1], [2], [-1]]))
    assert tally.sums.tolist() == [[1, 1, 0], [0, 0, 0], [6, 0, 2]]
    assert tally.counts.tolist() == [[1, 1, 0], [0, 0, 0], [2, 0, 1]]
    assert tally.mean == pytest.approx(7 / 3)
    assert tally.means() == pytest.approx([7 / 3, 1, 2])
    assert ((tally + tally).means() == tally.means()).all()
    assert (tally - tally).total == 0
    with pytest.raises(ConfigError, match="over different tokens cannot be subtracted"):
        _ = tally - (tally + tally)


def test_intervals_cover_the_true_mean() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        tally = MetricSums.empty(40)
        shared = np.repeat(generator.normal(size=40), 5)  # tokens of a document are alike
        tally.add(shared + generator.normal(size=200), np.repeat(np.arange(40), 5), np.empty((200, 0), np.int64))
        low, high = tally.intervals(seed=trial)[0]
        covered += low <= 0 <= high
        if trial == 0:
            assert tally.standard_errors()[0] == pytest.approx((high - low) / 3.92, rel=0.15)
    assert 172 <= covered <= 199


def test_intervals_per_byte() -> None:
    tally = MetricSums.empty(2)
    tally.add(np.array([3.0, 6.0]), np.array([0, 1]), np.empty((2, 0), np.int64))
    assert tally.intervals(per=np.array([1.0, 2.0]))[0] == pytest.approx([3, 3])


def test_calibration() -> None:
    first = Calibration.of(np.array([0.9, 0.9, 0.2]), np.array([1.0, 1.0, 0.0]))
    second = Calibration.of(np.array([1.0]), np.array([0.0]))
    assert first.expected_error == pytest.approx((0.2 + 0.2) / 3)
    assert (first + second).expected_error == pytest.approx((0.2 + 0.2 + 1) / 4)
