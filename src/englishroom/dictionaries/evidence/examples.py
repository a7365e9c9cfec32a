"""Examples of latents at work, kept so that no order of reading or merging changes which ones.

Every event (a latent active at a position) has a key, and each latent keeps the events of lowest key. Keys depend on
the event alone, so the events kept of parts, put together and cut again, are those of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt64
from numpy.typing import NDArray

NO_TOKEN = -1
"""Stands where a window reaches over the end of its text."""
SETTLE_AT_LEAST = 2**14
"""Events that may wait before they are sorted in; more where more are kept."""


@dataclass(frozen=True)
class Examples:
    """Events with their context.

    Attributes:
        keys: the lower, the sooner kept.
        documents: number of the document.
        positions: position in the document.
        values: activation of the latent there.
        tokens: the window about the position, ``NO_TOKEN`` outside the text.
        activations: of the latent at every token of the window.
    """

    latents: Int[NDArray, " event"]
    keys: UInt64[NDArray, " event"]
    documents: Int[NDArray, " event"]
    positions: Int[NDArray, " event"]
    values: Float[NDArray, " event"]
    tokens: Int[NDArray, "event window"]
    activations: Float[NDArray, "event window"]

    def __len__(self) -> int:
        return len(self.latents)

    @staticmethod
    def none(window: int) -> Examples:
        """Return no examples."""
        numbers, windows = np.zeros(0, np.int64), np.zeros((0, window), np.int32)
        keys, values = numbers.astype(np.uint64), numbers.astype(np.float32)
        return Examples(numbers, keys, numbers, numbers, values, windows, windows.astype(np.float32))

    def take(self, chosen: NDArray) -> Examples:
        """Return the events of some indices, in their order."""
        return Examples(*(getattr(self, field.name)[chosen] for field in fields(self)))


def joined(parts: Sequence[Examples]) -> Examples:
    """Put examples one after another."""
    names = [field.name for field in fields(Examples)]
    return Examples(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def ranks(groups: Shaped[NDArray, " event"]) -> Int[NDArray, " event"]:
    """Number the events of each group from 0, where events of a group stand together."""
    at = np.arange(len(groups))
    first = np.concatenate([[True], groups[1:] != groups[:-1]]) if len(groups) else np.zeros(0, bool)
    return at - np.maximum.accumulate(np.where(first, at, 0))


class ExampleSample:
    """The events of lowest key of every latent.

    Args:
        size: how many of each latent are kept.
        window: tokens of their context.
    """

    def __init__(self, n_latents: int, size: int, window: int) -> None:
        self.n_latents, self.size, self.window = n_latents, size, window
        self._kept = Examples.none(window)
        self._waiting: list[Examples] = []
        self._bounds = np.full(n_latents, np.iinfo(np.uint64).max, np.uint64)

    def wanted(
        self,
        latents: Int[NDArray, " event"],
        keys: UInt64[NDArray, " event"],
        documents: Int[NDArray, " event"],
        positions: Int[NDArray, " event"],
    ) -> Int[NDArray, " chosen"]:
        """Choose the events that may be kept, so that only theirs need a context."""
        chosen = np.flatnonzero(keys <= self._bounds[latents])
        order = chosen[_order(latents[chosen], keys[chosen], documents[chosen], positions[chosen])]
        return order[ranks(latents[order]) < self.size]

    def add(self, events: Examples) -> None:
        """Offer events; those of lowest key stay."""
        if len(events):
            self._waiting.append(events)
        if sum(map(len, self._waiting)) >= max(SETTLE_AT_LEAST, len(self._kept)):
            self.settle()

    def settle(self) -> Examples:
        """Sort in what waits; return what is kept, latent by latent, lowest keys first."""
        if self._waiting:
            events = joined([self._kept, *self._waiting])
            order = _order(events.latents, events.keys, events.documents, events.positions)
            place = ranks(events.latents[order])
            self._kept, self._waiting = events.take(order[place < self.size]), []
            last = order[place == self.size - 1]
            self._bounds[events.latents[last]] = events.keys[last]
        return self._kept

    def merged(self, other: ExampleSample) -> ExampleSample:
        """Return the sample of both parts."""
        whole = ExampleSample(self.n_latents, self.size, self.window)
        whole._waiting = [self.settle(), other.settle()]
        whole.settle()
        return whole


def _order(latents: NDArray, keys: NDArray, documents: NDArray, positions: NDArray) -> NDArray:
    """Sort by latent, then key; equal keys by their place in the text."""
    return np.lexsort((positions, documents, keys, latents))


def strength_keys(values: Float[NDArray, " event"]) -> UInt64[NDArray, " event"]:
    """Turn activations, all at least 0, to keys that fall as they rise.

    The bits of float32 numbers of one sign, read as an integer, are ordered as the numbers are.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return np.uint64(2**32 - 1) - bits.astype(np.uint64)


def draw_keys(
    seed: int, documents: Int[NDArray, " event"], positions: Int[NDArray, " event"], latents: Int[NDArray, " event"]
) -> UInt64[NDArray, " event"]:
    """Hash events to 64 even bits, so that the lowest keys are a fair draw of all events (SplitMix64)."""
    return mixed(np.full(len(documents), seed, np.uint64), documents, positions, latents)


def mixed(start: NDArray[np.uint64], *parts: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Mix numbers, of shapes that broadcast, into 64 even bits each (SplitMix64)."""
    for part in parts:
        start = start ^ part.astype(np.uint64)
        start = start + np.uint64(0x9E3779B97F4A7C15)
        start = (start ^ (start >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        start = (start ^ (start >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        start = start ^ (start >> np.uint64(31))
    return start
