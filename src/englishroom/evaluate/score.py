"""Score a talker on text: nats per token, bits per byte, top-1 accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from englishroom.data.corpus import windows
from englishroom.errors import ConfigError
from englishroom.evaluate.protocol import Talker

BATCH_TOKENS = 4096
BATCH_NUMBERS = 2**24
"""Log-probabilities held at once (64 MB in float32)."""


@dataclass(frozen=True)
class Score:
    """Sums over scored tokens; adding two scores is right under any split of the text.

    Attributes:
        nats: summed negative log-probability of every token after the start token.
        tokens, bytes: what was scored.
        hits: tokens that were the talker's likeliest.
    """

    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0
    hits: int = 0
    documents: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(
            self.nats + other.nats,
            self.tokens + other.tokens,
            self.bytes + other.bytes,
            self.hits + other.hits,
            self.documents + other.documents,
        )

    @property
    def nats_per_token(self) -> float:
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes

    @property
    def top1(self) -> float:
        return self.hits / self.tokens


@dataclass(frozen=True)
class Window:
    """Tokens to feed, and from which one on they are scored."""

    tokens: tuple[int, ...]
    scored_from: int


def score(
    talker: Talker, documents: Sequence[str], progress: Callable[[int, int], None] = lambda _done, _total: None
) -> Score:
    """Score every document from its start token; longer ones than the context in windows that overlap by half.

    Raises:
        ConfigError: the text cannot be encoded, or has no token to score.
    """
    cut = encode_windows(talker, documents)
    if not cut:
        raise ConfigError("the text has no token to score; give more text")
    n_bytes = sum(len(document.encode()) for document in documents)
    total = Score(bytes=n_bytes, documents=len(documents))
    work, done = sum(len(window.tokens) for window in cut), 0
    for batch in batches(cut, len(talker.tokenizer.pieces)):
        total += score_batch(talker, batch)
        done += sum(len(window.tokens) for window in batch)
        progress(done, work)
    return total


def encode_windows(talker: Talker, documents: Sequence[str]) -> list[Window]:
    """Encode documents and cut them to the talker's context."""
    cut: list[Window] = []
    for document in documents:
        try:
            tokens = [talker.tokenizer.start_id, *talker.tokenizer.encode(document)]
        except ValueError as error:
            raise ConfigError(f"text: {error}; use a text of other characters") from None
        for start, scored_from, stop in windows(tokens, talker.n_ctx):
            cut.append(Window(tuple(tokens[start:stop]), scored_from - start))
    return cut


def batches(cut: Sequence[Window], d_vocab: int) -> Iterator[list[Window]]:
    """Group windows of similar length, within bounds on tokens and on numbers held at once."""
    limit = max(1, min(BATCH_TOKENS, BATCH_NUMBERS // d_vocab))
    group: list[Window] = []
    for window in sorted(cut, key=lambda window: -len(window.tokens)):
        if group and (len(group) + 1) * len(group[0].tokens) > limit:
            yield group
            group = []
        group.append(window)
    if group:
        yield group


def score_batch(talker: Talker, batch: Sequence[Window]) -> Score:
    """Score windows side by side; shorter ones are padded behind, where nothing is scored."""
    length = max(len(window.tokens) for window in batch)
    tokens = np.full((len(batch), length), talker.tokenizer.start_id, dtype=np.int64)
    scored = np.zeros((len(batch), length - 1), dtype=bool)
    for row, window in enumerate(batch):
        tokens[row, : len(window.tokens)] = window.tokens
        scored[row, window.scored_from - 1 : len(window.tokens) - 1] = True
    answers = talker.log_probs(tokens[:, :-1])
    targets = tokens[:, 1:]
    chosen: NDArray[np.floating] = np.take_along_axis(answers, targets[..., None], axis=2)[..., 0]
    hits = answers.argmax(axis=2) == targets
    return Score(
        nats=float(-chosen[scored].sum(dtype=np.float64)), tokens=int(scored.sum()), hits=int(hits[scored].sum())
    )
