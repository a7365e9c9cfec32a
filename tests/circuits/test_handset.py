"""A target set by hand: tables, rules and detectors find what was put in, and only that."""

from __future__ import annotations

import pytest
import torch

from circuits.handset import FOCUS, IF, INDUCTION, N_TOKENS, PREVIOUS, RULE_VOTE, SHARPNESS, SPEC, THEN
from circuits.handset import replacement as make_replacement
from circuits.handset import rows as make_rows
from circuits.handset import target as make_target
from englishroom.circuits.basis import feature_basis, observe
from englishroom.circuits.heads import replaced_runner, score_copying, score_heads, target_runner
from englishroom.circuits.mlp import describe_rules, virtual_weights
from englishroom.circuits.ov import ov_circuit, to_tokens
from englishroom.circuits.qk import qk_circuit, top_pairs, usage
from englishroom.models.forward import log_probs

TARGET, REPLACEMENT = make_target(), make_replacement()
BASIS, ROWS = feature_basis(REPLACEMENT), make_rows(6)


def ids(name: str, n: int, start: int = 0) -> list[int]:
    return [BASIS.find(f"{name}.{i}") for i in range(start, start + n)]


def test_the_second_half_is_foretold_and_the_rule_followed():
    best = log_probs(SPEC, TARGET.weights, ROWS).argmax(-1)
    half = ROWS.shape[1] // 2
    assert torch.equal(best[:, half:-1], ROWS[:, half + 1 :])
    first = ROWS[:, 2:half]
    assert (first == IF).any()
    assert (best[:, 2:half][first == IF] == THEN).all()


def test_the_dictionaries_put_together_answer_as_the_target():
    half = ROWS.shape[1] // 2
    found = REPLACEMENT.logits(REPLACEMENT.run(ROWS)).log_softmax(-1)
    expected = log_probs(SPEC, TARGET.weights, ROWS)
    assert float((found - expected)[:, half:].abs().max()) < 0.02
    assert torch.equal(found.argmax(-1)[:, half:], expected.argmax(-1)[:, half:])


def test_the_previous_head_pairs_each_position_with_the_one_before():
    qk = qk_circuit(BASIS, REPLACEMENT, 0, PREVIOUS)
    n = BASIS.count_before(qk.reader.site) + 2
    table = qk.table(range(n), range(n)) / SPEC.norm_eps  # over both norms' scales
    expected = torch.zeros(n, n)
    expected[ids("position", SPEC.n_ctx - 1, 1), ids("position", SPEC.n_ctx - 1)] = FOCUS
    assert torch.allclose(table * SPEC.norm_eps, expected * SPEC.norm_eps, atol=FOCUS * SPEC.norm_eps * 1e-4)


def test_the_induction_head_pairs_each_token_with_its_copy_moved_on():
    qk = qk_circuit(BASIS, REPLACEMENT, 1, INDUCTION)
    n = BASIS.count_before(qk.reader.site)
    expected = torch.zeros(n, n)
    expected[ids("token", N_TOKENS), ids("moved.0", N_TOKENS)] = FOCUS
    scale_squared = SPEC.norm_eps
    assert torch.allclose(qk.table(range(n), range(n)) / scale_squared, expected, atol=1e-3)
    used = usage(observe(BASIS, REPLACEMENT, ROWS)[0])
    pairs = top_pairs(qk, used, 2 * N_TOKENS)
    strong = {(pair.query, pair.key) for pair in pairs if abs(pair.value) > scale_squared}
    assert strong == set(zip(ids("token", N_TOKENS), ids("moved.0", N_TOKENS), strict=True))


@pytest.mark.parametrize(("layer", "head"), [(0, 1), (1, 0)])
def test_idle_heads_have_empty_tables(layer: int, head: int):
    qk, ov = qk_circuit(BASIS, REPLACEMENT, layer, head), ov_circuit(BASIS, REPLACEMENT, layer, head)
    assert not qk.queries.any()
    assert not ov.values.any()


