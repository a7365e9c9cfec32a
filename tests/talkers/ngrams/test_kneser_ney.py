"""Modified Kneser-Ney smoothing against the formulas of Chen & Goodman (1998), written out with dicts."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from englishroom.errors import ArtifactError, ConfigError
from englishroom.evaluate.score import score
from englishroom.evaluate.talk import TalkOptions, talk
from englishroom.talkers.ngrams import mixture as mixture_module
from englishroom.talkers.ngrams.arpa import to_arpa
from englishroom.talkers.ngrams.counts import count_ngrams
from englishroom.talkers.ngrams.kneser_ney import FALLBACK, KneserNey, estimate_discounts, fit_kneser_ney
from englishroom.talkers.ngrams.lookup import Hashed, lengthen
from englishroom.talkers.ngrams.model_file import load_ngrams, ngrams_to_bytes, save_ngrams
from englishroom.talkers.ngrams.talker import NgramTalker, fit_ngrams, fit_orders
from englishroom.talkers.text import TokenisedText
from programs import tokenizer_for

START = 0
Documents = Sequence[Sequence[int]]
Chance = Callable[[Sequence[int], int], float]


class Plain:
    """Modified Kneser-Ney in plain Python, from counts of n-grams as tuples, one probability at a time."""

    def __init__(self, documents: Documents, d_vocab: int, order: int) -> None:
        self.d_vocab, self.order = d_vocab, order
        seen = [Counter[tuple[int, ...]]() for _ in range(order + 1)]
        for document in documents:
            story = [START, *document, START]
            for last in range(1, len(story)):
                for length in range(1, min(order, last + 1) + 1):
                    seen[length][tuple(story[last - length + 1 : last + 1])] += 1
        self.counts: list[dict[tuple[int, ...], int]] = [{}]
        for length in range(1, order + 1):
            if length == order:
                self.counts.append(dict(seen[length]))
            else:
                left = Counter(gram[1:] for gram in seen[length + 1])
                begun = {gram: n for gram, n in seen[length].items() if length > 1 and gram[0] == START}
                self.counts.append({**left, **begun})
        self.discounts = [self.estimate(list(counts.values())) for counts in self.counts]

    @staticmethod
    def estimate(counts: list[int]) -> list[float]:
        n = [sum(1 for count in counts if count == i) for i in range(5)]
        fallback = [0.0, 0.5, 1.0, 1.5]
        if 0 in n[1:4]:
            return fallback
        y = n[1] / (n[1] + 2 * n[2])
        found = [0.0, 1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]]
        return found if all(0 < found[i] <= i for i in (1, 2, 3)) else fallback

    def chance(self, read: Sequence[int], token: int) -> float:
        """Return the probability of a token after others, of which those before the last start token do not count."""
        story = list(read)
        if START in story:
            story = story[len(story) - 1 - story[::-1].index(START) :]
        return self.mixed(tuple(story[max(0, len(story) - self.order + 1) :]), token)

    def mixed(self, context: tuple[int, ...], token: int) -> float:
        lower = self.mixed(context[1:], token) if context else 1 / self.d_vocab
        counts, discounts = self.counts[len(context) + 1], self.discounts[len(context) + 1]
        after = [n for gram, n in counts.items() if gram[:-1] == context]
        if not after:
            return lower
        total = sum(after)
        n = counts.get((*context, token), 0)
        rest = sum(discounts[min(each, 3)] for each in after) / total
        return (n - discounts[min(n, 3)]) / total + rest * lower


def fitted(documents: Documents, d_vocab: int, order: int) -> KneserNey:
    tokens = [token for document in documents for token in (START, *document)]
    starts = np.cumsum([0, *(1 + len(document) for document in documents)])[:-1]
    text = TokenisedText(np.array(tokens, np.uint16), starts.astype(np.int64))
    return fit_kneser_ney(count_ngrams(text, START, d_vocab, order))


def talker_of(documents: Documents, d_vocab: int, order: int, dtype: type = np.float64) -> NgramTalker:
    return NgramTalker(fitted(documents, d_vocab, order), tokenizer_for(d_vocab), dtype=dtype)


def stories(seed: int, n_stories: int = 120, d_vocab: int = 14) -> list[list[int]]:
    """Draw stories of a random Markov chain, so that n-grams repeat, but not all alike."""
    rng = np.random.default_rng(seed)
    moves = rng.dirichlet(np.full(d_vocab - 2, 0.2), size=d_vocab)  # the last token never occurs
    found: list[list[int]] = []
    for _ in range(n_stories):
        story = [int(rng.integers(1, d_vocab - 1))]
        while rng.random() < 0.93:
            story.append(1 + int(rng.choice(d_vocab - 2, p=moves[story[-1]])))
        found.append(story)
    return found


def plain_log_probs(plain: Plain, tokens: Sequence[int]) -> list[list[float]]:
    return [
        [math.log(plain.chance(tokens[: i + 1], token)) for token in range(plain.d_vocab)] for i in range(len(tokens))
    ]


token_lists = st.lists(st.integers(1, 5), max_size=14)


@given(st.lists(token_lists, min_size=1, max_size=14), st.integers(1, 5), st.lists(st.integers(0, 6), max_size=9))
@settings(deadline=None, max_examples=120)
def test_any_text_agrees_with_the_formulas(documents: Documents, order: int, read: list[int]) -> None:
    tokens = [3, *read]  # a window from the middle of a document; token 6 never occurs in the text
    answers = talker_of(documents, 7, order).log_probs(np.array([tokens]))[0]
    np.testing.assert_allclose(answers, plain_log_probs(Plain(documents, 7, order), tokens), rtol=0, atol=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_estimated_discounts_agree_with_the_formulas(order: int) -> None:
    documents = stories(1)
    plain, model = Plain(documents, 14, order), fitted(documents, 14, order)
    for expected, level in zip(plain.discounts[1:], model.levels, strict=True):
        np.testing.assert_allclose(level.discounts, expected[1:], rtol=1e-12)
    assert order < 3 or model.levels[-1].discounts != FALLBACK
    tokens = [START, *stories(2, 1)[0][:12], START, *stories(3, 1)[0][:12], 13, 4, 5]
    talker = NgramTalker(model, tokenizer_for(14), dtype=np.float64)
    expected = plain_log_probs(plain, tokens)
    np.testing.assert_allclose(talker.log_probs(np.array([tokens]))[0], expected, rtol=0, atol=1e-9)
    single = NgramTalker(model, tokenizer_for(14)).log_probs(np.array([tokens]))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single[0], expected, rtol=0, atol=2e-6)


def test_discounts_of_a_hand_made_text() -> None:
    counts = np.repeat([1, 2, 3, 4, 7], [10, 5, 2, 1, 3]).astype(np.int32)
    y = 10 / 20
    np.testing.assert_allclose(estimate_discounts(counts), [1 - 2 * y * 5 / 10, 2 - 3 * y * 2 / 5, 3 - 4 * y * 1 / 2])


@pytest.mark.parametrize("times", [(0, 5, 2, 1), (10, 0, 2, 1), (10, 5, 0, 1), (10, 2, 9, 1), (9, 6, 2, 9)])
def test_discounts_fall_back_where_counts_are_too_odd(times: tuple[int, ...]) -> None:
    assert estimate_discounts(np.repeat([1, 2, 3, 4], times).astype(np.int32)) == FALLBACK == (0.5, 1.0, 1.5)


@given(st.lists(token_lists, min_size=1, max_size=20), st.integers(1, 6))
@settings(deadline=None, max_examples=60)
def test_probabilities_sum_to_one_and_none_is_zero(documents: Documents, order: int) -> None:
    tokens = np.random.default_rng(0).integers(0, 8, (3, 20))
    answers = talker_of(documents, 8, order).log_probs(tokens)
    assert answers.shape == (3, 20, 8)
    assert np.isfinite(answers).all()
    np.testing.assert_allclose(np.exp(answers).sum(axis=2), 1, rtol=0, atol=1e-12)


def test_the_start_token_begins_anew() -> None:
    talker = talker_of(stories(4), 14, 4)
    first, second = [START, 3, 4, 5, 3], [START, 5, 6, 2]
    both = talker.log_probs(np.array([first + second]))[0]
    np.testing.assert_array_equal(both[: len(first)], talker.log_probs(np.array([first]))[0])
    np.testing.assert_array_equal(both[len(first) :], talker.log_probs(np.array([second]))[0])


def test_reading_on_is_reading_at_once() -> None:
    for order in (1, 2, 5):
        talker = talker_of(stories(5), 14, order)
        tokens = np.random.default_rng(order).integers(0, 14, (3, 17))
        reading = talker.stream()
        parts = [reading.extend(part) for part in np.split(tokens, [1, 2, 2, 9, 16], axis=1)]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), talker.log_probs(tokens))


def test_tokens_alone_are_scored_as_in_whole_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.random.default_rng(6).integers(0, 14, (5, 40))
    for order in (1, 2, 3, 5):
        talker = talker_of(stories(6), 14, order)
        expected = np.take_along_axis(talker.log_probs(tokens)[:, :-1], tokens[:, 1:, None], axis=2)[..., 0]
        for chunk in (2**16, 100, 7, 1):
            monkeypatch.setattr(mixture_module, "CHUNK_TOKENS", chunk)
            np.testing.assert_allclose(talker.token_log_probs(tokens), expected, rtol=0, atol=1e-12)
    assert talker.token_log_probs(tokens[:, :1]).shape == (5, 0)


def test_chunks_of_positions_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    talker = talker_of(stories(7), 14, 4)
    tokens = np.random.default_rng(7).integers(0, 14, (4, 30))
    expected = talker.log_probs(tokens)
    monkeypatch.setattr(mixture_module, "CHUNK_NUMBERS", 30)
    np.testing.assert_array_equal(talker.log_probs(tokens), expected)


@given(st.lists(token_lists, min_size=1, max_size=30), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_hashing_finds_what_halving_finds(documents: Documents, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for level in fitted(documents, 7, 3).levels[1:]:
        contexts = rng.integers(-1, len(level.starts) - 1, 60).astype(np.int32)
        tokens = rng.integers(0, 7, 60)
        expected = [
            next(
                (i for i in range(level.starts[c], level.starts[c + 1]) if level.tokens[i] == token),
                -1,
            )
            if c >= 0
            else -1
            for c, token in zip(contexts.tolist(), tokens.tolist(), strict=True)
        ]
        assert lengthen(level, contexts, tokens).tolist() == expected
        assert Hashed(level).find(contexts, tokens).tolist() == expected


def test_one_counting_serves_all_orders() -> None:
    texts = ["".join(chr(96 + token) for token in story) for story in stories(8)]
    tokenizer = tokenizer_for(14)
    tokens = np.array([[START, *tokenizer.encode(texts[0]), START, *tokenizer.encode(texts[1])]])
    steps: list[str] = []
    talkers = fit_orders(texts, tokenizer, (1, 2, 3, 4), lambda step, done, total: steps.append(step))
    assert list(dict.fromkeys(steps)) == ["tokenising", "counting n-grams"]
    for order, talker in enumerate(talkers, 1):
        assert talker.name == f"kneser-ney {order}-gram"
        np.testing.assert_array_equal(talker.log_probs(tokens), fit_ngrams(texts, tokenizer, order).log_probs(tokens))
    losses = [score(talker, texts).nats_per_token for talker in talkers]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1] + 0.5


def test_a_repeated_document_counts_once() -> None:
    texts = ["".join(chr(96 + token) for token in story) for story in stories(9, 20)]
    tokens, tokenizer = np.array([[START, 3, 4, 5, 1]]), tokenizer_for(14)
    once, thrice = fit_ngrams(list(dict.fromkeys(texts)), tokenizer), fit_ngrams(texts * 3, tokenizer)
    np.testing.assert_array_equal(once.log_probs(tokens), thrice.log_probs(tokens))
    assert once.text_sha256 != thrice.text_sha256
    np.testing.assert_array_equal(once.fit_marks, thrice.fit_marks)


def test_it_talks() -> None:
    texts = ["".join(chr(96 + token) for token in story) for story in stories(10)]
    talker = fit_ngrams(texts, tokenizer_for(14))
    told = "".join(talk(talker, "ab", TalkOptions(seed=3)))
    assert told == "".join(talk(talker, "ab", TalkOptions(seed=3)))
    assert len({"".join(talk(talker, "ab", TalkOptions(seed=seed))) for seed in range(8)}) > 4


def test_an_arpa_file_says_the_same(tmp_path: Path) -> None:
    talker = talker_of(stories(11), 14, 3)
    to_arpa(talker.model, tmp_path / "model.arpa")
    lines = (tmp_path / "model.arpa").read_text().splitlines()
    table: dict[tuple[str, ...], tuple[float, float]] = {}
    for line in lines:
        if line.count("\t") == 2:
            chance, words, backoff = line.split("\t")
            table[tuple(words.split())] = float(chance), float(backoff)
    for length in (1, 2, 3):
        assert f"ngram {length}={sum(len(words) == length for words in table)}" in lines
    assert lines[0] == "\\data\\"
    assert lines[-1] == "\\end\\"

    def log10_of(context: tuple[str, ...], word: str) -> float:
        if (*context, word) in table or not context:
            return table[(*context, word)][0]
        return table.get(context, (0.0, 0.0))[1] + log10_of(context[1:], word)

    tokens = [START, *stories(12, 1)[0], 13, 5, 6]
    words = ["<s>", *map(str, tokens[1:])]
    answers = talker.log_probs(np.array([tokens]))[0] / math.log(10)
    for i in range(len(tokens)):
        for token in range(14):
            word = "</s>" if token == START else str(token)
            assert log10_of(tuple(words[max(0, i - 1) : i + 1]), word) == pytest.approx(answers[i, token], abs=1e-7)


def test_saving_and_loading_gives_the_same_talker(tmp_path: Path) -> None:
    texts = ["".join(chr(96 + token) for token in story) for story in stories(13)]
    path, tokens = tmp_path / "model.safetensors", np.random.default_rng(0).integers(0, 14, (2, 30))
    for order in (1, 2, 5):
        talker = fit_ngrams(texts, tokenizer_for(14), order)
        save_ngrams(talker, path)
        loaded = load_ngrams(path)
        assert (loaded.name, loaded.text_sha256, loaded.tokenizer) == (
            talker.name,
            talker.text_sha256,
            talker.tokenizer,
        )
        np.testing.assert_array_equal(loaded.fit_marks, talker.fit_marks)
        np.testing.assert_array_equal(loaded.log_probs(tokens), talker.log_probs(tokens))
        assert load_ngrams(path, np.float64).log_probs(tokens).dtype == np.float64
        assert ngrams_to_bytes(loaded) == path.read_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


def test_texts_too_short_for_the_order_can_be_fitted_and_saved(tmp_path: Path) -> None:
    talker = talker_of([[], [1]], 4, 5)
    assert len(talker.model.levels[4].tokens) == 0
    save_ngrams(talker, tmp_path / "model")
    tokens = np.array([[0, 1, 0, 0, 2, 3]])
    np.testing.assert_array_equal(
        load_ngrams(tmp_path / "model", np.float64).log_probs(tokens), talker.log_probs(tokens)
    )


def test_files_that_are_not_ngrams_are_refused(tmp_path: Path) -> None:
    import safetensors.numpy

    path = tmp_path / "model"
    with pytest.raises(ArtifactError, match=r"model: missing; fit the n-grams again"):
        load_ngrams(path)
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(ArtifactError, match=r"model: cannot be read as safetensors \(.*\); fit the n-grams again"):
        load_ngrams(path)
    path.write_bytes(safetensors.numpy.save({"x": np.zeros(1)}))
    with pytest.raises(ArtifactError, match=r"model: not a file of n-grams \(it has no such metadata\)"):
        load_ngrams(path)
    path.write_bytes(safetensors.numpy.save({"x": np.zeros(1)}, metadata={"englishroom": '{"format": "other"}'}))
    with pytest.raises(ArtifactError, match=r"model: metadata: format: Input should be 'englishroom n-grams 1'"):
        load_ngrams(path)
    with pytest.raises(ArtifactError, match=r"missing/model: cannot be written \(No such file or directory"):
        save_ngrams(talker_of([[1]], 4, 2), tmp_path / "missing" / "model")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("counts_1", lambda a: a[:-1], "counts_1 has 13 numbers, expected 14"),
        ("counts_1", lambda a: a * 0, "counts_1 has 14 numbers, expected 14, none negative, not all 0"),
        ("starts_2", lambda a: a[::-1], "starts_2 does not cut .* n-grams into 14 slices"),
        ("starts_3", lambda a: a[1:], "starts_3 does not cut"),
        ("tokens_2", lambda a: a[::-1], "tokens_2 are not in order, or outside the vocabulary of 14"),
        ("tokens_3", lambda a: np.where(a == 12, 99, a), "tokens_3 are not in order, or outside"),
        ("counts_2", lambda a: a * 0, "counts_2 has .* numbers, expected .*, all of 1 or more"),
        ("counts_3", lambda a: a.astype(np.int64), r"found the arrays \['counts_1', .*all int32 in one row"),
        ("discounts", lambda d: [[0.0, 1.0, 1.5], *d[1:]], "discounts of length 1 are .*, expected each above 0"),
        ("discounts", lambda d: d[1:], "order is 3, found discounts of 2 lengths"),
        ("d_vocab", lambda n: n + 1, "d_vocab is 15 and start_id 0, its tokenizer has 14 and 0"),
        ("text_sha256", lambda _: 7, "metadata: text_sha256: Input should be a valid string, found 7"),
    ],
)
def test_damaged_files_are_refused(
    name: str, change: Callable, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    import safetensors
    import safetensors.numpy

    path = tmp_path / "model"
    save_ngrams(talker_of(stories(14), 14, 3), path)
    arrays = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        description = json.loads(file.metadata()["englishroom"])
    for part in (arrays, description):
        if name in part:
            part[name] = change(part[name])
    arrays = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    path.write_bytes(safetensors.numpy.save(arrays, metadata={"englishroom": json.dumps(description)}))
    with pytest.raises(ArtifactError, match=rf"{path}: {message}.*; fit the n-grams again"):
        load_ngrams(path)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, talker = tmp_path / "model", talker_of([[1, 2]], 4, 2)
    save_ngrams(talker, path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ArtifactError, match=r"model: cannot be written \(no space left on the disk"):
        save_ngrams(talker_of([[3]], 4, 2), path)
    assert path.read_bytes() == before


def test_what_does_not_fit_is_refused() -> None:
    model = fitted([[1, 2]], 4, 2)
    with pytest.raises(
        ConfigError,
        match="the tokenizer has 5 tokens and starts with 0, the n-grams have 4 and 0; give the tokenizer that they "
        "were counted with",
    ):
        NgramTalker(model, tokenizer_for(5))
    talker = NgramTalker(model, tokenizer_for(4))
    for tokens in ([[0, 4]], [[-1, 0]]):
        for read in (talker.log_probs, talker.token_log_probs, talker.stream().extend):
            with pytest.raises(ConfigError, match=r"a token is outside the vocabulary, expected 0\.\.3"):
                read(np.array(tokens))
    text = TokenisedText(np.array([0, 1], np.uint16), np.array([0]))
    with pytest.raises(ConfigError, match="the order is 4, expected 1 to 3; count longer n-grams"):
        fit_kneser_ney(count_ngrams(text, 0, 4, 3), 4)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_or_device_in_the_place_of_a_file_of_ngrams_is_not_waited_on(make, tmp_path: Path) -> None:
    make(tmp_path / "ngrams.safetensors")
    with pytest.raises(ArtifactError, match=r"is a (pipe|device), expected a file; fit the n-grams again"):
        load_ngrams(tmp_path / "ngrams.safetensors")
