"""Positions of texts at which a sketch is fitted or judged, with what the talker says there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from englishroom.data.corpus import windows
from englishroom.data.spelling import encoded
from englishroom.errors import ConfigError
from englishroom.steps import StepProgress, silent
from englishroom.talker import Talker

NUMBERS = 2**27
"""The most probabilities held at once (512 MB)."""
BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Heard:
    """Windows of texts and what a talker says in them.

    Attributes:
        windows: tokens that are read.
        counted: from which position on each window counts.
        targets: the token that comes next at the positions that count, [position].
        probabilities: at the same, [position, d_vocab].
    """

    windows: tuple[tuple[int, ...], ...]
    counted: tuple[int, ...]
    targets: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def n_positions(self) -> int:
        return len(self.probabilities)

    @property
    def cross_entropy(self) -> float:
        """Mean nats of the tokens that came, as the talker has it."""
        said = self.probabilities[np.arange(self.n_positions), self.targets]
        return float(-np.log(np.maximum(said, 1e-30)).mean(dtype=np.float64))


def listen(
    talker: Talker, documents: Sequence[str], positions: int, ends: bool, progress: StepProgress = silent
) -> Heard:
    """Let a talker read documents from their start token, by the windows that ``score`` reads.

    Args:
        positions: about how many count; documents are read until there are so many.
        ends: whether what it says after the last token counts too, which no score does; a sketch has to learn it.

    Raises:
        ConfigError: the text cannot be encoded, or has no token in it.
    """
    tokenizer, d_vocab = talker.tokenizer, len(talker.tokenizer.pieces)
    positions = min(positions, NUMBERS // d_vocab)
    read: list[tuple[int, ...]] = []
    counted: list[int] = []
    targets: list[int] = []
    total = 0
    for document in documents:
        if total >= positions:
            break
        tokens = encoded(tokenizer, document)
        tokens += [tokenizer.stop_ids[0]] * ends
        for start, scored_from, stop in windows(tokens, talker.n_ctx):
            read.append(tuple(tokens[start : stop - 1]))
            counted.append(scored_from - start - 1)
            targets += tokens[scored_from:stop]
            total += stop - scored_from
    if not total:
        raise ConfigError("the text has no token to listen to; give more text")
    probabilities, at = np.empty((total, d_vocab), np.float32), 0
    side_by_side = max(1, BATCH_TOKENS // talker.n_ctx)
    for first in range(0, len(read), side_by_side):
        batch = read[first : first + side_by_side]
        padded = np.full((len(batch), max(map(len, batch))), tokenizer.start_id, np.int64)
        for row, window in enumerate(batch):
            padded[row, : len(window)] = window
        answers = talker.log_probs(padded)
        for row, window in enumerate(batch):
            found = answers[row, counted[first + row] : len(window)]
            np.exp(found, out=probabilities[at : at + len(found)], casting="same_kind")
            at += len(found)
        progress(min(first + side_by_side, len(read)), len(read))
    return Heard(tuple(read), tuple(counted), np.array(targets), probabilities)
