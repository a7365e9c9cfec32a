"""What the latents of one dictionary did at the positions read so far: an accumulator that merges.

All that is counted is whole numbers or sums without rounding, so merged parts equal the whole to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from englishroom.dictionaries.evidence.config import EDGES, EvidenceConfig
from englishroom.dictionaries.evidence.examples import NO_TOKEN, Examples, ExampleSample, draw_keys, strength_keys
from englishroom.dictionaries.evidence.masked_rows import MaskedRows

STEPS = 2.0**24
"""Steps to the unit that activations are rounded to before they are summed; such sums are exact in float64."""
MATCHED_AT_ONCE = 2**21
"""Slots of codes compared at once when contexts are filled in."""


class PairCounts:
    """How often each pair of latent and token came up; takes memory for the pairs that did.

    Args:
        d_vocab: pairs are numbered ``latent * d_vocab + token``.
    """

    def __init__(self, d_vocab: int) -> None:
        self.d_vocab = d_vocab
        self._pairs, self._counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._waiting: list[tuple[NDArray, NDArray]] = []

    def add(self, pairs: Int[NDArray, " event"]) -> None:
        """Count pairs."""
        self._wait(*np.unique(pairs, return_counts=True))

    def _wait(self, pairs: NDArray, counts: NDArray) -> None:
        self._waiting.append((pairs, counts))
        if sum(len(pairs) for pairs, _ in self._waiting) >= max(2**14, len(self._pairs)):
            self.settle()

    def settle(self) -> tuple[Int[NDArray, " pair"], Int[NDArray, " pair"]]:
        """Add up what waits; return the pairs, sorted, and their counts."""
        if self._waiting:
            pairs = np.concatenate([self._pairs, *(part for part, _ in self._waiting)])
            counts = np.concatenate([self._counts, *(part for _, part in self._waiting)])
            order = np.argsort(pairs, kind="stable")
            pairs, counts = pairs[order], counts[order]
            first = np.flatnonzero(np.diff(pairs, prepend=-1))
            self._pairs = pairs[first]
            self._counts = np.add.reduceat(counts, first) if len(first) else counts
            self._waiting = []
        return self._pairs, self._counts

    def merged(self, other: PairCounts) -> PairCounts:
        """Return the counts of both parts."""
        whole = PairCounts(self.d_vocab)
        whole._waiting = [self.settle(), other.settle()]
        whole.settle()
        return whole


@dataclass(frozen=True)
class SlotCodes:
    """The active latents of a batch of rows, as :class:`~englishroom.dictionaries.code.Codes` holds them."""

    indices: Int[NDArray, "place slot"]
    values: Float[NDArray, "place slot"]
    counts: Int[NDArray, " place"]

    def used(self) -> Bool[NDArray, "place slot"]:
        """Say which slots hold an active latent."""
        return np.arange(self.indices.shape[1]) < self.counts[:, None]


class LatentTally:
    """What the latents of one dictionary did."""

    def __init__(self, n_latents: int, d_vocab: int, config: EvidenceConfig) -> None:
        self.n_latents, self.config = n_latents, config
        self.firing = np.zeros(n_latents, np.int64)
        self.sums = np.zeros(n_latents, np.float64)
        self.maxima = np.zeros(n_latents, np.float32)
        self.histogram = np.zeros((n_latents, len(EDGES) + 1), np.int64)
        self.pairs = PairCounts(d_vocab)
        self.strongest = ExampleSample(n_latents, config.strongest, config.window)
        self.drawn = ExampleSample(n_latents, config.drawn, config.window)

    def add(self, rows: MaskedRows, codes: SlotCodes) -> None:
        """Read the codes of a batch of rows, one line of codes a position."""
        used = codes.used() & rows.mask.reshape(-1, 1)
        place, slot = np.nonzero(used)
        latents, values = codes.indices[place, slot].astype(np.int64), codes.values[place, slot].astype(np.float32)
        n, n_bins = self.n_latents, len(EDGES) + 1
        self.firing += np.bincount(latents, minlength=n)
        self.sums += np.bincount(latents, np.rint(values.astype(np.float64) * STEPS) / STEPS, minlength=n)
        np.maximum.at(self.maxima, latents, values)
        bins = np.searchsorted(np.array(EDGES), values, side="right")
        self.histogram += np.bincount(latents * n_bins + bins, minlength=n * n_bins).reshape(n, n_bins)
        self.pairs.add(latents * self.pairs.d_vocab + rows.tokens.reshape(-1)[place])

        if rows.shown is not None:
            shown = rows.shown.reshape(-1)[place]
            place, slot, latents, values = place[shown], slot[shown], latents[shown], values[shown]
        active = np.where(used, codes.indices, -1)
        row, column = np.divmod(place, rows.tokens.shape[1])
        documents = rows.documents[row].astype(np.int64)
        positions = rows.starts[row].astype(np.int64) + column
        keyed = (
            (self.strongest, strength_keys(values)),
            (self.drawn, draw_keys(self.config.seed, documents, positions, latents)),
        )
        for sample, keys in keyed:
            chosen = sample.wanted(latents, keys, documents, positions)
            tokens, flat = self._windows(rows, place[chosen])
            activations = _activations(active, codes.values, latents[chosen], flat)
            events = (latents, keys, documents, positions, values)
            sample.add(Examples(*[part[chosen] for part in events], tokens=tokens, activations=activations))

    def _windows(self, rows: MaskedRows, place: NDArray) -> tuple[NDArray, NDArray]:
        """Cut the windows about places: tokens, and the place of each token (-1 outside), both [event, window].

        A window ends where a position does not count.
        """
        n_pos, before = rows.tokens.shape[1], self.config.before
        row, column = np.divmod(place, n_pos)
        columns = column[:, None] + np.arange(-before, self.config.after + 1)  # [event, window]
        flat = row[:, None] * n_pos + columns.clip(0, n_pos - 1)
        inside = (columns >= 0) & (columns < n_pos) & rows.mask.reshape(-1)[flat]
        inside[:, : before + 1] = np.logical_and.accumulate(inside[:, before::-1], axis=1)[:, ::-1]
        inside[:, before:] = np.logical_and.accumulate(inside[:, before:], axis=1)
        tokens = np.where(inside, rows.tokens.reshape(-1)[flat], NO_TOKEN).astype(np.int32)
        return tokens, np.where(inside, flat, -1)

    def merged(self, other: LatentTally) -> LatentTally:
        """Return the tally of both parts."""
        whole = LatentTally(self.n_latents, self.pairs.d_vocab, self.config)
        whole.firing, whole.sums = self.firing + other.firing, self.sums + other.sums
        whole.maxima = np.maximum(self.maxima, other.maxima)
        whole.histogram = self.histogram + other.histogram
        whole.pairs = self.pairs.merged(other.pairs)
        whole.strongest = self.strongest.merged(other.strongest)
        whole.drawn = self.drawn.merged(other.drawn)
        return whole


def _activations(active: NDArray, values: NDArray, latents: NDArray, flat: NDArray) -> NDArray:
    """Look up how active each event's latent is at every place of its window, [event, window].

    Args:
        active: latents active at each place, -1 in slots that are not used, [place, slot].
        values: how active they are.
        flat: the places, -1 outside the text.
    """
    found = np.zeros(flat.shape, np.float32)
    step = max(1, MATCHED_AT_ONCE // max(1, flat.shape[1] * active.shape[1]))
    for start in range(0, len(flat), step):
        at = flat[start : start + step]
        match = active[at] == latents[start : start + step, None, None]  # [event, window, slot]
        event, column, slot = np.nonzero(match)
        found[start + event, column] = values[at[event, column], slot]
    return np.where(flat >= 0, found, np.float32(0))
