"""Infini-gram talkers against matching and counting by hand; emitted ones against the talkers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from englishroom.errors import ConfigError
from englishroom.evaluate.score import score
from englishroom.evaluate.talk import TalkOptions, talk
from englishroom.evaluate.talkers.program import EmittedTalker
from englishroom.talkers.ngrams import infini as infini_module
from englishroom.talkers.ngrams.emit import emit_infini
from englishroom.talkers.ngrams.infini import COUNTS, HIGHEST, LENGTHS, InfiniTalker, fit_infini, fit_weights, kinds
from englishroom.talkers.ngrams.suffix_array import SuffixArray
from englishroom.talkers.ngrams.talker import NgramTalker, fit_ngrams
from englishroom.talkers.text import TokenisedText
from programs import tokenizer_for

D_VOCAB = 14
WORDS = ("ab", "cd", "e", "fgh", "ia", "ba", "ded", "k")


def texts(seed: int, count: int = 60) -> list[str]:
    """Make texts out of a few phrases, so that long stretches come again."""
    rng = np.random.default_rng(seed)
    phrases = ["".join(np.random.default_rng(i).choice(WORDS, 6)) for i in range(8)]
    return ["".join(rng.choice([*phrases, *WORDS], rng.integers(2, 8))) for _ in range(count)]


def base_of(documents: list[str], order: int = 2) -> NgramTalker:
    fitted = fit_ngrams(documents, tokenizer_for(D_VOCAB), order)
    return NgramTalker(fitted.model, fitted.tokenizer, dtype=np.float64)


def flat(documents: list[str]) -> np.ndarray:
    encode = tokenizer_for(D_VOCAB).encode
    return np.array([token for document in documents for token in [0, *encode(document)]])


def weights_of(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 0.9, (LENGTHS, COUNTS))


def talker_of(shortest: int = 3, limit: int = 4096, order: int = 2) -> InfiniTalker:
    documents = texts(0, 30)
    return InfiniTalker(SuffixArray.build(flat(documents)), base_of(documents, order), weights_of(), shortest, limit)


def by_hand(talker: InfiniTalker, read: list[int]) -> np.ndarray:
    """Answer after what was read, from counts by going through the text."""
    text = talker.array.tokens.tolist()
    followed = [*text, 0]
    begin = max((i for i, token in enumerate(read) if token == 0), default=0)
    chances = np.exp(talker.base.log_probs(np.array([read]))[0, -1])
    for length in range(len(read) - begin, talker.shortest - 1, -1):
        context = read[len(read) - length :]
        after = [followed[i + length] for i in range(len(text) - length + 1) if text[i : i + length] == context]
        if after:
            by_count = 0 if len(after) == 1 else 1 if len(after) < 4 else 2 if len(after) < 8 else 3
            weight = talker.weights[min(length - talker.shortest, LENGTHS - 1), by_count]
            return (1 - weight) * chances + weight * np.bincount(after, minlength=D_VOCAB) / len(after)
    return chances


@pytest.fixture(scope="module")
def talker() -> InfiniTalker:
    return talker_of()


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 11]), max_size=4), st.integers(0, 29), st.integers(0, 30))
def test_answers_equal_those_by_hand(talker: InfiniTalker, noise: list[int], which: int, start: int) -> None:
    document = [0, *talker.tokenizer.encode(texts(0, 30)[which])]
    read = [*noise, *document[start:], *noise, *document[:6]] or [0]
    answers = np.exp(talker.log_probs(np.array([read])))[0]
    for position in range(len(read)):
        expected = by_hand(talker, read[: position + 1])
        assert np.allclose(answers[position], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_answers_are_probabilities_of_every_token(talker: InfiniTalker, dtype: type) -> None:
    assert isinstance(talker.base, NgramTalker)
    base = NgramTalker(talker.base.model, talker.tokenizer, dtype=dtype)
    other = InfiniTalker(talker.array, base, np.full((LENGTHS, COUNTS), HIGHEST), 1)
    tokens = flat(texts(1, 8))[:120].reshape(4, 30)
    answers = other.log_probs(tokens)
    assert answers.dtype == dtype
    assert np.isfinite(answers).all()
    assert np.abs(np.exp(answers.astype(np.float64)).sum(axis=2) - 1).max() < 1e-6


def test_nothing_looks_ahead_or_beside(talker: InfiniTalker) -> None:
    tokens = flat(texts(0, 20))[:180].reshape(6, 30)
    other = tokens.copy()
    other[:, 17:] = np.random.default_rng(0).integers(0, D_VOCAB, (6, 13))
    answers = talker.log_probs(tokens)
    assert np.array_equal(answers[:, :17], talker.log_probs(other)[:, :17])
    assert np.allclose(answers[2:3], talker.log_probs(tokens[2:3]), rtol=0, atol=1e-12)


def test_reading_in_parts_is_reading_at_once(talker: InfiniTalker) -> None:
    tokens = flat(texts(0, 20))[:120].reshape(2, 60)
    reading = talker.stream()
    parts = [reading.extend(tokens[:, low:high]) for low, high in ((0, 1), (1, 20), (20, 21), (21, 60))]
    assert np.allclose(np.concatenate(parts, axis=1), talker.log_probs(tokens), rtol=0, atol=1e-12)


def test_work_in_small_parts_gives_the_same(talker: InfiniTalker, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = flat(texts(0, 20))[:120].reshape(2, 60)
    whole = talker.log_probs(tokens)
    monkeypatch.setattr(infini_module, "CHUNK_OCCURRENCES", 7)
    assert np.array_equal(whole, talker.log_probs(tokens))


def test_of_many_occurrences_some_are_asked_at_equal_distances() -> None:
    documents = ["ab"] * 30 + ["ac"] * 60 + ["ad"] * 10  # after <start> a: 30, 60, 10 of 100
    array, base = SuffixArray.build(flat(documents)), base_of(documents, 1)
    read = np.array([[0, 1]])
    weights = np.full((LENGTHS, COUNTS), 0.5)
    exact = np.exp(InfiniTalker(array, base, weights, 1, 100).log_probs(read)[0, 1])
    chances = np.exp(base.log_probs(read)[0, 1])
    assert exact == pytest.approx(0.5 * chances + 0.5 * np.bincount([2, 3, 4], [0.3, 0.6, 0.1], D_VOCAB))
    asked = InfiniTalker(array, base, weights, 1, 10)
    shares = (np.exp(asked.log_probs(read)[0, 1]) - 0.5 * chances) / 0.5
    places = array.followers[array.longest(read).low[0, 1] + np.arange(0, 100, 10)]
    assert shares == pytest.approx(np.bincount(places, minlength=D_VOCAB) / 10)


def test_matches_are_sorted_into_kinds() -> None:
    length, count = np.array([3, 4, 9, 40, 3, 3, 3, 3]), np.array([1, 2, 3, 4, 7, 8, 2**40, 2**40 - 1])
    by_length, by_count = kinds(length, count, 3)
    assert by_length.tolist() == [0, 1, 6, LENGTHS - 1, 0, 0, 0, 0]
    assert by_count.tolist() == [0, 1, 1, 2, 2, 3, 3, 3]


def test_fitted_weights_are_the_best_ones() -> None:
    documents, choose = texts(0), texts(1, 100)
    array, base = SuffixArray.build(flat(documents)), base_of(documents)
    tokens = flat(choose)
    text = TokenisedText(tokens.astype(np.uint16), np.flatnonzero(tokens == 0))
    weights = fit_weights(array, base, text, 3)
    assert ((weights >= 0) & (weights <= HIGHEST)).all()

    lengths = np.diff(text.starts, append=len(tokens))
    rows = np.zeros((len(lengths), lengths.max() + 1), dtype=np.int64)  # padded with the token that ends each text
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = tokens

    def nats(changed: np.ndarray) -> float:
        answers = InfiniTalker(array, base, changed, 3).log_probs(rows[:, :-1])
        came = np.take_along_axis(answers, rows[:, 1:, None], 2)[..., 0]
        return float(-came[np.arange(rows.shape[1] - 1) < lengths[:, None]].sum())

    best = nats(weights)
    for kind in ((0, 3), (1, 2), (1, 3)):
        for step in (-0.2, 0.2):
            changed = weights.copy()
            changed[kind] = np.clip(changed[kind] + step, 0.001, HIGHEST)
            assert nats(changed) > best + 0.5, (kind, step)


def test_a_fitted_talker_beats_its_base_and_talks() -> None:
    documents, held = texts(0), texts(2, 30)
    base = base_of(documents)
    talker = fit_infini(documents, texts(1, 40), base, shortest=2)
    assert score(talker, held).nats_per_token < score(base, held).nats_per_token - 0.2
    assert "".join(talk(talker, "ab", TalkOptions(seed=1, max_tokens=20)))
    assert talker.name == "infini-gram on kneser-ney 2-gram"
    assert len(talker.fit_marks) == len(set(documents))
    assert len(talker.text_sha256) == 64


def test_without_long_matches_the_base_answers() -> None:
    documents = texts(0, 5)
    talker = fit_infini(documents, ["kkkk"], base_of(documents), shortest=50)
    tokens = flat(documents)[None, :40]
    assert not talker.weights.any()
    assert np.array_equal(talker.log_probs(tokens), talker.base.log_probs(tokens))


def test_what_makes_no_sense_is_refused() -> None:
    documents = texts(0, 5)
    base = base_of(documents)
    array = SuffixArray.build(flat(documents))
    with pytest.raises(ConfigError, match="among those counted; hold other ones out"):
        fit_infini(documents, documents[:1], base)
    with pytest.raises(ConfigError, match="shortest match 0, occurrences 4096: expected 1 or more of both"):
        InfiniTalker(array, base, weights_of(), 0)
    with pytest.raises(ConfigError, match=r"the text begins with token 5, .* starts from 0; give a text of that"):
        InfiniTalker(SuffixArray.build(np.array([5, 1, 2])), base, weights_of(), 1)


@pytest.mark.parametrize(("order", "shortest", "limit"), [(1, 1, 3), (3, 2, 4096)])
def test_a_bare_python_says_what_the_talker_says(order: int, shortest: int, limit: int, tmp_path: Path) -> None:
    talker = talker_of(shortest, limit, order)
    emit_infini(talker, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["program.py", "tables.safetensors"]
    rng = np.random.default_rng(0)
    tokens = np.concatenate([rng.integers(0, D_VOCAB, 5), flat(texts(0, 4)), flat(texts(1, 4)), rng.integers(0, 5, 20)])
    expected = talker.log_probs(tokens[None])
    with EmittedTalker(tmp_path / "out" / "program.py", talker.tokenizer, talker.n_ctx) as program:
        assert np.abs(program.log_probs(tokens[None]) - expected).max() < 1e-9
    text = (tmp_path / "out" / "program.py").read_text(encoding="utf-8")
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 120


def test_only_what_builds_on_ngrams_is_emitted(talker: InfiniTalker, tmp_path: Path) -> None:
    twice = InfiniTalker(talker.array, talker, weights_of(), 5)
    with pytest.raises(ConfigError, match="only what builds on n-grams can be written as a program"):
        emit_infini(twice, tmp_path / "out")


def test_arrays_are_all_that_it_answers_by(talker: InfiniTalker) -> None:
    base = set(talker.base.arrays())
    assert talker.arrays().keys() == base | {"text", "weights"}
