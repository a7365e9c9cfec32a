"""Tables over features against the model itself: summed over what is active, they give back what the run computed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from circuits.featured import PICKED, featured
from englishroom.circuits.basis import feature_basis, observe
from englishroom.circuits.folded_norm import reading, votes
from englishroom.circuits.mlp import describe_rules, virtual_weights
from englishroom.circuits.ov import moved_terms, ov_circuit, to_tokens
from englishroom.circuits.qk import bucket_loss, distance_buckets, qk_circuit, score_terms, top_pairs, usage
from englishroom.dictionaries.dictionary import Dictionary, DictionarySpec
from englishroom.dictionaries.replacement import Replacement
from englishroom.errors import ConfigError
from englishroom.models.forward import unembedding

BATCH, N_POS = 2, 9


@pytest.fixture(scope="module", params=PICKED)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Replacement:
    return featured(request.param, tmp_path_factory.mktemp("featured"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Replacement:
    return featured("llama-grouped-tied", tmp_path_factory.mktemp("featured"))


def tokens_for(model: Replacement) -> Tensor:
    return torch.randint(model.spec.d_vocab, (BATCH, N_POS), generator=torch.Generator().manual_seed(3))


def resid_sites(model: Replacement) -> list[str]:
    parts = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post")
    return [f"blocks.{layer}.{part}" for layer in range(model.spec.n_layers) for part in parts]


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    assert a.shape == b.shape
    return float((a - b).abs().max()) < tolerance * max(1.0, float(b.abs().max()))


def only(model: Replacement, part: str) -> Replacement:
    """Keep the dictionaries that write one kind of block."""
    tables = {site: table for site, table in model.tables.items() if site.endswith(part)}
    kept = tuple(d for d in model.dictionaries if d.spec.writes[0].endswith(part))
    return replace(model, dictionaries=kept, tables=tables)


def test_features_and_offsets_add_up_to_the_residual_stream(model: Replacement):
    basis = feature_basis(model)
    activity, values = observe(basis, model, tokens_for(model), resid_sites(model))
    assert not activity.rest
    for site in resid_sites(model):
        assert close(activity.total(site), values[site]), site


def test_the_sum_misses_a_feature_that_is_left_out(model: Replacement):
    basis = feature_basis(model)
    activity, values = observe(basis, model, tokens_for(model), resid_sites(model))
    codes = dict(activity.codes)
    codes[0] = replace(codes[0], values=torch.zeros_like(codes[0].values))
    silent = replace(activity, codes=codes)
    assert close(silent.total("blocks.0.hook_resid_pre"), values["blocks.0.hook_resid_pre"])
    assert not close(silent.total("blocks.0.hook_resid_mid"), values["blocks.0.hook_resid_mid"], 1e-2)


@pytest.mark.parametrize("part", ["hook_attn_out", "hook_mlp_out"])
def test_blocks_without_a_dictionary_are_kept_as_a_rest(model: Replacement, part: str):
    half = only(model, part)
    basis = feature_basis(half)
    activity, values = observe(basis, half, tokens_for(model), resid_sites(model))
    assert len(activity.rest) == model.spec.n_layers
    for site in resid_sites(model):
        assert close(activity.total(site), values[site]), site


def test_errors_that_are_added_are_kept_as_a_rest(llama: Replacement):
    errors = {site: torch.randn(BATCH, N_POS, llama.spec.d_model) for site in llama.written}
    basis = feature_basis(llama)
    activity, values = observe(basis, llama, tokens_for(llama), resid_sites(llama), errors)
    for site in resid_sites(llama):
        assert close(activity.total(site), values[site]), site


def test_a_cross_layer_transcoder_writes_features_of_every_layer_it_reaches(llama: Replacement):
    d, sites = llama.spec.d_model, tuple(f"blocks.{layer}.hook_mlp_out" for layer in range(llama.spec.n_layers))
    spec = DictionarySpec("blocks.0.ln2.hook_normalized", sites, d, d, 16, "topk", 4)
    cross = replace(llama, dictionaries=(Dictionary.random(spec, torch.Generator().manual_seed(5)),))
    basis = feature_basis(cross)
    assert [group.name for group in basis.groups] == ["token", "rule.0", "rule.0to1", "rule.0to2"]
    activity, values = observe(basis, cross, tokens_for(llama), resid_sites(llama))
    for site in resid_sites(llama):
        assert close(activity.total(site), values[site]), site


@pytest.mark.parametrize("whole", [True, False], ids=["features", "with a rest"])
def test_score_tables_add_up_to_the_scores(model: Replacement, whole: bool):
    model = model if whole else only(model, "hook_mlp_out")
    basis, last = feature_basis(model), model.spec.n_layers - 1
    site = f"blocks.{last}.attn.hook_attn_scores"
    activity, values = observe(basis, model, tokens_for(model), [site])
    for head in range(model.spec.n_heads):
        qk = qk_circuit(basis, model, last, head)
        for query, key in ((N_POS - 1, N_POS - 1), (6, 6), (6, 5), (N_POS - 1, 0)):
            expected = float(values[site][1, head, query, key])
            terms = score_terms(qk, activity, 1, query, key)
            assert (terms.rest == 0) == whole
            if expected != -torch.inf:  # out of a local head's window
                assert float(terms.terms.sum()) + terms.rest == pytest.approx(expected, abs=2e-4, rel=1e-4)


def test_moved_tables_add_up_to_preactivations(model: Replacement):
    for part in (model, only(model, "hook_attn_out")):
        basis, last = feature_basis(part), model.spec.n_layers - 1
        sites = (f"blocks.{last}.attn.hook_pattern", f"blocks.{last}.attn.hook_z")
        activity, values = observe(basis, part, tokens_for(model), sites)
        dictionary = next(d for d in part.dictionaries if d.spec.reads == f"blocks.{last}.hook_attn_out")
        w = part.weights
        out = values[sites[1]].flatten(2) @ w[f"blocks.{last}.attn.W_O"] + w.get(f"blocks.{last}.attn.b_O", 0)
        pre = out @ dictionary.weights["W_enc"] + dictionary.weights["b_enc"]
        heads = [ov_circuit(basis, part, last, head) for head in range(model.spec.n_heads)]
        for query, latent in ((0, 1), (4, 2), (N_POS - 1, 3)):
            found = moved_terms(heads, part, dictionary, activity, values[sites[0]], 1, query, latent)
            total = float(found.terms.sum()) + found.constant + found.rest
            assert total == pytest.approx(float(pre[1, query, latent]), abs=2e-4, rel=1e-4)


def test_virtual_weights_add_up_to_preactivations(model: Replacement):
    basis = feature_basis(model)
    dictionary = model.dictionaries[-1]
    site = dictionary.spec.reads.replace("ln2.hook_normalized", "hook_resid_mid")
    activity, values = observe(basis, model, tokens_for(model), [dictionary.spec.reads, site])
    table = virtual_weights(basis, model, dictionary, range(dictionary.spec.n_latents))
    scale = reading(model.spec, model.weights, dictionary.spec.reads.rpartition(".")[0]).scale(values[site])
    nodes, held = activity.nodes(site, scale)
    found = torch.einsum("bps,bpsl->bpl", held, table[nodes]) / scale[..., None]
    w = dictionary.weights
    assert close(found, values[dictionary.spec.reads] @ w["W_enc"] + w["b_enc"])


def test_votes_add_up_to_centred_logits(model: Replacement):
    basis = feature_basis(model)
    site = f"blocks.{model.spec.n_layers - 1}.hook_resid_post"
    activity, values = observe(basis, model, tokens_for(model), [site, "ln_final.hook_normalized"])
    logits = values["ln_final.hook_normalized"] @ unembedding(model.spec, model.weights)
    reader = reading(model.spec, model.weights, "ln_final")
    constant = reader.bias @ unembedding(model.spec, model.weights)
    found = votes(model.spec, model.weights, activity.total(site)) / reader.scale(values[site])[..., None]
    assert close(found, logits - logits.mean(-1, keepdim=True) - (constant - constant.mean()))


def test_a_head_votes_for_tokens_with_what_it_moves(model: Replacement):
    ov = ov_circuit(feature_basis(model), model, 0, 0)
    read = reading(model.spec, model.weights, "blocks.0.ln1")
    part, d_head = "blocks.0.attn", model.spec.d_head
    row = read.fold(model.weights[f"{part}.W_V"][:, :d_head])[0].T @ model.weights["embed.W_E"][5]
    expected = votes(model.spec, model.weights, row @ model.weights[f"{part}.W_O"][:d_head])
    assert close(to_tokens(ov, model, [5])[0], expected)


def test_the_strongest_pairs_are_those_of_the_whole_table(model: Replacement, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("englishroom.circuits.qk.QUERIES_AT_ONCE", 7)
    basis = feature_basis(model)
    used = usage(observe(basis, model, tokens_for(model))[0])
    qk = qk_circuit(basis, model, model.spec.n_layers - 1, 0)
    n = basis.count_before(qk.reader.site)
    means = used.means[:n].float()
    whole = qk.table(range(n), range(n), [0, 1]) * means[:, None] * means
    found = top_pairs(qk, used, 6, [0, 1])
    best = whole.abs().flatten().topk(6).values
    assert [abs(pair.weight) for pair in found] == pytest.approx(best.tolist(), rel=1e-4)
    for pair in found:
        assert pair.weight == pytest.approx(float(whole[pair.query, pair.key]), rel=1e-4)
        assert pair.value == pytest.approx(float(qk.table([pair.query], [pair.key], [0, 1])), rel=1e-4)


def test_usages_of_parts_add_up(llama: Replacement):
    basis, tokens = feature_basis(llama), tokens_for(llama)
    whole = usage(observe(basis, llama, tokens)[0])
    parts = [usage(observe(basis, llama, tokens[row : row + 1])[0]) for row in range(BATCH)]
    added = parts[0] + parts[1]
    assert added.positions == whole.positions == BATCH * N_POS
    assert torch.equal(added.counts, whole.counts)
    assert torch.allclose(added.totals, whole.totals)
    assert float(whole.counts[: llama.spec.d_vocab].sum()) == BATCH * N_POS


def test_buckets_lose_nothing_where_each_holds_one_distance(llama: Replacement):
    qk = qk_circuit(feature_basis(llama), llama, 1, 2)
    at = torch.arange(10)
    assert bucket_loss(qk, at, at, distance_buckets((0, 1, 2), 3)) == [0, 0, 0]
    coarse = bucket_loss(qk, at, at, distance_buckets((0, 1), 12))
    assert coarse[0] == 0
    assert 0.01 < coarse[1] < 1


def test_rules_name_the_strongest_reads_and_votes(model: Replacement):
    basis = feature_basis(model)
    used = usage(observe(basis, model, tokens_for(model))[0])
    dictionary = model.dictionaries[-1]
    (rule,) = describe_rules(basis, model, dictionary, [4], used, n=3)
    table = virtual_weights(basis, model, dictionary, [4])[:, 0]
    means = table[:-2] * used.means[: len(table) - 2].float()
    assert [abs(term.mean) for term in rule.reads] == pytest.approx(means.abs().topk(3).values.tolist())
    assert (rule.offset, rule.bias) == pytest.approx((float(table[-2]), float(table[-1])))
    voted = votes(model.spec, model.weights, dictionary.weights["W_dec"][4])
    assert [token for token, _ in rule.promotes] == voted.topk(3).indices.tolist()
    assert [value for _, value in rule.demotes] == pytest.approx(voted.topk(3, largest=False).values.tolist())


def test_ids_and_names_are_those_of_a_reader(model: Replacement):
    basis = feature_basis(model)
    last = model.spec.n_layers - 1
    ids = [basis.id(feature) for feature in range(basis.n_features)]
    assert len(set(ids)) == basis.n_features
    assert all(basis.find(id_) == feature for feature, id_ in enumerate(ids))
    assert ids[0] == "token.0"
    assert ids[-1] == f"rule.{last}.23"
    assert ("table.rule.0.7" in ids) == bool(model.tables)
    assert ("position.3" in ids) == (model.spec.rotary_theta is None)
    pieces = [b" cat", b" cat", *(str(i).encode() for i in range(2, model.spec.d_vocab))]
    assert basis.name(2, pieces) == 'token "2"'
    assert basis.name(1, pieces) == 'token " cat" (1)'
    assert basis.name(basis.find("moved.0.17"), pieces) == "moved.0.17"
    if model.tables:
        assert basis.name(basis.find("table.rule.0.2"), pieces) == 'table.rule.0 "2"'


REFUSED = {
    "feature 9999": lambda m, b: b.id(9999),
    "features 0 to": lambda m, b: b.name(10**6),
    "no features named 'rule.9'": lambda m, b: b.find("rule.9.0"),
    "rule.0.0 to rule.0.23": lambda m, b: b.find("rule.0.24"),
    "not in the residual stream": lambda m, b: b.before("blocks.0.hook_mlp_out"),
    "no such norm": lambda m, b: reading(m.spec, m.weights, "blocks.9.ln1"),
    "no head 4 in layer 0": lambda m, b: qk_circuit(b, m, 0, 4),
    "no site nowhere": lambda m, b: observe(b, m, tokens_for(m), ["nowhere"]),
    "give the distances": lambda m, b: qk_circuit(b, m, 0, 0).table([0], [0]),
    "expected 0 to 39": lambda m, b: qk_circuit(b, m, 0, 0).table([0], [0], [40]),
    "expected 0 first": lambda m, b: distance_buckets((1, 2), 8),
    "heads of layer 1 write": lambda m, b: ov_circuit(b, m, 1, 0).to_latents(m.dictionaries[0], [0], [0]),
    "read behind a norm": lambda m, b: virtual_weights(b, m, m.dictionaries[0], [0]),
    "circuits of heads [1]": lambda m, b: moved_terms(
        [ov_circuit(b, m, 0, 1)],
        m,
        m.dictionaries[0],
        observe(b, m, tokens_for(m))[0],
        torch.zeros(1, 4, 1, 1),
        0,
        0,
        0,
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_makes_no_sense_is_refused(said: str, llama: Replacement):
    with pytest.raises(ConfigError) as error:
        REFUSED[said](llama, feature_basis(llama))
    assert said in str(error.value)


def test_dictionaries_that_write_no_features_are_refused(llama: Replacement):
    d = llama.spec.d_model
    for site, skip, said in (
        ("blocks.0.hook_resid_mid", False, "hook_attn_out or hook_mlp_out"),
        ("blocks.0.hook_mlp_out", True, "W_skip"),
    ):
        spec = DictionarySpec("blocks.0.hook_resid_pre", (site,), d, d, 4, "topk", 2, skip)
        odd = replace(llama, dictionaries=(Dictionary.random(spec, torch.Generator()),))
        with pytest.raises(ConfigError, match=said):
            feature_basis(odd)
