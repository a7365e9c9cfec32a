"""Leave out all that one text does not need: the smallest program, by this search, that says the same on it.

1. Leave out what the text never uses: entries of what is never on, and rules that never fire.
2. Weigh every entry by what its absence would change, keep the smallest of some shares of the heaviest entries with
   which the gap stays within a part of the tolerance, weigh again what is left, and so on.
3. Take out runs of the lightest entries that are left, ever shorter ones, as long as the gap allows.

After every step coordinates, rules and blocks that nothing reads are left out too (``Compact``), and the gap is that of
the program as it would be written. Biases take over what left-out entries add on average, where asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.ir import program as ir
from englishroom.passes.base import GIVEN
from englishroom.passes.compact import compacted
from englishroom.passes.moments import TableMoments, folded_means
from englishroom.passes.tables import with_tables
from englishroom.steps import Progress, silent

PARTS = (0.25, 0.5)
"""Parts of the tolerance that step 2 may use, one after the other; step 3 chooses better and may use the whole."""
SHARES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Shares of the entries that it tries to keep, the smallest first: the gap need not rise with what is left out."""
ROUNDING_NATS = 1e-9
"""Gap that adding up in another order may make."""
SHORTEST_RUNS = 64
"""The first runs of step 3 are so many; then twice as many, and so on."""


class Weighed(NamedTuple):
    """How important entries of a program are on a text.

    Attributes:
        weights: by table, what leaving each entry out would change.
        used: by table, whether an entry is multiplied with anything but 0 at all.
        fires: by block, whether a rule ever fires.
        moments: what tables are multiplied with on the text.
    """

    weights: Mapping[str, NDArray[np.float64]]
    used: Mapping[str, NDArray[np.bool_]]
    fires: Mapping[str, NDArray[np.bool_]]
    moments: TableMoments


class SliceResult(NamedTuple):
    """A slice in the making: the program, and which coordinates of the whole program's variables are in it."""

    program: ir.Program
    kept: Mapping[str, NDArray[np.intp]]


@dataclass(frozen=True)
class Slice:
    """Leave out all that a text does not need.

    Args:
        gap: how far a program is from the whole one on the text, in the unit of the tolerance; no option, since it
            follows from program and text, as ``weigh`` does.
        weigh: how important entries are.
    """

    tolerance: float
    evaluations: int = 1000
    """Programs tried at most."""
    fold: bool = True
    """Let biases take over what left-out entries add on average."""
    gap: Callable[[ir.Program], float] = field(kw_only=True, metadata=GIVEN)
    weigh: Callable[[ir.Program], Weighed] = field(kw_only=True, metadata=GIVEN)
    progress: Progress = field(default=silent, kw_only=True, metadata=GIVEN)

    name = "slice"

    def __post_init__(self) -> None:
        if not self.tolerance >= 0:
            raise ConfigError(f"--tolerance is {self.tolerance:g}, expected 0 or more")
        if self.evaluations < 1:
            raise ConfigError(f"--evaluations is {self.evaluations}, expected 1 or more")

    def __call__(self, program: ir.Program) -> tuple[ir.Program, tuple[str, ...]]:
        found, steps = self.search(program)
        return found.program, steps

    def search(self, program: ir.Program) -> tuple[SliceResult, tuple[str, ...]]:
        """Return the slice, and what each step of the search left."""
        search = _Search(self, program)
        return search.run(), tuple(search.steps)


@dataclass
class _Search:
    options: Slice
    whole: ir.Program
    steps: list[str] = field(default_factory=list)
    tried: int = 0

    def run(self) -> SliceResult:
        best = self._unused()
        if self.options.tolerance > 0:
            for part in PARTS:
                best = self._heaviest(best, part)
            best = self._runs(best)
        self.options.progress("slicing", self.options.evaluations, self.options.evaluations)
        return best

    def _note(self, what: str, found: SliceResult) -> SliceResult:
        self.steps.append(f"{what}: {n_entries(found.program):,} entries, {self.tried} programs tried")
        return found

    def _unused(self) -> SliceResult:
        weighed = self.options.weigh(self.whole)
        trimmed = keeping(self.whole, weighed.used, None)
        if self.options.fold and self.options.tolerance > 0:
            trimmed = with_biases(trimmed)
        small, kept = compacted(trimmed, fires=weighed.fires)
        found = SliceResult(small, kept)
        if not self._fits(found.program, ROUNDING_NATS):  # what seems unused is not
            found = SliceResult(
                self.whole, {b.name: np.arange(self.whole.space(b.space).size) for b in self.whole.blocks}
            )
        return self._note("without what the text never uses", found)

    def _fits(self, program: ir.Program, tolerance: float) -> bool:
        self.tried += 1
        self.options.progress("slicing", min(self.tried, self.options.evaluations - 1), self.options.evaluations)
        return self.options.gap(program) <= max(tolerance, ROUNDING_NATS)

    def _smaller(self, start: SliceResult, kept: Mapping[str, NDArray[np.bool_]], moments: TableMoments) -> SliceResult:
        """Keep some entries of a slice, and leave out what nothing reads then."""
        trimmed = keeping(start.program, kept, moments if self.options.fold else None)
        small, at = compacted(trimmed, unread=True)
        return SliceResult(small, {name: start.kept[name][places] for name, places in at.items()})

    def _heaviest(self, best: SliceResult, part: float) -> SliceResult:
        fits = True
        while fits and self.tried < self.options.evaluations:
            weighed = self.options.weigh(best.program)
            order, split = _ranked(best.program, weighed.weights)
            fits = False
            for share in SHARES:
                found = self._smaller(best, split(order[: int(share * len(order))]), weighed.moments)
                fits = self._fits(found.program, part * self.options.tolerance)
                if fits or self.tried >= self.options.evaluations:
                    best = found if fits else best
                    break
        return self._note(f"the heaviest entries that keep within {part:g} of the tolerance", best)

    def _runs(self, best: SliceResult) -> SliceResult:
        n_runs = SHORTEST_RUNS
        while self.tried < self.options.evaluations:
            weighed = self.options.weigh(best.program)
            order, split = _ranked(best.program, weighed.weights)
            n_runs = min(n_runs, len(order))
            alive = np.ones(len(order), bool)
            for run in np.array_split(order[::-1], n_runs) if n_runs else ():
                if self.tried >= self.options.evaluations:
                    break
                alive[run] = False
                found = self._smaller(best, split(np.flatnonzero(alive)), weighed.moments)
                if not self._fits(found.program, self.options.tolerance):
                    alive[run] = True
            if not alive.all():
                best = self._smaller(best, split(np.flatnonzero(alive)), weighed.moments)
            elif n_runs == len(order):
                break
            n_runs *= 2
        return self._note("without runs of light entries", best)


