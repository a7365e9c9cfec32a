"""The search for conditions: it finds what was put in, nothing in noise, and scores what it says that it scores."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.inside.atoms import Atoms, atoms_of
from englishroom.inside.condition_config import SearchConfig
from englishroom.inside.condition_search import ConditionSearch
from englishroom.inside.explanations import scores, weighted_mean
from englishroom.ir.condition import (
    Condition,
    InQuotes,
    IntoSentence,
    Repeated,
    Word,
    WordAt,
    WordEarlier,
)
from englishroom.ir.holding import ReadRows, read_rows, where_holds
from englishroom.ir.marks import marks_of
from englishroom.ir.tokenizer import Tokenizer

N_WORDS, STOP, QUOTE = 40, 38, 39
TEXTS = [f"w{number}" for number in range(STOP)] + [".", '"']
VOCABULARY = Tokenizer("byte_bpe", tuple(text.encode() for text in TEXTS), (), (), (-1,) * 256, (), 0, (), False)


def text(seed: int, n_rows: int = 200, length: int = 80) -> ReadRows:
    generator = np.random.default_rng(seed)
    chances = np.full(N_WORDS, 1 / N_WORDS)
    chances[STOP:] = 0.08, 0.06
    rows = generator.choice(N_WORDS, (n_rows, length), p=chances / chances.sum())
    return read_rows(list(rows), marks_of(VOCABULARY))


@pytest.fixture(scope="module")
def fit() -> Atoms:
    return atoms_of(text(0), TEXTS)


def words(*tokens: int) -> tuple[Word, ...]:
    return tuple(Word(token, TEXTS[token]) for token in tokens)


def as_sets(condition: Condition) -> set[frozenset[str]]:
    """Return a condition without the order of its words, terms and alternatives."""

    def told(term: object) -> str:
        listed = getattr(term, "words", ())
        rest = {name: value for name, value in vars(term).items() if name != "words"}
        return f"{sorted(word.token for word in listed)} {sorted(rest.items())}"

    return {frozenset(map(told, terms)) for terms in condition.alternatives}


PLANTED = {
    "words here": Condition(((WordAt(words(3, 5, 8, 13, 21)),),)),
    "a word not here": Condition(((WordAt(words(3, 5), negated=True),),)),
    "words back": Condition(((WordAt(words(7, 9), 3),),)),
    "earlier in the sentence": Condition(((WordEarlier(words(1, 2, 4), "sentence"),),)),
    "since the quote opened": Condition(((WordEarlier(words(6, 10), "quote"),),)),
    "in quotes": Condition(((InQuotes(),),)),
    "early in the sentence": Condition(((IntoSentence(3, negated=True),),)),
    "repeated": Condition(((Repeated(),),)),
    "two terms": Condition(((WordAt(words(3, 5, 8, 13)), WordEarlier(words(1, 2, 4), "sentence")),)),
    "three terms": Condition(((WordAt(words(*range(12))), InQuotes(), WordEarlier(words(20, 21), 8, negated=True)),)),
    "alternatives": Condition(((WordAt(words(3, 5)), InQuotes()), (WordAt(words(30, 31, 32), 1),))),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_condition_is_found_exactly(fit: Atoms, name: str) -> None:
    planted = PLANTED[name]
    found, score = ConditionSearch(fit, SearchConfig()).search(where_holds(planted, fit.rows))
    assert as_sets(found) == as_sets(planted)
    assert score == pytest.approx(1.0)


def test_what_is_scored_is_what_is_said(fit: Atoms) -> None:
    generator = np.random.default_rng(5)
    on = where_holds(PLANTED["alternatives"], fit.rows) ^ (generator.random(len(fit.rows)) < 0.05)
    condition, score = ConditionSearch(fit, SearchConfig()).search(on)
    assert 0.5 < score < 1.0
    assert score == pytest.approx(scores(where_holds(condition, fit.rows), on)[2])
    assert score == pytest.approx(np.corrcoef(where_holds(condition, fit.rows), on)[0, 1])


def test_settings_bound_what_is_found(fit: Atoms) -> None:
    on = where_holds(PLANTED["alternatives"], fit.rows)
    condition, _ = ConditionSearch(fit, SearchConfig(alternatives=1, terms=2, words=2)).search(on)
    assert len(condition.alternatives) == 1
    assert len(condition.alternatives[0]) <= 2
    assert all(len(term.words) <= 2 for term in condition.terms if isinstance(term, WordAt | WordEarlier))
    with pytest.raises(ConfigError, match="--words is 13, expected 1 to 12"):
        SearchConfig(words=13).validate()


@pytest.mark.parametrize("share", [0.02, 0.5])
def test_noise_is_explained_on_held_out_text_no_better_than_by_chance(fit: Atoms, share: float) -> None:
    generator, held_out = np.random.default_rng(7), text(1)
    search, found = ConditionSearch(fit, SearchConfig()), []
    for _ in range(6):
        condition, _ = search.search(generator.random(len(fit.rows)) < share)
        found.append(scores(where_holds(condition, held_out), generator.random(len(held_out)) < share)[2])
    assert abs(float(np.mean(found))) < 0.01


@pytest.mark.parametrize("value", [False, True])
def test_what_is_always_or_never_on_has_no_condition(fit: Atoms, value: bool) -> None:
    on: NDArray[np.bool_] = np.full(len(fit.rows), value)
    assert ConditionSearch(fit, SearchConfig()).search(on) == (Condition(), 0.0)


def test_words_of_few_rows_are_left_out(fit: Atoms) -> None:
    rows = fit.rows
    on = (rows.tokens == 3) & (rows.began < 8000)
    condition, _ = ConditionSearch(atoms_of(rows, TEXTS), SearchConfig()).search(on)
    assert WordAt(words(3)) in list(condition.terms)
    few = atoms_of(rows, TEXTS, least_rows=len(np.unique(rows.began[rows.tokens == 3])) + 1)
    condition, _ = ConditionSearch(few, SearchConfig()).search(on)
    assert WordAt(words(3)) not in list(condition.terms)


def test_scores_and_means() -> None:
    on = np.array([True, True, False, False])
    assert scores(np.array([True, False, False, False]), on) == (1.0, 0.5, pytest.approx(1 / 3**0.5))
    assert scores(np.zeros(4, bool), on) == (0.0, 0.0, 0.0)
    assert weighted_mean([1.0, 0.0], [3.0, 1.0]) == 0.75
    assert weighted_mean([1.0, 0.0], [0.0, 0.0]) == 0.5
    assert weighted_mean([], []) == 0.0
