"""A small random program in stages, as sparse programs are made: kinds, places, heads, moved features, rules, votes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from englishroom.ir.program import (
    Block,
    Join,
    Linear,
    Lookup,
    Match,
    Normalise,
    Origin,
    Program,
    Rotate,
    Rules,
    Space,
    SparseTable,
    Table,
    Vote,
)
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.verify import require_valid

PIECES = (
    *(
        b"<|endoftext|>",
        b" once",
        b"once",
        b" upon",
        b"ing",
        b" Lily",
        b"Lily",
        b".",
        b" .",
        b'"',
        b'"""',
        b"\n",
        b"\\",
    ),
    *(b" a b", b"\xff\xfe", "\u202e".encode(), " é".encode(), b"|", b"#", b">", b"-1", b" 7", b"", b" ", b"\x1b[31m"),
    *(b" the", b" a", b" dog", b" ran", b" and", b"o", b"n", b"c", b"e", b"u", b"p"),
)
D_VOCAB, N_CTX, N_HEADS, D_HEAD, N_KINDS, N_PLACES, N_RULES = len(PIECES), 10, 2, 4, 20, 4, 12


def tokenizer() -> Tokenizer:
    """Make a tokenizer of odd pieces; of texts it can spell those of a few letters."""
    ids = tuple(PIECES.index(bytes([byte])) if bytes([byte]) in PIECES else -1 for byte in range(256))
    return Tokenizer("byte_bpe", PIECES, (), (), ids, (0,), 0, (0,), False)


def staged(
    seed: int = 0, dtype: type = np.float32, n_layers: int = 2, thresholds: bool = False, turned: bool = False
) -> Program:
    """Make a valid staged program; the same seed makes the same.

    Args:
        thresholds: whether rules have thresholds, and pass on what exceeds them.
        turned: whether what heads ask and offer turns with the position.
    """
    return _Writer(np.random.default_rng(seed), dtype, thresholds, turned).program(n_layers)


def rows(n_rows: int = 12, seed: int = 1) -> list[NDArray[np.int64]]:
    """Draw texts of random tokens, each from the start token on."""
    rng = np.random.default_rng(seed)
    return [np.append(0, rng.integers(1, D_VOCAB, N_CTX - 1)) for _ in range(n_rows)]


def csr(name: str, matrix: NDArray, dtype: type = np.float32) -> SparseTable:
    """Store what is not zero of a matrix."""
    rows, columns = np.nonzero(matrix)
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(matrix)))])
    return SparseTable(name, starts, columns.astype(np.int32), matrix[rows, columns].astype(dtype), matrix.shape[1])


