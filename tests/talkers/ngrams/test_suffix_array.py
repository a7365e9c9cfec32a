"""The suffix array against sorting, counting and matching by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from englishroom.errors import ConfigError
from englishroom.talkers.ngrams.suffix_array import SAMPLED, SuffixArray

START = 3


def document_lists(max_token: int = 2) -> st.SearchStrategy[list[list[int]]]:
    return st.lists(st.lists(st.integers(0, max_token), max_size=12), min_size=1, max_size=8)


def flat(documents: list[list[int]], start: int = START) -> np.ndarray:
    return np.array([token for document in documents for token in [start, *document]])


def by_hand(text: list[int], context: list[int]) -> int:
    """Count the occurrences of a context."""
    size = len(context)
    return sum(text[i : i + size] == context for i in range(len(text) - size + 1))


def longest_by_hand(text: list[int], read: list[int], start: int = START) -> int:
    """Return how many last tokens of what was read occur together, from its last start token on."""
    begin = max((i for i, token in enumerate(read) if token == start), default=0)
    own = read[begin:]
    return next(size for size in range(len(own), -1, -1) if size == 0 or by_hand(text, own[len(own) - size :]))


@given(document_lists())
def test_places_are_sorted_by_what_stands_before_them(documents: list[list[int]]) -> None:
    text = flat(documents)
    array = SuffixArray.build(text)
    naive = sorted(range(1, len(text) + 1), key=lambda place: text[:place][::-1].tolist())
    assert array.places.tolist() == naive
    assert array.followers.tolist() == [[*text, START][place] for place in naive]


@settings(deadline=None)
@given(document_lists(), st.lists(st.lists(st.integers(0, 5), max_size=8), min_size=1, max_size=30))
def test_counts_equal_those_by_hand(documents: list[list[int]], queries: list[list[int]]) -> None:
    text = flat(documents)
    expected = [len(text) if not query else by_hand(text.tolist(), query) for query in queries]
    assert SuffixArray.build(text).count(queries).tolist() == expected


@settings(deadline=None)
@given(document_lists(), st.lists(st.integers(0, 5), min_size=1, max_size=15), st.integers(0, 3))
def test_the_longest_match_is_that_by_hand(documents: list[list[int]], read: list[int], first: int) -> None:
    text = flat(documents).tolist()
    array = SuffixArray.build(np.array(text))
    first = min(first, len(read) - 1)
    found = array.longest(np.array([read, read[::-1]]), first)
    for row, tokens in enumerate((read, read[::-1])):
        for at in range(first, len(read)):
            length = longest_by_hand(text, tokens[: at + 1])
            begin, low, high = (part[row, at - first] for part in (found.length, found.low, found.high))
            assert begin == length
            context = tokens[at + 1 - length : at + 1]
            assert high - low == (by_hand(text, context) if length else len(text))
            assert all(text[place - length : place] == context for place in array.places[low:high])


@pytest.mark.parametrize("n_tokens", [2, 50, 40_000], ids=lambda n: f"{n}-tokens")
def test_a_larger_text_is_searched_right(n_tokens: int) -> None:
    rng = np.random.default_rng(0)
    documents = np.split(rng.integers(0, n_tokens, 20_000), np.arange(200, 20_000, 200))
    text = flat([document.tolist() for document in documents], start=n_tokens)
    assert len(text) > 100 * SAMPLED
    array = SuffixArray.build(text)
    begins = rng.integers(0, len(text) - 10, 300)
    queries = [text[i : i + 1 + i % 9].tolist() for i in begins]
    queries += [[*query[:-1], 1] for query in queries[:100]] + [[1, *query] for query in queries[:100]]
    padded = f" {' '.join(map(str, text))} "
    joined = [f" {' '.join(map(str, query))} " for query in queries]
    assert array.count(queries).tolist() == [occurrences(padded, query) for query in joined]


def occurrences(text: str, query: str) -> int:
    """Count occurrences that may overlap."""
    count, at = 0, text.find(query)
    while at >= 0:
        count, at = count + 1, text.find(query, at + 1)
    return count


def test_later_tokens_change_nothing_before_them() -> None:
    rng = np.random.default_rng(1)
    array = SuffixArray.build(flat([rng.integers(0, 3, 30).tolist() for _ in range(20)]))
    read = rng.integers(0, 4, (2, 20))
    other = read.copy()
    other[:, 12:] = rng.integers(0, 4, (2, 8))
    for one, two in zip(array.longest(read), array.longest(other), strict=True):
        assert np.array_equal(one[:, :12], two[:, :12])


def test_a_text_without_tokens_is_refused() -> None:
    with pytest.raises(ConfigError, match="no tokens to count; give more text"):
        SuffixArray.build(np.array([], dtype=np.uint16))
