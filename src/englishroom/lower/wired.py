"""Write a wired model as a readable program: word lists, places, looks, rules that are features, and votes.

Every sum has two lists of its own, the words that count for it and those that count against it, with how much each
counts. Features that can never be on are left out, and so are those that nothing reads and that vote for nothing, looks
without features, matches that never tell one position from another, and groups without any; what the program says stays
the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import block_diag, csr_array, hstack, vstack
from torch import Tensor

from englishroom.ir.program import (
    Block,
    Fire,
    Looks,
    Lookup,
    Origin,
    Program,
    Space,
    SparseTable,
    Table,
    Vote,
    Votes,
)
from englishroom.ir.verify import require_valid
from englishroom.passes.base import Record
from englishroom.readable.wiring import WiredModel
from englishroom.sparse.edges import Edges

MADE_BY = "readable"
LISTS, PLACES, WORDS = "lists", "places", "vocab"


def write_readable(model: WiredModel) -> tuple[Program, Record]:
    """Write a wired model as a program."""
    began = time.perf_counter()
    alive = features_alive(model)
    program = require_valid(_Writer(model, alive | sums_alive(model, alive)).program())
    rewrites = [f"{name}: {int(kept.sum()):,} of {len(kept):,} features are left" for name, kept in alive.items()]
    options = {"edges": sum(len(edges.columns) for edges in model.edges.values())}
    return program, Record(MADE_BY, options, tuple(rewrites), time.perf_counter() - began)


def run_as(model: WiredModel, tokens: NDArray[np.integer]) -> NDArray[np.float64]:
    """Run a wired model in float64 and return log-probabilities, [batch, pos, d_vocab]."""
    given = torch.from_numpy(np.asarray(tokens, np.int64))
    with torch.no_grad():
        return model.double().run(given).log_softmax(-1).unflatten(0, given.shape).numpy()


def features_alive(model: WiredModel) -> dict[str, Tensor]:
    """Say, group by group, which features can be on and change what is said; one at least is kept."""
    shape, n_first = model.shape, model.shape.n_places
    groups = [(f"{name}.{at}", rule) for at in range(shape.n_layers) for name, rule in (("moved", 0), ("rules", 1))]
    sizes = [shape.n_rules if rule else shape.all_moved for _, rule in groups]
    alive = torch.ones(n_first + sum(sizes), dtype=torch.bool)
    offsets = dict(zip((name for name, _ in groups), np.cumsum([n_first, *sizes[:-1]]).tolist(), strict=True))

    def own(name: str) -> slice:
        return slice(offsets[name], offsets[name] + sizes[list(offsets).index(name)])

    for name, rule in groups:  # forwards: what can be on
        layer = name.rpartition(".")[2]
        bias, threshold = ("rule_biases", "rule_thresholds") if rule else ("moved_biases", "moved_thresholds")
        edges, words = model.edges[name], model.edges[f"words.{name}"]
        fed = torch.zeros(edges.n_columns, dtype=torch.bool)
        fed[edges.columns[alive[edges.sources] & (edges.weights.detach() != 0)].long()] = True
        fed[words.columns[words.weights.detach() != 0].long()] = True
        alive[own(name)] = fed | (model.vectors[f"{bias}.{layer}"] > model.vectors[f"{threshold}.{layer}"]).detach()
    for name, _ in reversed(groups):  # backwards: what is read
        used = torch.zeros(len(alive), dtype=torch.bool)
        votes = model.edges["votes"]
        used[votes.sources[votes.weights.detach() != 0]] = True
        for reader, edges in model.edges.items():
            if reader.startswith("words.") or reader in ("follows", "votes"):
                continue
            reads = edges.weights.detach() != 0
            if reader in offsets:
                reads = reads & alive[own(reader)][edges.columns.long()]
            used[edges.sources[reads]] = True
        alive[own(name)] &= used[own(name)]
    alive[-1] |= not alive[n_first:].any()
    return {name: alive[own(name)] for name in offsets}


def sums_alive(model: WiredModel, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Say which queries, keys and lone keys decide where features are moved from."""
    found: dict[str, Tensor] = {}
    for layer in range(model.shape.n_layers):
        looks = features[f"moved.{layer}"].view(model.shape.n_heads, -1).any(1)
        asks = _read(model, f"queries.{layer}") | (model.vectors[f"query_biases.{layer}"].detach() > 0)
        matches = asks & _read(model, f"keys.{layer}") & looks.repeat_interleave(model.shape.n_matches)
        found |= {f"queries.{layer}": matches, f"keys.{layer}": matches, f"lone_keys.{layer}": looks}
    return found


