"""The tables of evidence: their numbers by the slow way, the files, and what is refused."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional as F

from englishroom.dictionaries.dictionary import Dictionary, DictionarySpec
from englishroom.dictionaries.evidence.directions import direct_votes, nearest, strongest_votes
from englishroom.dictionaries.evidence.harvest import harvest
from englishroom.dictionaries.evidence.latent_evidence import (
    STRONGEST,
    LatentEvidence,
    read_evidence,
    read_examples,
    read_latents,
    write_evidence,
)
from englishroom.dictionaries.evidence.masked_rows import rows_of
from englishroom.dictionaries.evidence.tabulate import feature_prefix, tabulate
from englishroom.dictionaries.replacement import Replacement
from englishroom.errors import ArtifactError, ConfigError
from englishroom.models.forward import unembedding
from englishroom.names import EXAMPLES, LATENTS
from tiny_features import CONFIG, DEAD, N_CTX, N_LATENTS, SPEC, documents, evidence, replacement, tokenizer


@pytest.fixture(scope="module")
def model() -> Replacement:
    return replacement()


@pytest.fixture(scope="module")
def found(model: Replacement) -> LatentEvidence:
    return evidence(model)


def test_every_latent_has_a_row(model: Replacement, found: LatentEvidence):
    rows = found.latents.to_pylist()
    prefixes = ["moved.0", "rule.0", "moved.1", "rule.1"]
    assert [row["id"] for row in rows] == [f"{prefix}.{n}" for prefix in prefixes for n in range(N_LATENTS)]
    assert [row["layer"] for row in rows] == [0] * 2 * N_LATENTS + [1] * 2 * N_LATENTS
    assert len({row["label"] for row in rows}) == len(rows)
    assert all(row["label"] and row["label"].isprintable() for row in rows)
    assert {row["id"] for row in rows if row["dead"]} >= {f"{prefix}.{DEAD}" for prefix in prefixes}
    for row in rows:
        assert row["dead"] == (row["firing"] == 0) == (row["mean"] is None) == (row["max"] is None)
        assert row["dead"] == (row["fires_on"] == []) == row["label"].startswith("silent")
        assert row["density"] == pytest.approx(row["firing"] / found.about.positions)
        assert sum(row["histogram"]) == row["firing"]
        assert row["dead"] or 0 < row["mean"] <= row["max"] * (1 + 1e-6)


def test_tokens_fired_on(model: Replacement, found: LatentEvidence):
    rows = rows_of(documents(), N_CTX, 4)
    tallies = harvest(model, rows, CONFIG).tallies.values()
    counts = np.zeros((4 * N_LATENTS, SPEC.d_vocab), int)
    for at, tally in enumerate(tallies):
        pairs, n = tally.pairs.settle()
        np.add.at(counts.reshape(-1), at * N_LATENTS * SPEC.d_vocab + pairs, n)
    seen = np.bincount(np.concatenate([d[:N_CTX] for d in documents()]), minlength=SPEC.d_vocab)
    for row, of in zip(found.latents.to_pylist(), counts, strict=True):
        expected = sorted((-n, token) for token, n in enumerate(of) if n)[: CONFIG.listed_tokens]
        assert row["fires_on"] == [token for _, token in expected]
        assert row["fires_on_counts"] == [-n for n, _ in expected]
        assert row["fires_on_seen"] == [seen[token] for _, token in expected]


def test_a_label_names_the_most_telling_token(model: Replacement, found: LatentEvidence):
    telling = 0
    for row in found.latents.to_pylist():
        pairs = zip(row["fires_on"], row["fires_on_counts"], row["fires_on_seen"], strict=True)
        scores = {t: n * np.log2(n / s / row["density"]) for t, n, s in pairs}
        if len(scores) in range(1, CONFIG.listed_tokens):  # all of its tokens are listed
            best = tokenizer().pieces[max(scores, key=lambda t: (scores[t], -t))]
            telling += 1
            assert json.dumps(best.decode())[1:-1] in row["label"].split(" -> ")[0] or not best.isascii()
    assert telling > 5


def test_votes_are_what_a_unit_of_a_latent_adds(model: Replacement, found: LatentEvidence):
    rows, weights = found.latents.to_pylist(), model.weights
    for at, dictionary in enumerate(model.dictionaries):
        for latent in range(N_LATENTS):
            row = rows[at * N_LATENTS + latent]
            w = dictionary.weights["W_dec"][latent]
            logits = (w - w.mean()) * weights["ln_final.w"] @ weights["embed.W_E"].T
            logits = logits - logits.mean()
            order = logits.argsort(descending=True).tolist()
            n = CONFIG.listed_tokens
            assert row["promoted"] == order[:n]
            assert row["demoted"] == order[::-1][:n]
            assert row["promoted_logits"] == pytest.approx(logits[order[:n]].tolist(), abs=1e-5)
            assert row["demoted_logits"] == pytest.approx(logits[order[::-1][:n]].tolist(), abs=1e-5)
            assert row["label"].split(" -> ")[1].startswith(spelt(order[0]))


def spelt(token: int) -> str:
    from englishroom.dictionaries.evidence.label import spelled

    return spelled(tokenizer(), token)


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_votes_predict_an_intervention(norm):
    """Adding a little of a latent moves the logits as its votes say, once the norm's scale is held still."""
    spec = replace(SPEC, norm=norm)
    model = replacement(spec)
    weights, dictionary = model.weights, model.dictionaries[-1]
    x = torch.randn(8, generator=torch.Generator().manual_seed(1))
    scale = (x.var(correction=0) if norm == "layernorm" else x.square().mean()).add(spec.norm_eps).sqrt()
    step = dictionary.weights["W_dec"][3]

    def logits(resid: torch.Tensor) -> torch.Tensor:
        centred = resid - resid.mean() if norm == "layernorm" else resid
        out = centred / scale * weights["ln_final.w"] @ unembedding(spec, weights)
        return out - out.mean()

    if norm == "layernorm":
        whole = F.layer_norm(x, (8,), weights["ln_final.w"], None, spec.norm_eps) @ unembedding(spec, weights)
        assert torch.allclose(logits(x), whole - whole.mean(), atol=1e-4)
    votes = direct_votes(spec, weights, dictionary, slice(3, 4))[0]
    assert torch.allclose(logits(x + step) - logits(x), votes / scale, atol=1e-4)


