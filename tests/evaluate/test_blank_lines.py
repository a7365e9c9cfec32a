"""Whether a talker says blank lines: by what it expects where a line ends, whatever its tokens for newlines are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from englishroom.evaluate.blank_lines import blank_line_chance, blank_lines_for
from englishroom.ir.tokenizer import Tokenizer

PIECES = (b"<s>", b"a", b".", b"\n", b" ", b"\n\n", b".\n", b"  \n")
A, DOT, NEWLINE, SPACE, TWO, ENDS, SPACED = range(1, 8)


class Says:
    """A talker that answers by the last token alone, from a table of probabilities."""

    def __init__(self, after: dict[int, dict[int, float]]) -> None:
        ids = [-1] * 256
        for token in (A, DOT, NEWLINE, SPACE):
            ids[PIECES[token][0]] = token
        self.name, self.n_ctx, self.after = "says", 8, after
        self.tokenizer = Tokenizer("byte_bpe", PIECES, (), (), tuple(ids), (0,), 0, (0,), False)

    def log_probs(self, tokens: np.ndarray) -> np.ndarray:
        answer = np.full((*tokens.shape, len(PIECES)), 1e-9)
        for place in np.ndindex(tokens.shape):
            for token, p in self.after.get(int(tokens[place]), {A: 1.0}).items():
                answer[(*place, token)] = p
        return np.log(answer)

    def stream(self) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("talker", "chance"),
    [
        (Says({DOT: {NEWLINE: 0.9, A: 0.1}, NEWLINE: {NEWLINE: 0.75, A: 0.25}}), 0.75),
        (Says({DOT: {NEWLINE: 0.1, TWO: 0.3, A: 0.6}}), 0.75),
        (Says({DOT: {NEWLINE: 0.5, TWO: 0.5}, NEWLINE: {SPACED: 0.5, A: 0.5}}), 0.75),
        (Says({DOT: {ENDS: 0.5, NEWLINE: 0.5}, NEWLINE: {NEWLINE: 0.3, A: 0.7}}), 0.3),
        (Says({DOT: {NEWLINE: 1.0}, NEWLINE: {SPACE: 1.0}}), 0.0),
        (Says({DOT: {NEWLINE: 1.0}}), 0.0),
    ],
)
def test_a_second_newline_in_one_token_or_two(talker: Says, chance: float) -> None:
    assert blank_line_chance(talker, " a. \n\na.") == pytest.approx(chance, abs=1e-6)
    assert blank_lines_for(talker, ["a", "a.\na"]) == ("keep" if chance > 0.05 else "collapse")


def test_what_has_no_line_end_or_cannot_be_read_decides_nothing() -> None:
    talker = Says({DOT: {NEWLINE: 1.0}, NEWLINE: {NEWLINE: 1.0}})
    assert blank_lines_for(talker, ["aa", "b.\na", "a" * 9 + "\na"]) is None
    assert blank_lines_for(talker, ["aa", "b.\na", "a.\na"]) == "keep"
    one_of_many = Says({DOT: {NEWLINE: 1.0}, NEWLINE: {NEWLINE: 0.04, A: 0.96}})
    assert blank_lines_for(one_of_many, ["a.\na"] * 20) == "collapse"
