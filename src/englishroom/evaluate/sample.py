"""Text without limit: documents sampled from a talker, from its own start token on.

Every document has a random stream of its own, made from the seed and the document's number, and a target is run in
float64. So document 17 of seed 3 is the same text however many are sampled, however many side by side, and (but for a
chance of about one in a million documents) on whatever processor.

The probability of a document is the talker's own: each token is drawn from the whole distribution, none is filtered.
A document that is not finished when the context is full is cut there and marked so; leaving it out would make short
documents more frequent than the talker has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.evaluate.config import SampleOptions
from englishroom.evaluate.talkers.target import TargetTalker
from englishroom.models.forward import Cache, forward
from englishroom.models.load import in_precision
from englishroom.models.spec import LONGEST_CONTEXT
from englishroom.talker import Talker

BATCH = 128
CACHE_BYTES = 2**28
"""Keys and values held at once, by default."""
SHRINK_BELOW = 0.8
"""Finished texts are dropped from a batch when fewer than this share of it goes on."""


@dataclass(frozen=True)
class SampledDocument:
    """One sampled document.

    Attributes:
        tokens: without the start token and the stop token.
        finished: whether the talker ended it; otherwise it was cut.
    """

    text: str
    tokens: tuple[int, ...]
    finished: bool


def samples(
    talker: Talker, numbers: range, options: SampleOptions, batch: int | None = None
) -> Iterator[SampledDocument]:
    """Yield the documents of the given numbers, in order, a batch at a time.

    Args:
        batch: documents sampled side by side; by default as many as fit a bound on memory.

    Raises:
        ConfigError: an option is out of range.
    """
    options.validate()
    if batch is not None and batch < 1:
        raise ConfigError(f"--batch is {batch}, expected 1 or more")
    limit = talker.n_ctx if options.max_tokens is None else min(talker.n_ctx, options.max_tokens)
    if limit > LONGEST_CONTEXT:
        raise ConfigError(
            f"{talker.name}: documents of up to {limit:,} tokens, expected {LONGEST_CONTEXT:,} at most; give a shorter "
            "--max-tokens or --context"
        )
    reader: _Reader = _TalkerReader(talker)
    if isinstance(talker, TargetTalker):
        reader = _TargetReader(talker, limit, options.precision)
    size = batch or reader.batch
    for at in range(0, len(numbers), size):
        yield from _sample_batch(talker, reader, numbers[at : at + size], limit, options)


def random_stream(seed: int, number: int, length: int) -> NDArray[np.float64]:
    """Return the chances (0..1) that decide the tokens of one document."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(number,)))).random(length)


def choose_tokens(scores: NDArray[Any], chances: NDArray[np.float64], temperature: float) -> NDArray[np.int64]:
    """Return, for every row, the token at the share of its cumulative probabilities that its chance says.

    Args:
        scores: log-probabilities or logits, [row, d_vocab].
        chances: 0..1, [row].
    """
    scores = scores.astype(np.float64, copy=False)
    if temperature == 0:
        return scores.argmax(axis=1)
    with np.errstate(over="ignore"):  # at the coldest temperatures all but the likeliest fall to minus infinity
        summed = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature).cumsum(axis=1)
    passed = (summed <= chances[:, None] * summed[:, -1:]).sum(axis=1)
    return np.minimum(passed, scores.shape[1] - 1)


def _sample_batch(
    talker: Talker, reader: _Reader, numbers: range, limit: int, options: SampleOptions
) -> Iterator[SampledDocument]:
    """Sample some documents side by side; those that have ended are dropped on the way."""
    tokenizer = talker.tokenizer
    stops = np.array(tokenizer.stop_ids)
    chances = np.stack([random_stream(options.seed, number, limit) for number in numbers])  # [document, position]
    told = np.zeros(chances.shape, dtype=np.int64)
    lengths = np.full(len(numbers), limit)
    finished = np.zeros(len(numbers), dtype=bool)
    rows = np.arange(len(numbers))  # the document of every row of the reader
    reader.begin(len(rows))
    tokens = np.full(len(rows), tokenizer.start_id)
    for position in range(limit):
        tokens = choose_tokens(reader.step(tokens), chances[rows, position], options.temperature)
        told[rows, position] = tokens
        ended = rows[np.isin(tokens, stops) & ~finished[rows]]
        lengths[ended], finished[ended] = position, True
        going_on = np.flatnonzero(~finished[rows])
        if not len(going_on):
            break
        if len(going_on) < SHRINK_BELOW * len(rows):
            reader.keep(going_on)
            rows, tokens = rows[going_on], tokens[going_on]
    for document, length in enumerate(lengths):
        kept = tuple(int(token) for token in told[document, :length])
        yield SampledDocument(tokenizer.decode(kept), kept, bool(finished[document]))


class _Reader(Protocol):
    """Reads texts in step and answers after every token."""

    batch: int

    def begin(self, n_texts: int) -> None: ...

    def step(self, tokens: NDArray[np.int64]) -> NDArray[Any]:
        """Read one more token of every text, and return scores of the next one, [text, d_vocab]."""
        ...

    def keep(self, rows: NDArray[np.int64]) -> None: ...


class _TargetReader:
    """Texts read by a target, all in one batch."""

    def __init__(self, talker: TargetTalker, n_positions: int, precision: str) -> None:
        dtype = torch.float64 if precision == "float64" else torch.float32
        self.spec = spec = talker.target.spec
        self.weights = in_precision(talker.target, dtype).weights
        cached = 2 * spec.n_layers * spec.n_kv_heads * spec.d_head * n_positions * dtype.itemsize  # bytes a text
        self.batch = max(1, min(BATCH, CACHE_BYTES // cached))

    def begin(self, n_texts: int) -> None:  # noqa: ARG002
        self.cache = Cache()

    def step(self, tokens: NDArray[np.int64]) -> NDArray[Any]:
        with torch.inference_mode():
            return forward(self.spec, self.weights, torch.from_numpy(tokens)[:, None], cache=self.cache)[:, 0].numpy()

    def keep(self, rows: NDArray[np.int64]) -> None:
        kept = torch.from_numpy(rows)
        with torch.inference_mode():
            self.cache = Cache([k[kept] for k in self.cache.keys], [v[kept] for v in self.cache.values])


class _TalkerReader:
    """Texts read by any talker, each by itself, so that none can disturb another."""

    batch = 1

    def __init__(self, talker: Talker) -> None:
        self.talker = talker

    def begin(self, n_texts: int) -> None:
        self.readings = [self.talker.stream() for _ in range(n_texts)]

    def step(self, tokens: NDArray[np.int64]) -> NDArray[Any]:
        return np.stack(
            [reading.extend(np.array([[token]]))[0, -1] for reading, token in zip(self.readings, tokens, strict=True)]
        )

    def keep(self, rows: NDArray[np.int64]) -> None:
        self.readings = [self.readings[row] for row in rows]