def _ranked(
    program: ir.Program, weights: Mapping[str, NDArray[np.float64]]
) -> tuple[NDArray[np.intp], Callable[[NDArray[np.intp]], dict[str, NDArray[np.bool_]]]]:
    """Rank all entries by weight, the heaviest first; and return a function that turns places among them into masks.

    With an effect of a rule goes all that only the rule needed, so it counts by its weight for each of these entries.
    """
    behind = entries_behind(program)
    weights = {name: values / (1.0 + behind.get(name, 0.0)) for name, values in weights.items()}
    names, sizes = list(weights), [len(values) for values in weights.values()]
    every = np.concatenate([np.zeros(0), *weights.values()])

    def split(places: NDArray[np.intp]) -> dict[str, NDArray[np.bool_]]:
        mask = np.zeros(len(every), bool)
        mask[places] = True
        return dict(zip(names, np.split(mask, np.cumsum(sizes)[:-1]), strict=True))

    return np.argsort(-every, kind="stable"), split


def keeping(program: ir.Program, kept: Mapping[str, NDArray[np.bool_]], moments: TableMoments | None) -> ir.Program:
    """Keep some entries of tables; biases take over what the others add on average, where moments say what that is."""
    tables = program.tables()
    changed: dict[str, ir.AnyTable] = {}
    for name, mask in kept.items():
        table = tables[name]
        if isinstance(table, ir.SparseTable) and not mask.all():
            changed[name] = table.keep(mask)
    biases = {} if moments is None else folded_means(program, changed, moments)
    return with_tables(program, changed | biases, Slice.name)


def with_biases(program: ir.Program) -> ir.Program:
    """Give every sparse linear map a bias, so that it may take over what is left out."""
    blocks = []
    for block in program.blocks:
        if isinstance(block, ir.Linear) and isinstance(block.weight, ir.SparseTable) and block.bias is None:
            size = program.space(block.space).size
            bias = ir.Table(f"{block.name}.alone", np.zeros(size, block.weight.values.dtype))
            block = replace(block, bias=bias, origin=ir.Origin(Slice.name, block.origin.sources))
        blocks.append(block)
    return replace(program, blocks=tuple(blocks))


def entries_behind(program: ir.Program) -> dict[str, NDArray[np.float64]]:
    """Count for every effect of rules, by table, the other entries that would go with it: conditions, and readers."""
    readers = {b.name: np.zeros(program.space(b.space).size) for b in program.blocks}
    found: dict[str, NDArray[np.float64]] = {}
    for block in reversed(program.blocks):
        match block:
            case ir.Linear(reads=reads, weight=ir.SparseTable() as weight, transposed=flipped):
                at = weight.columns if flipped else weight.rows()
                readers[reads] += np.bincount(at, minlength=len(readers[reads]))
            case ir.Join(reads=reads):
                ends = np.cumsum([len(readers[read]) for read in reads])[:-1]
                for read, part in zip(reads, np.split(readers[block.name], ends), strict=True):
                    readers[read] += part
            case ir.Normalise(reads=read) | ir.Select(reads=read) | ir.Rotate(reads=read):
                readers[read] += readers[block.name]
            case ir.Rules(reads=read, conditions=conditions, effects=effects):
                readers[read] += np.bincount(conditions.columns, minlength=len(readers[read]))
                makers = np.bincount(effects.columns, minlength=len(readers[block.name]))
                own = np.diff(conditions.starts)[effects.rows()]
                found[effects.name] = own + (readers[block.name] / np.maximum(makers, 1))[effects.columns]
            case _:
                pass
    return found


def n_entries(program: ir.Program) -> int:
    """Count the entries of sparse tables, shared ones once."""
    return sum(table.n_entries for table in program.tables().values() if isinstance(table, ir.SparseTable))