def test_only_writes_to_the_residual_vote(model: Replacement):
    generator = torch.Generator().manual_seed(0)
    inner = DictionarySpec("blocks.0.mlp.hook_post", ("blocks.0.mlp.hook_post",), 16, 16, 5, k=2)
    assert strongest_votes(SPEC, model.weights, Dictionary.random(inner, generator), 3) is None
    both = ("blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out")
    wide = Dictionary.random(DictionarySpec("blocks.0.ln2.hook_normalized", both, 8, 8, 5, k=2), generator)
    first, second = (replace_writes(wide, at) for at in (0, 1))
    whole = slice(0, 5)
    parts = [direct_votes(SPEC, model.weights, part, whole) for part in (first, second)]
    assert torch.allclose(direct_votes(SPEC, model.weights, wide, whole), parts[0] + parts[1], atol=1e-5)
    assert feature_prefix(wide.spec) == wide.spec.name
    assert feature_prefix(inner) == "blocks.0.mlp.hook_post"


def replace_writes(wide: Dictionary, at: int) -> Dictionary:
    """Keep one of the sites written."""
    spec, w = replace(wide.spec, writes=(wide.spec.writes[at],)), wide.weights
    part = {"W_dec": w["W_dec"][:, 8 * at : 8 * at + 8], "b_dec": w["b_dec"][8 * at : 8 * at + 8]}
    return Dictionary.of(spec, {**w, **part})


