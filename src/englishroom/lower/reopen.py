"""Read a sparse program back as the sparse model that it was written from, so that it can be fitted on.

The inverse of :func:`englishroom.lower.sparsify.sparsify`: writing what is read gives the same program.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from englishroom.errors import ConfigError
from englishroom.interp.vectorised import Interpreter
from englishroom.ir import program as ir
from englishroom.lower.sparsify import run_as, sparse_table
from englishroom.sparse.edges import Edges
from englishroom.sparse.model import PLACES, WORDS, Shape, SparseModel

CHECKED = 24
"""Positions at which the model is compared with the program."""
SAME_NATS = 1e-6
Kind = TypeVar("Kind", bound=ir.Block)


def reopen(program: ir.Program) -> SparseModel:
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
    def __init__(self, program: ir.Program) -> None:
        self.program = program
        self.blocks = {block.name: block for block in program.blocks}
        self.n_layers = sum(isinstance(block, ir.Match) for block in program.blocks)

    def model(self) -> SparseModel:
        heads = [self._block(f"brought.{layer}", ir.Match) for layer in range(self.n_layers)]
        rules = [self._block(f"{group}.0", ir.Rules) for group in ("moved", "rules")]
        turned = next((block for block in self.program.blocks if isinstance(block, ir.Rotate)), None)
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
        said = _edges(self._block("votes", ir.Linear).weight)
        said = replace(said, n_columns=said.n_columns - 1)  # the last is the loudness, which says nothing
        words, places = (_edges(self._block(name, ir.Lookup).table) for name in (WORDS, PLACES))
        return SparseModel(
            shape,
            words,
            said,
            places.matrix(),
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
        joined, norm = self._block(f"{seen}.features", ir.Join), self._block(seen, ir.Normalise)
        loud = self._block(f"{seen}.loudness", ir.Linear)
        assert isinstance(loud.weight, ir.SparseTable)
        n_features = self._size(f"{seen}.features")
        if shape.has_rules(stage):
            block = self._block(name, ir.Rules)
            rules, features, weights = _entries(block.conditions)
            n, biases = len(block.thresholds.values), _vector(block.biases)
            constants = torch.zeros(n)
            always = features == n_features - 1
            constants[torch.from_numpy(rules[always]).long()] = torch.from_numpy(weights[always])
            rows, columns, weights = features[~always], rules[~always], weights[~always]
        else:
            sums = self._block(f"{name}.sums", ir.Linear)
            assert isinstance(sums.weight, ir.SparseTable)
            rows, columns, weights = _entries(sums.weight)
            n, constants, biases = self._size(f"{name}.sums"), _vector(sums.bias), _vector(norm.bias)[:-1]
        loud_rows, _, loud_weights = _entries(loud.weight)
        rows, columns = np.append(rows, loud_rows), np.append(columns, np.full(len(loud_rows), n))
        weights = np.append(weights, loud_weights)
        sizes = [self._size(source) for source in joined.reads[:-1]]
        tables, first = {}, 0
        for source, size in zip(joined.reads[:-1], sizes, strict=True):
            own = (rows >= first) & (rows < first + size)
            tables[source] = _edges(sparse_table(source, (size, n + 1), rows[own] - first, columns[own], weights[own]))
            first += size
        return tables, torch.cat([constants, _vector(loud.bias)]), biases, float(np.sqrt(norm.eps))

    def _widest(self, group: str) -> int:
        """Return how many rules of a group may fire in a layer, at most."""
        found = [self._block(f"{group}.{layer}", ir.Rules) for layer in range(self.n_layers)]
        return max(block.k or len(block.thresholds.values) for block in found)

    def _size(self, name: str) -> int:
        return self.program.space(self.blocks[name].space).size

    def _block(self, name: str, kind: type[Kind]) -> Kind:
        block = self.blocks[name]
        assert isinstance(block, kind)
        return block


def _vector(table: ir.AnyTable | None) -> Tensor:
    assert table is not None
    return torch.from_numpy(np.array(table.values, np.float32))


def _entries(table: ir.SparseTable) -> tuple[NDArray, NDArray, NDArray]:
    """List the entries of a table: row, column, value."""
    return table.rows(), table.columns.astype(np.int64), table.values.astype(np.float32)


def _edges(table: ir.AnyTable) -> Edges:
    assert isinstance(table, ir.SparseTable)
    starts, columns, values = (torch.from_numpy(np.array(part)) for part in (table.starts, table.columns, table.values))
    return Edges(starts, columns, values, table.n_columns)
