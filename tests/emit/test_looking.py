"""Where a look looks is said in words where it is exact, and not where it is only nearly so."""

from __future__ import annotations

import numpy as np
import pytest

from englishroom.emit.lines import TermSum
from englishroom.emit.looking import EXACT_NATS, exact_back, finders, look_text

FLAT = np.zeros(1)
ONE_BACK = np.array([-40.0, 0.0, -40.0])


@pytest.mark.parametrize(
    ("curve", "text"),
    [
        (FLAT, "It looks at all words so far, the one here among them, alike."),
        (ONE_BACK, "It looks at the word 1 back, whatever stands there."),
        (np.array([0.0, -40.0]), "It looks at the word here, whatever stands there."),
    ],
)
def test_a_look_that_goes_by_distance_alone(curve: np.ndarray, text: str) -> None:
    assert look_text(curve, 8) == text
    assert look_text(curve, 8, lone=TermSum([])) == text
    assert look_text(curve, 8, lone=TermSum([("x", 0.1)])) != text


def test_a_distance_is_exact_only_where_others_have_nothing() -> None:
    assert exact_back(ONE_BACK) == 1
    assert exact_back(np.array([0.0, 1.5 - EXACT_NATS, -40.0])) is None
    assert exact_back(np.array([-40.0, 0.0])) is None  # the last stands for anything farther
    assert exact_back(FLAT) is None


def match(here: str, there: TermSum) -> tuple[TermSum, TermSum]:
    return TermSum([], [(here, 2.0)]), there


def test_matches_of_the_word_here_with_the_word_before() -> None:
    sums = [TermSum([], [(word, 1.0)]) for word in "ab"]
    found = finders([(1, ["m0.0", "m0.1"], sums), (None, ["m0.2"], sums[:1])])
    assert found == {"m0.0": (1, "a"), "m0.1": (1, "b")}
    pairs = [match("a", TermSum([("m0.0", 3.0), ("m0.1", 0.2)])), match("b", TermSum([("m0.1", 3.0)]))]
    text = look_text(FLAT, 8, pairs, None, found)
    assert text.endswith(" By 2 of its 2 matches it looks where the word 1 before is the word here.")
    crossed = [match("b", pairs[0][1]), match("a", pairs[1][1])]
    assert "it looks where" not in look_text(FLAT, 8, crossed, None, found)


def test_matches_of_the_word_here_with_itself() -> None:
    pairs = [match(word, TermSum([], [(word, 1.0)])) for word in "abc"]
    assert look_text(FLAT, 8, pairs).endswith(" By 3 of its 3 matches it looks where the word here stands.")
    assert "it looks where" not in look_text(FLAT, 8, pairs[:1])


def test_a_feature_that_reads_more_finds_no_one_word() -> None:
    two = TermSum([], [("a", 1.0), ("b", 1.0)])
    against, mixed = TermSum([], [("a", -1.0)]), TermSum([("r0.1", 1.0)], [("a", 1.0)])
    assert not finders([(1, ["x", "y", "z"], [two, against, mixed])])
