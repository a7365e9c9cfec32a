"""Arrays with names: dense tables, and sparse ones stored by rows. Read-only, compared by content."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.sparse import csr_array


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

    def rows(self) -> NDArray[np.int64]:
        """List the row of every entry."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.starts))

    def csr(self, dtype: DTypeLike | None = None) -> csr_array:
        """Return the matrix as scipy has it, its numbers converted where a type is given."""
        values = self.values if dtype is None else self.values.astype(dtype)
        return csr_array((values, self.columns, self.starts), shape=self.shape)

    def dense(self) -> NDArray[np.float64]:
        """Spell the matrix out, for reading and for small tables."""
        full = np.zeros(self.shape)
        full[self.rows(), self.columns] = self.values
        return full

    def keep(self, entries: NDArray[np.bool_]) -> SparseTable:
        """Leave out all entries but some."""
        counts = np.bincount(self.rows()[entries], minlength=self.shape[0])
        starts = np.append(0, np.cumsum(counts)).astype(self.starts.dtype)
        return replace(self, starts=starts, columns=self.columns[entries], values=self.values[entries])

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
