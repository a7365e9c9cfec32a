"""Choose the votes of a sketch and fit them to a talker: greedily, the most nats for the fewest characters first.

1. Tally, for every key and every output, how much the talker expects of it where the key is seen, a, and how much the
   sketch does, b. A vote that moves one to the other gains ``n KL(a / n, b / n)`` nats, were the sketch equally sure
   at all n places (Della Pietra, Della Pietra and Lafferty 1997, "Inducing features of random fields").
2. Add those that gain most for each character that they take to write; refit all votes together; again.
3. Leave out those that matter least for each character, and refit; round; move what rounding left aslant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from englishroom.emit.prelude.sketching import NATS
from englishroom.sketch import model
from englishroom.sketch.keys import Readings

RIDGE = 0.3
"""Pull of every vote to 0, as a count of observations."""
LARGEST_NATS = 8.0
"""Of a vote when it is added; refitting may go beyond."""
CAUTION = 0.6
"""Share of its best value that a vote begins with, since others are added beside it."""
ITERATIONS = 6
ENTRY_CHARACTERS, ROW_CHARACTERS = 2.2, 6.0
"""What an entry takes beside its word (a space, its share of a number), and a row beside its key."""
LEAST_SEEN, MOST_KEYS = 12, 8000
"""Places at which a key has to be seen, and how many keys, the most seen, are looked at."""
COMMON_SHARE = 0.25
"""Words that stand in more than this share of all stories so far tell nothing of the story."""
TOPICAL = ("earlier", "latest", "clause")
"""Gears with many keys at a place, of which the common ones are left out."""

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Costs:
    """Characters that it takes to write things down.

    Attributes:
        outputs: of every token and kind; infinite for tokens that no table can hold.
        keys: of every key.
    """

    outputs: Counts
    keys: Counts

    @classmethod
    def of(cls, names: Iterable[str], writable: NDArray[np.bool_], keys: Iterable[tuple[str, str]]) -> Costs:
        """Measure names of all tokens and then all kinds, and keys."""
        sizes = np.array([len(name) for name in names]) + ENTRY_CHARACTERS
        sizes[~writable] = np.inf
        return cls(sizes, np.array([len(key) for _, key in keys]) + ROW_CHARACTERS)

    def of_entries(self, votes: model.SketchVotes) -> Counts:
        """Return the cost of every vote by key, a row's own shared among its entries."""
        in_row = np.bincount(votes.keys, minlength=len(self.keys))
        return self.outputs[votes.outputs] + (self.keys / np.maximum(in_row, 1))[votes.keys]


@dataclass(frozen=True)
class ExpectedCounts:
    """What the talker expects where keys are seen; it stays while votes change.

    Attributes:
        place: of every key in the arrays below, -1 for those that are left out.
        kept: the keys that are not.
        seen: at how many positions, [kept].
        talker: summed probabilities of every output, [kept, output].
        copied: summed probabilities of words that may be said again, by row and kind.
    """

    sample: model.SampledPositions
    place: NDArray[np.int64]
    kept: NDArray[np.int64]
    seen: Counts
    talker: NDArray[np.float32]
    copied: Counts

    @classmethod
    def of(cls, sample: model.SampledPositions, votes: model.SketchVotes, usable: NDArray[np.bool_]) -> ExpectedCounts:
        """Tally the talker's own expectations.

        Args:
            usable: which keys may stand in a table.
        """
        readings = sample.readings
        seen = np.bincount(readings.seen, minlength=len(readings.keys))
        topical = np.array([gear in TOPICAL for gear, _ in readings.keys])
        useful = (seen >= LEAST_SEEN) & ~(topical & (seen > COMMON_SHARE * readings.n_positions))
        kept = np.flatnonzero(useful & usable)
        kept = np.sort(kept[np.argsort(-seen[kept], kind="stable")][:MOST_KEYS])
        place = np.full(len(seen), -1)
        place[kept] = np.arange(len(kept))
        lows = range(0, readings.n_positions, model.CHUNK)
        chunks = ((low, sample.probabilities[low : low + model.CHUNK]) for low in lows)
        talker, copied = _tally(readings, place, len(kept), votes, chunks)
        return cls(sample, place, kept, seen[kept].astype(np.float64), talker, copied)

    def sketch(self, votes: model.SketchVotes) -> tuple[NDArray[np.float32], Counts]:
        """Tally what a sketch expects, as ``talker`` and ``copied`` do."""
        chunks = ((low, np.exp(log, out=log)) for low, log in model.answers(votes, self.sample.readings))
        return _tally(self.sample.readings, self.place, len(self.kept), votes, chunks)


