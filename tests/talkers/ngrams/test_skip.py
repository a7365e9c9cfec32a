"""Skip-trigrams against tables and means written out with dicts; emitted ones against the talkers."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from englishroom.errors import ConfigError
from englishroom.evaluate.score import score
from englishroom.evaluate.talk import TalkOptions, talk
from englishroom.evaluate.talkers.program import EmittedTalker
from englishroom.talkers.ngrams import skip as skip_module
from englishroom.talkers.ngrams.emit import emit_skip
from englishroom.talkers.ngrams.encode import encode_documents
from englishroom.talkers.ngrams.skip import SkipTalker, fit_scores, fit_skips
from englishroom.talkers.ngrams.skip_table import (
    GAINS_NATS,
    KINDS,
    LEAST_GAIN_NATS,
    TOTALS,
    SkipTable,
    count_skips,
    ranges_of,
)
from englishroom.talkers.ngrams.talker import NgramTalker, fit_ngrams
from programs import tokenizer_for

D_VOCAB = 14


def texts(seed: int, count: int = 120) -> list[str]:
    """Make texts in which the letter after an ``m`` is the first letter of the text, and others are drawn."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        name = rng.choice(list("abc"))
        parts = ["".join(rng.choice(list("defgh"), rng.integers(1, 4))) + "m" + name for _ in range(rng.integers(2, 6))]
        made.append(name + "".join(parts))
    return made


def bigrams_of(documents: list[str]) -> NgramTalker:
    fitted = fit_ngrams(documents, tokenizer_for(D_VOCAB), 2)
    return NgramTalker(fitted.model, fitted.tokenizer, dtype=np.float64)


def table_by_hand(documents: list[str], bigrams: NgramTalker, nearest: int, farthest: int) -> dict:
    """Return the rows of all pairs kept: (A, B) -> (kind, {token: share})."""
    triples: Counter[tuple[int, int, int]] = Counter()
    for document in documents:
        story = [0, *bigrams.tokenizer.encode(document), 0]
        for at, (last, following) in enumerate(pairwise(story)):
            for distance in range(nearest, farthest + 1):
                if at >= distance:
                    triples[story[at - distance], last, following] += 1
    once, twice = (sum(1 for n in triples.values() if n == times) for times in (1, 2))
    discount = once / (once + 2 * twice) if once else 0.5
    totals: Counter[tuple[int, int]] = Counter()
    for (a, b, _), n in triples.items():
        totals[a, b] += n
    rows: dict[tuple[int, int], dict[int, float]] = defaultdict(dict)
    gains: dict[tuple[int, int], float] = defaultdict(float)
    for (a, b, c), n in triples.items():
        share, chance = (n - discount) / totals[a, b], np.exp(bigrams.log_probs(np.array([[b]]))[0, 0, c])
        if n > 1 and share > chance:
            rows[a, b][c] = share
            gains[a, b] += share * np.log(share / chance)
    kept = {}
    for pair, row in rows.items():
        if gains[pair] >= LEAST_GAIN_NATS:
            by_gain = sum(gains[pair] >= bound for bound in GAINS_NATS)
            by_total = sum(totals[pair] >= bound for bound in TOTALS)
            kept[pair] = by_gain * (len(TOTALS) + 1) + by_total, row
    return kept


def rows_of(table: SkipTable) -> dict:
    rows = {}
    for i, pair in enumerate(table.pairs.tolist()):
        row = slice(table.starts[i], table.starts[i + 1])
        found = (table.counts[row] - table.discount) / table.totals[i]
        shares = dict(zip(table.tokens[row].tolist(), found.tolist(), strict=True))
        rows[divmod(pair, D_VOCAB)] = int(table.kinds[i]), shares
        assert table.rests[i] == pytest.approx(1 - sum(shares.values()), abs=1e-12)
        assert sorted(shares) == list(shares)
    return rows


@pytest.fixture(scope="module")
def talker() -> SkipTalker:
    documents = texts(0)
    bigrams = bigrams_of(documents)
    text = encode_documents(documents, bigrams.tokenizer)
    tables = tuple(count_skips(text, bigrams, nearest, farthest, 2**20) for nearest, farthest in ranges_of(7))
    return SkipTalker(bigrams, tables, np.random.default_rng(0).uniform(0.1, 9, (len(tables), KINDS)))


