"""Write a sparse model as a program at the sparse level.

There is no residual stream in it: an entry of a table joins a feature with what it adds to. Every stage reads all
features that came before, side by side; its loudness is one more sum over them, and dividing by it is a
:class:`Normalise` whose form has that one entry.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from englishroom.ir import program as ir
from englishroom.ir.verify import require_valid
from englishroom.passes.base import Record
from englishroom.sparse.dead import without_dead
from englishroom.sparse.edges import Edges
from englishroom.sparse.model import PLACES, WORDS, SparseModel
from englishroom.sparse.prune import GROUPS

MADE_BY = "sparsify"
ALWAYS = "always"


def sparsify(model: SparseModel) -> tuple[ir.Program, Record]:
    """Write a sparse model as a program.

    0. Leave out rules that can fire no more.
    1. Look up what kinds of words the token is of, and between which stations it stands.
    2. For every layer, let the heads ask, offer and carry, and bring features here; then let rules fire.
    3. Let the features vote for kinds of words, and those for words.
    """
    began = time.perf_counter()
    alive = without_dead(model)
    program = require_valid(_Writer(alive).program())
    rewrites = []
    for layer in range(model.shape.n_layers):
        for at, group in GROUPS:
            size, left = (len(m.biases[3 * layer + at]) for m in (model, alive))
            rewrites.append(f"{group}.{layer}: {left:,} of {size:,} rules can fire")
    return program, Record(MADE_BY, {"edges": model.n_edges}, tuple(rewrites), time.perf_counter() - began)


class _Writer:
    def __init__(self, model: SparseModel) -> None:
        self.model, self.shape = model, model.shape
        self.blocks: list[ir.Block] = []
        self.spaces: list[ir.Space] = []
        self.sizes = {WORDS: model.kinds.n_columns, PLACES: model.stations.shape[1]}

    def program(self) -> ir.Program:
        model, shape = self.model, self.shape
        self._space(WORDS, self.sizes[WORDS])
        self._add(ir.Lookup(name=WORDS, space=WORDS, index="token", table=_of_edges("words.kinds", model.kinds)))
        self._space(PLACES, self.sizes[PLACES])
        stations = _of_edges("places.stations", Edges.of(model.stations))
        self._add(ir.Lookup(name=PLACES, space=PLACES, index="position", table=stations))
        self._space(ALWAYS, 1)
        nothing = _of_edges("always.nothing", Edges.of(torch.zeros(self.sizes[WORDS], 1)))
        one = ir.Table("always.one", np.ones(1, np.float32))
        self._add(ir.Linear(name=ALWAYS, space=ALWAYS, reads=WORDS, weight=nothing, bias=one))
        for layer in range(shape.n_layers):
            self.sizes[f"brought.{layer}"] = shape.n_heads * shape.d_head
            sizes = (len(model.biases[3 * layer + at]) for at, _ in GROUPS)
            self.sizes |= {f"{group}.{layer}": size for (_, group), size in zip(GROUPS, sizes, strict=True)}
            self._heads(layer, self._summed(3 * layer, f"heads.{layer}"))
            self._rules(3 * layer + 1, f"moved.{layer}", shape.k_moved)
            self._rules(3 * layer + 2, f"rules.{layer}", shape.k_rules)
        votes = self._summed(shape.n_stages - 1, "said")
        self._space("vocab", shape.d_vocab)
        said = replace(model.said, n_columns=model.said.n_columns + 1)  # the last is the loudness, which says nothing
        weight = _of_edges("said.words", said)
        self._add(ir.Linear(name="votes", space="vocab", reads=votes, weight=weight, transposed=True))
        self._add(ir.Vote(name="log_probs", space="vocab", reads=("votes",)))
        return ir.Program("sparse", shape.n_ctx, tuple(self.spaces), tuple(self.blocks))

    def _space(self, name: str, size: int) -> str:
        self.spaces.append(ir.Space(name, size))
        return name

    def _add(self, block: ir.Block) -> str:
        object.__setattr__(block, "origin", ir.Origin(MADE_BY))
        self.blocks.append(block)
        return block.name

    def _joined(self, stage: int, name: str) -> tuple[str, int]:
        """Put all features that a stage reads side by side, and last a feature that is always on."""
        sources = self.shape.sources(stage)
        size = sum(self.sizes[source] for source in sources) + 1
        self._space(f"{name}.features", size)
        return self._add(ir.Join(name=f"{name}.features", space=f"{name}.features", reads=(*sources, ALWAYS))), size

    def _edges(self, stage: int) -> tuple[NDArray, NDArray, NDArray]:
        """Return all edges of a stage: feature among those joined, column, weight."""
        first, rows, columns, weights = 0, [], [], []
        for source in self.shape.sources(stage):
            edges = self.model.tables[stage][source]
            rows.append(edges.sources.numpy() + first)
            columns.append(edges.columns.numpy())
            weights.append(edges.weights.detach().numpy())
            first += self.sizes[source]
        return np.concatenate(rows), np.concatenate(columns), np.concatenate(weights)

    def _loudness(self, stage: int, name: str, joined: str, size: int) -> str:
        """Add up how loud a stage's features are."""
        rows, columns, weights = self._edges(stage)
        loud = columns == len(self.model.biases[stage])
        weight = sparse_table(f"{name}.loudness.weight", (size, 1), rows[loud], columns[loud] * 0, weights[loud])
        mean = ir.Table(f"{name}.loudness.bias", self.model.constants[stage][-1:].detach().numpy())
        self._space(f"{name}.loudness", 1)
        return self._add(
            ir.Linear(name=f"{name}.loudness", space=f"{name}.loudness", reads=joined, weight=weight, bias=mean)
        )

    def _divided(self, stage: int, name: str, what: str, size: int, loudness: str, bias: ir.Table | None) -> str:
        """Divide a variable by the loudness, which comes last in the answer."""
        space = self._space(f"{name}.with_loudness", size + 1)
        whole = self._add(ir.Join(name=f"{name}.with_loudness", space=space, reads=(what, loudness)))
        at = np.array([size])
        form = sparse_table(f"{name}.form", (size + 1, size + 1), at, at, np.ones(1, np.float32))
        eps = float(self.model.floors[stage] ** 2)
        return self._add(
            ir.Normalise(name=name, space=space, reads=whole, centred=False, eps=eps, bias=bias, form=form)
        )

    def _summed(self, stage: int, name: str) -> str:
        """Let every column of a stage add up its features, then divide."""
        model, n_columns = self.model, len(self.model.biases[stage])
        joined, size = self._joined(stage, name)
        rows, columns, weights = self._edges(stage)
        sums = columns < n_columns
        weight = sparse_table(f"{name}.weight", (size, n_columns), rows[sums], columns[sums], weights[sums])
        constant = ir.Table(f"{name}.constant", model.constants[stage][:-1].detach().numpy())
        self._space(f"{name}.sums", n_columns)
        self._add(ir.Linear(name=f"{name}.sums", space=f"{name}.sums", reads=joined, weight=weight, bias=constant))
        loudness = self._loudness(stage, name, joined, size)
        bias = ir.Table(f"{name}.bias", np.append(model.biases[stage].detach().numpy(), np.float32(0)))
        return self._divided(stage, name, f"{name}.sums", n_columns, loudness, bias)

    def _featured(self, stage: int, name: str) -> str:
        """Divide the features themselves, for rules that read them."""
        joined, size = self._joined(stage, name)
        return self._divided(stage, name, joined, size, self._loudness(stage, name, joined, size), None)

    def _heads(self, layer: int, heads: str) -> None:
        shape, name = self.shape, f"brought.{layer}"
        n = shape.n_heads * shape.d_head
        whole = 3 * n + 1
        self._space(name, n)
        asks, offers, sizes, offset = heads, heads, (whole, whole), n
        if shape.rotary_theta is not None:
            asks, offers = (self._turned(layer, heads, part, what) for part, what in enumerate(("asks", "offers")))
            sizes, offset = (n, n), 0
        scores, moves = [], []
        for head in range(shape.n_heads):
            own, one = np.arange(head * shape.d_head, (head + 1) * shape.d_head), np.ones(shape.d_head, np.float32)
            table = sparse_table(f"{name}.head_{head}.scores", sizes, own, offset + own, one)
            scores.append((table,))
            moves.append(sparse_table(f"{name}.head_{head}.moves", (whole, n), 2 * n + own, own, one))
        self._add(
            ir.Match(
                name=name,
                space=name,
                queries=asks,
                keys=offers,
                values=heads,
                scores=tuple(scores),
                distance=ir.Table(f"{name}.distance", self.model.distances[layer].detach().numpy()),
                moves=tuple(moves),
                window=shape.windows[layer],
            )
        )

    def _turned(self, layer: int, heads: str, part: int, what: str) -> str:
        """Take what the heads ask or offer apart from the rest, and turn it by the position."""
        shape, theta = self.shape, self.shape.rotary_theta
        n = shape.n_heads * shape.d_head
        assert theta is not None
        own = np.arange(n)
        name = f"{what}.{layer}"
        taken = sparse_table(f"{name}.taken", (3 * n + 1, n), part * n + own, own, np.ones(n, np.float32))
        self._space(name, n)
        self._add(ir.Linear(name=name, space=name, reads=heads, weight=taken))
        return self._add(ir.Rotate(name=f"{name}.turned", space=name, reads=name, n_heads=shape.n_heads, theta=theta))

    def _rules(self, stage: int, name: str, k: int) -> None:
        n = len(self.model.biases[stage])
        seen = self._featured(stage, f"{name}.seen")
        size = next(space.size for space in self.spaces if space.name == f"{seen}.with_loudness")
        rows, columns, weights = self._edges(stage)
        reads = columns < n
        constants = self.model.constants[stage][:-1].detach().numpy()
        each = np.flatnonzero(constants)
        always = np.full(len(each), size - 2)  # before the loudness
        conditions = sparse_table(
            f"{name}.conditions",
            (n, size),
            np.concatenate([columns[reads], each]),
            np.concatenate([rows[reads], always]),
            np.concatenate([weights[reads], constants[each]]),
        )
        each = np.arange(n)
        self._space(name, n)
        self._add(
            ir.Rules(
                name=name,
                space=name,
                reads=seen,
                conditions=conditions,
                thresholds=ir.Table(f"{name}.thresholds", np.zeros(n, np.float32)),
                effects=sparse_table(f"{name}.itself", (n, n), each, each, np.ones(n, np.float32)),
                biases=ir.Table(f"{name}.biases", self.model.biases[stage].detach().numpy()),
                passes="value",
                k=min(k, n),
            )
        )


