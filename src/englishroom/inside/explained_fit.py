"""Fit what conditions are worth, and how all words are voted for whatever is on, to what a program says.

The votes of a program of explanations alone are linear in both, so that KL(program‖explained) is convex:

1. Read the text once with the program, once with its explanations: what it says, where conditions hold, and the votes
   of all else.
2. A few hundred steps of Adam on batches of positions. Values stay at 0 or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from englishroom.interp.pointwise import log_softmax
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import AnyTable, Conditions, Linear, Program, SparseTable, Table, Votes
from englishroom.steps import StepProgress, silent

Rows = Sequence[NDArray[np.integer]]
MOST_NUMBERS = 2**26
"""Log-probabilities of one program that are kept at once."""
BATCH = 1024
"""Positions of a step."""
VALUE_RATE, BIAS_RATE = 0.03, 0.02
"""Learning rates: of values in units of their mean, of biases in nats."""
BETAS = 0.9, 0.98


@dataclass(frozen=True)
class Read:
    """A text as a program and its explanations read it.

    Attributes:
        said: log-probabilities of the program, [pos, d_vocab].
        rest: votes of all but conditions, up to a constant at each position, [pos, d_vocab].
        holds: where conditions hold, [pos, feature].
        tokens: what came next, -1 at the end of a row, [pos].
    """

    said: NDArray[np.float32]
    rest: NDArray[np.float32]
    holds: Any
    tokens: NDArray[np.int64]


def told_in(program: Program) -> list[Conditions]:
    """Return the blocks of conditions, in order."""
    return [block for block in program.blocks if isinstance(block, Conditions)]


def values_of(program: Program) -> NDArray[np.float64]:
    """Return what the conditions of a program are worth, block by block."""
    return np.concatenate([np.zeros(0), *(block.values.values.astype(float) for block in told_in(program))])


def with_values(program: Program, values: NDArray[np.floating], bias: NDArray[np.floating] | None = None) -> Program:
    """Return a program of conditions with other values, and something added to the votes for words.

    Args:
        bias: added to the bias of the first votes for words, where there are any, [d_vocab].
    """
    blocks, at, words = [], 0, program.vote.space
    for block in program.blocks:
        if isinstance(block, Conditions):
            own = values[at : at + len(block.conditions)]
            at += len(own)
            block = replace(block, values=Table(block.values.name, own.astype(block.values.values.dtype)))
        elif isinstance(block, Votes) and block.space == words and bias is not None:
            name = f"{block.name}.bias" if block.bias is None else block.bias.name
            dtype = block.weights.values.dtype if block.bias is None else block.bias.values.dtype
            before = 0.0 if block.bias is None else block.bias.values.astype(float)
            block, bias = replace(block, bias=Table(name, (before + bias).astype(dtype))), None
        blocks.append(block)
    return replace(program, blocks=tuple(blocks))


def read_both(program: Program, explained: Program, rows: Rows, progress: StepProgress = silent) -> Read:
    """Read a text with a program and with its explanations, as many whole rows as are kept at once."""
    zero, ones = (with_values(explained, np.full(len(values_of(explained)), value)) for value in (0.0, 1.0))
    speaker, rest, told = (Interpreter(one, np.float32) for one in (program, zero, ones))
    names = [block.name for block in told_in(explained)]
    parts: list[tuple[Any, ...]] = []
    room = MOST_NUMBERS // program.d_vocab
    for number, tokens in enumerate(rows):
        room -= len(tokens)
        if room < 0 and parts:
            break
        variables = told.variables(tokens)
        holds = np.concatenate([variables[name] for name in names], axis=1)
        after = np.append(tokens[1:], -1)
        parts.append((speaker.log_probs(tokens), rest.log_probs(tokens), scipy.sparse.csr_array(holds), after))
        progress(number + 1, len(rows))
    said, others, holds, after = zip(*parts, strict=True)
    together = scipy.sparse.csr_array(scipy.sparse.vstack(holds))
    return Read(np.concatenate(said), np.concatenate(others), together, np.concatenate(after))


def votes_for_words(program: Program) -> Any:
    """Return what each condition votes for, at a value of 1, by way of lists too: [feature, d_vocab]."""
    sizes = {block.name: program.space(block.space).size for block in program.blocks}
    words = program.vote.space
    found = {block.name: scipy.sparse.csr_array((sizes[block.name], program.d_vocab)) for block in told_in(program)}
    for block in program.blocks:
        if isinstance(block, Votes):
            ways = [_csr(block.weights)] if block.space == words and block.name in program.vote.reads else []
            readers = [b for b in program.blocks if isinstance(b, Linear) and b.reads == block.name]
            ways += [_csr(block.weights) @ (_csr(b.weight).T if b.transposed else _csr(b.weight)) for b in readers]
            starts = np.cumsum([0, *(sizes[name] for name in block.reads)])
            for name, low, high in zip(block.reads, starts, starts[1:], strict=False):
                if name in found:
                    found[name] = sum((way[low:high] for way in ways), found[name])
    return scipy.sparse.csr_array(scipy.sparse.vstack(list(found.values())))


def _csr(table: AnyTable) -> Any:
    return table.csr(np.float64) if isinstance(table, SparseTable) else scipy.sparse.csr_array(table.values)


def said_with(read: Read, votes: Any, values: NDArray, bias: NDArray, at: Any = slice(None)) -> NDArray[np.float32]:
    """Return the log-probabilities of explanations with some values, [pos, d_vocab]."""
    own = read.holds[at] @ scipy.sparse.csr_array(votes * values[:, None])
    return log_softmax((read.rest[at] + own.toarray() + bias).astype(np.float32))


def measured(read: Read, votes: Any, values: NDArray, bias: NDArray) -> dict[str, float]:
    """Return nats a token of explanations, and KL(program‖explained)."""
    nats = kl = 0.0
    for low in range(0, len(read.tokens), BATCH):
        at = slice(low, low + BATCH)
        log, truth, after = said_with(read, votes, values, bias, at), read.said[at], read.tokens[at]
        known = np.flatnonzero(after >= 0)
        nats -= float(log[known, after[known]].sum())
        kl += float((np.exp(truth) * (truth - log)).sum())
    return {"nats_per_token": nats / max(1, int((read.tokens >= 0).sum())), "kl_nats": kl / len(read.tokens)}


def fit(
    read: Read, votes: Any, values: NDArray, steps: int, bias_alone: bool, seed: int, progress: StepProgress = silent
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return values, and biases to add, at which explanations say what the program says more nearly.

    Args:
        bias_alone: leave the values as they are, and fit the biases alone.
    """
    generator = np.random.default_rng(seed)
    n_words = read.said.shape[1]
    unit = max(float(values.mean()), 1e-6) if len(values) else 1.0
    parameters = np.concatenate([values / unit, np.zeros(n_words)])
    rates = np.concatenate([np.full(len(values), 0.0 if bias_alone else VALUE_RATE), np.full(n_words, BIAS_RATE)])
    first, second = np.zeros_like(parameters), np.zeros_like(parameters)
    turned = scipy.sparse.csr_array(votes.T)
    for step in range(steps):
        at = np.sort(generator.integers(0, len(read.tokens), min(BATCH, len(read.tokens))))
        log = said_with(read, votes, parameters[: len(values)] * unit, parameters[len(values) :], at)
        miss = (np.exp(log) - np.exp(read.said[at])) / len(at)
        holds = read.holds[at]
        rows = np.repeat(np.arange(len(at)), np.diff(holds.indptr))
        back = (miss @ turned)[rows, holds.indices] if len(values) else np.zeros(0)
        on_values = np.bincount(holds.indices, back, len(values)) * unit
        gradient = np.concatenate([on_values, miss.sum(0)])
        first = BETAS[0] * first + (1 - BETAS[0]) * gradient
        second = BETAS[1] * second + (1 - BETAS[1]) * gradient**2
        scaled = (first / (1 - BETAS[0] ** (step + 1))) / (np.sqrt(second / (1 - BETAS[1] ** (step + 1))) + 1e-10)
        parameters = parameters - (1 - step / steps) * rates * scaled
        parameters[: len(values)] = np.maximum(parameters[: len(values)], 0.0)
        progress(step + 1, steps)
    return parameters[: len(values)] * unit, parameters[len(values) :]
