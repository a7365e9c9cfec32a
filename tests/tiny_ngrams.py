"""A small n-gram talker."""

from __future__ import annotations

import numpy as np

from englishroom.talkers.ngrams.talker import NgramTalker, fit_ngrams
from programs import tokenizer_for


def texts() -> list[str]:
    """Make texts of two-letter words that follow each other more often than not."""
    rng = np.random.default_rng(0)
    words = ["ab", "cd", "e", "fgh", "ia", "ba", "ded", "k"]
    return ["".join(words[i] for i in rng.integers(8, size=rng.integers(2, 12)).cumsum() % 8) for _ in range(150)]


def ngrams_of(order: int) -> NgramTalker:
    """Count n-grams on these texts."""
    return fit_ngrams(texts(), tokenizer_for(14), order)
