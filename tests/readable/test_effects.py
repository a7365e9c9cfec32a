"""Heads and MLPs switched off in a target and in its wired model alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from englishroom.dictionaries.replacement import clean_run
from englishroom.dictionaries.switching import switch_off
from englishroom.models.forward import unembedding
from englishroom.readable.effects import effects_of
from tiny_readable import tiny_rows, tiny_target, wired_model


def test_effects_are_those_of_silent_features_and_of_parts_set_to_zero() -> None:
    target, model = tiny_target(), wired_model("gpt2")
    tokens = torch.from_numpy(tiny_rows().rows(range(4)))
    found = effects_of(model, target, tokens)
    heads = {row.part: row for row in found if row.kind == "head" and row.measure == "centred"}
    assert set(heads) == {"all", *(f"blocks.{layer}.attn head {head}" for layer in (0, 1) for head in (0, 1))}
    table = unembedding(target.spec, target.weights)

    def centred(log_probs: torch.Tensor) -> np.ndarray:
        return (log_probs - log_probs.mean(-1, keepdim=True)).detach().numpy()[:, :-1].ravel()

    def of_target(off: tuple[int, int | None] | None) -> torch.Tensor:
        tap = None if off is None else switch_off(target.spec, *off)
        return (clean_run(target.spec, target.weights, tokens, [], tap=tap)[0] @ table).log_softmax(-1)

    def of_model(off: tuple[int, int | None] | None) -> torch.Tensor:
        return model.run(tokens, off=off).log_softmax(-1).unflatten(0, tokens.shape)

    both = [centred(of((1, 0))) - centred(of(None)) for of in (of_model, of_target)]
    row = heads["blocks.1.attn head 0"]
    assert row.n == both[0].size
    assert row.pearson == pytest.approx(np.corrcoef(*both)[0, 1], abs=1e-3)
    assert row.rms_target_nats == pytest.approx(np.sqrt((both[1] ** 2).mean()), rel=1e-3)
    mlp = next(r for r in found if r.part == "blocks.0.mlp" and r.measure == "centred")
    both = [centred(of((0, None))) - centred(of(None)) for of in (of_model, of_target)]
    assert mlp.rms_program_nats == pytest.approx(np.sqrt((both[0] ** 2).mean()), rel=1e-3)