class _Writer:
    def __init__(self, rng: np.random.Generator, dtype: type, thresholds: bool, turned: bool) -> None:
        self.rng, self.dtype, self.thresholds, self.turned = rng, dtype, thresholds, turned
        self.blocks: list[Block] = []
        self.sizes: dict[str, int] = {}

    def program(self, n_layers: int) -> Program:
        self.add(Lookup, "words", N_KINDS, index="token", table=self.sparse("words.kinds", D_VOCAB, N_KINDS, 0.2, True))
        places = self.sparse("places.stations", N_CTX, N_PLACES, 0.4, True)
        self.add(Lookup, "places", N_PLACES, index="position", table=places)
        nothing, one = csr("always.nothing", np.zeros((N_KINDS, 1))), Table("always.one", np.ones(1, np.float32))
        self.add(Linear, "always", 1, reads="words", weight=nothing, bias=one)
        known = ["words", "places"]
        for layer in range(n_layers):
            heads = self.summed(f"heads.{layer}", known, 3 * N_HEADS * D_HEAD)
            self.brought(f"brought.{layer}", heads, layer)
            self.rules(f"moved.{layer}", [f"brought.{layer}"])
            known.append(f"moved.{layer}")
            self.rules(f"rules.{layer}", known)
            known.append(f"rules.{layer}")
        said = self.summed("said", known, N_KINDS)
        table = self.sparse("said.words", D_VOCAB, N_KINDS + 1, 0.2)
        self.sizes["vocab"] = D_VOCAB
        common = {"space": "vocab", "origin": Origin("sparsify")}
        self.blocks.append(Linear(name="votes", reads=said, weight=table, transposed=True, **common))
        self.blocks.append(Vote(name="log_probs", reads=("votes",), **common))
        spaces = tuple(Space(name, size) for name, size in self.sizes.items())
        return require_valid(Program("sparse", N_CTX, spaces, tuple(self.blocks)))

    def sparse(self, name: str, rows: int, columns: int, share: float, positive: bool = False) -> SparseTable:
        values = self.rng.normal(size=(rows, columns)) * (self.rng.random((rows, columns)) < share)
        return csr(name, np.abs(values) if positive else values, self.dtype)

    def vector(self, name: str, size: int) -> Table:
        return Table(name, self.rng.normal(size=size).astype(self.dtype))

    def add(self, kind: type, name: str, size: int, space: str | None = None, **fields: object) -> str:
        space = space or name
        self.sizes[space] = size
        self.blocks.append(kind(name=name, space=space, origin=Origin("sparsify"), **fields))
        return name

    def joined(self, name: str, known: list[str]) -> tuple[str, int]:
        size = sum(self.sizes[part] for part in known) + 1
        return self.add(Join, f"{name}.features", size, reads=(*known, "always")), size

    def divided(self, name: str, what: str, read: str, n_read: int, bias: Table | None) -> str:
        weight = self.sparse(f"{name}.loudness.weight", n_read, 1, 0.3)
        alone = Table(f"{name}.loudness.bias", np.full(1, 1.5, self.dtype))
        loud = self.add(Linear, f"{name}.loudness", 1, reads=read, weight=weight, bias=alone)
        size = self.sizes[what]
        both = self.add(Join, f"{name}.with_loudness", size + 1, reads=(what, loud))
        square = np.zeros((size + 1, size + 1))
        square[size, size] = 1
        form = csr(f"{name}.form", square, self.dtype)
        fields = {"reads": both, "centred": False, "eps": 0.25, "bias": bias, "form": form}
        return self.add(Normalise, name, size + 1, both, **fields)

    def summed(self, name: str, known: list[str], n_sums: int) -> str:
        read, size = self.joined(name, known)
        weight = self.sparse(f"{name}.weight", size, n_sums, 0.3)
        sums = self.add(
            Linear, f"{name}.sums", n_sums, reads=read, weight=weight, bias=self.vector(f"{name}.constant", n_sums)
        )
        return self.divided(name, sums, read, size, self.vector(f"{name}.bias", n_sums + 1))

    def brought(self, name: str, heads: str, layer: int) -> None:
        n = N_HEADS * D_HEAD
        whole = 3 * n + 1
        asks, offers, size, offset = heads, heads, whole, n
        if self.turned:
            asks, offers = (
                self.turn(f"{what}.{layer}", heads, part * n) for part, what in enumerate(("asks", "offers"))
            )
            size, offset = n, 0
        scores, moves = [], []
        for head in range(N_HEADS):
            own = np.arange(head * D_HEAD, (head + 1) * D_HEAD)
            pairs, goes = np.zeros((size, size)), np.zeros((whole, n))
            pairs[own, offset + own] = 1
            goes[2 * n + own, own] = 1
            scores.append((csr(f"{name}.head_{head}.scores", pairs, self.dtype),))
            moves.append(csr(f"{name}.head_{head}.moves", goes, self.dtype))
        distance = Table(f"{name}.distance", self.rng.normal(size=(N_HEADS, 5)).astype(self.dtype))
        reads = {"queries": asks, "keys": offers, "values": heads}
        window = 3 if layer else None
        self.add(Match, name, n, scores=tuple(scores), moves=tuple(moves), distance=distance, window=window, **reads)

    def turn(self, name: str, heads: str, first: int) -> str:
        n = N_HEADS * D_HEAD
        taken = np.zeros((3 * n + 1, n))
        taken[first + np.arange(n), np.arange(n)] = 1
        read = self.add(Linear, name, n, reads=heads, weight=csr(f"{name}.taken", taken, self.dtype))
        return self.add(Rotate, f"{name}.turned", n, name, reads=read, n_heads=N_HEADS, theta=100.0)

    def rules(self, name: str, known: list[str]) -> None:
        read, size = self.joined(f"{name}.seen", known)
        seen = self.divided(f"{name}.seen", read, read, size, None)
        conditions = np.zeros((N_RULES, size + 1))
        conditions[:, :size] = self.rng.normal(size=(N_RULES, size)) * (self.rng.random((N_RULES, size)) < 0.3)
        low = np.abs(self.rng.normal(size=N_RULES)) if self.thresholds else np.zeros(N_RULES)
        self.add(
            Rules,
            name,
            N_RULES,
            reads=seen,
            conditions=csr(f"{name}.conditions", conditions, self.dtype),
            thresholds=Table(f"{name}.thresholds", low.astype(self.dtype)),
            effects=csr(f"{name}.itself", np.eye(N_RULES), self.dtype),
            biases=self.vector(f"{name}.biases", N_RULES),
            passes="excess" if self.thresholds else "value",
            k=4,
        )