def answers_by_hand(talker: SkipTalker, read: list[int]) -> np.ndarray:
    begin = max((i for i, token in enumerate(read) if token == 0), default=0)
    chances = np.exp(talker.bigrams.log_probs(np.array([read]))[0, -1])
    total, summed = 1.0, chances.copy()
    for i, table in enumerate(talker.tables):
        rows = rows_of(table)
        for distance in range(table.nearest, table.farthest + 1):
            at = len(read) - 1 - distance
            if at >= begin and (read[at], read[-1]) in rows:
                kind, row = rows[read[at], read[-1]]
                own = (1 - sum(row.values())) * chances
                for token, share in row.items():
                    own[token] += share
                total += talker.scores[i, kind]
                summed += talker.scores[i, kind] * own
    return summed / total


def some_tokens(talker: SkipTalker, n_rows: int = 3) -> np.ndarray:
    """Return rows that run from noise into one text after the other."""
    rng = np.random.default_rng(5)
    encoded = [token for text in texts(3, 30) for token in [0, *talker.tokenizer.encode(text)]]
    return np.concatenate(
        [rng.integers(0, D_VOCAB, (n_rows, 6)), np.array(encoded[: 34 * n_rows]).reshape(n_rows, 34)], axis=1
    )


def test_distances_are_cut_in_ranges_that_double() -> None:
    assert ranges_of(1) == [(1, 1)]
    assert ranges_of(10) == [(1, 1), (2, 2), (3, 4), (5, 8), (9, 10)]
    assert ranges_of(32)[-1] == (17, 32)


@pytest.mark.parametrize(("nearest", "farthest"), [(1, 1), (2, 2), (3, 6)])
def test_tables_equal_those_by_hand(nearest: int, farthest: int) -> None:
    documents = texts(0)
    bigrams = bigrams_of(documents)
    table = count_skips(encode_documents(documents, bigrams.tokenizer), bigrams, nearest, farthest, 2**20)
    found, expected = rows_of(table), table_by_hand(documents, bigrams, nearest, farthest)
    assert len(expected) > 5
    assert found.keys() == expected.keys()
    for pair, (kind, row) in expected.items():
        assert found[pair][0] == kind
        assert found[pair][1] == pytest.approx(row, rel=1e-12)