def _tally(
    readings: Readings,
    place: NDArray[np.int64],
    n_kept: int,
    votes: model.SketchVotes,
    chunks: Iterable[tuple[int, NDArray[np.float32]]],
) -> tuple[NDArray[np.float32], Counts]:
    by_key, by_copy = np.zeros((n_kept, votes.d_vocab), np.float32), np.zeros(votes.copies.shape)
    copies = readings.copy_starts, readings.copy_words, readings.copy_rows
    for low, p in chunks:
        model.add_to_keys(low, low + len(p), readings.starts, readings.seen, place, p, by_key)
        model.add_to_copies(low, low + len(p), *copies, votes.kind, p, by_copy)
    return np.concatenate([by_key, model.kinds_of(by_key, votes)], axis=1), by_copy


def grow(votes: model.SketchVotes, tally: ExpectedCounts, costs: Costs, n_new: int) -> model.SketchVotes:
    """Add about ``n_new`` votes, those that gain most for each character; see the steps above."""
    found, copied = tally.sketch(votes)
    importance = found.copy()
    for low in range(0, len(found), model.CHUNK):  # in blocks that stay in the cache
        part = slice(low, low + model.CHUNK)
        importance[part] = _gains(tally.talker[part], found[part], tally.seen[part, None].astype(np.float32))
    places = tally.place[votes.keys]
    held = places >= 0
    importance[places[held], votes.outputs[held]] = 0
    in_use = np.zeros(len(tally.kept), bool)
    in_use[places[held]] = True
    importance /= (costs.outputs + np.where(in_use, 0, costs.keys[tally.kept] / 2)[:, None]).astype(np.float32)
    keys, outputs = _best(importance, tally, votes.d_vocab, n_new)
    weights = _best_weights(found[keys, outputs], tally.talker[keys, outputs], tally.seen[keys])
    grown = votes.with_entries(
        np.append(votes.keys, tally.kept[keys]),
        np.append(votes.outputs, outputs),
        np.append(votes.weights, CAUTION * weights),
    )
    bar = float(importance[keys, outputs].min()) if len(keys) else 0.0
    ratio = np.log((tally.copied + 0.5) / (copied + 0.5))
    gain = tally.copied * ratio - (tally.copied - copied)  # of a vote where each word is unlikely
    new = (votes.copies == 0) & (gain / costs.outputs[votes.d_vocab :] > bar)
    return replace(grown, copies=np.where(new, CAUTION * ratio, votes.copies))


def _gains(talker: NDArray, sketch: NDArray, seen: NDArray) -> NDArray[np.float32]:
    """Return what the best vote for every output would gain, [kept, output]."""
    a, b = np.minimum(talker + 0.1, seen - 1e-2), np.minimum(sketch + 0.1, seen - 1e-2)
    return a * np.log(a / b) + (seen - a) * np.log((seen - a) / (seen - b))


def _best_weights(sketch: NDArray, talker: NDArray, seen: NDArray) -> Counts:
    """Return the votes that move what is expected from the sketch's to the talker's."""
    a, b = (np.minimum(x.astype(np.float64) + 0.25, seen - 0.1) for x in (talker, sketch))
    return np.clip(np.log(a * (seen - b) / (b * (seen - a))), -LARGEST_NATS, LARGEST_NATS)


