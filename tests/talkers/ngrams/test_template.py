"""Template rules against counting by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from englishroom.errors import ConfigError
from englishroom.talkers.ngrams import template as template_module
from englishroom.talkers.ngrams.template import TemplateRule, template_rules
from englishroom.talkers.text import TokenisedText
from programs import tokenizer_for

D_VOCAB = 5
TOKENIZER = tokenizer_for(D_VOCAB)
Documents = list[list[int]]


def text_of(documents: Documents) -> TokenisedText:
    tokens = np.array([token for document in documents for token in [0, *document]], dtype=np.uint16)
    return TokenisedText(tokens, np.flatnonzero(tokens == 0))


def by_hand(documents: Documents, template: tuple[int, ...], read: list[int], discount: float) -> np.ndarray:
    """Answer of a rule after what was read, by going through the documents."""
    own = read[max((i for i, token in enumerate(read) if token == 0), default=0) :]
    counts = np.zeros(D_VOCAB)
    if len(own) < max(template, default=0):
        return by_hand(documents, template[:-1], read, discount)
    for document in documents:
        story = [0, *document, 0]
        for at in range(max(1, *template, 1), len(story)):
            if all(story[at - d] == own[-d] for d in template):
                counts[story[at]] += 1
    if not template:
        return (counts + 1) / (counts.sum() + D_VOCAB)
    below = by_hand(documents, template[:-1], read, discount)
    if not counts.any():
        return below
    rest = discount * (counts > 0).sum() / counts.sum()
    return np.maximum(counts - discount, 0) / counts.sum() + rest * below


documents_of = st.lists(st.lists(st.integers(1, 3), max_size=6), min_size=1, max_size=6)


@settings(deadline=None, max_examples=40)
@given(documents_of, st.lists(st.integers(0, 4), min_size=1, max_size=8), st.sampled_from([0.0, 0.4, 1.0]))
def test_answers_equal_those_by_hand(documents: Documents, read: list[int], discount: float) -> None:
    rules = template_rules(text_of(documents), TOKENIZER, 3, discount)
    assert [rule.template for rule in rules] == [(), (1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3)]
    tokens = np.array([read, read[::-1]])
    for rule in rules:
        answers = np.exp(rule.log_probs(tokens))
        assert np.abs(answers.sum(axis=2) - 1).max() < 1e-9
        for row, position in itertools.product(range(2), range(len(read))):
            expected = by_hand(documents, rule.template, tokens[row, : position + 1].tolist(), discount)
            assert np.allclose(answers[row, position], expected, rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def rules() -> list[TemplateRule]:
    rng = np.random.default_rng(0)
    return template_rules(text_of([rng.integers(1, 4, 12).tolist() for _ in range(20)]), TOKENIZER, 4)


def test_names_show_what_is_kept(rules: list[TemplateRule]) -> None:
    names = {rule.template: rule.name for rule in rules}
    assert len(names) == 16
    assert names[()] == "rule unigram"
    assert names[1, 3] == "rule x.x"
    assert names[2, 3] == "rule xx."


def test_nothing_looks_ahead(rules: list[TemplateRule]) -> None:
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, D_VOCAB, (3, 20))
    other = tokens.copy()
    other[:, 11:] = rng.integers(0, D_VOCAB, (3, 9))
    for rule in rules:
        assert np.array_equal(rule.log_probs(tokens)[:, :11], rule.log_probs(other)[:, :11])


def test_reading_in_parts_is_reading_at_once(rules: list[TemplateRule]) -> None:
    tokens = np.random.default_rng(2).integers(0, D_VOCAB, (2, 20))
    for rule in rules:
        reading = rule.stream()
        parts = [reading.extend(tokens[:, low:high]) for low, high in ((0, 1), (1, 9), (9, 10), (10, 20))]
        assert np.allclose(np.concatenate(parts, axis=1), rule.log_probs(tokens), rtol=0, atol=1e-12)


def test_work_in_small_parts_gives_the_same(rules: list[TemplateRule], monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.random.default_rng(2).integers(0, D_VOCAB, (2, 20))
    whole = [rule.log_probs(tokens) for rule in rules]
    monkeypatch.setattr(template_module, "CHUNK_ENTRIES", 3)
    for rule, expected in zip(rules, whole, strict=True):
        assert np.array_equal(rule.log_probs(tokens), expected)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="the reach of the rules is 9, expected 0 to 8"):
        template_rules(text_of([[1]]), TOKENIZER, 9)
    with pytest.raises(ConfigError, match=r"the discount is 1\.5, expected 0 to 1"):
        template_rules(text_of([[1]]), TOKENIZER, 2, 1.5)
    with pytest.raises(ConfigError, match="no tokens to count; give more text"):
        template_rules(text_of([]), TOKENIZER, 2)
