"""Measure what the tables of a program are multiplied with, for passes that weigh entries by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from englishroom.interp.vectorised import Interpreter
from englishroom.ir import program as ir
from englishroom.passes.moments import Axis, InputMoments, TableMoments
from englishroom.steps import StepProgress, silent

Rows = NDArray[Any]


def measure_moments(
    program: ir.Program, text: str, documents: Sequence[NDArray[np.integer]], progress: StepProgress = silent
) -> TableMoments:
    """Run a program over documents and average what every table of it is multiplied with.

    Scores of heads are multiplied with two features, conditions of looks with mixes of features, biases with none, and
    tables that several blocks hold with one thing here and another there: these have no source.

    Args:
        text: the name of the text, for records.
        documents: tokens, each beginning with the start token.
    """
    interpreter = Interpreter(program, np.float32)
    held = Counter(table.name for block in program.blocks for table in ir.tables_of(block))
    sums: dict[str, tuple[Axis, NDArray[np.float64]]] = {}
    positions = 0
    for number, tokens in enumerate(documents):
        variables = interpreter.variables(np.asarray(tokens))
        positions += len(tokens)
        for block in program.blocks:
            for name, axis, found in _sources(block, variables, np.asarray(tokens)):
                if held[name] == 1:
                    sums[name] = axis, found if name not in sums else sums[name][1] + found
        progress(number + 1, len(documents))
    n = max(positions, 1)
    return TableMoments(text, {key: InputMoments(axis, both[0] / n, both[1] / n) for key, (axis, both) in sums.items()})


def _sources(
    block: ir.Block, variables: Mapping[str, Rows], tokens: NDArray[np.integer]
) -> Iterator[tuple[str, Axis, NDArray[np.float64]]]:
    """Yield the sums over positions of what each table of a block is multiplied with, and of its square, [2, size]."""
    match block:
        case ir.Lookup(index=index, table=table):
            chosen = tokens if index == "token" else np.arange(len(tokens))
            counts = np.bincount(chosen, minlength=table.shape[0]).astype(np.float64)
            yield table.name, "row", np.stack([counts, counts])
        case ir.Linear(weight=weight, reads=reads, transposed=flipped):
            yield weight.name, "column" if flipped else "row", _summed(variables[reads])
        case ir.Rules(conditions=conditions, reads=reads):
            yield conditions.name, "column", _summed(variables[reads])
        case ir.Fire(conditions=conditions, reads=reads):
            yield conditions.name, "column", _summed(_joined(reads, variables))
        case ir.Votes(weights=weights, reads=reads):
            yield weights.name, "row", _summed(_joined(reads, variables))
        case (
            ir.Sum()
            | ir.Join()
            | ir.Product()
            | ir.Normalise()
            | ir.Activate()
            | ir.Select()
            | ir.Rotate()
            | ir.Attend()
            | ir.Match()
            | ir.Looks()
            | ir.Conditions()
            | ir.Unexplained()
            | ir.Vote()
        ):
            return
        case _:
            assert_never(block)


def _joined(reads: Sequence[str], variables: Mapping[str, Rows]) -> Rows:
    return np.concatenate([variables[name] for name in reads], axis=1)


def _summed(x: Rows) -> NDArray[np.float64]:
    return np.stack([x.sum(0, dtype=np.float64), np.square(x).sum(0, dtype=np.float64)])
