"""Fit what conditions vote for, beside what follows each word, to what a program says.

What a program of explanations alone says is a log-linear model of where its conditions hold and of the word at hand, so
that KL(program‖explained) is convex in all votes:

1. Read the text once with the program, once with its explanations: what is said, and what votes.
2. Some hundred steps of Adam on batches of positions. No vote is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

from englishroom.dictionaries.code import Codes
from englishroom.dictionaries.losses import kl_nats
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Block, Lookup, Program, SparseTable, Table, Votes
from englishroom.readable.table_adam import TableAdam
from englishroom.sparse.edges import Edges
from englishroom.steps import StepProgress, silent

Rows = Sequence[NDArray[np.integer]]
Csr = scipy.sparse.csr_array
MOST_NUMBERS = 2**29
"""Log-probabilities that are kept at once, in float32."""
BATCH = 1024
"""Positions of a step."""
RATE, BIAS_RATE = 0.02, 0.02
"""Learning rates: of what a voter usually gives to a word, and of biases, in nats."""
BETAS = 0.9, 0.98


@dataclass(frozen=True)
class Read:
    """A text as a program and its explanations read it.

    Attributes:
        said: log-probabilities of the program, [pos, d_vocab].
        rest: what else than :func:`voters` says, up to a constant at each position, [pos, d_vocab]; where nothing else
            votes, [1, d_vocab].
        x: what votes, :func:`voters` side by side, [pos, source].
        tokens: what came next, -1 at the end of a row, [pos].
    """

    said: NDArray[np.float32]
    rest: NDArray[np.float32]
    x: Any
    tokens: NDArray[np.int64]


@dataclass(frozen=True)
class VotesFound:
    """What is voted for: weights of all :func:`voters` side by side, [source, d_vocab], and a bias, [d_vocab]."""

    weights: Any
    bias: NDArray[np.floating]


def voters(program: Program) -> list[tuple[Votes | Lookup, SparseTable]]:
    """Return what is fitted, with its table: votes for words, and rows of the words that follow each word."""
    found: list[tuple[Votes | Lookup, SparseTable]] = []
    for block in program.blocks:
        if block.name in program.vote.reads:
            if isinstance(block, Votes):
                found.append((block, block.weights))
            elif isinstance(block, Lookup) and block.index == "token" and isinstance(block.table, SparseTable):
                found.append((block, block.table))
    return found


def votes_of(program: Program) -> VotesFound:
    """Return what the voters of a program vote for."""
    found = voters(program)
    biases = [block.bias.values for block, _ in found if isinstance(block, Votes) and block.bias is not None]
    tables: Any = [table.csr(np.float32) for _, table in found] or [Csr((0, program.d_vocab), dtype=np.float32)]
    return VotesFound(Csr(scipy.sparse.vstack(tables)), sum(biases, np.zeros(program.d_vocab)))


def with_votes(program: Program, votes: VotesFound) -> Program:
    """Return a program whose voters vote for something else, each for the same words."""
    tables, at, bias = {block.name: table for block, table in voters(program)}, 0, votes.bias
    blocks: list[Block] = []
    for block in program.blocks:
        if block.name in tables:
            old = tables[block.name]
            new = replace(old, values=votes.weights.data[at : at + old.n_entries].astype(old.values.dtype))
            at += old.n_entries
            if isinstance(block, Votes):
                own = block.bias or Table(f"{block.name}.bias", np.zeros(0, np.float32))
                block = replace(block, weights=new, bias=Table(own.name, bias.astype(own.values.dtype)))
                bias = np.zeros_like(bias)  # the first has it all
            elif isinstance(block, Lookup):
                block = replace(block, table=new)
        blocks.append(block)
    return replace(program, blocks=tuple(blocks))


def read_both(program: Program, explained: Program, rows: Rows, progress: StepProgress = silent) -> Read:
    """Read a text with a program and with its explanations, as many whole rows as are kept at once."""
    own = votes_of(explained)
    nothing = VotesFound(own.weights * 0, np.zeros(program.d_vocab))
    speaker, rest = Interpreter(program, np.float32), Interpreter(with_votes(explained, nothing), np.float32)
    parts: list[tuple[Any, ...]] = []
    alone = len(voters(explained)) == len(explained.vote.reads)
    room = MOST_NUMBERS // program.d_vocab
    for number, tokens in enumerate(rows):
        room -= len(tokens)
        if room < 0 and parts:
            break
        variables = rest.variables(tokens)
        x: Any = [_read_by(block, variables, tokens, program.d_vocab) for block, _ in voters(explained)]
        after = np.append(tokens[1:], -1)
        others = rest.log_probs(tokens)[: 1 if alone else None]
        parts.append((speaker.log_probs(tokens), others, scipy.sparse.hstack(x), after))
        progress(number + 1, len(rows))
    said, others, read, after = (list(each) for each in zip(*parts, strict=True))
    return Read(
        np.concatenate(said),
        np.concatenate(others[: 1 if alone else None]),
        Csr(scipy.sparse.vstack(read)),
        np.concatenate(after),
    )


def _read_by(block: Votes | Lookup, variables: Any, tokens: NDArray[np.integer], d_vocab: int) -> Any:
    """Return what a voter reads, [pos, source]."""
    if isinstance(block, Votes):
        return Csr(np.concatenate([variables[name] for name in block.reads], axis=1))
    return Csr((np.ones(len(tokens), np.float32), tokens, np.arange(len(tokens) + 1)), shape=(len(tokens), d_vocab))


def measured(read: Read, votes: VotesFound) -> dict[str, float]:
    """Return nats a token of explanations, and KL(program‖explained)."""
    nats = kl = 0.0
    edges, bias = _edges(votes), torch.from_numpy(votes.bias).float()
    for low in range(0, len(read.tokens), BATCH):
        at = np.arange(low, min(low + BATCH, len(read.tokens)))
        log, after = _said(read, edges, bias, at).log_softmax(-1), read.tokens[at]
        known = np.flatnonzero(after >= 0)
        nats -= float(log[known, after[known]].sum())
        kl += float(kl_nats(torch.from_numpy(read.said[at]), log)[0].sum())
    return {"nats_per_token": nats / max(1, int((read.tokens >= 0).sum())), "kl_nats": kl / len(read.tokens)}


def fit(
    read: Read, votes: VotesFound, steps: int, bias_alone: bool, seed: int, progress: StepProgress = silent
) -> VotesFound:
    """Return votes by which explanations say what the program says more nearly.

    Args:
        bias_alone: leave the weights as they are, and fit the bias alone.
    """
    generator = np.random.default_rng(seed)
    edges, bias = _edges(votes), torch.from_numpy(votes.bias).float()
    usual = abs(read.x).sum(0) / np.maximum((read.x != 0).sum(0), 1)  # of each source, where it is on
    unit = torch.from_numpy(np.where(usual > 0, usual, 1).astype(np.float32))
    given = edges.weights * unit[edges.sources]  # what a voter usually gives to a word, in nats
    adam = TableAdam({"given": given, "bias": bias}, {"given": 0.0 if bias_alone else RATE, "bias": BIAS_RATE}, BETAS)
    for step in range(steps):
        at = np.sort(generator.integers(0, len(read.tokens), min(BATCH, len(read.tokens))))
        now = replace(edges, weights=adam.tables["given"] / unit[edges.sources])
        loss = kl_nats(torch.from_numpy(read.said[at]), _said(read, now, adam.tables["bias"], at))[0].mean()
        adam.step(loss, 1 - step / steps)
        progress(step + 1, steps)
    weights = edges.weights if bias_alone else adam.tables["given"].detach() / unit[edges.sources]
    own = votes.weights
    data = weights.numpy().astype(own.dtype)
    return VotesFound(Csr((data, own.indices, own.indptr), shape=own.shape), adam.tables["bias"].detach().numpy())


def _edges(votes: VotesFound) -> Edges:
    own = votes.weights
    starts, columns = torch.from_numpy(own.indptr.astype(np.int64)), torch.from_numpy(own.indices.astype(np.int32))
    return Edges(starts, columns, torch.from_numpy(own.data.astype(np.float32)), own.shape[1])


def _said(read: Read, edges: Edges, bias: torch.Tensor, at: NDArray[np.int64]) -> torch.Tensor:
    """Return the logits of explanations with some votes, [pos, d_vocab]."""
    x = read.x[at]
    counts = np.diff(x.indptr)
    used = np.arange(int(counts.max(initial=1))) < counts[:, None]
    indices, values = np.zeros(used.shape, np.int32), np.zeros(used.shape, np.float32)
    indices[used], values[used] = x.indices, x.data
    codes = Codes(*map(torch.from_numpy, (indices, values, counts.astype(np.int32))))
    rest = read.rest if len(read.rest) == 1 else read.rest[at]
    return torch.from_numpy(rest) + edges.from_codes(codes, codes.values) + bias