def _of_edges(name: str, edges: Edges) -> ir.SparseTable:
    parts = (edges.starts, edges.columns, edges.weights.detach())
    return ir.SparseTable(name, *(part.numpy() for part in parts), n_columns=edges.n_columns)


def sparse_table(name: str, size: tuple[int, int], rows: NDArray, columns: NDArray, values: NDArray) -> ir.SparseTable:
    """Make a sparse table of entries in any order."""
    order = np.lexsort((columns, rows))
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=size[0]))])
    return ir.SparseTable(
        name, starts.astype(np.int64), columns[order].astype(np.int32), values[order].astype(np.float32), size[1]
    )


def run_as(model: SparseModel, tokens: NDArray[np.integer]) -> NDArray[np.float64]:
    """Run a sparse model in float64 and return log-probabilities, [batch, pos, d_vocab]."""
    given = torch.from_numpy(np.asarray(tokens, np.int64))
    return _double(model).run(given).log_softmax(-1).unflatten(0, given.shape).numpy()


def _double(model: SparseModel) -> SparseModel:
    def edges(old: Edges) -> Edges:
        return Edges(old.starts, old.columns, old.weights.detach().double(), old.n_columns)

    def tensors(old: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(t.detach().double() for t in old)

    return replace(
        model,
        kinds=edges(model.kinds),
        said=edges(model.said),
        stations=model.stations.double(),
        tables=tuple({source: edges(old) for source, old in tables.items()} for tables in model.tables),
        constants=tensors(model.constants),
        biases=tensors(model.biases),
        distances=tensors(model.distances),
    )
