"""Plain data as JSON: infinities and nan have a form of their own, come back as numbers, and print as what they are."""

from __future__ import annotations

import json
import math

import pytest

from englishroom.number import number
from englishroom.plain import from_json, to_json


def test_infinities_and_nan_come_back_as_the_numbers_they_are() -> None:
    data = {"a": math.inf, "b": [-math.inf, 1.5, {"c": math.nan}], "text": "nan", "pair": (1, math.inf)}
    stored = to_json(data)
    assert b"NaN" not in stored
    json.loads(stored, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    found = from_json(stored)
    assert found["a"] == math.inf
    assert found["b"][0] == -math.inf
    assert math.isnan(found["b"][2]["c"])
    assert found["text"] == "nan"  # a text stays a text
    assert found["pair"] == [1, math.inf]
    assert to_json(found) == stored


def test_an_object_that_only_looks_like_a_number_stays_one() -> None:
    for value in ({"float": "none"}, {"float": 1}, {"float": "nan", "other": 1}):
        assert from_json(to_json(value)) == value


@pytest.mark.parametrize(
    ("value", "said"),
    [(1.25, "1.2"), (math.nan, "–"), (math.inf, "∞"), (-math.inf, "−∞"), (None, "–"), ("nan", "–"), (True, "–")],
)
def test_what_is_no_number_prints_as_such(value: object, said: str) -> None:
    assert number(value, ".1f") == said
