"""Check the cells of evidence tables, which a Parquet file of the right columns may fill with anything.

Everything is checked by columns: nothing is missing, lists that belong together are equally long, tokens, latents and
places are in range, and texts print.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

MOST_CELLS = 2**28
"""Values that a file may hold, those in lists one by one; packed, they take next to no space."""
MOST_TEXT = 2**28
"""Bytes that the texts of a column may have spelled out; packed, each different one is stored once."""
TOGETHER = (
    ("fires_on", "fires_on_counts", "fires_on_seen"),
    ("promoted", "promoted_logits"),
    ("demoted", "demoted_logits"),
    ("decoder_neighbours", "decoder_cosines"),
    ("encoder_neighbours", "encoder_cosines"),
    ("tokens", "activations"),
)
"""Columns whose lists are as long as each other."""
TOKENS = ("fires_on", "promoted", "demoted", "tokens")
NEIGHBOURS = ("decoder_neighbours", "encoder_neighbours")


def n_cells(file: pq.ParquetFile) -> int:
    """Count the values of a file, as its own index says."""
    found = file.metadata
    groups = [found.row_group(at) for at in range(found.num_row_groups)]
    return sum(group.column(at).num_values for group in groups for at in range(group.num_columns))


def packed_texts(columns: Mapping[str, pa.DataType]) -> list[str]:
    """Name the columns of texts, and of lists of them, as Parquet does; they are read packed."""
    lists = [f"{name}.list.element" for name, kind in columns.items() if kind == pa.list_(pa.string())]
    return [name for name, kind in columns.items() if kind == pa.string()] + lists


def spelled_out(table: pa.Table, columns: Mapping[str, pa.DataType]) -> pa.Table:
    """Unpack the texts of a table that was read packed.

    Raises:
        ValueError: they would fill memory.
    """
    for name, kind in columns.items():
        column = table.column(name)
        if column.type == kind:
            continue
        size = 0
        for chunk in column.chunks:
            texts = chunk.values if pa.types.is_list(chunk.type) else chunk
            lengths = pc.call_function("binary_length", [texts.dictionary])
            size += pc.call_function("sum", [lengths.take(texts.indices)]).as_py() or 0
        if size > MOST_TEXT:
            raise ValueError(f"column {name} has texts of {size:,} bytes, expected at most {MOST_TEXT:,}")
        table = table.set_column(table.schema.get_field_index(name), name, column.cast(kind))
    return table


def cell_faults(table: pa.Table, d_vocab: int) -> Iterator[str]:
    """Yield what is wrong with the cells of either table."""
    for name in table.column_names:
        flat = _flattened(table, name)
        if name not in ("mean", "max") and flat.null_count + table.column(name).null_count:
            yield f"column {name}: a value is missing"
            return
        if pa.types.is_string(flat.type) and not all(text.isprintable() for text in flat.unique().to_pylist()):
            yield f"column {name}: a text does not print"
    for names in TOGETHER:
        lengths = [_lengths(table, name) for name in names if name in table.column_names]
        if any(not np.array_equal(lengths[0], other) for other in lengths[1:]):
            yield f"columns {', '.join(names)}: lists that belong together are not equally long"
    for name in TOKENS:
        if name in table.column_names and not _within(_flat(table, name), d_vocab):
            yield f"column {name}: a token outside 0..{d_vocab - 1}"


def latent_faults(table: pa.Table, n_edges: int) -> Iterator[str]:
    """Yield what is wrong with a table of latents whose cells are sound by themselves."""
    first = np.arange(len(table)) - _flat(table, "latent").astype(np.int64)
    if len(first) and first.min() < 0:
        yield "column latent: a number larger than that of its row"
        return
    for name in NEIGHBOURS:
        beside = np.repeat(first, _lengths(table, name)) + _flat(table, name)
        if not _within(beside, len(table)) or not _within(_flat(table, name), len(table)):
            yield f"column {name}: a latent that is none"
    if not np.all(_lengths(table, "histogram") == n_edges + 1):
        yield f"column histogram: expected {n_edges + 1} counts a row"
        return
    counts = _flat(table, "histogram").reshape(len(table), n_edges + 1)
    alive = ~np.asarray(table.column("dead").to_pylist(), bool)
    if (counts < 0).any() or not counts[alive].any(1).all():
        yield "column histogram: no count for a latent that is not dead, or one below 0"
    for name in ("mean", "max"):
        if np.asarray(table.column(name).is_null().to_pylist(), bool)[alive].any():
            yield f"column {name}: no value for a latent that is not dead"


def example_faults(table: pa.Table) -> Iterator[str]:
    """Yield what is wrong with a table of examples whose cells are sound by themselves."""
    at = _flat(table, "position") - _flat(table, "start")
    if ((at < 0) | (at >= _lengths(table, "tokens"))).any():
        yield "column position: a place outside the window of its example"
    if not _within(_flat(table, "feature"), 2**31):
        yield "column feature: a number below 0"


def _flattened(table: pa.Table, name: str) -> Any:
    """Return a column as one array, lists one after the other."""
    array = table.column(name).combine_chunks()
    return array.flatten() if pa.types.is_list(array.type) else array


def _flat(table: pa.Table, name: str) -> NDArray[Any]:
    return _flattened(table, name).to_numpy(zero_copy_only=False)


def _lengths(table: pa.Table, name: str) -> NDArray[Any]:
    return table.column(name).combine_chunks().value_lengths().to_numpy(zero_copy_only=False)


def _within(values: NDArray[Any], end: int) -> bool:
    return not values.size or bool(values.min() >= 0 and values.max() < end)
