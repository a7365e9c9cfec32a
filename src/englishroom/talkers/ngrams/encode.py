"""Turn documents into tokens with the tokenizer of any talker."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from englishroom.data.spelling import encoded
from englishroom.errors import ConfigError
from englishroom.ir.tokenizer import Tokenizer
from englishroom.steps import StepProgress, silent
from englishroom.talkers.text import TokenisedText


def encode_documents(documents: Sequence[str], tokenizer: Tokenizer, progress: StepProgress = silent) -> TokenisedText:
    """Encode documents, each after the start token. About 2 million tokens, or 7 MB, take a second.

    Raises:
        ConfigError: a document needs a byte that the vocabulary lacks, or the vocabulary is beyond 65,536 tokens.
    """
    if len(tokenizer.pieces) > 2**16:
        raise ConfigError(f"a vocabulary of {len(tokenizer.pieces):,} tokens, expected 65,536 at most")
    tokens, starts = array("H"), array("q")
    for i, document in enumerate(documents):
        starts.append(len(tokens))
        tokens.extend(encoded(tokenizer, document, f"document {i} of the text"))
        if i % 1000 == 999 or i + 1 == len(documents):
            progress(i + 1, len(documents))
    return TokenisedText(np.array(tokens, np.uint16), np.array(starts, np.int64))


def drop_repeats(text: TokenisedText) -> TokenisedText:
    """Keep the first copy of every document; of a text without repeats, return the text itself.

    Smoothing goes by how many n-grams occur once, twice and three times. Whole documents that are repeated make those
    numbers meaningless.
    """
    ends = np.append(text.starts[1:], len(text.tokens)).tolist()
    first: dict[bytes, tuple[int, int]] = {}
    for start, end in zip(text.starts.tolist(), ends, strict=True):
        first.setdefault(text.tokens[start:end].tobytes(), (start, end))
    if len(first) == len(text.starts):
        return text
    lengths = [end - start for start, end in first.values()]
    kept = np.concatenate([text.tokens[start:end] for start, end in first.values()])
    return TokenisedText(kept, np.cumsum([0, *lengths[:-1]], dtype=np.int64))
