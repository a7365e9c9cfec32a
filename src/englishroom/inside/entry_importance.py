"""How important entries of a sparse program are on one text, and how far a slice of it is from the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from englishroom.inside.measure_moments import measure_moments
from englishroom.interp.pointwise import through_softmax
from englishroom.interp.recorded_run import RecordedRun
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import AnyTable, Linear, Lookup, Match, Program, Rules, SparseTable
from englishroom.passes.slice import Weighed

Same = Literal["tokens", "distributions"]
"""What a slice says the same: the log-probability of each token of the text, or the whole distribution after each."""
DRAWS = 8
"""Tokens drawn at every position, to weigh what else the program could say."""
TEMPERATURE = 2.0
"""They are drawn, and weighed, at this temperature: what is unlikely stays so because entries vote against it, which
the gradient at the program's own probabilities hardly shows."""
CHUNK = 1 << 22
"""Products of entries and positions at hand at a time."""
LEAST_LEFT = 0.2
"""Share of the tolerance that is taken to be left at every position."""
Rows = NDArray[Any]
Near = Callable[[Rows], NDArray[np.float64]]
Found = tuple[AnyTable, NDArray[np.float64], NDArray[np.bool_]]


def gap_to(program: Program, tokens: NDArray[np.integer], same: Same) -> Callable[[Program], float]:
    """Return the function that says how far a program is from this one on a text, in nats.

    With ``tokens``, the largest difference of the log-probability of a token of the text; with ``distributions``, the
    largest KL(program‖other) after a position of it, the last included.

    Args:
        tokens: start token first.
    """
    whole = Interpreter(program, np.float64).log_probs(tokens)

    def gap(other: Program) -> float:
        found = Interpreter(other, np.float64).log_probs(tokens)
        return float(gaps(whole, found, tokens, same).max(initial=0.0))

    return gap


def near_to(program: Program, tokens: NDArray[np.integer], same: Same, tolerance: float) -> Near:
    """Return the function that says how much each position counts when entries are weighed: the more, the less of the
    tolerance is left there."""
    whole = Interpreter(program, np.float64).log_probs(tokens)

    def near(found: Rows) -> NDArray[np.float64]:
        left = 1.0 - np.append(gaps(whole, found, tokens, same), 0.0)[: len(tokens)] / max(tolerance, 1e-9)
        return 1.0 / np.maximum(left, LEAST_LEFT)

    return near


def gaps(whole: Rows, found: Rows, tokens: NDArray[np.integer], same: Same) -> NDArray[np.float64]:
    """Return the gap at every position of a text."""
    if same == "distributions":
        return np.maximum((np.exp(whole) * (whole - found)).sum(1), 0.0)
    at = np.arange(len(tokens) - 1)
    return np.abs(whole - found)[at, tokens[1:]]


def weigh(
    program: Program,
    tokens: NDArray[np.integer],
    centred: bool,
    near: Near = lambda log_probs: np.ones(len(log_probs)),
    seed: int = 0,
) -> Weighed:
    """Weigh every entry of every sparse table: the square of what its absence changes, summed over positions.

    An entry adds ``w x`` to something whose gradient is g; its absence changes the log-probabilities of a text by
    about ``w x g``. That text is the one given, and continuations drawn from the program, so that an entry counts also
    where the program is sure (Fisher's information).

    Args:
        centred: count ``w (x - E[x])``, where biases take over the mean.
        near: function of the log-probabilities, [pos, d_vocab]: how much each position counts.
    """
    reading = RecordedRun(Interpreter(program, np.float64), tokens)
    gradients = list(_gradients(reading, np.random.default_rng(seed)))
    counts = near(reading.log_probs)[:, None]
    weights: dict[str, NDArray[np.float64]] = {}
    used: dict[str, NDArray[np.bool_]] = {}
    for share, gradient in gradients:
        back = reading.back(counts * gradient, "everything")
        for block in program.blocks:
            for table, squares, on in _entries(reading, block, back, centred):
                weights[table.name] = weights.get(table.name, 0.0) + share * squares
                used[table.name] = used[table.name] | on if table.name in used else on
    fires = {name: np.any(parts.fired, axis=0, keepdims=True)[0] for name, parts in reading.rules.items()}
    return Weighed(weights, used, fires, measure_moments(program, "the text sliced for", [tokens]))


