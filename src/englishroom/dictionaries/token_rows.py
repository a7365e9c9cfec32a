"""Text as rows of tokens to train and measure on: every row begins where a document begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from englishroom.data.spelling import encoded
from englishroom.errors import ConfigError
from englishroom.ir.tokenizer import Tokenizer


@dataclass(frozen=True)
class TokenRows:
    """Documents as one array of tokens, read in rows from the start of a document on, running into the next ones.

    Attributes:
        tokens: every document in turn, each after the start token, [n_tokens].
        starts: where each document begins, [n_documents].
        length: tokens of a row.
        specials: the start token and others that ordinary text never has.
    """

    tokens: NDArray[np.int32]
    starts: NDArray[np.int64]
    length: int
    specials: tuple[int, ...] = ()

    @staticmethod
    def of(tokenizer: Tokenizer, documents: Sequence[str], length: int) -> TokenRows:
        """Encode documents.

        Raises:
            ConfigError: the text cannot be encoded, or there is none.
        """
        pieces = [
            np.array(encoded(tokenizer, document, f"text: document {number}"), np.int32)
            for number, document in enumerate(documents)
        ]
        if not pieces or length < 2:
            raise ConfigError(f"text: {len(pieces)} documents and rows of {length}; expected some, of 2 tokens or more")
        starts = np.cumsum([0, *(len(piece) for piece in pieces[:-1])])
        return TokenRows(np.concatenate(pieces), starts, length, tokenizer.specials)

    @property
    def n_rows(self) -> int:
        return len(self.starts)

    def rows(self, numbers: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the rows that begin with these documents, [row, pos]; the text's end runs into its start."""
        return self._from(self.starts[np.asarray(numbers)])

    def _from(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        at = places[:, None] + np.arange(self.length)
        return self.tokens[at % len(self.tokens)].astype(np.int64)

    def mask(self, numbers: Sequence[int] | NDArray[np.integer]) -> NDArray[np.bool_]:
        """Say which positions of these rows belong to their own document, [row, pos]."""
        ends = np.append(self.starts[1:], len(self.tokens))
        sizes = (ends - self.starts)[np.asarray(numbers)]
        return np.arange(self.length) < sizes[:, None]

    def ordinary(self, tokens: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Say where no special token stands."""
        return ~np.isin(tokens, self.specials)

    def batch(self, seed: int, step: int, size: int, inside: float = 0.0) -> NDArray[np.int64]:
        """Return the rows of a training step, [row, pos]: each document once an epoch, in an order of its own.

        Args:
            inside: share of the rows that begin at a random place inside their document, without a start token, as
                those do that go on where a long document did not fit into the context.
        """
        first = step * size
        numbers = [self._shuffled(seed, i) for i in range(first, first + size)]
        return self._from(self.starts[numbers] + self._skipped(numbers, inside, (seed, step)))

    def _skipped(self, numbers: Sequence[int], inside: float, seed: tuple[int, int]) -> NDArray[np.int64]:
        """Draw how many tokens of each document a row leaves out."""
        rng = np.random.default_rng(seed)
        lengths = np.append(self.starts[1:], len(self.tokens))[numbers] - self.starts[numbers]
        return np.where(rng.random(len(numbers)) < inside, rng.integers(0, lengths), 0)

    def _shuffled(self, seed: int, index: int) -> int:
        epoch, place = divmod(index, self.n_rows)
        return int(_order(seed, epoch, self.n_rows)[place])

    def parts(self, size: int, limit: int | None = None) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
        """Yield all rows, or the first so many, a few at a time, with their masks."""
        count = self.n_rows if limit is None else min(limit, self.n_rows)
        for start in range(0, count, size):
            numbers = np.arange(start, min(count, start + size))
            yield self.rows(numbers), self.mask(numbers)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(n)
