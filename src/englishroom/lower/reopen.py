"""Read a sparse program back as the sparse model that it was written from, so that it can be fitted on.

The inverse of :func:`englishroom.lower.sparsify.sparsify`: writing what is read gives the same program.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from englishroom.errors import ConfigError
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import AnyTable, Join, Linear, Lookup, Match, Normalise, Program, Rotate, Rules, SparseTable
from englishroom.lower.sparsify import run_as
from englishroom.sparse.edges import Edges
from englishroom.sparse.model import PLACES, WORDS, Shape, SparseModel

CHECKED = 24
"""Positions at which the model is compared with the program."""
SAME_NATS = 1e-6


def reopen(program: Program) -> SparseModel:
    """Return the sparse model of a program.

    Raises:
        ConfigError: the program is not of the form that ``sparsify`` writes.
    """
    other = ConfigError(
        "the program is not of the form that englishroom decompile --level sparse writes, and cannot be refitted; "
        "give a room as it was decompiled"
    )
    try:
        model = _Reader(program).model()
        tokens = np.linspace(0, program.d_vocab - 1, min(CHECKED, program.n_ctx)).astype(np.int64)[None]
        gap = np.abs(run_as(model, tokens) - Interpreter(program, np.float64).log_probs(tokens)).max()
    except (KeyError, AttributeError, TypeError, AssertionError, ValueError, RuntimeError):
        raise other from None
    if not gap <= SAME_NATS:
        raise other
    return model


class _Reader:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.blocks = {block.name: block for block in program.blocks}
        self.n_layers = sum(isinstance(block, Match) for block in program.blocks)

    def model(self) -> SparseModel:
        heads = [self._match(layer) for layer in range(self.n_layers)]
        rules = [self._rules(f"{group}.0") for group in ("moved", "rules")]
        turned = next((block for block in self.program.blocks if isinstance(block, Rotate)), None)
        n_heads = len(heads[0].scores)
        ks = [self._widest(group) for group in ("moved", "rules")]
        sizes = [len(block.thresholds.values) for block in rules]
        shape = Shape(
            self.n_layers,
            n_heads,
            self._size("brought.0") // n_heads,
            self.program.d_vocab,
            self.program.n_ctx,
            *(sizes[0], ks[0], sizes[1], ks[1]),
            windows=tuple(head.window for head in heads),
            rotary_theta=None if turned is None else turned.theta,
        )
        stages = [self._stage(stage, shape) for stage in range(shape.n_stages)]
        said = _edges(self._linear("votes").weight)
        said = replace(said, n_columns=said.n_columns - 1)  # the last is the loudness, which says nothing
        places = self.blocks[PLACES]
        assert isinstance(places, Lookup)
        stations = _edges(places.table)
        words = self.blocks[WORDS]
        assert isinstance(words, Lookup)
        return SparseModel(
            shape,
            _edges(words.table),
            said,
            stations.matrix(),
            tuple(tables for tables, *_ in stages),
            tuple(constants for _, constants, *_ in stages),
            tuple(biases for _, _, biases, _ in stages),
            tuple(floor for *_, floor in stages),
            tuple(_vector(head.distance) for head in heads),
        )

    def _stage(self, stage: int, shape: Shape) -> tuple[dict[str, Edges], Tensor, Tensor, float]:
        """Read the tables, constants, biases and the floor of a stage."""
        group = ("heads", "moved", "rules")[stage % 3]
        last = stage == shape.n_stages - 1
        name = "said" if last else f"{group}.{stage // 3}"
        seen = f"{name}.seen" if shape.has_rules(stage) else name
        joined, norm = self.blocks[f"{seen}.features"], self.blocks[seen]
        assert isinstance(joined, Join)
        assert isinstance(norm, Normalise)
        loud = self._linear(f"{seen}.loudness")
        assert isinstance(loud.weight, SparseTable)
        n_features = self._size(f"{seen}.features")
        if shape.has_rules(stage):
            block = self._rules(name)
            rules, features, weights = _entries(block.conditions)
            n, biases = len(block.thresholds.values), _vector(block.biases)
            constants = torch.zeros(n)
            always = features == n_features - 1
            constants[torch.from_numpy(rules[always]).long()] = torch.from_numpy(weights[always])
            rows, columns, weights = features[~always], rules[~always], weights[~always]
        else:
            sums = self._linear(f"{name}.sums")
            assert isinstance(sums.weight, SparseTable)
            rows, columns, weights = _entries(sums.weight)
            n, constants, biases = self._size(f"{name}.sums"), _vector(sums.bias), _vector(norm.bias)[:-1]
        loud_rows, _, loud_weights = _entries(loud.weight)
        rows, columns = np.append(rows, loud_rows), np.append(columns, np.full(len(loud_rows), n))
        weights = np.append(weights, loud_weights)
        sizes = [self._size(source) for source in joined.reads[:-1]]
        tables, first = {}, 0
        for source, size in zip(joined.reads[:-1], sizes, strict=True):
            own = (rows >= first) & (rows < first + size)
            tables[source] = _of(rows[own] - first, columns[own], weights[own], size, n + 1)
            first += size
        return tables, torch.cat([constants, _vector(loud.bias)]), biases, float(np.sqrt(norm.eps))

    def _widest(self, group: str) -> int:
        """Return how many rules of a group may fire in a layer, at most."""
        found = [self._rules(f"{group}.{layer}") for layer in range(self.n_layers)]
        return max(block.k or len(block.thresholds.values) for block in found)

    def _size(self, name: str) -> int:
        return self.program.space(self.blocks[name].space).size

    def _match(self, layer: int) -> Match:
        block = self.blocks[f"brought.{layer}"]
        assert isinstance(block, Match)
        return block

    def _rules(self, name: str) -> Rules:
        block = self.blocks[name]
        assert isinstance(block, Rules)
        return block

    def _linear(self, name: str) -> Linear:
        block = self.blocks[name]
        assert isinstance(block, Linear)
        return block


def _vector(table: AnyTable | None) -> Tensor:
    assert table is not None
    return torch.from_numpy(np.array(table.values, np.float32))


def _entries(table: SparseTable) -> tuple[NDArray, NDArray, NDArray]:
    """List the entries of a table: row, column, value."""
    rows = np.repeat(np.arange(table.shape[0]), np.diff(table.starts))
    return rows, table.columns.astype(np.int64), table.values.astype(np.float32)


def _edges(table: AnyTable) -> Edges:
    assert isinstance(table, SparseTable)
    starts, columns, values = (torch.from_numpy(np.array(part)) for part in (table.starts, table.columns, table.values))
    return Edges(starts, columns, values, table.n_columns)


def _of(rows: NDArray, columns: NDArray, weights: NDArray, n_sources: int, n_columns: int) -> Edges:
    order = np.lexsort((columns, rows))
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n_sources))]).astype(np.int64)
    return Edges(
        torch.from_numpy(starts),
        torch.from_numpy(columns[order].astype(np.int32)),
        torch.from_numpy(weights[order]),
        n_columns,
    )
