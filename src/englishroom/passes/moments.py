"""What tables are multiplied with on some text: means and mean squares, measured elsewhere and given to passes.

An entry of a table joins something it is multiplied with (its source: a row of the table, or a column) with something
it adds to. Changing an entry ``w`` of source x by ``d`` changes what it adds by ``d x``: by ``d E[x]`` always, which a
constant may take over, and by ``d (x - E[x])`` as the text goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from englishroom.ir.program import AnyTable, Fire, Linear, Program, Rules, SparseTable, Table, Votes, tables_of

Axis = Literal["row", "column"]


@dataclass(frozen=True)
class InputMoments:
    """Mean and mean square of what the rows, or the columns, of a table are multiplied with, [row or column]."""

    axis: Axis
    mean: NDArray[np.float64]
    square: NDArray[np.float64]

    @property
    def variance(self) -> NDArray[np.float64]:
        return np.maximum(self.square - self.mean**2, 0.0)


@dataclass(frozen=True)
class TableMoments:
    """Sources by name of table, and the text they were measured on."""

    text: str
    sources: Mapping[str, InputMoments]


def of_entries(table: SparseTable, axis: Axis, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give every entry of a table what its row, or its column, has."""
    return values[table.rows() if axis == "row" else table.columns]


def folded_means(program: Program, changed: Mapping[str, AnyTable], moments: TableMoments) -> dict[str, Table]:
    """Let constants take over what changed tables add less, or more, on average.

    Args:
        changed: new tables by name; those of linear maps, of votes, and of conditions of rules are made up for.

    Returns:
        New biases by name, of those blocks that have one of their own.
    """
    holders: dict[str, int] = {}
    for block in program.blocks:
        for table in tables_of(block):
            holders[table.name] = holders.get(table.name, 0) + 1
    found: dict[str, Table] = {}
    for block in program.blocks:
        match block:
            case Linear(weight=old, bias=bias, transposed=flipped):
                axis: Axis = "column" if flipped else "row"
            case Rules(conditions=old, biases=bias) | Fire(conditions=old, biases=bias):
                axis = "column"
            case Votes(weights=old, bias=bias):
                axis = "row"
            case _:
                continue
        source = moments.sources.get(old.name)
        if bias is None or holders[bias.name] > 1 or old.name not in changed or source is None or source.axis != axis:
            continue
        missing = _added(old, source) - _added(changed[old.name], source)
        if missing.any():
            found[bias.name] = Table(bias.name, (bias.values + missing).astype(bias.values.dtype))
    return found


def _added(table: AnyTable, source: InputMoments) -> NDArray[np.float64]:
    """Say what a table adds on average, by column where rows are multiplied, and by row where columns are."""
    if isinstance(table, Table):
        values = table.values.astype(np.float64)
        return source.mean @ values if source.axis == "row" else values @ source.mean
    weighed = table.values * of_entries(table, source.axis, source.mean)
    where, size = (table.columns, table.n_columns) if source.axis == "row" else (table.rows(), table.shape[0])
    return np.bincount(where, weighed, minlength=size).astype(np.float64)