def test_a_dictionary_that_does_not_vote_is_tabulated(model: Replacement):
    inner = DictionarySpec("blocks.0.mlp.hook_post", ("blocks.0.mlp.hook_post",), 16, 16, 5, k=2)
    other = Replacement(SPEC, model.weights, (Dictionary.random(inner, torch.Generator().manual_seed(0)),))
    row = evidence(other).latents.to_pylist()[0]
    assert row["id"] == "blocks.0.mlp.hook_post.0"
    assert row["promoted"] == row["demoted"] == row["demoted_logits"] == []


def test_neighbours_are_those_of_largest_cosine(model: Replacement, found: LatentEvidence):
    rows = found.latents.to_pylist()
    for at, dictionary in enumerate(model.dictionaries):
        for side, vectors in (("decoder", dictionary.weights["W_dec"]), ("encoder", dictionary.weights["W_enc"].T)):
            cosines = F.cosine_similarity(vectors[:, None], vectors[None], dim=-1).fill_diagonal_(-2)
            for latent in range(N_LATENTS):
                row, order = rows[at * N_LATENTS + latent], cosines[latent].argsort(descending=True)[:3]
                assert row[f"{side}_neighbours"] == order.tolist()
                assert row[f"{side}_cosines"] == pytest.approx(cosines[latent][order].tolist(), abs=1e-5)
    alone = nearest(torch.ones(1, 4), 3)
    assert alone.indices.shape == (1, 0)
    assert nearest(torch.zeros(3, 4), 1).values.tolist() == [[0], [0], [0]]


def test_examples_stand_in_bands(found: LatentEvidence):
    rows = found.examples.to_pylist()
    names = [STRONGEST, "75-100%", "50-75%", "25-50%", "0-25%"]
    by_feature: dict[int, list[dict]] = {}
    for row in rows:
        by_feature.setdefault(row["feature"], []).append(row)
        at = row["position"] - row["start"]
        assert row["activations"][at] == row["activation"] > 0
        assert row["tokens"] == documents()[row["document"]][row["start"] : row["start"] + len(row["tokens"])]
        assert 0 <= at <= CONFIG.before
    assert list(by_feature) == sorted(by_feature)
    latents = found.latents.to_pylist()
    assert set(by_feature) == {at for at, latent in enumerate(latents) if not latent["dead"]}
    full = 0
    for feature, examples in by_feature.items():
        order = [names.index(e["band"]) for e in examples]
        assert order == sorted(order)
        assert examples[0]["activation"] == pytest.approx(latents[feature]["max"])
        drawn = [e["activation"] for e in examples if e["band"] != STRONGEST]
        assert drawn == sorted(drawn, reverse=True)
        assert len(drawn) == min(CONFIG.drawn, latents[feature]["firing"])
        for name in names:
            assert [e["rank"] for e in examples if e["band"] == name] == list(range(order.count(names.index(name))))
        if len(drawn) == CONFIG.drawn:
            full += 1
            assert [order.count(b) for b in range(1, 5)] == [2] * 4
    assert full > 5


def test_the_files_are_read_back_and_always_the_same(model: Replacement, found: LatentEvidence, tmp_path: Path):
    write_evidence(tmp_path, found)
    assert read_evidence(tmp_path) == found
    assert sorted(p.name for p in tmp_path.iterdir()) == [EXAMPLES, LATENTS]
    batches = list(rows_of(documents(), N_CTX, 4))
    merged = harvest(model, batches[3:], CONFIG).merged(harvest(model, batches[:3], CONFIG))
    again = tabulate(model, merged, tokenizer(), found.about.text)
    assert again.files() == found.files()
    files = found.files()
    about, _ = read_latents(files[LATENTS], "latents")
    for feature in (0, 41):
        alone = read_examples(files[EXAMPLES], "examples", about, feature)
        assert alone.to_pylist() == [row for row in found.examples.to_pylist() if row["feature"] == feature]


