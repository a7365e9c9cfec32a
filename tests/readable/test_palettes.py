"""Rounding a wired model: few different numbers, and nearly the same answers."""

from __future__ import annotations

import torch

from englishroom.readable.rounding import LEVELS, rounded
from tiny_readable import SHORT, STREAM, random_stream, wired


def digits(value: float) -> str:
    return f"{value:.6e}".partition("e")[0].rstrip("0").replace(".", "").lstrip("-")


def test_tables_have_few_numbers_and_biases_few_digits() -> None:
    model = rounded(wired(random_stream("gpt2", STREAM), SHORT))
    assert max(len(digits(bias)) for bias in model.vectors["rule_biases.0"].double().tolist()) <= 3
    assert len(model.edges["rules.1"].weights.unique()) == LEVELS
    lists = torch.cat([edges.weights for name, edges in model.edges.items() if name.startswith("words.")])
    assert len(lists.abs().unique()) == LEVELS
    assert (lists < 0).any()


def test_a_second_rounding_changes_nothing() -> None:
    once = rounded(wired(random_stream("gpt2", STREAM), SHORT))
    twice = rounded(once)
    assert all(torch.equal(vector, twice.vectors[name]) for name, vector in once.vectors.items())
    assert all(torch.equal(edges.weights, twice.edges[name].weights) for name, edges in once.edges.items())


def test_answers_stay_nearly_the_same() -> None:
    model = wired(random_stream("gpt2", STREAM), SHORT)
    tokens = torch.randint(0, model.shape.d_vocab, (4, 12), generator=torch.Generator().manual_seed(0))
    own, other = (one.run(tokens, sharp=0).log_softmax(-1) for one in (model, rounded(model)))
    assert (own.exp() * (own - other)).sum(-1).mean() < 0.02
