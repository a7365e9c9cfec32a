"""Write a Kneser-Ney model in the ARPA format, which other n-gram programs read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from englishroom.talkers.ngrams.kneser_ney import KneserNey
from englishroom.talkers.ngrams.mixture import Mixture

NEVER = -99.0
"""log10 of the chance of what is never predicted."""
CHUNK = 2**18


def to_arpa(model: KneserNey, path: Path) -> None:
    """Write a model as an ARPA file, in which token 7 is the word ``7``.

    The start token is two words there: ``<s>`` as the first of an n-gram, ``</s>`` as the last. Every n-gram stands
    with its mixed probability, and every context with its rest as backoff weight, which comes to the same.
    """
    mixture = Mixture(model, np.float64)
    names = np.array([str(token) for token in range(model.d_vocab)], dtype=object)
    firsts, lasts = names.copy(), names.copy()
    firsts[model.start_id], lasts[model.start_id] = "<s>", "</s>"
    with path.open("w", encoding="utf-8") as file:
        file.write("\\data\\\n")
        for length, level in enumerate(model.levels, 1):
            file.write(f"ngram {length}={len(level.tokens) + 2 * (length == 1)}\n")
        rows = np.zeros((1, 0), np.uint16)
        for length, level in enumerate(model.levels, 1):
            rows = np.column_stack([np.repeat(rows, np.diff(level.starts), axis=0), level.tokens])
            backoffs = np.log10(mixture.rests[length][:-1]) if length < model.order else np.zeros(len(rows))
            file.write(f"\n\\{length}-grams:\n")
            if length == 1:
                file.write(f"{NEVER}\t<unk>\t0\n{NEVER}\t<s>\t{backoffs[model.start_id]:.9f}\n")
                backoffs[model.start_id] = 0
            words = [*([firsts] if length > 1 else []), *[names] * (length - 2), lasts]
            for start in range(0, len(rows), CHUNK):
                part = slice(start, start + CHUNK)
                file.writelines(_lines(mixture, rows[part], backoffs[part], words))
        file.write("\n\\end\\\n")


def _lines(
    mixture: Mixture, rows: NDArray[np.uint16], backoffs: NDArray[np.float64], words: list[NDArray[np.object_]]
) -> Iterator[str]:
    nats = np.log(mixture.unigrams[rows[:, 0]]) if rows.shape[1] == 1 else mixture.token_log_probs(rows)[:, -1]
    columns = [column_words[column].tolist() for column_words, column in zip(words, rows.T, strict=True)]
    for chance, backoff, *ngram in zip((nats / np.log(10)).tolist(), backoffs.tolist(), *columns, strict=True):
        yield f"{chance:.9f}\t{' '.join(ngram)}\t{backoff:.9f}\n"
