"""Arrays with names: dense tables, and sparse ones stored by rows. Read-only, compared by content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray


@final
@dataclass(frozen=True, eq=False)
class Table:
    """A dense array with a name. Blocks that share a table (tied weights) hold equal tables of the same name."""

    name: str
    values: NDArray[np.floating]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _frozen(self.values))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def n_entries(self) -> int:
        return self.values.size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self.name == other.name and _same(self.values, other.values)

    def __hash__(self) -> int:
        return hash((self.name, self.values.shape))


@final
@dataclass(frozen=True, eq=False)
class SparseTable:
    """A matrix stored by rows (CSR): row ``i`` holds ``values[j]`` at column ``columns[j]``, ``j`` in its range.

    Attributes:
        starts: where each row begins, and where the last ends, [n_rows + 1].
        columns: column of each entry, rising within a row, [n_entries].
        values: [n_entries].
        n_columns: width of the matrix.
    """

    name: str
    starts: NDArray[np.integer]
    columns: NDArray[np.integer]
    values: NDArray[np.floating]
    n_columns: int

    def __post_init__(self) -> None:
        for part in ("starts", "columns", "values"):
            object.__setattr__(self, part, _frozen(getattr(self, part)))

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.starts) - 1, self.n_columns)

    @property
    def n_entries(self) -> int:
        return self.values.size

    def row(self, index: int) -> list[tuple[int, float]]:
        """List the entries of one row as (column, value)."""
        low, high = int(self.starts[index]), int(self.starts[index + 1])
        return [(int(c), float(v)) for c, v in zip(self.columns[low:high], self.values[low:high], strict=True)]

    def dense(self) -> NDArray[np.float64]:
        """Spell the matrix out, for reading and for small tables."""
        full = np.zeros(self.shape)
        for index in range(self.shape[0]):
            for column, value in self.row(index):
                full[index, column] = value
        return full

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, SparseTable)
            and (self.name, self.n_columns) == (other.name, other.n_columns)
            and _same(self.starts, other.starts)
            and _same(self.columns, other.columns)
            and _same(self.values, other.values)
        )

    def __hash__(self) -> int:
        return hash((self.name, self.shape, self.n_entries))


AnyTable = Table | SparseTable


def _frozen(array: NDArray) -> NDArray:
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def _same(a: NDArray, b: NDArray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
