"""Small sparse programs of random entries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from englishroom.ir.program import Linear, Lookup, Program, Rules, Space, SparseTable, Table, Vote

PER_ROW = 20


def summing(values: NDArray[np.float32]) -> Program:
    """Put these numbers, twenty a row, into the map ``W``; its bias is ``b``."""
    n = len(values) // PER_ROW
    columns = np.sort(np.argsort(np.random.default_rng(1).random((n, n)), axis=1)[:, :PER_ROW], axis=1)
    each = np.arange(n + 1)
    hot = SparseTable("hot", each, each[:-1], np.ones(n, np.float32), n)
    weight = SparseTable("W", PER_ROW * each, columns.reshape(-1), values, n)
    blocks = (
        Lookup(name="x", space="hot", index="token", table=hot),
        Linear(name="y", space="vocab", reads="x", weight=weight, bias=Table("b", np.zeros(n, np.float32))),
        Vote(name="v", space="vocab", reads=("y",)),
    )
    return Program("sparse", 8, (Space("vocab", n), Space("hot", n)), blocks)


def ruled(d_vocab: int, n_ctx: int, seed: int = 0) -> Program:
    """Make a sparse program of random entries: rules that read a few tokens each, and a map of tokens to votes."""
    rng = np.random.default_rng(seed)
    base = summing(rng.standard_normal(PER_ROW * d_vocab).astype(np.float32))
    n_rules, reads = 40, 6

    def table(name: str, n_rows: int, n_columns: int) -> SparseTable:
        columns = np.sort(np.argsort(rng.random((n_rows, n_columns)), axis=1)[:, :reads], axis=1).reshape(-1)
        values = rng.standard_normal(n_rows * reads).astype(np.float32)
        return SparseTable(name, reads * np.arange(n_rows + 1), columns, values, n_columns)

    lookup, linear, _ = base.blocks
    rules = Rules(
        name="r",
        space="vocab",
        reads="x",
        conditions=table("r.conditions", n_rules, d_vocab),
        thresholds=Table("r.thresholds", np.zeros(n_rules, np.float32)),
        effects=table("r.effects", n_rules, d_vocab),
        biases=Table("r.biases", rng.standard_normal(n_rules).astype(np.float32)),
    )
    vote = Vote(name="v", space="vocab", reads=("y", "r"))
    return Program("sparse", n_ctx, base.spaces, (lookup, linear, rules, vote))
