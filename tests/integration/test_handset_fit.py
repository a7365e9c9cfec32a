"""Dictionaries that are trained on the hand-set target find what was put into it, and so do the tables made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from circuits import handset
from englishroom.circuits.basis import feature_basis
from englishroom.circuits.heads import replaced_runner, score_heads
from englishroom.circuits.ov import ov_circuit
from englishroom.circuits.qk import qk_circuit
from englishroom.dictionaries.code import Codes
from englishroom.dictionaries.config import DictionariesConfig, FitConfig, TrainerConfig
from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.fidelity import measure_fidelity
from englishroom.dictionaries.joint_fit import Fit, featured_specs, fit
from englishroom.dictionaries.replacement import Replacement
from englishroom.dictionaries.token_rows import TokenRows

MOVED, RULES = 24, 16


def text(n: int, seed: int) -> TokenRows:
    tokens = handset.rows(n, seed).numpy().astype(np.int32)
    return TokenRows(tokens.flatten(), np.arange(n) * handset.N_CTX, handset.N_CTX)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Replacement:
    size = 16 * handset.N_CTX
    config = FitConfig(
        local_tokens=400 * size,
        joint_tokens=300 * size,
        batch=16,
        align=0.5,
        ablate=0.1,
        tables=False,
        trainer=TrainerConfig(rate=1e-2, dead_after=5_000, auxiliary=0.25),
    )
    specs = featured_specs(handset.SPEC, DictionariesConfig(moved=MOVED, moved_active=1, rules=RULES, rules_active=1))
    run = Fit(handset.target(), specs, text(400, 1), config, {})
    return fit(run, tmp_path_factory.mktemp("fit") / "fit.pt")


def cosines(rows: Tensor, known: Tensor) -> Tensor:
    return (rows / rows.norm(dim=1, keepdim=True)) @ (known / known.norm(dim=1, keepdim=True)).T


def active_latents(fitted: Replacement) -> tuple[Tensor, Tensor]:
    """Read new texts, and return which token stood before and which moved feature of layer 0 is on, [position]."""
    rows = handset.rows(60, 9)
    found: list[Tensor] = []

    def keep(dictionary: Dictionary, codes: Codes) -> Codes:
        if dictionary is fitted.dictionaries[0]:
            found.append(codes.indices[:, 0])
        return codes

    with torch.no_grad():
        fitted.run(rows, code_tap=keep)
    return rows[:, :-1].flatten(), found[0].view(rows.shape)[:, 1:].flatten().long()


def latent_of_each(fitted: Replacement) -> Tensor:
    """Return, for every token, the moved feature that is on most often where it stood before."""
    before, active = active_latents(fitted)
    table = torch.zeros(handset.N_TOKENS, MOVED)
    table.index_put_((before, active), torch.ones(len(before)), accumulate=True)
    return table.argmax(1)


def test_the_program_says_what_the_target_says(fitted: Replacement):
    found = measure_fidelity(fitted, handset.target().weights, text(40, 2))
    (running,) = (row for row in found.protocols if row["protocol"] == "running")
    assert running["kl_target_program_nats"] < 0.15


def test_moved_features_are_the_previous_tokens(fitted: Replacement):
    """Each previous token has a moved feature of its own, and what is written with it on is that token's direction."""
    before, active = active_latents(fitted)
    latents = latent_of_each(fitted)
    assert len(set(latents.tolist())) == handset.N_TOKENS
    assert (active == latents[before]).float().mean() > 0.95
    moved = fitted.dictionaries[0]
    clean = handset.directions()["prev"]
    written = moved.run(clean)[0].detach()
    assert torch.diagonal(cosines(written, clean)).median() > 0.95
    assert torch.diagonal(cosines(written, clean)).min() > 0.8


def test_the_rule_is_found(fitted: Replacement):
    d = handset.directions()
    rules = fitted.dictionaries[1]
    found = cosines(rules.weights["W_dec"], d["vote"][handset.THEN][None])[:, 0]
    rule = int(found.argmax())
    assert found[rule] > 0.95
    strength = d["token"] @ rules.weights["W_enc"][:, rule] + rules.weights["b_enc"][rule]
    assert int(strength.argmax()) == handset.IF
    assert strength[handset.IF] > 0
    assert (strength > 0).sum() == 1  # it is on at that token alone


def test_the_induction_head_pairs_a_token_with_its_trained_copy(fitted: Replacement):
    basis = feature_basis(fitted)
    qk = qk_circuit(basis, fitted, 1, handset.INDUCTION)
    tokens = torch.tensor([basis.find(f"token.{t}") for t in range(handset.N_TOKENS)])
    latents = latent_of_each(fitted)
    keys = torch.tensor([basis.find(f"moved.0.{latent}") for latent in latents.tolist()])
    table = qk.table(tokens, keys)
    assert (table.argmax(1) == torch.arange(handset.N_TOKENS)).sum() >= handset.N_TOKENS - 1
    idle = qk_circuit(basis, fitted, 1, 1 - handset.INDUCTION).table(tokens, keys)
    assert idle.abs().max() < 1e-3 * table.abs().max()


def test_the_previous_head_turns_tokens_into_trained_features(fitted: Replacement):
    basis = feature_basis(fitted)
    sources = torch.tensor([basis.find(f"token.{t}") for t in range(handset.N_TOKENS)])
    ov = ov_circuit(basis, fitted, 0, handset.PREVIOUS)
    table = ov.to_latents(fitted.dictionaries[0], sources, torch.arange(MOVED))
    assert (table.argmax(1) == latent_of_each(fitted)).sum() >= handset.N_TOKENS - 1


def test_detectors_find_the_same_heads_in_the_program(fitted: Replacement):
    rows = score_heads(handset.SPEC, replaced_runner(fitted), handset.rows(20, 3))
    score = {(row.layer, row.head, row.detector): row.attention for row in rows}
    assert score[0, handset.PREVIOUS, "previous"] > 0.9
    assert score[1, handset.INDUCTION, "induction"] > 0.8
    assert max(value for key, value in score.items() if key[2] == "induction" and key[:2] != (1, 1)) < 0.3
