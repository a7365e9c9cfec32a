"""Sparse models as plain tensors, to be stored and taken up again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from englishroom.models.torch_checkpoint import read_checkpoint, write_checkpoint
from englishroom.sparse.edges import Edges
from englishroom.sparse.model import Shape, SparseModel


def state_of(model: SparseModel) -> dict[str, Tensor]:
    """List everything that a model holds, by name."""
    found = {name: tensor.detach() for name, tensor in model.parameters().items()}
    for name, edges in all_edges(model).items():
        found |= {f"{name}:starts": edges.starts, f"{name}:columns": edges.columns}
    return found


def from_state(like: SparseModel, state: Mapping[str, Tensor]) -> SparseModel:
    """Put what :func:`state_of` listed into a model of the same shape."""
    columns = {name: edges.n_columns for name, edges in all_edges(like).items()}
    sources = [list(tables) for tables in like.tables]
    return _put_together(like.shape, like.floors, like.stations, columns, sources, state)


def _put_together(
    shape: Shape,
    floors: Sequence[float],
    stations: Tensor,
    columns: Mapping[str, int],
    sources: Sequence[Sequence[str]],
    state: Mapping[str, Tensor],
) -> SparseModel:
    edges = {
        name: Edges(state[f"{name}:starts"], state[f"{name}:columns"], state[name], size)
        for name, size in columns.items()
    }
    stages = range(shape.n_stages)
    return SparseModel(
        shape,
        edges["kinds"],
        edges["said"],
        stations,
        tuple({source: edges[f"edges.{stage}.{source}"] for source in sources[stage]} for stage in stages),
        tuple(state[f"constants.{stage}"] for stage in stages),
        tuple(state[f"biases.{stage}"] for stage in stages),
        tuple(floors),
        tuple(state[f"distances.{layer}"] for layer in range(shape.n_layers)),
    )


def all_edges(model: SparseModel) -> dict[str, Edges]:
    """List all tables of edges, by name."""
    found = {"kinds": model.kinds, "said": model.said}
    for stage, tables in enumerate(model.tables):
        found |= {f"edges.{stage}.{source}": edges for source, edges in tables.items()}
    return found


def started_once(path: Path, identity: Mapping[str, Any], start: Callable[[], SparseModel]) -> SparseModel:
    """Return the model that ``path`` holds, or start one and store it there.

    Raises:
        ArtifactError: the file cannot be read.
        ConfigError: it belongs to another start.
    """
    if not path.exists():
        model = start()
        shape = asdict(model.shape) | {"windows": list(model.shape.windows)}
        columns = {name: edges.n_columns for name, edges in all_edges(model).items()}
        sources = [list(tables) for tables in model.tables]
        kept = {"shape": shape, "floors": list(model.floors), "stations": model.stations, "columns": columns}
        write_checkpoint(path, identity, {**kept, "sources": sources, "tensors": state_of(model)})
    kept = read_checkpoint(path, identity)
    shape = Shape(**(kept["shape"] | {"windows": tuple(kept["shape"]["windows"])}))
    return _put_together(*(shape, kept["floors"], kept["stations"], kept["columns"], kept["sources"], kept["tensors"]))
