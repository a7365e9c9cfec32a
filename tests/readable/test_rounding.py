"""Rounding a wired model: two digits in the units in which lines print weights, and nearly the same answers."""

from __future__ import annotations

import torch

from englishroom.emit.lines import units
from englishroom.readable.rounding import rounded
from tiny_readable import SHORT, STREAM, random_stream, wired


def digits(value: float) -> str:
    return f"{value:.6e}".partition("e")[0].rstrip("0").replace(".", "").lstrip("-")


def test_weights_have_two_digits_in_units_of_what_a_rule_asks_for() -> None:
    model = rounded(wired(random_stream("gpt2", STREAM), SHORT))
    biases, lows = (model.vectors[f"rule_{part}.0"].double().tolist() for part in ("biases", "thresholds"))
    assert max(len(digits(bias)) for bias in biases) <= 3
    own = (model.edges["rules.0"], model.edges["words.rules.0"])
    for rule, (bias, low) in enumerate(zip(biases, lows, strict=True)):
        weights = torch.cat([edges.weights[edges.columns == rule] for edges in own])
        if not len(weights):
            continue
        unit, _ = units(bias, low, float(weights.abs().max()))
        assert max(len(digits(float(weight) / unit)) for weight in weights) <= 2
    assert max(len(digits(float(weight))) for weight in model.edges["votes"].weights) <= 2


def test_a_second_rounding_changes_nothing() -> None:
    once = rounded(wired(random_stream("gpt2", STREAM), SHORT))
    twice = rounded(once)
    assert all(torch.equal(vector, twice.vectors[name]) for name, vector in once.vectors.items())
    assert all(torch.equal(edges.weights, twice.edges[name].weights) for name, edges in once.edges.items())


def test_answers_stay_nearly_the_same() -> None:
    model = wired(random_stream("gpt2", STREAM), SHORT)
    tokens = torch.randint(0, model.shape.d_vocab, (4, 12), generator=torch.Generator().manual_seed(0))
    own, other = (one.run(tokens, sharp=False).log_softmax(-1) for one in (model, rounded(model)))
    assert (own.exp() * (own - other)).sum(-1).mean() < 0.02