def test_reading_needs_no_torch():
    code = "import sys, englishroom.dictionaries.evidence.latent_evidence as t; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def parquet(table: pa.Table, about: object) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"englishroom": json.dumps(about)}), stream)
    return stream.getvalue()


def test_files_of_another_kind_are_refused(found: LatentEvidence, tmp_path: Path):
    files = found.files()
    about = json.loads(pq.read_schema(pa.BufferReader(files[LATENTS])).metadata[b"englishroom"])
    latents, stream = found.latents, io.BytesIO()
    pq.write_table(latents, stream)
    cases = {
        "damaged Parquet file": files[LATENTS][:200],
        r"not evidence of englishroom \(its metadata is missing\); harvest it again": stream.getvalue(),
        "version of the evidence is 9, expected 1; harvest it again": parquet(latents, about | {"version": 9}),
        r"metadata: the whole text: Input should be an object": parquet(latents, [1]),
        "metadata: positions: Input should be a valid integer": parquet(latents, about | {"positions": "many"}),
        "metadata: colour: Unexpected keyword": parquet(latents, about | {"colour": "red"}),
        "column max: found none, expected double": parquet(latents.drop_columns("max"), about),
        "column colour: found double, expected none": parquet(
            latents.append_column("colour", latents.column("max")), about
        ),
        "column fires_on: found string, expected list<": parquet(
            latents.set_column(latents.schema.get_field_index("fires_on"), "fires_on", latents.column("id")), about
        ),
    }
    for said, data in cases.items():
        with pytest.raises(ArtifactError, match=f"^here/latents.parquet: .*{said}"):
            read_latents(data, "here/latents.parquet")
    broken = bytearray(files[LATENTS])
    broken[50:400] = bytes(350)
    with pytest.raises(ArtifactError, match="damaged Parquet file"):
        read_latents(bytes(broken), "x")
    with pytest.raises(ArtifactError, match=r"latents\.parquet: missing; harvest the evidence again"):
        read_evidence(tmp_path)
    (tmp_path / LATENTS).mkdir()
    with pytest.raises(ArtifactError, match=r"latents\.parquet: is a folder, expected a file; harvest"):
        read_evidence(tmp_path)
    other = replace(found.about, positions=1)
    with pytest.raises(ArtifactError, match=r"of another harvest than latents\.parquet beside it"):
        read_examples(files[EXAMPLES], "examples", other)


def test_parts_that_do_not_belong_together_are_refused(model: Replacement):
    nothing = harvest(model, [], CONFIG)
    with pytest.raises(ConfigError, match="no position was read; give rows of tokens"):
        tabulate(model, nothing, tokenizer())
    some = harvest(model, rows_of(documents(), N_CTX, 4), CONFIG)
    short = replace(tokenizer(), pieces=tokenizer().pieces[:-1])
    with pytest.raises(ConfigError, match="the tokenizer has 29 tokens, the model 30; give the model's own"):
        tabulate(model, some, short)
    fewer = Replacement(SPEC, model.weights, model.dictionaries[:2])
    with pytest.raises(ConfigError, match=r"harvested of .*hook_attn_out': 20.*, expected"):
        tabulate(fewer, some, tokenizer())
    with pytest.raises(ConfigError, match="expected at least one dictionary"):
        tabulate(Replacement(SPEC, model.weights, ()), some, tokenizer())


def put(table: pa.Table, name: str, change: Any) -> pa.Table:
    """Change the plain values of a column."""
    at, kind = table.schema.get_field_index(name), table.schema.field(name).type
    return table.set_column(at, name, pa.array(change(table.column(name).to_pylist()), kind))