def _gradients(reading: RecordedRun, rng: np.random.Generator) -> Iterator[tuple[float, Rows]]:
    """Yield gradients of log-probabilities on the votes, each with its weight: of the text, and of drawn tokens."""
    chances, tokens = np.exp(reading.log_probs), reading.tokens
    told = -chances
    told[np.arange(len(tokens) - 1), tokens[1:]] += 1.0
    told[-1] = 0.0
    yield 1.0, told
    even = np.exp(reading.log_probs / TEMPERATURE)
    even /= even.sum(1, keepdims=True)
    for _ in range(DRAWS):
        drawn = (even.cumsum(1) > rng.random((len(even), 1))).argmax(1)
        gradient = -even
        gradient[np.arange(len(drawn)), drawn] += 1.0
        yield 1.0 / DRAWS, gradient


def _entries(reading: RecordedRun, block: Any, back: dict[str, Rows], centred: bool) -> Iterator[Found]:
    """Yield the sparse tables of a block with the squares of what each entry's absence changes, and whether it is used.

    A rule that does not fire has used no effect, and what its condition reads changes nothing.
    """
    g = back.get(block.name, np.zeros((1, 1)))
    match block:
        case Lookup(table=SparseTable() as table, index=index):
            chosen = reading.tokens if index == "token" else np.arange(len(reading.tokens))
            on = np.zeros((len(chosen), table.shape[0]))
            on[np.arange(len(chosen)), chosen] = 1.0
            yield _weighed(table, on, g, on)
        case Linear(weight=SparseTable() as table, reads=reads):
            x = reading.variables[reads]
            yield _weighed(table, _without_mean(x, centred), g, x, flipped=block.transposed)
        case Rules(conditions=conditions, effects=effects, reads=reads):
            parts, x = reading.rules[block.name], reading.variables[reads]
            yield _weighed(effects, parts.passed, g, parts.fired)
            passed = np.where(parts.fired, reading.apply(effects, g, transposed=True), 0.0)
            yield _weighed(conditions, _without_mean(x, centred), passed, x, flipped=True)
        case Match():
            yield from _entries_of_heads(reading, block, g)
        case _:
            return


def _entries_of_heads(reading: RecordedRun, block: Match, g: Rows) -> Iterator[Found]:
    queries, keys, values = (reading.variables[name] for name in (block.queries, block.keys, block.values))
    mixes = reading.unmixed(block, g)
    for head, (tables, weights, mix) in enumerate(zip(block.scores, reading.weights[block.name], mixes, strict=True)):
        on_scores = through_softmax(weights, mix @ values.T) ** 2
        for number, table in enumerate(tables):
            if isinstance(table, SparseTable):
                here = np.where(reading.bucket(block, number), on_scores, 0.0)
                yield _weighed(table, queries, np.sqrt(here @ keys**2), queries, keys)
        if block.moves is not None and isinstance(moves := block.moves[head], SparseTable):
            outputs = weights @ values
            yield _weighed(moves, outputs, g, outputs)


def _without_mean(x: Rows, centred: bool) -> Rows:
    return x - x.mean(0) if centred else x


def _weighed(
    table: SparseTable, x: Rows, g: Rows, on: Rows, on_too: Rows | None = None, flipped: bool = False
) -> Found:
    """Sum ``(w x g)**2`` over positions for each entry, x by its row and g by its column (the other way if flipped)."""
    ins, outs = (table.columns, table.rows()) if flipped else (table.rows(), table.columns)
    squares = np.zeros(table.n_entries)
    step = max(CHUNK // max(len(x), 1), 1)
    xx, gg = x**2, g**2
    for first in range(0, table.n_entries, step):
        part = slice(first, first + step)
        squares[part] = (xx[:, ins[part]] * gg[:, outs[part]]).sum(0)
    used = (on != 0).any(0)[ins]
    if on_too is not None:
        used &= (on_too != 0).any(0)[outs]
    return table, squares * table.values.astype(np.float64) ** 2, used
