"""How readable a readable program is: numbers with their nulls; docs/concepts/readability.md defines them.

1. Run the program over a text; count the entries used and how often features are on, and take means.
2. Choose positions, and at each find how many voters and how many entries are needed for nearly the same answer.
3. Do the same on two programs that know nothing: one whose voters have each other's votes (voters needed), and one
   whose numbers are shuffled within each table (all else).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.inside.entries_used import entries_used
from englishroom.inside.token_run import TokenRun
from englishroom.inside.token_slice import count, slice_of
from englishroom.inside.trace import reads_per_rule
from englishroom.inside.voters import BEST, kept_greedily, voters_of
from englishroom.inside.wires import Readable
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Fire, Looks, Program, SparseTable, Votes
from englishroom.passes.tables import with_tables
from englishroom.steps import Progress, silent

TOLERANCE_NATS = 0.1
OFTEN = 0.2
"""Share of the positions above which a feature is on often."""
SHUFFLED = "shuffled"
Rows = Sequence[NDArray[np.integer]]
Place = tuple[int, int]
"""A row of a text, and a position in it."""


@dataclass(frozen=True)
class TextMeans:
    """What a program does on a text, in the mean over its positions.

    Attributes:
        variables: mean of every variable, name -> [size].
        on: share of the positions at which each feature is on, name -> [size]; words' lists and places are left out.
        entries_used: of each table, at a position.
    """

    variables: Mapping[str, NDArray[np.float64]]
    on: Mapping[str, NDArray[np.float64]]
    entries_used: Mapping[str, float]


@dataclass(frozen=True)
class Readability:
    """What was measured.

    Attributes:
        measures: by their keys, as manifests hold them; the null of each under its key with ``_null``.
        entries_used: by table, mean over positions.
        places: rows and positions at which voters and entries were counted.
        voters_needed, entries_needed: at these, and so many of them for the latter as were asked for.
    """

    measures: Mapping[str, float]
    entries_used: Mapping[str, float]
    places: tuple[Place, ...]
    voters_needed: tuple[int, ...]
    entries_needed: tuple[int, ...]
    positions_read: int


def measure_readability(
    program: Program,
    rows: Rows,
    n_places: int = 80,
    seed: int = 0,
    progress: Progress = silent,
    tolerance: float = TOLERANCE_NATS,
) -> Readability:
    """Measure a readable program on a text, and both nulls.

    Args:
        rows: documents as tokens, the start token first.
        n_places: positions at which voters and entries are counted.
        tolerance: nats of KL(program‖kept) within which what is kept says nearly the same.
    """
    generator = np.random.default_rng(seed)
    places = choose_places([len(row) for row in rows], n_places, generator)
    permuted, shuffled = with_permuted_votes(program, generator), with_shuffled_numbers(program, generator)
    means = text_means(program, rows, partial(progress, "reading the text"))
    other = text_means(shuffled, rows, partial(progress, "reading the text (null)"))
    voters = voters_needed(program, rows, places, means, tolerance, partial(progress, "voters needed"))
    voters_null = voters_needed(permuted, rows, places, means, tolerance, partial(progress, "voters needed (null)"))
    entries = entries_needed(program, rows, places, means, tolerance, partial(progress, "entries needed"))
    entries_null = entries_needed(shuffled, rows, places, other, tolerance, partial(progress, "entries needed (null)"))
    nulls = _measures(other, *voters_null, *entries_null)
    measures = _measures(means, *voters, *entries) | {f"{key}_null": value for key, value in nulls.items()}
    reads = reads_per_rule(program)
    measures |= {f"reads_per_rule_{name}": _at(reads, at) for name, at in (("median", 0.5), ("p95", 0.95), ("most", 1))}
    n_read = sum(map(len, rows))
    return Readability(measures, means.entries_used, tuple(places), tuple(voters[0]), tuple(entries[0]), n_read)


def _measures(
    means: TextMeans,
    voters: Sequence[int],
    best: Sequence[float],
    without: Sequence[float],
    entries: Sequence[int],
    nothing: Sequence[float],
) -> dict[str, float]:
    """Sum up what was counted of one program."""
    return {
        "entries_used_mean": sum(means.entries_used.values()),
        "voters_needed_median": _at(voters, 0.5),
        "voters_needed_p90": _at(voters, 0.9),
        "kl_best_8_voters": _at(best, 0.5),
        "kl_no_voters": _at(without, 0.5),
        "entries_needed_median": _at(entries, 0.5),
        "kl_no_entries": _at(nothing, 0.5),
        "often_on_share": often_on_share(means),
    }


def text_means(program: Program, rows: Rows, progress: Any = silent) -> TextMeans:
    """Run a program over a text, and take means over its positions."""
    interpreter = Interpreter(program, np.float32)
    sums = {block.name: np.zeros(program.space(block.space).size) for block in program.blocks}
    on = {block.name: sums[block.name].copy() for block in program.blocks if isinstance(block, Looks | Fire)}
    used: dict[str, float] = {}
    for number, tokens in enumerate(rows):
        variables = interpreter.variables(tokens)
        for name, total in sums.items():
            total += variables[name].sum(0, dtype=np.float64)
        for name, total in on.items():
            total += np.count_nonzero(variables[name], axis=0)
        for name, counts in entries_used(program.blocks, variables, tokens).items():
            used[name] = used.get(name, 0.0) + float(counts.sum())
        progress(number + 1, len(rows))
    n = max(1, sum(map(len, rows)))
    return TextMeans(
        {name: total / n for name, total in sums.items()},
        {name: total / n for name, total in on.items()},
        {name: total / n for name, total in used.items()},
    )


def choose_places(lengths: Sequence[int], n_places: int, generator: np.random.Generator) -> list[Place]:
    """Draw positions, as evenly over the documents as can be."""
    orders = [generator.permutation(length).tolist() for length in lengths]
    found: list[Place] = []
    for turn in range(max(lengths, default=0)):
        for row in generator.permutation(len(orders)).tolist():
            if turn < len(orders[row]) and len(found) < n_places:
                found.append((row, orders[row][turn]))
    return sorted(found)


def voters_needed(
    program: Program, rows: Rows, places: Sequence[Place], means: TextMeans, tolerance: float, progress: Any = silent
) -> tuple[list[int], list[float], list[float]]:
    """Count the voters needed at each place, and say what the 8 best alone, and none, cost there, in nats."""
    voters, interpreter = voters_of(program), Interpreter(program, np.float64)
    mean = voters.values({name: values[None] for name, values in means.variables.items()})[
        0
    ]  # the same, whatever features vote for
    needed: list[int] = []
    best: list[float] = []
    without: list[float] = []
    for number, (row, at) in enumerate(places):
        variables = interpreter.variables(rows[row][: at + 1])
        apart = voters.values(variables)[-1] - mean
        kls = kept_greedily(variables[program.vote.name][-1], apart, voters.votes, tolerance)
        needed.append(int(np.argmax(kls <= tolerance)))
        best.append(float(kls[min(BEST, len(kls) - 1)]))
        without.append(float(kls[0]))
        progress(number + 1, len(places))
    return needed, best, without


def entries_needed(
    program: Program, rows: Rows, places: Sequence[Place], means: TextMeans, tolerance: float, progress: Any = silent
) -> tuple[list[int], list[float]]:
    """Count the entries that each place needs, votes and everything upstream; and say what none costs, in nats."""
    readable = Readable(program, means.variables)
    needed: list[int] = []
    nothing: list[float] = []
    for number, (row, at) in enumerate(places):
        run = TokenRun(readable, rows[row][: at + 1])
        needed.append(count(slice_of(run, tolerance)))
        nothing.append(run.kl_nats({name: np.zeros_like(mask) for name, mask in run.everything.items()}))
        progress(number + 1, len(places))
    return needed, nothing


def often_on_share(means: TextMeans) -> float:
    """Return the share of moved features and rules that are on at more than a fifth of the positions."""
    on = np.concatenate([np.zeros(0), *means.on.values()])
    return float((on > OFTEN).mean()) if len(on) else 0.0


def with_permuted_votes(program: Program, generator: np.random.Generator) -> Program:
    """Give the votes of each feature that votes to another one that does."""
    changed: dict[str, Any] = {}
    for block in program.blocks:
        if isinstance(block, Votes):
            counts = np.diff(block.weights.starts)
            rows, order = np.flatnonzero(counts), np.arange(len(counts))
            order[rows] = generator.permutation(rows)
            changed[block.weights.name] = _rows_in_order(block.weights, order)
    return with_tables(program, changed, SHUFFLED)


def with_shuffled_numbers(program: Program, generator: np.random.Generator) -> Program:
    """Shuffle the numbers of every sparse table among its entries; what leads where, and all biases, stay."""
    tables = {name: table for name, table in program.tables().items() if isinstance(table, SparseTable)}
    changed = {
        name: replace(table, values=table.values[generator.permutation(table.n_entries)])
        for name, table in tables.items()
    }
    return with_tables(program, changed, SHUFFLED)


def _rows_in_order(table: SparseTable, order: NDArray[np.intp]) -> SparseTable:
    """Put other rows in the place of those of a table."""
    counts = np.diff(table.starts)[order]
    starts = np.append(0, np.cumsum(counts)).astype(table.starts.dtype)
    entries = np.repeat(table.starts[:-1][order] - starts[:-1], counts) + np.arange(len(table.values))
    return replace(table, starts=starts, columns=table.columns[entries], values=table.values[entries])


def _at(values: Sequence[float] | NDArray[np.integer], share: float) -> float:
    """Return a quantile; 0 of nothing."""
    return float(np.quantile(values, share)) if len(values) else 0.0