def first(row: Any) -> Any:
    """Return a change that puts something else into the first row that is not empty."""

    def change(values: list[Any]) -> list[Any]:
        at = next(i for i, value in enumerate(values) if value not in (None, []))
        return [*values[:at], row(values[at]), *values[at + 1 :]]

    return change


LATENT_CELLS = {
    "label: a value is missing": ("label", first(lambda _v: None)),
    "label: a text does not print": ("label", first(lambda _v: "x\ny")),
    "writes: a value is missing": ("writes", first(lambda v: [*v, None])),
    "writes: a text does not print": ("writes", first(lambda v: ["\x1b[2J", *v])),
    "fires_on, fires_on_counts, fires_on_seen: lists that belong": ("fires_on_seen", first(lambda v: v[1:])),
    "promoted, promoted_logits: lists that belong": ("promoted_logits", first(lambda v: [*v, 1.0])),
    "fires_on: a token outside": ("fires_on", first(lambda v: [10**6, *v[1:]])),
    "demoted: a token outside": ("demoted", first(lambda v: [-1, *v[1:]])),
    "decoder_neighbours: a latent that is none": ("decoder_neighbours", first(lambda v: [10**6, *v[1:]])),
    "encoder_neighbours: a latent that is none": ("encoder_neighbours", first(lambda v: [-1, *v[1:]])),
    "latent: a number larger than": ("latent", first(lambda _v: 10**6)),
    r"histogram: expected \d+ counts a row": ("histogram", first(lambda v: v[1:])),
    "histogram: no count for a latent that is not dead, or": ("histogram", lambda rows: [[0] * len(r) for r in rows]),
    "mean: no value for a latent that is not dead": ("mean", lambda rows: [None] * len(rows)),
}
EXAMPLE_CELLS = {
    "band: a value is missing": ("band", first(lambda _v: None)),
    "tokens, activations: lists that belong": ("activations", first(lambda v: v[1:])),
    "tokens: a token outside": ("tokens", first(lambda v: [30, *v[1:]])),
    "position: a place outside the window": ("position", first(lambda _v: 10**9)),
    "feature: a number below 0": ("feature", first(lambda _v: -1)),
}


@pytest.mark.parametrize("said", [*LATENT_CELLS, *EXAMPLE_CELLS])
def test_cells_that_nothing_can_be_made_of_are_refused(found: LatentEvidence, said: str):
    about = json.loads(json.dumps(asdict(found.about)))
    if said in LATENT_CELLS:
        data = parquet(put(found.latents, *LATENT_CELLS[said]), about)
        with pytest.raises(ArtifactError, match=f"^here: columns? {said}.*; harvest it again"):
            read_latents(data, "here")
    else:
        data = parquet(put(found.examples, *EXAMPLE_CELLS[said]), about)
        with pytest.raises(ArtifactError, match=f"^here: columns? {said}.*; harvest it again"):
            read_examples(data, "here", found.about)


def test_a_file_of_more_cells_than_memory_holds_is_refused_before_they_are_read(
    found: LatentEvidence, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("englishroom.dictionaries.evidence.cells.MOST_CELLS", 100)
    with pytest.raises(ArtifactError, match=r"^here: [\d,]+ values, expected at most 100; harvest it again"):
        read_latents(found.files()[LATENTS], "here")


@pytest.mark.parametrize("name", ["label", "writes"])
def test_texts_that_are_long_only_when_they_are_unpacked_are_refused(
    found: LatentEvidence, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.setattr("englishroom.dictionaries.evidence.cells.MOST_TEXT", 10**6)
    text = "x" * 10**5  # stored once
    table = put(found.latents, name, lambda rows: [text if isinstance(row, str) else [text] for row in rows])
    data = parquet(table, json.loads(json.dumps(asdict(found.about))))
    assert len(data) < 10**5
    with pytest.raises(
        ArtifactError, match=rf"^here: .*column {name} has texts of [\d,]+ bytes, expected at most 1,000"
    ):
        read_latents(data, "here")
