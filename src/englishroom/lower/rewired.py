"""Read a readable program back as a wired model, so that it trains on.

Looks and layers of a program keep different numbers of features; in the model all have as many as the largest. Those
that were left out stand there as features that nothing feeds, and that feed nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from englishroom.errors import ConfigError
from englishroom.ir.program import Fire, Looks, Lookup, Program, SparseTable, Votes
from englishroom.models.spec import ModelSpec
from englishroom.readable.config import StreamConfig
from englishroom.readable.shape import ReadableShape, shape_of
from englishroom.readable.wiring import WiredModel
from englishroom.sparse.edges import Edges

NEVER = 1.0
"""Threshold of features that were left out; their strength is 0."""


def rewired(program: Program, spec: ModelSpec, config: StreamConfig) -> WiredModel:
    """Read a program back that ``write_readable`` wrote.

    Args:
        config: says how many features are to be on at a time.

    Raises:
        ConfigError: the program is not of that form, or belongs to a model of other sizes.
    """
    kinds = [type(block) for block in program.blocks]
    places = kinds[:2] == [Lookup, Lookup]
    ends = [kind.__name__ for kind in kinds[2 if places else 1 :]]
    expected = [*spec.n_layers * ["Looks", "Fire"], "Votes", "Lookup", "Vote"]
    heads = [len(block.moved) for block in program.blocks if isinstance(block, Looks)]
    fits = (program.n_ctx, program.d_vocab) == (spec.n_ctx, spec.d_vocab) and heads == spec.n_layers * [spec.n_heads]
    if ends != expected or not fits:
        raise ConfigError(
            f"a program of {', '.join(sorted({kind.__name__ for kind in kinds}))} over {program.d_vocab:,} tokens is "
            "not what decompile --level readable writes for this model; give a room that it wrote"
        )
    return _Reader(program, _shape(program, shape_of(spec, config), places)).model()


def _shape(program: Program, shape: ReadableShape, places: bool) -> ReadableShape:
    looks = [block for block in program.blocks if isinstance(block, Looks)]
    rules = [len(block.biases.values) for block in program.blocks if isinstance(block, Fire)]
    return replace(
        shape,
        n_matches=looks[0].matches[0],
        n_moved=max(count for block in looks for count in block.moved),
        n_rules=max(rules),
        n_places=program.space(program.blocks[1].space).size if places else 0,
    )


class _Reader:
    def __init__(self, program: Program, shape: ReadableShape) -> None:
        self.program, self.shape = program, shape
        lists = _lookup_table(program.blocks[0])
        self.lists: Any = csr_array(lists.csr(np.float32).T)  # [list, token]
        self.edges: dict[str, Edges] = {}
        self.vectors: dict[str, torch.Tensor] = {}
        self.where = np.arange(shape.n_places)  # of the features so far, their places in the model
        self.n_before = shape.n_places

    def model(self) -> WiredModel:
        """Read all blocks in order."""
        program, shape = self.program, self.shape
        layer = 0
        for block in program.blocks:
            match block:
                case Looks():
                    self._looks(block, layer)
                case Fire():
                    self._sums(f"rules.{layer}", block.conditions, np.arange(len(block.biases.values)), shape.n_rules)
                    self._features(block, "rule", layer, np.arange(len(block.biases.values)), shape.n_rules)
                    layer += 1
                case Votes():
                    votes: Any = block.weights.csr(np.float32)
                    self.edges["votes"] = _placed(
                        votes, self.where, np.arange(shape.d_vocab), self.n_before, votes.shape[1]
                    )
                    bias = np.zeros(shape.d_vocab, np.float32) if block.bias is None else block.bias.values
                    self.vectors["vote_bias"] = _tensor(bias)
                case _:
                    pass
        follows: Any = _lookup_table(program.blocks[-2]).csr(np.float32)
        every = np.arange(shape.d_vocab)
        self.edges["follows"] = _placed(follows, every, every, shape.d_vocab, shape.d_vocab)
        places = torch.zeros(shape.n_ctx, 0)
        if shape.n_places:
            places = _tensor(_lookup_table(program.blocks[1]).dense().astype(np.float32))
        return WiredModel(shape, self.edges, self.vectors, places)

    def _looks(self, block: Looks, layer: int) -> None:
        shape = self.shape
        for group, table, biases in (
            ("queries", block.queries, block.query_biases),
            ("keys", block.keys, block.key_biases),
            ("lone_keys", block.lone_keys, None),
        ):
            self._sums(f"{group}.{layer}", table, np.arange(table.shape[0]), table.shape[0])
            if biases is not None:
                self.vectors[f"{'query' if group == 'queries' else 'key'}_biases.{layer}"] = _tensor(biases.values)
        self.vectors[f"distance.{layer}"] = _tensor(block.distance.values)
        own = np.concatenate([look * shape.n_moved + np.arange(count) for look, count in enumerate(block.moved)])
        self._sums(f"moved.{layer}", block.conditions, own, shape.all_moved)
        self._features(block, "moved", layer, own, shape.all_moved)

    def _sums(self, name: str, table: SparseTable, own: NDArray[np.integer], size: int) -> None:
        """Take what some sums read, which stand at their own places among so many."""
        reads: Any = table.csr(np.float32)
        n_lists = self.lists.shape[0]
        words = csr_array(reads[:, :n_lists] @ self.lists)
        every = np.arange(self.shape.d_vocab)
        self.edges[name] = _placed(csr_array(reads[:, n_lists:].T), self.where, own, self.n_before, size)
        self.edges[f"words.{name}"] = _placed(csr_array(words.T), every, own, self.shape.d_vocab, size)

    def _features(self, block: Looks | Fire, name: str, layer: int, own: NDArray[np.integer], size: int) -> None:
        for vector, table, usual in (("biases", block.biases, 0.0), ("thresholds", block.thresholds, NEVER)):
            values = np.full(size, usual, np.float32)
            values[own] = table.values
            self.vectors[f"{name}_{vector}.{layer}"] = _tensor(values)
        self.where = np.append(self.where, self.n_before + own)
        self.n_before += size


def _lookup_table(block: object) -> SparseTable:
    assert isinstance(block, Lookup)
    table = block.table
    assert isinstance(table, SparseTable)
    return table


def _placed(matrix: Any, rows: NDArray[np.integer], columns: NDArray[np.integer], n_rows: int, n_columns: int) -> Edges:
    """Make edges of a matrix whose rows and columns stand at other places."""
    found = matrix.tocoo()
    at = rows[found.row], columns[found.col]
    placed: Any = csr_array((found.data, at), shape=(n_rows, n_columns))
    placed.eliminate_zeros()
    placed.sort_indices()
    starts, targets = placed.indptr.astype(np.int64), placed.indices.astype(np.int32)
    return Edges(torch.from_numpy(starts), torch.from_numpy(targets), _tensor(placed.data), n_columns)


def _tensor(values: NDArray[np.floating] | Sequence[float]) -> torch.Tensor:
    return torch.from_numpy(np.array(values, np.float32))