def _read(model: WiredModel, name: str) -> Tensor:
    """Say which sums of a kind read anything."""
    found = torch.zeros(model.edges[name].n_columns, dtype=torch.bool)
    for edges in (model.edges[name], model.edges[f"words.{name}"]):
        found[edges.columns[edges.weights.detach() != 0].long()] = True
    return found


class _Writer:
    def __init__(self, model: WiredModel, alive: Mapping[str, Tensor]) -> None:
        self.model, self.shape, self.alive = model, model.shape, alive
        self.blocks: list[Block] = []
        self.spaces: list[Space] = []
        self.reads: tuple[str, ...] = ()
        self.kept = np.zeros(0, bool)  # of the features so far, which are left
        self.lists, self.reading = self._word_lists()  # [token, list]; by reader, which sum reads which list

    def program(self) -> Program:
        """Write all blocks in order."""
        model, shape = self.model, self.shape
        strengths = _table("lists.strengths", self.lists)
        self.spaces.append(Space(LISTS, strengths.shape[1]))
        self._add(Lookup(name=LISTS, space=LISTS, index="token", table=strengths))
        self.reads = (LISTS,)
        if shape.n_places:
            places = Edges.of(model.places)
            shares = SparseTable("places.shares", *_parts(places), places.n_columns)
            self._features(Lookup(name=PLACES, space=PLACES, index="position", table=shares), shape.n_places)
        for layer in range(shape.n_layers):
            self._looks(layer)
            self._rules(layer)
        self.spaces.append(Space(WORDS, shape.d_vocab))
        votes = _matrix(model.edges["votes"])[:, self.kept].T
        bias = self._vector("votes.bias", "vote_bias")
        weights = _table("votes.weights", votes)
        self._add(Votes(name="votes", space=WORDS, reads=self.reads[1:], weights=weights, bias=bias))
        follows = model.edges["follows"]
        table = SparseTable("follows.votes", *_parts(follows), follows.n_columns)
        self._add(Lookup(name="follows", space=WORDS, index="token", table=table))
        self._add(Vote(name="log_probs", space=WORDS, reads=("votes", "follows")))
        return Program("sparse", shape.n_ctx, tuple(self.spaces), tuple(self.blocks))

    def _word_lists(self) -> tuple[Any, dict[str, Any]]:
        """Return all lists, [token, list], and for each kind of sum which of them each reads, [sum, list]."""
        lists: list[Any] = []
        kinds = [name.removeprefix("words.") for name in self.model.edges if name.startswith("words.")]
        reads: list[Any] = []
        for kind in kinds:
            words = _matrix(self.model.edges[f"words.{kind}"])
            words = words[self.alive[kind].numpy()]
            both: list[Any] = []
            for sign in (1, -1):
                own: Any = csr_array(words.multiply(sign).maximum(0))
                own.eliminate_zeros()
                some = np.flatnonzero(np.diff(own.indptr))
                lists.append(own[some])
                entries = np.full(len(some), sign, own.dtype), (some, np.arange(len(some)))
                both.append(csr_array(entries, shape=(own.shape[0], len(some))))
            reads.append(hstack(both))
        ends = np.cumsum([read.shape[0] for read in reads])
        whole: Any = csr_array(block_diag(reads, format="csr"))
        if not whole.shape[1]:  # a list that nothing reads, where no sum reads words
            lists, whole = [csr_array((1, self.shape.d_vocab))], csr_array((whole.shape[0], 1))
        each = np.split(np.arange(ends[-1]), ends[:-1])
        return csr_array(vstack(lists).T.tocsr()), {kind: whole[own] for kind, own in zip(kinds, each, strict=True)}

    def _looks(self, layer: int) -> None:
        name, shape = f"moved.{layer}", self.shape
        alive, matches, looks = (self.alive[f"{of}.{layer}"].numpy() for of in ("moved", "queries", "lone_keys"))
        block = Looks(
            name=name,
            space=name,
            reads=self.reads,
            queries=self._sums(f"queries.{layer}", f"{name}.queries", matches),
            query_biases=self._vector(f"{name}.query_biases", f"query_biases.{layer}", matches),
            keys=self._sums(f"keys.{layer}", f"{name}.keys", matches),
            key_biases=self._vector(f"{name}.key_biases", f"key_biases.{layer}", matches),
            matches=tuple(matches.reshape(shape.n_heads, -1).sum(1)[looks].tolist()),
            lone_keys=self._sums(f"lone_keys.{layer}", f"{name}.lone_keys", looks),
            distance=self._vector(f"{name}.distance", f"distance.{layer}", looks),
            conditions=self._sums(name, f"{name}.conditions", alive),
            biases=self._vector(f"{name}.biases", f"moved_biases.{layer}", alive),
            thresholds=self._vector(f"{name}.thresholds", f"moved_thresholds.{layer}", alive),
            moved=tuple(alive.reshape(shape.n_heads, -1).sum(1)[looks].tolist()),
            window=shape.windows[layer],
        )
        self._features(block, len(alive), alive)

    def _rules(self, layer: int) -> None:
        name, alive = f"rules.{layer}", self.alive[f"rules.{layer}"].numpy()
        block = Fire(
            name=name,
            space=name,
            reads=self.reads,
            conditions=self._sums(name, f"{name}.conditions", alive),
            biases=self._vector(f"{name}.biases", f"rule_biases.{layer}", alive),
            thresholds=self._vector(f"{name}.thresholds", f"rule_thresholds.{layer}", alive),
        )
        self._features(block, len(alive), alive)

    def _features(self, block: Block, size: int, alive: NDArray[np.bool_] | None = None) -> None:
        """Add a block of features, some of which are left."""
        alive = np.ones(size, bool) if alive is None else alive
        if alive.any():
            self.spaces.append(Space(block.space, int(alive.sum())))
            self._add(block)
            self.reads = (*self.reads, block.name)
        self.kept = np.append(self.kept, alive)

    def _add(self, block: Block) -> None:
        object.__setattr__(block, "origin", Origin(MADE_BY))
        self.blocks.append(block)

    def _sums(self, edges: str, name: str, alive: NDArray[np.bool_]) -> SparseTable:
        """Return what each of some sums reads, of the features that are left."""
        table = _matrix(self.model.edges[edges])[:, self.kept]
        return _table(name, hstack([self.reading[edges], table[alive]], format="csr"))

    def _vector(self, name: str, vector: str, alive: NDArray[np.bool_] | None = None) -> Table:
        values = self.model.vectors[vector].detach().numpy()
        return Table(name, values if alive is None else values[alive])


def _parts(edges: Edges) -> tuple[NDArray, NDArray, NDArray]:
    return edges.starts.numpy(), edges.columns.numpy(), edges.weights.detach().numpy()


def _matrix(edges: Edges) -> Any:
    """Lay edges out by what they lead to, as a matrix of scipy's, whose stubs do not know what a slice of one is."""
    starts, columns, weights = _parts(edges)
    by_source = csr_array((weights, columns, starts), shape=(edges.n_sources, edges.n_columns))
    return csr_array(by_source.T.tocsr())


def _table(name: str, entries: Any) -> SparseTable:
    """Store a sparse matrix."""
    matrix: Any = csr_array(entries)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    starts, columns = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
    return SparseTable(name, starts, columns, matrix.data, matrix.shape[1])
