"""Counts of n-grams against the plainest way of counting them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from englishroom.errors import ConfigError
from englishroom.talkers.ngrams import counts as counts_module
from englishroom.talkers.ngrams.counts import NgramCounts, count_ngrams
from englishroom.talkers.ngrams.encode import drop_repeats, encode_documents
from englishroom.talkers.text import TokenisedText
from programs import tokenizer_for

Gram = tuple[int, ...]


def text_of(documents: Sequence[Sequence[int]], start_id: int) -> TokenisedText:
    """Lay documents out as one array, each after the start token."""
    tokens = [token for document in documents for token in (start_id, *document)]
    starts = np.cumsum([0, *(1 + len(document) for document in documents)])[:-1]
    return TokenisedText(np.array(tokens, np.uint16), starts.astype(np.int64))


def counted(documents: Sequence[Sequence[int]], start_id: int, order: int) -> list[Counter[Gram]]:
    """Count the n-grams within documents, each begun and ended by the start token; the beginning is no unigram."""
    found: list[Counter[Gram]] = [Counter() for _ in range(order)]
    for document in documents:
        tokens = (start_id, *document, start_id)
        for length in range(1, order + 1):
            for i in range(length == 1, len(tokens) - length + 1):
                found[length - 1][tokens[i : i + length]] += 1
    return found


def extended(counters: Sequence[Counter[Gram]], start_id: int, length: int) -> dict[Gram, int]:
    """Say how many different tokens stand before each n-gram; before the beginning of a document nothing does."""
    before: dict[Gram, set[int]] = {}
    for gram in counters[length]:
        before.setdefault(gram[1:], set()).add(gram[0])
    grams = counters[length - 1]
    return {g: grams[g] if length > 1 and g[0] == start_id else len(before[g]) for g in grams}


def as_dict(found: NgramCounts, length: int, what: str) -> dict[Gram, int]:
    """Return the numbers above 0 of one length by n-gram."""
    spelt = map(tuple, found.spell(length).tolist())
    numbers = getattr(found.grams[length - 1], what).tolist()
    return {gram: number for gram, number in zip(spelt, numbers, strict=True) if number}


def check(documents: Sequence[Sequence[int]], start_id: int, d_vocab: int, order: int) -> None:
    found = count_ngrams(text_of(documents, start_id), start_id, d_vocab, order)
    expected = counted(documents, start_id, order)
    assert found.order == order
    for length in range(1, order + 1):
        spelt = found.spell(length).tolist()
        assert spelt == sorted(spelt)
        assert as_dict(found, length, "counts") == expected[length - 1]
        if length < order:
            assert as_dict(found, length, "extensions") == extended(expected, start_id, length)
        else:
            assert not len(found.grams[-1].extensions) or order > length


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[list[int]], int, int]:
    """Draw (documents, start token, vocabulary): few tokens, so that much is repeated; some documents are empty."""
    d_vocab = draw(st.integers(2, 7))
    start_id = draw(st.integers(0, d_vocab - 1))
    token = st.integers(0, d_vocab - 1).filter(lambda t: t != start_id)
    return draw(st.lists(st.lists(token, max_size=12), min_size=1, max_size=12)), start_id, d_vocab


@given(corpora(), st.integers(1, 6))
@settings(deadline=None, max_examples=150)
def test_counts_are_those_of_a_counter(corpus: tuple[list[list[int]], int, int], order: int) -> None:
    check(*corpus, order)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("d_vocab", [1, 2, 300, 5000, 65536])
def test_any_vocabulary_is_packed(d_vocab: int, order: int) -> None:
    rng = np.random.default_rng(d_vocab + order)
    some = sorted({0, d_vocab // 3, d_vocab // 2, d_vocab - 2, d_vocab - 1} & set(range(d_vocab)))
    for start_id in {0, d_vocab - 1}:
        usable = [token for token in some if token != start_id]
        documents = [rng.choice(usable, rng.integers(9)).tolist() if usable else [] for _ in range(30)]
        check(documents, start_id, d_vocab, order)


@pytest.mark.parametrize(("group", "groups"), [(1, 100), (40, 100), (2**21, 1)])
def test_groups_of_first_tokens_do_not_show(group: int, groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts_module, "GROUP", group)
    monkeypatch.setattr(counts_module, "MOST_GROUPS", groups)
    rng = np.random.default_rng(0)
    check([rng.integers(1, 40, rng.integers(30)).tolist() for _ in range(40)], 0, 40, 4)


def test_contexts_do_not_cross_documents() -> None:
    found = count_ngrams(text_of([[1, 2], [3]], 0), 0, 4, 3)
    assert as_dict(found, 2, "counts") == {(0, 1): 1, (1, 2): 1, (2, 0): 1, (0, 3): 1, (3, 0): 1}
    assert as_dict(found, 3, "counts") == {(0, 1, 2): 1, (1, 2, 0): 1, (0, 3, 0): 1}
    assert as_dict(found, 1, "counts") == {(0,): 2, (1,): 1, (2,): 1, (3,): 1}


def test_progress_ends_at_the_whole() -> None:
    seen: list[tuple[int, int]] = []
    text = text_of([[1, 2, 3], [2]], 0)
    for order in (1, 3):
        count_ngrams(text, 0, 4, order, lambda done, total: seen.append((done, total)))
        assert seen[-1] == (6, 6)


@pytest.mark.parametrize(
    ("text", "d_vocab", "order", "message"),
    [
        (text_of([[1]], 0), 65537, 2, "a vocabulary of 65,537 tokens, expected 1 to 65,536; choose another tokenizer"),
        (text_of([[1]], 0), 4, 0, "the order is 0, expected 1 to 33 for a vocabulary of 4 tokens"),
        (text_of([[1]], 0), 65536, 6, "the order is 6, expected 1 to 5 for a vocabulary of 65,536 tokens"),
        (text_of([[9]], 0), 4, 2, r"the text holds 9 \(uint16\), expected tokens 0..3 \(uint16\)"),
        (
            TokenisedText(np.zeros(0, np.uint16), np.zeros(0, np.int64)),
            4,
            2,
            r"the text has 0 tokens in 0 documents, expected 1 to 2\*\*31 - 2",
        ),
        (
            text_of([[1, 0, 2]], 0),
            4,
            2,
            "the start token 0 stands 2 times in the text, expected it at the beginning of each of the 1 documents and "
            "nowhere else; tokenise the text without special tokens",
        ),
        (text_of([[1]], 3), 4, 2, "the start token 0 stands 0 times in the text"),
    ],
)
def test_what_cannot_be_counted_is_refused(text: TokenisedText, d_vocab: int, order: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        count_ngrams(text, 0, d_vocab, order)


def test_documents_are_encoded_after_the_start_token() -> None:
    seen: list[tuple[int, int]] = []
    text = encode_documents(["ab", "", "c"], tokenizer_for(4), lambda done, total: seen.append((done, total)))
    assert text.tokens.tolist() == [0, 1, 2, 0, 0, 3]
    assert text.starts.tolist() == [0, 3, 4]
    assert text.tokens.dtype == np.uint16
    assert seen == [(3, 3)]


def test_documents_that_cannot_be_encoded_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"document 1 of the text: the vocabulary has no token for byte 0x7a .*'z'"):
        encode_documents(["a", "z"], tokenizer_for(4))


def test_repeated_documents_are_dropped() -> None:
    once = drop_repeats(text_of([[1], [2, 3], [1], [], [2, 3], []], 0))
    assert once.tokens.tolist() == [0, 1, 0, 2, 3, 0]
    assert once.starts.tolist() == [0, 2, 5]
    assert drop_repeats(once) is once
