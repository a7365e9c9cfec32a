"""The harvest against the same counted the slow way; shards, masks, and what is refused."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from englishroom.dictionaries.evidence import examples as examples_module
from englishroom.dictionaries.evidence.config import EDGES, EvidenceConfig
from englishroom.dictionaries.evidence.examples import (
    Examples,
    ExampleSample,
    draw_keys,
    ranks,
    strength_keys,
)
from englishroom.dictionaries.evidence.harvest import Harvest, harvest
from englishroom.dictionaries.evidence.masked_rows import MaskedRows, rows_of
from englishroom.dictionaries.evidence.tally import LatentTally, SlotCodes
from englishroom.dictionaries.replacement import Replacement, clean_run
from englishroom.errors import ConfigError
from tiny_features import CONFIG, D_VOCAB, DEAD, N_CTX, N_LATENTS, documents, replacement

ROWS_AT_ONCE = 4


@pytest.fixture(scope="module")
def model() -> Replacement:
    return replacement()


@pytest.fixture(scope="module")
def batches() -> list[MaskedRows]:
    return list(rows_of(documents(), N_CTX, ROWS_AT_ONCE))


@pytest.fixture(scope="module")
def found(model: Replacement, batches: list[MaskedRows]) -> Harvest:
    return harvest(model, batches, CONFIG)


def activations(model: Replacement, clean: bool) -> dict[str, list[np.ndarray]]:
    """Compute, document by document, how active every latent is: name -> [pos, latent] of each."""
    found: dict[str, list[np.ndarray]] = {d.spec.name: [] for d in model.dictionaries}
    for document in documents():
        text = document[:N_CTX]
        tokens = torch.tensor([text + [5] * (N_CTX - len(text))])  # causal, so what follows changes nothing

        def keep(dictionary, codes, text=text):
            found[dictionary.spec.name].append(codes.dense(N_LATENTS).numpy()[: len(text)])
            return codes

        with torch.no_grad():
            if clean:
                for dictionary in model.dictionaries:
                    reads = dictionary.spec.reads
                    _, values = clean_run(model.spec, model.weights, tokens, [reads])
                    keep(dictionary, dictionary.encode(values[reads]))
            else:
                model.run(tokens, code_tap=keep)
    return found


def contents(found: Harvest) -> list[np.ndarray]:
    """List every array of a harvest."""
    arrays = [np.array(found.positions), found.seen]
    for tally in found.tallies.values():
        arrays += [tally.firing, tally.sums, tally.maxima, tally.histogram, *tally.pairs.settle()]
        for sample in (tally.strongest, tally.drawn):
            arrays += list(vars(sample.settle()).values())
    return arrays


def same(one: Harvest, other: Harvest) -> bool:
    pairs = zip(contents(one), contents(other), strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("clean", [False, True], ids=["errors propagating", "clean"])
def test_counts_are_those_of_the_slow_way(clean: bool, model: Replacement, batches: list[MaskedRows]):
    found = harvest(model, batches, CONFIG, model.weights if clean else None)
    texts = [document[:N_CTX] for document in documents()]
    assert found.clean is clean
    assert found.positions == sum(map(len, texts))
    assert found.seen.tolist() == np.bincount(np.concatenate(texts), minlength=D_VOCAB).tolist()
    n_fired = 0
    for name, values in activations(model, clean).items():
        tally, flat, tokens = found.tallies[name], np.concatenate(values), np.concatenate(texts)
        pairs = dict(zip(*(part.tolist() for part in tally.pairs.settle()), strict=True))
        for latent in range(N_LATENTS):
            on = flat[:, latent][flat[:, latent] > 0]
            n_fired += len(on)
            assert tally.firing[latent] == len(on)
            assert tally.sums[latent] == pytest.approx(on.sum(dtype=np.float64), abs=1e-4)
            assert tally.maxima[latent] == pytest.approx(on.max(initial=0), abs=1e-5)
            lows, highs = (0, *EDGES), (*EDGES, np.inf)
            bins = [int(((low <= on) & (on < high)).sum()) for low, high in zip(lows, highs, strict=True)]
            assert tally.histogram[latent].tolist() == bins
            for token in range(D_VOCAB):
                count = int(((flat[:, latent] > 0) & (tokens == token)).sum())
                assert pairs.get(latent * D_VOCAB + token, 0) == count
        assert tally.firing[DEAD] == 0
    assert n_fired > 500


def test_errors_propagate_unless_runs_are_clean(model: Replacement, batches: list[MaskedRows], found: Harvest):
    clean = harvest(model, batches, CONFIG, model.weights)
    changed = [name for name in found.tallies if (found.tallies[name].sums != clean.tallies[name].sums).any()]
    assert changed == list(found.tallies)[1:]  # the first part reads the same in both


def test_the_strongest_examples_and_their_windows(model: Replacement, found: Harvest):
    for name, values in activations(model, clean=False).items():
        kept = found.tallies[name].strongest.settle()
        for latent in range(N_LATENTS):
            every = [(-v[p, latent], d, p) for d, v in enumerate(values) for p in range(len(v)) if v[p, latent] > 0]
            expected = sorted(every)[: CONFIG.strongest]
            mine = kept.take(np.flatnonzero(kept.latents == latent))
            assert mine.documents.tolist() == [d for _, d, _ in expected]
            assert mine.positions.tolist() == [p for _, _, p in expected]
            assert mine.values == pytest.approx([-v for v, _, _ in expected], abs=1e-5)
            for event, (_, document, position) in enumerate(expected):
                text, trace = documents()[document][:N_CTX], values[document][:, latent]
                for at in range(CONFIG.window):
                    p = position + at - CONFIG.before
                    inside = 0 <= p < len(text)
                    assert mine.tokens[event, at] == (text[p] if inside else -1)
                    assert mine.activations[event, at] == pytest.approx(trace[p] if inside else 0, abs=1e-5)


def test_drawn_examples_are_those_of_lowest_hash(model: Replacement, found: Harvest):
    for name, values in activations(model, clean=False).items():
        kept = found.tallies[name].drawn.settle()
        for latent in range(N_LATENTS):
            every = [(d, p) for d, v in enumerate(values) for p in range(len(v)) if v[p, latent] > 0]
            keys = [int(draw_keys(0, *(np.array([n]) for n in (d, p, latent)))[0]) for d, p in every]
            expected = [place for _, place in sorted(zip(keys, every, strict=True))][: CONFIG.drawn]
            mine = kept.take(np.flatnonzero(kept.latents == latent))
            assert list(zip(mine.documents.tolist(), mine.positions.tolist(), strict=True)) == expected


def test_another_seed_draws_others(model: Replacement, batches: list[MaskedRows], found: Harvest):
    other = harvest(model, batches, replace(CONFIG, seed=1))
    drawn = [[tally.drawn.settle().positions for tally in h.tallies.values()] for h in (found, other)]
    assert any(not np.array_equal(*pair) for pair in zip(*drawn, strict=True))
    for name, tally in found.tallies.items():
        assert np.array_equal(tally.strongest.settle().values, other.tallies[name].strongest.settle().values)


def test_a_fair_draw():
    places = np.arange(40_000)
    keys = draw_keys(0, places // 100, places % 100, np.full(len(places), 7))
    assert len(np.unique(keys)) == len(keys)
    lowest = np.sort(places[np.argsort(keys)[:4000]])
    assert lowest.mean() == pytest.approx(20_000, abs=800)  # four standard deviations are 730
    shifted = draw_keys(0, places // 100, places % 100, np.full(len(places), 8))
    assert abs(np.corrcoef(keys.astype(float), shifted.astype(float))[0, 1]) < 0.02


@pytest.mark.parametrize("cuts", [[1], [3], [2, 4], [0, 6]])
def test_shards_merge_to_the_whole_in_any_order(
    cuts: list[int], model: Replacement, batches: list[MaskedRows], found: Harvest, monkeypatch: pytest.MonkeyPatch
):
    bounds = [0, *cuts, len(batches)]
    parts = [harvest(model, batches[a:b], CONFIG) for a, b in itertools.pairwise(bounds)]
    merged = parts[-1]
    for part in parts[:-1]:
        merged = merged.merged(part)
    assert same(merged, found)
    monkeypatch.setattr(examples_module, "SETTLE_AT_LEAST", 1)  # sorted in at every batch, not once
    assert same(harvest(model, batches[::-1], CONFIG), found)


def test_what_the_mask_hides_counts_nowhere(model: Replacement, batches: list[MaskedRows], found: Harvest):
    changed = []
    for rows in batches:
        tokens = np.where(rows.mask, rows.tokens, 17)  # the padding was token 0
        changed.append(replace(rows, tokens=tokens))
    assert any((a.tokens != b.tokens).any() for a, b in zip(changed, batches, strict=True))
    assert same(harvest(model, changed, CONFIG), found)


def test_windows_end_at_a_gap_and_positions_count_from_the_start(model: Replacement):
    tokens = np.arange(N_CTX)[None] + 5
    mask = np.ones((1, N_CTX), bool)
    mask[0, 6] = False
    rows = MaskedRows(tokens, mask, np.array([41]), np.array([100]))
    found = harvest(model, [rows], replace(CONFIG, strongest=N_CTX))
    seen = set()
    for tally in found.tallies.values():
        kept = tally.strongest.settle()
        assert set(kept.documents.tolist()) <= {41}
        for position, window in zip(kept.positions, kept.tokens, strict=True):
            column = int(position) - 100
            seen.add(column)
            side = range(6) if column < 6 else range(7, N_CTX)
            around = range(column - CONFIG.before, column + CONFIG.after + 1)
            assert window.tolist() == [int(tokens[0, c]) if c in side else -1 for c in around]
    assert {5, 7} <= seen
    assert 6 not in seen


def test_rows_of_documents():
    texts = [[0, 1, 2], [0], [0, 3, 4, 5, 6]]
    first, second = rows_of(texts, 4, 2, first=10, padding=9)
    assert first.tokens.tolist() == [[0, 1, 2, 9], [0, 9, 9, 9]]
    assert first.mask.tolist() == [[True, True, True, False], [True, False, False, False]]
    assert first.documents.tolist() == [10, 11]
    assert second.tokens.tolist() == [[0, 3, 4, 5]]
    assert second.documents.tolist() == [12]


def test_special_tokens_count_and_are_no_examples(model: Replacement):
    documents = [[0, 1, 2, 3, 1], [0, 2, 2], [0, 3, 1, 2]]
    plain, without = (harvest(model, rows_of(documents, 5, 2, specials=specials)) for specials in ((), (0,)))
    seen = 0
    for name, tally in plain.tallies.items():
        other = without.tallies[name]
        assert np.array_equal(tally.firing, other.firing)
        assert np.array_equal(tally.maxima, other.maxima)
        for sample, shown in ((tally.strongest, other.strongest), (tally.drawn, other.drawn)):
            every, kept = sample.settle(), shown.settle()
            seen += int((every.positions == 0).sum())
            assert not (kept.positions == 0).any()
            places = set(zip(kept.latents, kept.documents, kept.positions, strict=True))
            assert {
                place for place in zip(every.latents, every.documents, every.positions, strict=True) if place[2]
            } <= places
    assert seen


def test_sums_are_the_same_in_any_order():
    values = np.exp(np.random.default_rng(0).uniform(-14, 7, 20_000)).astype(np.float32)
    sums = []
    for order in (values, values[::-1], np.sort(values)):
        rows = MaskedRows(
            np.zeros((1, len(values)), int), np.ones((1, len(values)), bool), np.zeros(1, int), np.zeros(1, int)
        )
        tally = LatentTally(1, 1, CONFIG)
        tally.add(rows, SlotCodes(np.zeros((len(values), 1), np.int32), order[:, None], np.ones(len(values), np.int32)))
        sums.append(tally.sums[0])
    assert sums[0] == sums[1] == sums[2] == pytest.approx(values.sum(dtype=np.float64), rel=1e-6)
    plain = [np.bincount(np.zeros(len(values), int), part)[0] for part in (values, values[::-1], np.sort(values))]
    assert len(set(plain)) > 1, "without rounding the order would show"


def test_keys_order_as_activations_do():
    values = np.array([0.0, 1e-30, 0.1, 0.1000001, 3, 1e30], np.float32)
    assert (np.diff(strength_keys(values).astype(object)) < 0).all()
    assert ranks(np.array([3, 3, 5, 5, 5, 6])).tolist() == [0, 1, 0, 1, 2, 0]
    assert ranks(np.zeros(0, int)).tolist() == []


def test_a_sample_stays_small(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(examples_module, "SETTLE_AT_LEAST", 10)
    sample, rng, offered = ExampleSample(2, 3, 1), np.random.default_rng(0), []
    for batch in range(30):
        keys = rng.integers(0, 1000, 8).astype(np.uint64)
        latents, documents, positions = rng.integers(0, 2, 8), np.full(8, batch), np.arange(8)
        chosen = sample.wanted(latents, keys, documents, positions)
        offered.append(len(chosen))
        zeros = np.zeros((len(chosen), 1))
        sample.add(
            Examples(latents[chosen], keys[chosen], documents[chosen], positions[chosen], zeros[:, 0], zeros, zeros)
        )
        assert sum(map(len, sample._waiting)) < 10
        assert len(sample._kept) <= 6
    assert sum(offered[:10]) > 2 * sum(offered[20:])  # soon most are refused before their context is made


def test_what_is_refused(model: Replacement, batches: list[MaskedRows], found: Harvest):
    rows = batches[0]
    twice = Replacement(model.spec, model.weights, (*model.dictionaries, model.dictionaries[0]))
    with pytest.raises(ConfigError, match=r"two dictionaries are called blocks\.0\.hook_attn_out; keep one"):
        harvest(twice, batches, CONFIG)
    with pytest.raises(ConfigError, match="rows of 13 tokens, the model reads at most 12; cut them"):
        harvest(model, rows_of(documents(), N_CTX + 1, 4), CONFIG)
    with pytest.raises(ConfigError, match="tokens from 0 to 30, the model knows 0 to 29; use its tokenizer"):
        harvest(model, rows_of([[0, 30]], 4, 4), CONFIG)
    with pytest.raises(ConfigError, match=r"mask, documents and starts have shapes .* expected"):
        replace(rows, documents=rows.documents[:-1])
    with pytest.raises(ConfigError, match="the mask holds int64, expected bool"):
        replace(rows, mask=rows.mask.astype(int))
    with pytest.raises(ConfigError, match="evidence: drawn is 0, expected 1 or more"):
        EvidenceConfig(drawn=0)
    with pytest.raises(ConfigError, match="evidence: before is -1, expected 0 or more"):
        EvidenceConfig(before=-1)
    other = harvest(model, batches[:1], replace(CONFIG, seed=2))
    with pytest.raises(ConfigError, match=r"cannot merge parts of different settings .*seed=0.*seed=2.*harvest all"):
        found.merged(other)
    with pytest.raises(ConfigError, match=r"different clean \(False and True\)"):
        found.merged(harvest(model, batches[:1], CONFIG, model.weights))
