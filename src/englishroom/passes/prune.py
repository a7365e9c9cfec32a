"""Leave out the edges of a sparse program that matter least, without refitting what stays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.ir.program import AnyTable, Fire, Linear, Looks, Program, Rules, SparseTable, Votes
from englishroom.passes.base import GIVEN
from englishroom.passes.moments import TableMoments, folded_means, of_entries
from englishroom.passes.tables import with_tables


@dataclass(frozen=True)
class Prune:
    """Keep so many edges: the entries of linear maps, of votes, and of conditions of rules whose absence changes most.

    An entry ``w`` of source x changes what it adds to by ``|w| std(x)`` once biases took over ``w E[x]``. Tables add to
    different things, so this is counted in root mean squares of its table. Of equals the first stay. Without moments
    every source counts alike, and biases stay as they are.

    Args:
        moments: what the tables are multiplied with; no option, since it follows from program and text.
    """

    edges: int
    moments: TableMoments | None = field(default=None, metadata=GIVEN)

    name = "prune"

    def __post_init__(self) -> None:
        if self.edges < 0:
            raise ConfigError(f"edges is {self.edges}; choose how many to keep, 0 or more")

    def __call__(self, program: Program) -> tuple[Program, tuple[str, ...]]:
        tables = edge_tables(program)
        if self.edges >= sum(table.n_entries for table in tables.values()):
            return program, ()
        matters = np.concatenate([_matters(table, self.moments) for table in tables.values()])
        kept = np.zeros(len(matters), bool)
        kept[np.argsort(-matters, kind="stable")[: self.edges]] = True
        changed: dict[str, AnyTable] = {}
        rewrites, first = [], 0
        for name, table in tables.items():
            own = kept[first : first + table.n_entries]
            first += table.n_entries
            if not own.all():
                changed[name] = table.keep(own)
                rewrites.append(f"{name}: kept {int(own.sum()):,} of {table.n_entries:,} entries")
        biases = {} if self.moments is None else folded_means(program, changed, self.moments)
        return with_tables(program, changed | biases, self.name), tuple(rewrites)


def edge_tables(program: Program) -> dict[str, SparseTable]:
    """List the sparse tables of linear maps, of votes, and of conditions of rules and moved features, by name."""
    found: dict[str, SparseTable] = {}
    for block in program.blocks:
        match block:
            case (
                Linear(weight=SparseTable() as table)
                | Votes(weights=table)
                | Rules(conditions=table)
                | Looks(conditions=table)
                | Fire(conditions=table)
            ) if table.n_entries:
                found.setdefault(table.name, table)
            case _:
                pass
    return found


def _matters(table: SparseTable, moments: TableMoments | None) -> NDArray[np.float64]:
    sizes = np.abs(table.values.astype(np.float64))
    source = None if moments is None else moments.sources.get(table.name)
    if source is not None:
        sizes = sizes * of_entries(table, source.axis, np.sqrt(source.variance))
    scale = float(np.sqrt(np.mean(sizes**2)))
    return sizes / scale if scale else sizes
