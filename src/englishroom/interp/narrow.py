"""Sparse tables without their empty rows or columns, so that what nothing meets is not multiplied."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from englishroom.ir.table import AnyTable, SparseTable, Table


def used_columns(table: AnyTable) -> tuple[AnyTable, NDArray | slice]:
    """Leave out the columns of a sparse table that are empty; return which are left."""
    if isinstance(table, Table):
        return table, slice(None)
    used, columns = np.unique(table.columns, return_inverse=True)
    columns = columns.astype(table.columns.dtype)
    return SparseTable(f"{table.name}.used_columns", table.starts, columns, table.values, len(used)), used


def used_rows(table: AnyTable) -> tuple[AnyTable, NDArray | slice]:
    """Leave out the rows of a sparse table that are empty; return which are left."""
    if isinstance(table, Table):
        return table, slice(None)
    counts = np.diff(table.starts)
    used = np.flatnonzero(counts)
    starts = np.append(0, np.cumsum(counts[used])).astype(table.starts.dtype)
    return SparseTable(f"{table.name}.used_rows", starts, table.columns, table.values, table.n_columns), used
