"""How many voting features must be kept for a program to say nearly the same at one position, chosen greedily.

All other voters stand at their mean value over a text; what a token's own row of the table of followers votes, and all
biases, stay. Keeping voter i adds ``d_i v_i`` to the logits ``z``, where ``d_i`` is how far its value is from its mean
and ``v_i`` are its votes. With p what the program says, q the softmax of z, and KL(p‖q), the change is ::

    log(1 + sum over w of q_w (exp(d_i v_iw) - 1)) - d_i p . v_i

As votes are sparse, all candidates of a step are weighed by one product of a sparse matrix with q, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from englishroom.interp.pointwise import log_softmax
from englishroom.ir.program import Fire, Linear, Looks, Lookup, Program, SparseTable, Votes

Array = NDArray[np.float64]
BEST = 8
"""So many voters at least are chosen, to say what the best of them alone cost."""
LEAST_CHANGE = float(np.nextafter(-1.0, 0.0))


class Voters(NamedTuple):
    """The features that vote, and their votes for words.

    Attributes:
        variables: those that hold them.
        places: of the voters, in these variables side by side, [voter].
        votes: [voter, d_vocab]; votes for lists are spelled out as votes for their words.
    """

    variables: tuple[str, ...]
    places: NDArray[np.intp]
    votes: Any

    def values(self, variables: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Return the values of all voters, [pos, voter]."""
        return np.concatenate([variables[name] for name in self.variables], axis=1)[:, self.places]


def voters_of(program: Program) -> Voters:
    """Follow the votes of all features through to words; features that vote for nothing are no voters."""
    blocks = {block.name: block for block in program.blocks}
    sizes = {block.name: program.space(block.space).size for block in program.blocks}
    to_words: dict[str, Any] = {}

    def add(name: str, matrix: Any) -> None:
        to_words[name] = to_words[name] + matrix if name in to_words else matrix

    for name in program.vote.reads:
        add(name, scipy.sparse.eye_array(program.d_vocab, format="csr"))
    voting: set[str] = set()
    for block in reversed(program.blocks):
        if block.name not in to_words:
            continue
        match block:
            case Linear(reads=read, weight=weight):
                own = weight.csr(np.float64) if isinstance(weight, SparseTable) else np.asarray(weight.values)
                add(read, scipy.sparse.csr_array((own.T if block.transposed else own) @ to_words[block.name]))
            case Votes(reads=reads, weights=weights):
                whole = scipy.sparse.csr_array(weights.csr(np.float64) @ to_words[block.name])
                first = 0
                for read in reads:
                    add(read, whole[first : first + sizes[read]])
                    first += sizes[read]
                    voting.add(read)
            case _:
                pass
    names = tuple(name for name in blocks if name in voting and isinstance(blocks[name], Lookup | Looks | Fire))
    if not names:
        return Voters((), np.zeros(0, np.intp), scipy.sparse.csr_array((0, program.d_vocab)))
    votes = scipy.sparse.csr_array(scipy.sparse.vstack([to_words[name] for name in names]))
    votes.eliminate_zeros()
    places = np.flatnonzero(np.diff(votes.indptr))
    return Voters(names, places, scipy.sparse.csr_array(votes[places]))


def kept_greedily(log_probs: Array, apart: Array, votes: Any, tolerance: float, least: int = BEST) -> Array:
    """Keep voters one after the other, each time the one with which KL(program‖kept) is lowest.

    Args:
        log_probs: what the program says, [d_vocab].
        apart: how far the value of each voter is from its mean, [voter].
        votes: [voter, d_vocab], sparse.
        tolerance: nats at which it stops, once ``least`` voters are kept.

    Returns:
        KL with none, one, two ... voters kept, as far as it went.
    """
    open_to = np.flatnonzero(apart)
    votes, apart = votes[open_to], apart[open_to]
    moved = scipy.sparse.csr_array((votes.data * np.repeat(apart, np.diff(votes.indptr)), votes.indices, votes.indptr),
                                   shape=votes.shape)  # fmt: skip
    gains = moved @ np.exp(log_probs)
    changes = scipy.sparse.csr_array((np.expm1(moved.data), moved.indices, moved.indptr), shape=moved.shape)
    logits = log_probs - np.asarray(moved.sum(axis=0)).ravel()
    left = np.ones(len(apart), bool)
    kls = [kl_nats(log_probs, log_softmax(logits))]
    while left.any() and (kls[-1] > tolerance or len(kls) <= least):
        log_kept = log_softmax(logits)
        change = np.log1p(np.maximum(changes @ np.exp(log_kept), LEAST_CHANGE)) - gains
        best = int(np.argmin(np.where(left, change, np.inf)))
        left[best] = False
        own = slice(moved.indptr[best], moved.indptr[best + 1])
        logits[moved.indices[own]] += moved.data[own]
        kls.append(kl_nats(log_probs, log_softmax(logits)))
    return np.array(kls)


def kl_nats(log_p: Array, log_q: Array) -> float:
    """Return KL(p‖q) of two distributions, given their logarithms."""
    return max(0.0, float(np.exp(log_p) @ (log_p - log_q)))