@pytest.mark.parametrize(("layer", "head"), [(0, PREVIOUS), (1, INDUCTION)])
def test_working_heads_move_each_token_to_its_own_latent(layer: int, head: int):
    ov = ov_circuit(BASIS, REPLACEMENT, layer, head)
    n = BASIS.count_before(ov.reader.site)
    table = ov.to_latents(REPLACEMENT.dictionaries[2 * layer], range(n), range(N_TOKENS)) / SPEC.norm_eps**0.5
    expected = torch.zeros(n, N_TOKENS)
    expected[ids("token", N_TOKENS)] = torch.eye(N_TOKENS)
    # features that the table of layer 1 has nothing to say about: positions, previous tokens, the rule's vote
    assert torch.allclose(table, expected, atol=1e-4)


def test_only_the_induction_head_votes():
    tokens = ids("token", N_TOKENS)
    quiet = to_tokens(ov_circuit(BASIS, REPLACEMENT, 0, PREVIOUS), REPLACEMENT, tokens)
    assert float(quiet.abs().max()) / SPEC.norm_eps < 1e-4
    voted = to_tokens(ov_circuit(BASIS, REPLACEMENT, 1, INDUCTION), REPLACEMENT, tokens) / SPEC.norm_eps
    assert torch.allclose(voted, SHARPNESS * (torch.eye(N_TOKENS) - 1 / N_TOKENS), atol=1e-3)


def test_the_rule_reads_its_token_and_votes_for_the_other():
    used = usage(observe(BASIS, REPLACEMENT, ROWS)[0])
    (rule,) = describe_rules(BASIS, REPLACEMENT, REPLACEMENT.dictionaries[1], [0], used)
    scale = SPEC.norm_eps**0.5
    assert BASIS.id(rule.reads[0].feature) == f"token.{IF}"
    assert rule.reads[0].weight / scale == pytest.approx(2.0, abs=1e-4)
    assert rule.bias == pytest.approx(-1.0)
    assert all(abs(term.weight) / scale < 1e-4 for term in rule.reads[1:])
    assert rule.promotes[0][0] == THEN
    gain = RULE_VOTE * SHARPNESS * (1 - 1 / N_TOKENS)
    assert rule.promotes[0][1] / scale == pytest.approx(gain, abs=1e-3)
    table = virtual_weights(BASIS, REPLACEMENT, REPLACEMENT.dictionaries[3], [0])
    assert float(table[:-1].abs().max()) == 0


@pytest.mark.parametrize("run", [target_runner(SPEC, TARGET.weights), replaced_runner(REPLACEMENT)])
def test_detectors_find_the_two_heads_and_no_other(run):
    found = {(row.layer, row.head, row.detector): row for row in score_heads(SPEC, run, ROWS)}
    wanted = {(0, PREVIOUS, "previous"), (1, INDUCTION, "induction")}
    for key, row in found.items():
        if key in wanted:
            assert row.attention > 0.99
        elif key[:2] in {key[:2] for key in wanted}:
            assert row.attention < row.even_attention + 0.2
        else:
            assert row.attention == pytest.approx(row.even_attention, abs=1e-4)
    assert found[0, 0, "previous"].queries == len(ROWS) * (SPEC.n_ctx - 1)
    assert found[0, 0, "duplicate"].queries == len(ROWS) * SPEC.n_ctx // 2


def test_copying_is_found_in_the_induction_head_alone():
    found = {(row.layer, row.head): row for row in score_copying(SPEC, TARGET.weights)}
    copies = found.pop((1, INDUCTION))
    assert copies.chance_share == 1 / N_TOKENS
    assert copies.eigenvalue_share == pytest.approx(1, abs=1e-3)
    assert copies.copied_share == 1
    for row in found.values():
        assert row.eigenvalue_magnitude < 1e-4 * copies.eigenvalue_magnitude
    assert found[0, 1].copied_share == 0
