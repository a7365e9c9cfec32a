"""What is seen in a text where a feature is on: which words stand there, what follows, and pieces of the text.

A moved feature is told by the word that it mostly finds, the one that adds most to it; a rule by the word at hand.
What follows is compared with what follows the same words where the feature is off, each word as often as it is at hand
where the feature is on.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.wording import escaped

Csr = scipy.sparse.csr_array
Ints = NDArray[np.integer]
FOLLOWING = 4
"""Words that follow that are kept."""
EXAMPLES = 3
BEFORE = 9
"""Tokens that an example shows before the one at which its feature is on."""
ENOUGH, MOST = 20, 0.5
"""Other positions at which a word must stand for its share elsewhere to be told; and what share of the positions at
which a feature is on such words must make up."""
LEAST = 0.02
"""Share of the positions at which a feature is on that a word must have to be kept."""


class FiringText:
    """A text in which it is looked up what stands where a feature is on.

    Attributes:
        next: the token behind each position, -1 at the end of a row.
        pairs: how often which token follows which, [token, next token].
    """

    def __init__(self, rows: Sequence[Ints], tokenizer: Tokenizer, words: Sequence[str]) -> None:
        self.tokens = np.concatenate(rows)
        self.places = np.concatenate([np.arange(len(row)) for row in rows])
        self.next = np.concatenate([np.append(row[1:], -1) for row in rows])
        self._tokenizer, self._words = tokenizer, words
        n_words = len(words)
        self.counts = np.bincount(self.tokens, minlength=n_words)
        known = self.next >= 0
        self._followed = np.bincount(self.tokens[known], minlength=n_words)
        places = self.tokens[known], self.next[known]
        self.pairs = Csr((np.ones(int(known.sum())), places), shape=(n_words, n_words))
        self.pairs.sum_duplicates()
        order = np.argsort(self.tokens, kind="stable")
        self._of_token = np.split(order, self.counts.cumsum()[:-1])

    def stand(self, tokens: Ints, limit: int) -> list[tuple[int, float]]:
        """Return the tokens that stand there most often, each with its share."""
        if not len(tokens):
            return []
        counts = np.bincount(tokens, minlength=len(self._words))
        best = np.argsort(-counts, kind="stable")[:limit]
        return [(int(at), float(counts[at]) / len(tokens)) for at in best if counts[at] >= LEAST * len(tokens)]

    def follow_shares(self, positions: Ints) -> NDArray[np.float64]:
        """Return how often each token follows the words that stand at some positions, wherever these stand."""
        here = np.bincount(self.tokens[positions], minlength=len(self._words))
        weights = np.divide(here, self._followed, out=np.zeros(len(here)), where=self._followed > 0)
        total = float(here[self._followed > 0].sum())
        return (self.pairs.T @ weights) / total if total else np.zeros(len(here))

    def following(self, positions: Ints) -> tuple[tuple[str, float, float | None], ...]:
        """Return the words that most often follow some positions, each with its share, and its share elsewhere.

        Elsewhere are the other positions at which the same words stand; ``None`` where these are too few.
        """
        positions = positions[self.next[positions] >= 0]
        best = [token for token, _ in self.stand(self.next[positions], FOLLOWING)]
        if not best:
            return ()
        here, which, n_here = np.unique(self.tokens[positions], return_inverse=True, return_counts=True)
        is_best = self.next[positions][:, None] == np.array(best)
        on = np.stack([np.bincount(which, column, len(here)) for column in is_best.T], axis=1)
        n_off = self._followed[here] - n_here
        known = n_off >= ENOUGH
        elsewhere: list[float | None] = [None] * len(best)
        if n_here[known].sum() >= MOST * len(positions):
            off = (self.pairs[here][:, best].toarray() - on)[known] / n_off[known, None]
            elsewhere = (n_here[known] @ off / n_here[known].sum()).tolist()
        shares = on.sum(0) / len(positions)
        return tuple(
            (self._words[token], _short(share), None if other is None else _short(other))
            for token, share, other in zip(best, shares.tolist(), elsewhere, strict=True)
        )

    def examples(self, positions: Ints, sources: Ints | None, seed: tuple[str, int]) -> tuple[str, ...]:
        """Show some of the positions, drawn by chance, in their order.

        Args:
            sources: what a moved feature mostly finds at each position.
            seed: the variable and the number of the feature.
        """
        usual = np.flatnonzero(self.next[positions] >= 0)
        drawn = _random(*seed).permutation(usual if len(usual) else len(positions))[:EXAMPLES]
        found = [self.shown(int(positions[at]), None if sources is None else int(sources[at])) for at in np.sort(drawn)]
        return tuple(dict.fromkeys(found))

    def near_miss(self, positions: Ints, seed: tuple[str, int]) -> str:
        """Show a position with the same word, the most frequent, that is none of these; empty where there is none."""
        best = self.stand(self.tokens[positions], 1)
        off = np.setdiff1d(self._of_token[best[0][0]], positions) if best else positions
        off = off[self.next[off] >= 0]
        return self.shown(int(_random(*seed).choice(off))) if best and len(off) else ""

    def shown(self, at: int, source: int | None = None) -> str:
        """Show a position: the word at hand in brackets, what is found in braces, and behind an arrow what follows."""
        start = at - int(self.places[at])
        first = max(start, at - BEFORE)
        text = ""
        if source is not None and source < first:
            low = max(start, source - 1)
            text = self._piece(low, source) + self._piece(source, source + 1, "{}")
            text += "" if source + 1 == first else " .. "
        for own in range(first, at + 1):
            piece = self._piece(own, own + 1, "{}" if own == source else "")
            lead = piece[: len(piece) - len(piece.lstrip(" "))]
            text += f"{lead}[{piece[len(lead) :]}]" if own == at else piece
        behind = self._words[self.next[at]] if self.next[at] >= 0 else ""
        return escaped(f"{text} -> {behind}" if behind else text).strip(" ")

    def _piece(self, low: int, high: int, marks: str = "") -> str:
        text = b"".join(self._tokenizer.pieces[token] for token in self.tokens[low:high].tolist())
        text = text.decode("utf-8", "replace")
        lead = text[: len(text) - len(text.lstrip(" "))]
        return f"{lead}{marks[0]}{text[len(lead) :]}{marks[1]}" if marks else text


def _random(variable: str, at: int) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(variable.encode()), at])


def _short(value: float) -> float:
    return float(f"{value:.4g}")