def _best(
    importance: NDArray[np.float32], tally: ExpectedCounts, d_vocab: int, n_new: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pick the best, but few at a time for each output, and of one gear, since others may mend the same fault."""
    n_tried = min(importance.size, 12 * n_new)
    flat = np.argpartition(importance.reshape(-1), importance.size - n_tried)[-n_tried:]
    flat = flat[np.argsort(-importance.reshape(-1)[flat], kind="stable")]
    of_output: Counter[int] = Counter()
    gear_of: dict[int, str] = {}
    chosen: list[tuple[int, int]] = []
    for key, output in zip(*np.divmod(flat, importance.shape[1]), strict=True):
        if len(chosen) == n_new or importance[key, output] <= 0:
            break
        gear = tally.sample.readings.keys[tally.kept[key]][0]
        several = 6 if output >= d_vocab else 3
        if gear_of.setdefault(output, gear) == gear and of_output[output] < several:
            of_output[output] += 1
            chosen.append((key, output))
    keys, outputs = np.array(chosen, np.int64).reshape(-1, 2).T
    return keys, outputs


def refit(votes: model.SketchVotes, sample: model.SampledPositions, iterations: int = ITERATIONS) -> model.SketchVotes:
    """Move all votes together to where the talker's distributions cost least (L-BFGS)."""
    free, start = votes.free(), votes.parameters()
    # In units of one over the square root of how often they count, all votes are about equally steep.
    scale = 1 / np.sqrt(model.expected_counts(votes, sample)[free] + 4.0)

    def cost(moved: Counts) -> tuple[float, Counts]:
        numbers = start.copy()
        numbers[free] = moved * scale
        nats, gradient = model.loss_and_gradient(votes.with_parameters(numbers), sample)
        ridge = RIDGE * numbers[free]
        return nats + 0.5 * float(ridge @ numbers[free]), (gradient[free] + ridge) * scale

    options = {"maxiter": iterations, "maxfun": iterations + 4}
    found = minimize(cost, start[free] / scale, jac=True, method="L-BFGS-B", options=options)
    numbers = start.copy()
    numbers[free] = found.x * scale
    return votes.with_parameters(numbers)


def prune(
    votes: model.SketchVotes, sample: model.SampledPositions, costs: Costs, characters: float
) -> model.SketchVotes:
    """Leave out the votes that matter least for each character, until about so many characters are saved."""
    loss, d_vocab, n_entries = importance_of(votes, sample), votes.d_vocab, len(votes.weights)
    cost = costs.of_entries(votes)
    each = loss[d_vocab : d_vocab + n_entries] / cost
    order = np.argsort(each, kind="stable")
    gone = order[: int(np.searchsorted(np.cumsum(cost[order]), characters))]
    kept = np.setdiff1d(np.arange(n_entries), gone)
    bar = each[gone].max(initial=0.0)
    copy_loss = loss[d_vocab + n_entries :].reshape(votes.copies.shape)
    copies = np.where(copy_loss / costs.outputs[d_vocab:] < bar, 0.0, votes.copies)
    return replace(votes.with_entries(votes.keys[kept], votes.outputs[kept], votes.weights[kept]), copies=copies)


def importance_of(votes: model.SketchVotes, sample: model.SampledPositions) -> Counts:
    """Estimate what leaving each number out would cost, in nats over the sample, as in ``SketchVotes.parameters``.

    Where an output is unlikely and its expectation right, it falls to ``exp(-vote)`` of what it should be.
    """
    numbers = np.clip(votes.parameters(), -LARGEST_NATS, LARGEST_NATS)
    return model.expected_counts(votes, sample) * (np.expm1(-numbers) + numbers)


def round_votes(
    votes: model.SketchVotes, sample: model.SampledPositions, progress: Callable[[], None] = lambda: None
) -> model.SketchVotes:
    """Round every vote to what a table can hold; then move those by a step that the others' rounding left aslant."""
    best = _rounded(votes, votes.parameters())
    loss, gradient = model.loss_and_gradient(best, sample)
    for damping in (0.7, 0.5, 0.3):
        progress()
        move = damping * gradient / (model.expected_counts(best, sample) + 1.0)
        moved = _rounded(best, best.parameters() - np.clip(move, -NATS, NATS))
        new_loss, new_gradient = model.loss_and_gradient(moved, sample)
        if new_loss < loss:
            best, loss, gradient = moved, new_loss, new_gradient
    kept = best.weights != 0
    return best.with_entries(best.keys[kept], best.outputs[kept], best.weights[kept])


def _rounded(votes: model.SketchVotes, numbers: Counts) -> model.SketchVotes:
    return votes.with_parameters(np.where(votes.free(), np.round(numbers / NATS) * NATS, 0.0))
