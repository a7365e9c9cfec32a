"""Edges predicted by linearity against the model itself, with a feature clamped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from circuits.featured import PICKED, featured
from circuits.handset import IF, INDUCTION, PREVIOUS, THEN
from circuits.handset import replacement as make_replacement
from circuits.handset import rows as make_rows
from englishroom.circuits.attribution import Frozen, Logit, Node, active_nodes, edges_into, freeze, same_latent
from englishroom.circuits.basis import feature_basis
from englishroom.circuits.clamping import Clamp, EdgeRow, add_sums, clamp, sum_edges, tabulate_edges, with_value
from englishroom.dictionaries.code import Codes
from englishroom.dictionaries.dictionary import Dictionary, DictionarySpec
from englishroom.dictionaries.replacement import Replacement
from englishroom.errors import ConfigError

N_POS = 7


def verify_edges(*asked: Any) -> list[EdgeRow]:
    return tabulate_edges(sum_edges(*asked))


@pytest.fixture(scope="module", params=PICKED)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Replacement:
    return featured(request.param, tmp_path_factory.mktemp("featured"))


def tokens_for(model: Replacement, n_rows: int = 1) -> Tensor:
    return torch.randint(model.spec.d_vocab, (n_rows, N_POS), generator=torch.Generator().manual_seed(4))


def frozen_for(model: Replacement, errors: bool = False) -> Frozen:
    generator = torch.Generator().manual_seed(8)
    added = {
        site: 0.3 * torch.randn(1, N_POS, model.spec.d_model, generator=generator) for site in sorted(model.written)
    }
    return freeze(feature_basis(model), model, tokens_for(model)[0], added if errors else None)


def targets_for(frozen: Frozen) -> list[Node | Logit]:
    """One late target of every layer and kind, and a logit."""
    found: list[Node | Logit] = [Logit(9, N_POS - 2)]
    for group in frozen.basis.groups:
        if group.dictionary is not None and (nodes := active_nodes(frozen, group.name)):
            found.append(nodes[-1])
    return found


@pytest.mark.parametrize("errors", [False, True], ids=["no errors", "errors"])
def test_edges_add_up_to_what_the_model_computes(model: Replacement, errors: bool):
    frozen = frozen_for(model, errors)
    token = Node(int(frozen.tokens[0]), 0)
    for target in targets_for(frozen):
        (actual,) = clamp(frozen, [Clamp(token, 1.0, target)], "nothing")  # as it is already
        assert edges_into(frozen, target).total == pytest.approx(float(actual), abs=2e-4, rel=1e-4)


@pytest.mark.parametrize("errors", [False, True], ids=["no errors", "errors"])
def test_with_everything_held_a_clamp_takes_its_edge_away(model: Replacement, errors: bool):
    frozen = frozen_for(model, errors)
    for target in targets_for(frozen):
        edges = edges_into(frozen, target)
        drawn = edges.values.abs().topk(min(6, len(edges.values))).indices.tolist()
        clamps = [Clamp(Node(int(edges.features[at]), int(edges.positions[at])), 0.0, target) for at in drawn]
        changed = clamp(frozen, clamps, "features") - edges.total
        assert torch.allclose(changed, -edges.values[drawn], atol=3e-4, rtol=1e-3)


def test_with_sets_held_the_effect_is_that_of_all_paths(model: Replacement):
    """Paths of two edges, added up by hand: token -> moved.0 -> rule.0 beside token -> rule.0."""
    frozen = frozen_for(model)
    features, values = frozen.activity.of(frozen.basis.group("moved.0"))
    all_paths, linear, held = [], [], []
    for target in active_nodes(frozen, "rule.0")[-6:]:
        token = Node(int(frozen.tokens[target.position]), target.position)
        direct = edges_into(frozen, target)
        total = same_latent(frozen, direct, token)
        for middle in active_nodes(frozen, "moved.0"):
            if middle.position == target.position:
                (value,) = values[0, middle.position][features[0, middle.position] == middle.feature]
                gain = same_latent(frozen, direct, middle) / float(value)
                total += gain * same_latent(frozen, edges_into(frozen, middle), token)
        all_paths.append(-total)
        asked = [Clamp(token, 0.0, target)]
        linear.append(float(clamp(frozen, asked, "sets")) - direct.total)
        held.append(float(clamp(frozen, asked, "features")) - direct.total)
    rounding = (torch.tensor(linear) - torch.tensor(all_paths)).abs().max()
    assert rounding < 1e-4
    assert (torch.tensor(held) - torch.tensor(all_paths)).abs().max() > 10 * rounding  # one edge is not all


def test_a_token_can_be_clamped_in_a_table(tmp_path_factory: pytest.TempPathFactory):
    frozen = frozen_for(featured("gpt2", tmp_path_factory.mktemp("featured")))
    source = active_nodes(frozen, "table.rule.0")[-1]
    target = Logit(9, N_POS - 1)
    edges = edges_into(frozen, target)
    expected = same_latent(frozen, edges, source)
    assert abs(expected) > 1e-3
    (changed,) = clamp(frozen, [Clamp(source, 0.0, target)], "features") - edges.total
    assert float(changed) == pytest.approx(-expected, abs=3e-4, rel=1e-3)


def test_a_feature_can_be_clamped_on(model: Replacement):
    frozen = frozen_for(model)
    target = active_nodes(frozen, f"rule.{model.spec.n_layers - 1}")[-1]
    group = frozen.basis.group("moved.0")
    on = {node.feature for node in active_nodes(frozen, "moved.0") if node.position == target.position}
    silent = Node(next(f for f in range(group.start, group.stop) if f not in on), target.position)
    base = edges_into(frozen, target).total
    one, two = clamp(frozen, [Clamp(silent, 1.0, target), Clamp(silent, 2.0, target)], "features") - base
    assert abs(float(one)) > 1e-3
    assert float(two) == pytest.approx(2 * float(one), abs=3e-4, rel=1e-3)


def test_a_cross_layer_latent_is_clamped_in_all_that_it_writes(tmp_path_factory: pytest.TempPathFactory):
    model = featured("gpt2", tmp_path_factory.mktemp("featured"))
    sites, d = ("blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out"), model.spec.d_model
    spec = DictionarySpec("blocks.0.ln2.hook_normalized", sites, d, d, 16, "topk", 4)
    cross = Dictionary.random(spec, torch.Generator().manual_seed(5))
    moved = tuple(dic for dic in model.dictionaries if dic.spec.writes[0].endswith("attn_out"))
    frozen = frozen_for(replace(model, dictionaries=(*moved, cross), tables={}))
    target = Logit(9, N_POS - 1)
    source = next(node for node in active_nodes(frozen, "rule.0to1") if node.position == N_POS - 1)
    edges = edges_into(frozen, target)
    (changed,) = clamp(frozen, [Clamp(source, 0.0, target)], "features") - edges.total
    assert float(changed) == pytest.approx(-same_latent(frozen, edges, source), abs=3e-4)
    hit = (edges.features == source.feature) & (edges.positions == source.position)
    assert float(edges.values[hit].sum()) != pytest.approx(same_latent(frozen, edges, source), abs=1e-3)


def test_verification_reports_exact_arithmetic_and_honest_numbers(model: Replacement):
    basis, rows = feature_basis(model), tokens_for(model, 2)
    seen: list[tuple[str, int, int]] = []
    table = verify_edges(basis, model, rows, torch.Generator().manual_seed(0), 5, 3, lambda *at: seen.append(at))
    assert seen == [("edges", 1, 2), ("edges", 2, 2)]
    whole = {row.question: row for row in table if row.source == row.target == "all"}
    assert whole["edge_held"].pearson == pytest.approx(1, abs=1e-4)
    assert whole["edge_held"].slope == pytest.approx(1, abs=1e-3)
    assert whole["edge_free"].pearson < 0.9999
    assert {row.n for row in whole.values()} == {whole["edge_held"].n}
    assert 0 < whole["edge_held"].n <= 2 * 5 * 3
    parts = [row.n for row in table if row.question == "total_free" and row.source != "all"]
    assert sum(parts) == whole["total_free"].n
    again = verify_edges(basis, model, rows, torch.Generator().manual_seed(0), 5, 3)
    assert [(row.source, row.target, row.n) for row in again] == [(row.source, row.target, row.n) for row in table]


def test_sums_of_parts_add_up(model: Replacement):
    basis, rows, generator = feature_basis(model), tokens_for(model, 2), torch.Generator().manual_seed(0)
    parts = [sum_edges(basis, model, row[None], generator, 4, 2) for row in rows]
    whole = sum_edges(basis, model, rows, torch.Generator().manual_seed(0), 4, 2)
    added = tabulate_edges(add_sums(*parts))
    assert [(row.n, row.slope) for row in added] == [
        (row.n, pytest.approx(row.slope, nan_ok=True)) for row in tabulate_edges(whole)
    ]


def test_the_handset_is_explained_by_what_was_put_in():
    model, rows = make_replacement(), make_rows(1)
    basis = feature_basis(model)
    frozen = freeze(basis, model, rows[0])
    half = rows.shape[1] // 2
    position = half + 3
    token, following = int(rows[0, position]), int(rows[0, position + 1])
    # logit of the next token <- induction latent <- that token, where it stood in the first half
    (latent,) = [n for n in active_nodes(frozen, "moved.1") if n.position == position]
    assert basis.id(latent.feature) == f"moved.1.{following}"
    best = edges_into(frozen, Logit(following, position))
    at = int(best.values.argmax())
    assert (int(best.features[at]), int(best.positions[at])) == (latent.feature, position)
    into = edges_into(frozen, latent)
    at = int(into.values.argmax())
    assert (basis.id(int(into.features[at])), int(into.positions[at])) == (f"token.{following}", position - half + 1)
    assert float(into.values[at]) == pytest.approx(1, abs=1e-3)
    assert float(into.values.abs().sum()) == pytest.approx(1, abs=1e-2)
    # the previous-token latent <- the token before
    (prev,) = [n for n in active_nodes(frozen, "moved.0") if n.position == position + 1]
    assert basis.id(prev.feature) == f"moved.0.{token}"
    into = edges_into(frozen, prev)
    assert int(into.positions[int(into.values.argmax())]) == position
    rules = active_nodes(frozen, "rule.0")
    assert {int(rows[0, node.position]) for node in rules} == {IF}
    votes = edges_into(frozen, Logit(THEN, rules[0].position))
    assert same_latent(frozen, votes, rules[0]) > 3
    assert (PREVIOUS, INDUCTION) == (0, 1)


def test_codes_take_a_value_wherever_it_goes():
    codes = Codes(torch.tensor([[3, 5], [1, 0]]).int(), torch.tensor([[2.0, 1.0], [4.0, 0.0]]), torch.tensor([2, 1]))
    expected = codes.dense(8)
    for row, latent in ((0, 5), (0, 7), (1, 0), (1, 2)):
        changed = expected.clone()
        changed[row, latent] = 9.0
        assert torch.equal(with_value(codes, row, latent, 9.0).dense(8), changed)
    assert torch.equal(codes.dense(8), expected)


def test_what_makes_no_sense_is_refused():
    model = make_replacement()
    basis, rows = feature_basis(model), make_rows(1)
    frozen = freeze(basis, model, rows[0])
    odd = Dictionary.random(
        DictionarySpec("blocks.0.hook_resid_mid", ("blocks.0.hook_mlp_out",), 64, 64, 4, "topk", 2), torch.Generator()
    )
    first, _, *others = model.dictionaries
    fewer = replace(model, dictionaries=(first, *others))
    strange = replace(model, dictionaries=(first, odd, *others))
    attempts = {
        "no dictionary writes blocks.0.hook_mlp_out": lambda: freeze(basis, fewer, rows[0]),
        "reads blocks.0.hook_resid_mid": lambda: freeze(basis, strange, rows[0]),
        "nothing is read by a token feature": lambda: edges_into(frozen, Node(0, 0)),
        "positions 0 to 19": lambda: edges_into(frozen, Logit(0, 20)),
        "rows are (1, 1)": lambda: verify_edges(basis, model, rows[:, :1], torch.Generator()),
    }
    for said, attempt in attempts.items():
        with pytest.raises(ConfigError) as error:
            attempt()
        assert said in str(error.value)