def test_counting_keeps_within_its_budget() -> None:
    documents = texts(0)
    bigrams = bigrams_of(documents)
    text = encode_documents(documents, bigrams.tokenizer)
    whole = count_skips(text, bigrams, 3, 4, 2**20).n_counted[0]
    part = count_skips(text, bigrams, 3, 4, len(text.tokens) // 2).n_counted[0]
    assert 0.1 * whole < part < 0.4 * whole
    assert part <= len(text.tokens) // 2


def test_answers_equal_those_by_hand(talker: SkipTalker) -> None:
    tokens = some_tokens(talker)
    answers = np.exp(talker.log_probs(tokens))
    for row in range(len(tokens)):
        for position in range(tokens.shape[1]):
            expected = answers_by_hand(talker, tokens[row, : position + 1].tolist())
            assert np.allclose(answers[row, position], expected, rtol=0, atol=1e-12), (row, position)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_answers_are_probabilities_of_every_token(talker: SkipTalker, dtype: type) -> None:
    bigrams = NgramTalker(talker.bigrams.model, talker.tokenizer, dtype=dtype)
    answers = SkipTalker(bigrams, talker.tables, talker.scores).log_probs(some_tokens(talker))
    assert np.isfinite(answers).all()
    assert answers.dtype == dtype
    assert np.abs(np.exp(answers.astype(np.float64)).sum(axis=2) - 1).max() < 1e-6


def test_nothing_looks_ahead_or_beside(talker: SkipTalker) -> None:
    tokens = some_tokens(talker)
    other = tokens.copy()
    other[:, 17:] = np.random.default_rng(0).integers(0, D_VOCAB, other[:, 17:].shape)
    answers = talker.log_probs(tokens)
    assert np.array_equal(answers[:, :17], talker.log_probs(other)[:, :17])
    assert np.allclose(answers[1:2], talker.log_probs(tokens[1:2]), rtol=0, atol=1e-12)


def test_reading_in_parts_is_reading_at_once(talker: SkipTalker) -> None:
    tokens = some_tokens(talker)
    reading = talker.stream()
    parts = [reading.extend(tokens[:, low:high]) for low, high in ((0, 1), (1, 20), (20, 21), (21, 22), (22, 40))]
    assert np.allclose(np.concatenate(parts, axis=1), talker.log_probs(tokens), rtol=0, atol=1e-12)


def test_work_in_small_parts_gives_the_same(talker: SkipTalker, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = some_tokens(talker)
    whole = talker.log_probs(tokens)
    monkeypatch.setattr(skip_module, "CHUNK_NUMBERS", 3 * D_VOCAB)
    assert np.allclose(whole, talker.log_probs(tokens), rtol=0, atol=1e-12)


def test_fitting_finds_scores_that_nothing_near_beats(talker: SkipTalker) -> None:
    choose = texts(1, 60)
    encoded = encode_documents(choose, talker.tokenizer)
    scores = fit_scores(talker.bigrams, talker.tables, encoded)

    lengths = np.diff(encoded.starts, append=len(encoded.tokens))
    rows = np.zeros((len(lengths), lengths.max() + 1), dtype=np.int64)  # padded with the token that ends each text
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = encoded.tokens

    def nats(changed: np.ndarray) -> float:
        answers = SkipTalker(talker.bigrams, talker.tables, changed).log_probs(rows[:, :-1])
        came = np.take_along_axis(answers, rows[:, 1:, None], 2)[..., 0]
        return float(-came[np.arange(rows.shape[1] - 1) < lengths[:, None]].sum())

    best = nats(scores)
    assert best < nats(np.ones_like(scores)) - 10
    assert best < nats(np.zeros_like(scores)) - 10
    for changed in (scores * 2, scores / 2):
        assert nats(changed) > best
    common = [(i, int(np.bincount(table.kinds).argmax())) for i, table in enumerate(talker.tables)]
    for kind in common:
        for factor in (0.3, 3):
            changed = scores.copy()
            changed[kind] *= factor
            assert nats(changed) > best - 0.5, (kind, factor)


def test_a_fitted_talker_remembers_what_stands_far_back() -> None:
    documents, held = texts(0), texts(2, 40)
    tokenizer = tokenizer_for(D_VOCAB)
    talker = fit_skips(documents, texts(1, 40), tokenizer, window=16)
    by_order = [score(fit_ngrams(documents, tokenizer, order), held).nats_per_token for order in (2, 3)]
    ours = score(talker, held).nats_per_token
    assert ours < by_order[0] - 0.1
    assert ours < by_order[1] - 0.05
    assert talker.name == "skip-trigrams within 16"
    assert len(talker.fit_marks) == len(set(documents))
    assert "".join(talk(talker, "a", TalkOptions(seed=1, max_tokens=20)))


def test_what_makes_no_sense_is_refused() -> None:
    documents = texts(0, 5)
    with pytest.raises(ConfigError, match="among those counted; hold other ones out"):
        fit_skips(documents, documents[:1], tokenizer_for(D_VOCAB))
    with pytest.raises(ConfigError, match="window 0, budget 33554432: expected 1 or more of both"):
        fit_skips(documents, texts(1, 2), tokenizer_for(D_VOCAB), window=0)


def test_a_text_without_any_telling_pair_leaves_the_bigrams(tmp_path: Path) -> None:
    talker = fit_skips(["abc"], ["cba"], tokenizer_for(D_VOCAB), window=4)
    tokens = np.array([[0, 1, 2, 3, 1, 2]])
    assert not any(len(table.pairs) for table in talker.tables)
    assert np.allclose(talker.log_probs(tokens), talker.bigrams.log_probs(tokens), atol=1e-6)
    emit_skip(talker, tmp_path / "out")
    with EmittedTalker(tmp_path / "out" / "program.py", talker.tokenizer, talker.n_ctx) as program:
        assert np.abs(program.log_probs(tokens) - talker.log_probs(tokens)).max() < 1e-6


def test_a_bare_python_says_what_the_talker_says(talker: SkipTalker, tmp_path: Path) -> None:
    emit_skip(talker, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["program.py", "tables.safetensors"]
    tokens = some_tokens(talker, 2)
    with EmittedTalker(tmp_path / "out" / "program.py", talker.tokenizer, talker.n_ctx) as program:
        assert np.abs(program.log_probs(tokens) - talker.log_probs(tokens)).max() < 1e-9
    text = (tmp_path / "out" / "program.py").read_text(encoding="utf-8")
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 120


def test_arrays_are_all_that_it_answers_by(talker: SkipTalker) -> None:
    arrays = talker.arrays()
    assert arrays.keys() >= talker.bigrams.arrays().keys() | {"scores", "skip discounts"}
    own = {name.removeprefix("5 to 7 before: "): array for name, array in arrays.items() if name.startswith("5 to 7")}
    table = talker.tables[-1]
    assert own.keys() == {"pairs", "branches", "tokens", "counts", "totals", "kinds"}
    assert len(own["tokens"]) == len(own["counts"]) == own["branches"].sum()
    assert np.array_equal(own["totals"], table.totals)
