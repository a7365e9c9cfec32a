"""Turn training text into tokens: a byte-level BPE learnt from it, and a flat array of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import decoders, models, pre_tokenizers, trainers

from englishroom.data.corpus import SEPARATOR
from englishroom.steps import StepProgress, silent


@dataclass(frozen=True)
class TokenisedText:
    """Documents as one array of tokens, each document after its start token.

    Attributes:
        tokens: every document in turn, [n_tokens].
        starts: where each document begins in ``tokens``, [n_documents].
    """

    tokens: NDArray[np.uint16]
    starts: NDArray[np.int64]

    @property
    def n_windows(self) -> int:
        return len(self.starts)

    def window(self, index: int, length: int) -> NDArray[np.uint16]:
        """Return ``length`` tokens from the start of document ``index`` on, running into the next ones (wrapping)."""
        start = int(self.starts[index])
        piece = self.tokens[start : start + length]
        missing = length - len(piece)
        return np.concatenate([piece, np.resize(self.tokens, missing)]) if missing else piece


def learn_bpe(documents: Sequence[str], vocabulary: int) -> tokenizers.Tokenizer:
    """Learn a GPT-2-style byte-level BPE with one special token, ``<|endoftext|>``, as its last id."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 1, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(documents, trainer)
    tokenizer.add_special_tokens([SEPARATOR])
    return tokenizer


def tokenise(
    tokenizer: tokenizers.Tokenizer, documents: Sequence[str], progress: StepProgress = silent
) -> TokenisedText:
    """Encode documents, each preceded by ``<|endoftext|>``."""
    start = tokenizer.token_to_id(SEPARATOR)
    pieces: list[NDArray[np.uint16]] = []
    starts: list[int] = []
    total = 0
    for i in range(0, len(documents), 1000):
        for encoding in tokenizer.encode_batch(list(documents[i : i + 1000]), add_special_tokens=False):
            pieces.append(np.array([start, *encoding.ids], dtype=np.uint16))
            starts.append(total)
            total += len(pieces[-1])
        progress(min(i + 1000, len(documents)), len(documents))
    return TokenisedText(np.concatenate(pieces), np.array(starts, dtype=np.int64))
