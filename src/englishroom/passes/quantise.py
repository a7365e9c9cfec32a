"""Quantise a sparse program: the weights of each table become a few numbers, so that they take few bits to store."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.ir.program import AnyTable, Program, SparseTable, Table
from englishroom.passes.base import GIVEN
from englishroom.passes.moments import TableMoments, folded_means
from englishroom.passes.palette import on_palette, on_signs, stored
from englishroom.passes.tables import with_tables

Bits = int | Literal["ternary"]
FULL = 32
"""Bits at which nothing is changed."""
HALF = 16
"""Bits at which numbers are rounded to float16 or bfloat16, whichever is nearer."""


@dataclass(frozen=True)
class Quantise:
    """Replace the numbers of every sparse table by a palette of at most ``2 ** bits``; or by signs times one scale.

    A palette is that of least squared error (``palette``). Given moments, biases take over what rounding changes on
    average. With ``ternary`` an entry is one scale, its negative, or 0, and then it is gone.
    Vectors (biases, thresholds) and the few dense tables are quantised to ``vector_bits``. A table that has no more
    numbers than its palette keeps them, in 16 bits.

    Args:
        moments: what the tables are multiplied with; no option, since it follows from program and text.
    """

    bits: Bits = 4
    vector_bits: int = HALF
    finer: tuple[str, ...] = ("loudness.weight",)
    """Tables whose names end so are quantised to ``vector_bits`` too."""
    moments: TableMoments | None = field(default=None, metadata=GIVEN)

    name = "quantise"

    def __post_init__(self) -> None:
        if self.bits != "ternary" and not (1 <= self.bits <= HALF or self.bits == FULL):
            raise ConfigError(f"bits is {self.bits}; choose 1 to {HALF}, {FULL} (no change), or ternary")
        if not (1 <= self.vector_bits <= HALF or self.vector_bits == FULL):
            raise ConfigError(f"vector_bits is {self.vector_bits}; choose 1 to {HALF}, or {FULL} (no change)")

    def __call__(self, program: Program) -> tuple[Program, tuple[str, ...]]:
        tables = program.tables()
        sparse = {name: self._table(table) for name, table in tables.items() if isinstance(table, SparseTable)}
        changed: dict[str, AnyTable] = {name: new for name, new in sparse.items() if new != tables[name]}
        biases = {} if self.moments is None else folded_means(program, changed, self.moments)
        for name, table in tables.items():
            if isinstance(table, Table):
                new = self._vector(biases.get(name, table))
                if new != table:
                    changed[name] = new
        rewrites = tuple(_line(tables[name], changed[name]) for name in tables if name in changed)
        return with_tables(program, changed, self.name), rewrites

    def _table(self, table: SparseTable) -> SparseTable:
        bits = self.vector_bits if table.name.endswith(self.finer) else self.bits
        return without_zeros(replace(table, values=quantised(table.values, bits)))

    def _vector(self, table: Table) -> Table:
        return Table(table.name, quantised(table.values.reshape(-1), self.vector_bits).reshape(table.shape))


def quantised(values: NDArray[np.floating], bits: Bits) -> NDArray[np.floating]:
    """Quantise numbers; they keep their type."""
    if not len(values) or bits == FULL:
        return values
    if bits == "ternary":
        found = on_signs(values)
    elif bits == HALF:
        found = stored(values.astype(np.float64))
    else:
        found = on_palette(values, 2**bits)
    return found.astype(values.dtype)


def without_zeros(table: SparseTable) -> SparseTable:
    """Leave out the entries that are 0."""
    kept = table.values != 0
    return table if kept.all() else table.keep(kept)


def _line(old: AnyTable, new: AnyTable) -> str:
    before, after = (len(np.unique(table.values)) for table in (old, new))
    gone = old.n_entries - new.n_entries
    return f"{old.name}: {before:,} numbers became {after:,}" + (f", {gone:,} entries left out" if gone else "")
