"""N-gram models as talkers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from englishroom.data.corpus import document_marks, text_hash
from englishroom.errors import ConfigError
from englishroom.ir.tokenizer import Tokenizer
from englishroom.steps import Progress, silent
from englishroom.talkers.ngrams.base import LastTokens
from englishroom.talkers.ngrams.counts import count_ngrams
from englishroom.talkers.ngrams.encode import encode_documents
from englishroom.talkers.ngrams.kneser_ney import KneserNey, fit_kneser_ney
from englishroom.talkers.ngrams.mixture import Mixture

N_CTX = 2**20
NO_MARKS = np.zeros(0, np.uint64)


class NgramTalker:
    """A Kneser-Ney model that looks back at most ``order - 1`` tokens, never beyond the last start token.

    Attributes:
        text_sha256: hash of the documents that it was fitted on; empty where it is not known.
        fit_marks: their marks (see :func:`~englishroom.data.corpus.document_marks`), to tell whether texts overlap.
        dtype: precision of its answers.
    """

    def __init__(
        self,
        model: KneserNey,
        tokenizer: Tokenizer,
        text_sha256: str = "",
        fit_marks: NDArray[np.uint64] = NO_MARKS,
        dtype: DTypeLike = np.float32,
    ) -> None:
        if (len(tokenizer.pieces), tokenizer.start_id) != (model.d_vocab, model.start_id):
            raise ConfigError(
                f"the tokenizer has {len(tokenizer.pieces)} tokens and starts with {tokenizer.start_id}, the n-grams "
                f"have {model.d_vocab} and {model.start_id}; give the tokenizer that they were counted with"
            )
        self.model, self.tokenizer, self.n_ctx = model, tokenizer, N_CTX
        self.text_sha256, self.fit_marks, self.dtype = text_sha256, fit_marks, np.dtype(dtype)

    @property
    def name(self) -> str:
        return f"kneser-ney {self.model.order}-gram"

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that it answers by: of every length the branches, tokens and counts, and the discounts."""
        found: dict[str, NDArray[Any]] = {"discounts": np.array([level.discounts for level in self.model.levels])}
        for length, level in enumerate(self.model.levels, 1):
            found[f"{length}-grams: branches"] = np.diff(level.starts)
            found[f"{length}-grams: tokens"] = level.tokens
            found[f"{length}-grams: counts"] = level.counts
        return found

    @cached_property
    def mixture(self) -> Mixture:
        """The model made ready to read, at the first reading."""
        return Mixture(self.model, self.dtype)

    def log_probs(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        return self.stream().extend(tokens)

    def token_log_probs(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        """Compute log-probabilities of the tokens themselves but the first, [batch, pos] -> [batch, pos - 1].

        Several times faster than whole distributions.
        """
        return self.mixture.token_log_probs(self.checked(tokens))

    def stream(self) -> LastTokens:
        return LastTokens(lambda read, n_new: self.mixture.log_probs(self.checked(read), n_new), self.model.order - 1)

    def checked(self, tokens: NDArray[np.integer]) -> NDArray[np.integer]:
        """Refuse tokens outside the vocabulary.

        Raises:
            ConfigError: there is one.
        """
        if tokens.size and not (int(tokens.min()) >= 0 and int(tokens.max()) < self.model.d_vocab):
            raise ConfigError(f"a token is outside the vocabulary, expected 0..{self.model.d_vocab - 1}")
        return tokens


def fit_ngrams(
    documents: Sequence[str], tokenizer: Tokenizer, order: int = 5, progress: Progress = silent
) -> NgramTalker:
    """Fit an n-gram talker on the different documents of a text, as :func:`fit_orders` does."""
    return fit_orders(documents, tokenizer, (order,), progress)[0]


def fit_orders(
    documents: Sequence[str], tokenizer: Tokenizer, orders: Sequence[int] = (1, 2, 3, 4, 5), progress: Progress = silent
) -> list[NgramTalker]:
    """Fit n-gram talkers of several orders on the different documents of a text, which is counted once.

    Args:
        orders: how many tokens an n-gram has at most, each 1 to 5.
        progress: is told what is being done, how much of it is done, and of how much.

    Raises:
        ConfigError: the text cannot be encoded, or a setting is out of range.
    """
    different = list(dict.fromkeys(documents))
    text = encode_documents(different, tokenizer, partial(progress, "tokenising"))
    counts = count_ngrams(
        text, tokenizer.start_id, len(tokenizer.pieces), max(orders), partial(progress, "counting n-grams")
    )
    text_sha256, marks = text_hash(documents), document_marks(documents)
    return [NgramTalker(fit_kneser_ney(counts, order), tokenizer, text_sha256, marks) for order in orders]
