"""The fast interpreter: the reference's answers in numpy, over batches, with a cache for one token at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, assert_never

import numpy as np
import scipy.sparse
from numpy.typing import DTypeLike, NDArray

from englishroom.interp.condition_reader import ConditionReader
from englishroom.interp.looking import Looking
from englishroom.interp.narrow import used_columns, used_rows
from englishroom.interp.pointwise import Rows, function_of, kept, log_softmax, softmax
from englishroom.interp.reference import check_tokens
from englishroom.interp.turns import Turns
from englishroom.ir import program as ir


class Interpreter:
    """A program made ready to run: tables converted once, every block turned into one numpy step.

    Args:
        program: a valid program.
        dtype: precision of every step; float64 gives the reference's answers to about 1e-12.
    """

    def __init__(self, program: ir.Program, dtype: DTypeLike = np.float32) -> None:
        self.program = program
        self.dtype = np.dtype(dtype)
        self._tables: dict[str, Any] = {}
        slots = {block.name: index for index, block in enumerate(program.blocks)}
        self._steps = [self._step(block, slots) for block in program.blocks]

    @property
    def n_ctx(self) -> int:
        return self.program.n_ctx

    def log_probs(self, tokens: NDArray[np.integer]) -> Rows:
        """Compute natural-log probabilities of the next token.

        Args:
            tokens: [batch, pos] or [pos].

        Returns:
            [batch, pos, d_vocab] or [pos, d_vocab].
        """
        tokens = np.asarray(tokens)
        batch = np.atleast_2d(tokens)
        answer = Stream(self, batch.shape[0], capacity=batch.shape[1]).extend(batch)
        return answer if tokens.ndim == 2 else answer[0]

    def stream(self, batch: int = 1) -> Stream:
        """Start reading ``batch`` texts, a few tokens at a time."""
        return Stream(self, batch, capacity=self.program.n_ctx)

    def variables(self, tokens: NDArray[np.integer]) -> Mapping[str, Rows]:
        """Compute every variable at every position of one text, name -> [pos, size]."""
        stream = Stream(self, 1, capacity=len(tokens))
        stream.extend(np.asarray(tokens)[None, :])
        return {block.name: stream.values[index] for index, block in enumerate(self.program.blocks)}

    def _number(self, value: float) -> Any:
        """Convert a constant to the precision at hand, so that no step widens to another."""
        return np.array(value, dtype=self.dtype)[()]

    def dense(self, table: ir.Table) -> Rows:
        """Convert a table to the precision at hand, once."""
        if table.name not in self._tables:
            self._tables[table.name] = np.ascontiguousarray(table.values, dtype=self.dtype)
        return self._tables[table.name]

    def _sparse(self, table: ir.SparseTable) -> scipy.sparse.csr_array:
        if table.name not in self._tables:
            self._tables[table.name] = table.csr(self.dtype)
        return self._tables[table.name]

    def map(self, table: ir.AnyTable, transposed: bool = False) -> Callable[[Rows], Rows]:
        """Return the function ``x -> x @ table`` (or its transpose) on rows."""
        if isinstance(table, ir.Table):
            weight = self.dense(table).T if transposed else self.dense(table)
            return lambda x: x @ weight
        matrix = self._sparse(table)
        left = matrix if transposed else scipy.sparse.csr_array(matrix.T)
        return lambda x: (left @ x.T).T

    def _step(self, block: ir.Block, slots: Mapping[str, int]) -> Callable[[Stream], Rows]:
        """Turn a block into a function of the stream; constants are bound once, here."""
        match block:
            case ir.Lookup(index=index, table=table):
                rows = self.dense(table) if isinstance(table, ir.Table) else table.dense().astype(self.dtype)
                if index == "token":
                    return lambda s: rows[s.tokens]
                return lambda s: rows[s.positions]
            case ir.Linear(reads=reads, bias=bias):
                apply, at = self.map(block.weight, block.transposed), slots[reads]
                if bias is None:
                    return lambda s: apply(s.values[at])
                offset = self.dense(bias)
                return lambda s: apply(s.values[at]) + offset
            case ir.Sum(reads=reads):
                return _sum([slots[name] for name in reads])
            case ir.Join(reads=reads):
                return _joined([slots[name] for name in reads])
            case ir.Product(reads=(first, second)):
                i, j = slots[first], slots[second]
                return lambda s: s.values[i] * s.values[j]
            case ir.Normalise():
                return self._normalise(block, slots[block.reads])
            case ir.Activate(reads=reads, function=function):
                apply, at = function_of(function), slots[reads]
                return lambda s: apply(s.values[at])
            case ir.Select():
                return self._select(block, slots[block.reads])
            case ir.Rotate():
                return self._rotate(block, slots[block.reads])
            case ir.Attend():
                return self._attend(block, slots)
            case ir.Match():
                return self._match(block, slots)
            case ir.Rules():
                return self._rules(block, slots[block.reads])
            case ir.Looks():
                return self._looks(block, _joined([slots[name] for name in block.reads]))
            case ir.Fire(reads=reads):
                conditions, joined = self.map(block.conditions, transposed=True), _joined([slots[r] for r in reads])
                above = self._above(block)
                return lambda s: above(conditions(joined(s)))
            case ir.Conditions():
                return self._conditions(block)
            case ir.Votes(reads=reads, bias=bias):
                votes, joined = self.map(block.weights), _joined([slots[name] for name in reads])
                offset = self._number(0.0) if bias is None else self.dense(bias)
                return lambda s: votes(joined(s)) + offset
            case ir.Unexplained(exact=exact, explained=explained):
                i, j = slots[exact], slots[explained]
                return lambda s: s.values[i] - s.values[j]
            case ir.Vote(reads=reads):
                total = _sum([slots[name] for name in reads])
                return lambda s: log_softmax(total(s))
            case _:
                assert_never(block)

    def _normalise(self, block: ir.Normalise, at: int) -> Callable[[Stream], Rows]:
        eps, centred = self._number(block.eps), block.centred
        gain = None if block.gain is None else self.dense(block.gain)
        bias = None if block.bias is None else self.dense(block.bias)
        form = None if block.form is None else self.map(block.form)
        share = self._number(1.0 / self.program.space(block.space).size)

        def step(s: Stream) -> Rows:
            x = s.values[at]
            if centred:
                x = x - (np.add.reduce(x, axis=1) * share)[:, None]
            square = np.vecdot(x, x) * share if form is None else np.maximum(np.vecdot(form(x), x), 0.0)
            y = x / np.sqrt(square + eps)[:, None]
            if gain is not None:
                y *= gain
            if bias is not None:
                y += bias
            return y

        return step

    def _select(self, block: ir.Select, at: int) -> Callable[[Stream], Rows]:
        thresholds = None if block.thresholds is None else self.dense(block.thresholds)
        k = block.k

        def step(s: Stream) -> Rows:
            x = s.values[at]
            return kept(x, True if thresholds is None else x > thresholds, k)

        return step

    def _rules(self, block: ir.Rules, at: int) -> Callable[[Stream], Rows]:
        conditions, effects = self.map(block.conditions, transposed=True), self.map(block.effects)
        thresholds = self.dense(block.thresholds)
        biases = self._number(0.0) if block.biases is None else self.dense(block.biases)
        offset = self._number(0.0) if block.offset is None else self.dense(block.offset)
        k, excess = block.k, block.passes == "excess"

        def step(s: Stream) -> Rows:
            strength = conditions(s.values[at]) + biases
            passed = strength - thresholds if excess else strength
            return effects(kept(passed, strength > thresholds, k)) + offset

        return step

    def _rotate(self, block: ir.Rotate, at: int) -> Callable[[Stream], Rows]:
        n_heads, size = block.n_heads, self.program.space(block.space).size
        half = size // n_heads // 2
        swap = np.concatenate([np.r_[half : 2 * half, 0:half] + h * 2 * half for h in range(n_heads)])
        turns = Turns(block.theta, size, n_heads, self.dtype)

        def step(s: Stream) -> Rows:
            x, (cos, sin) = s.values[at], turns.first(s.length + s.n_new)
            return x * cos[s.positions] + x[:, swap] * sin[s.positions]

        return step

    def _attend(self, block: ir.Attend, slots: Mapping[str, int]) -> Callable[[Stream], Rows]:
        q_at, k_at, v_at = slots[block.queries], slots[block.keys], slots[block.values]
        n_kv, group = block.n_kv_heads, block.n_heads // block.n_kv_heads
        scale, window, name = self._number(block.scale), block.window, block.name

        def step(s: Stream) -> Rows:
            batch, n_new = s.batch, s.n_new
            keys = s.remember(name, "keys", s.values[k_at], n_kv, window)  # [batch, kv, seen, d]
            values = s.remember(name, "values", s.values[v_at], n_kv, window)
            q = s.values[q_at] * scale
            if n_new == 1:  # one query: all heads of a group read the same keys
                q = q.reshape(batch, n_kv, group, -1)
                weights = softmax(q @ keys.swapaxes(2, 3))  # [batch, kv, group, seen]
                return (weights @ values).reshape(batch, -1)
            q = q.reshape(batch, n_new, n_kv, group, -1).transpose(0, 2, 3, 1, 4)  # [batch, kv, group, new, d]
            ahead = s.ahead(keys.shape[2], window)
            mixed = np.empty((batch, n_new, n_kv, group, values.shape[3]), dtype=q.dtype)
            for text in range(batch):  # one head at a time, so that its scores stay in the processor's cache
                for head in range(n_kv):
                    scores = q[text, head] @ keys[text, head].T  # [group, new, seen]
                    scores += ahead
                    mixed[text, :, head] = (softmax(scores) @ values[text, head]).swapaxes(0, 1)
            return mixed.reshape(batch * n_new, -1)

        return step

    def _match(self, block: ir.Match, slots: Mapping[str, int]) -> Callable[[Stream], Rows]:
        q_at, k_at, v_at = slots[block.queries], slots[block.keys], slots[block.values]
        maps = [[(self.map(table), at) for table, at in map(used_columns, tables)] for tables in block.scores]
        moves = None if block.moves is None else [(self.map(t), at) for t, at in map(used_rows, block.moves)]
        distance = None if block.distance is None else self.dense(block.distance)
        window, name = block.window, block.name

        def step(s: Stream) -> Rows:
            batch, n_new = s.batch, s.n_new
            keys = s.remember(name, "keys", s.values[k_at], 1, window)[:, 0]  # [batch, seen, features]
            values = s.remember(name, "values", s.values[v_at], 1, window)[:, 0]
            back, ahead = s.distances(keys.shape[1]), s.ahead(keys.shape[1], window)  # [new, seen]
            mixes = []
            for head, by_bucket in enumerate(maps):
                scores = np.zeros((), dtype=self.dtype)
                for start, (pairs, at) in zip(block.buckets, by_bucket, strict=True):
                    wanted = pairs(s.values[q_at]).reshape(batch, n_new, -1)
                    found = wanted @ keys[:, :, at].swapaxes(1, 2)  # [batch, new, seen]
                    scores = np.where(back >= start, found, scores)
                if distance is not None:
                    scores = scores + distance[head][np.clip(back, 0, distance.shape[1] - 1)]
                carried = values if moves is None else values[:, :, moves[head][1]]
                mixes.append((softmax(scores + ahead) @ carried).reshape(batch * n_new, -1))
            if moves is None:
                return np.concatenate(mixes, axis=1)
            return functools.reduce(np.add, [move(mix) for (move, _), mix in zip(moves, mixes, strict=True)])

        return step

    def _looks(self, block: ir.Looks, joined: Callable[[Stream], Rows]) -> Callable[[Stream], Rows]:
        looking, above = Looking(block, self), self._above(block)
        window, name, n_matches = block.window, block.name, sum(block.matches)

        def step(s: Stream) -> Rows:
            parts = looking.parts(joined(s))
            keys = s.remember(name, "keys", parts.keys, 1, window)[:, 0]  # [batch, seen, match]
            lone_keys = s.remember(name, "lone_keys", parts.lone_keys, 1, window)[:, 0]  # [batch, seen, look]
            there = s.remember(name, "there", parts.there, 1, window)[:, 0]  # [batch, seen, moved]
            queries = parts.queries.reshape(s.batch, s.n_new, n_matches)
            n_seen = keys.shape[1]
            looks = looking.weights(queries, keys, lone_keys, s.distances(n_seen), s.ahead(n_seen, window))
            sums = [weights @ there[:, :, own] for weights, own in zip(looks, looking.moved, strict=True)]
            return above(np.concatenate(sums, axis=2).reshape(s.batch * s.n_new, -1))

        return step

    def _conditions(self, block: ir.Conditions) -> Callable[[Stream], Rows]:
        reader, values, name = ConditionReader.of(block), self.dense(block.values), block.name

        def step(s: Stream) -> Rows:
            seen = s.remember(name, "tokens", s.tokens[:, None], 1, None)[:, 0, :, 0]  # [batch, seen]
            last = s.carried.get(name) if s.length else None
            holds, s.carried[name] = reader.read(seen, s.n_new, last)
            return np.where(holds, values, self._number(0.0))

        return step

    def _above(self, block: ir.Looks | ir.Fire) -> Callable[[Rows], Rows]:
        """Return the function that adds biases to sums and keeps those that exceed their thresholds."""
        biases, thresholds = self.dense(block.biases), self.dense(block.thresholds)

        def above(sums: Rows) -> Rows:
            sums = sums + biases
            return kept(sums, sums > thresholds, None)

        return above


class Stream:
    """Texts being read, a batch in step: what attention remembers, and the variables of the newest positions.

    Attributes:
        length: positions read so far.
        values: after :meth:`extend`, every block's variable at the new positions, [batch * new, size], by block.
        carried: what conditions keep of the positions read so far, by block.
    """

    def __init__(self, interpreter: Interpreter, batch: int, capacity: int) -> None:
        self.interpreter = interpreter
        self.batch, self.capacity = batch, capacity
        self.length = 0
        self.n_new = 0
        self.values: list[Rows] = []
        self.carried: dict[str, Rows] = {}
        self._memory: dict[tuple[str, str], Rows] = {}

    def extend(self, tokens: NDArray[np.integer]) -> Rows:
        """Read the next tokens of every text, [batch, new], and return log-probabilities after each of them.

        Raises:
            ConfigError: the context is full, or a token is outside the vocabulary.
        """
        return self.resume(tokens, [])

    def resume(self, tokens: NDArray[np.integer], values: list[Rows], stop: int | None = None) -> Rows:
        """Read the next tokens as :meth:`extend` does, given the variables that the first blocks make of them.

        Args:
            stop: how many blocks to run, those given included; by default all.

        Raises:
            ConfigError: the context is full, or a token is outside the vocabulary.
        """
        check_tokens(self.interpreter.program, tokens, self.length)
        self.n_new = tokens.shape[1]
        self.tokens = tokens.ravel()
        self.positions = np.arange(self.length, self.length + self.n_new)
        if self.batch > 1:
            self.positions = np.tile(self.positions, self.batch)
        values = self.values = list(values)
        for step in self.interpreter._steps[len(values) : stop]:
            values.append(step(self))
        self.length += self.n_new
        return values[-1].reshape(self.batch, self.n_new, -1)

    def remember(self, block: str, part: str, rows: Rows, n_heads: int, window: int | None) -> Rows:
        """Keep the new rows of a variable and return it at every visible position, [batch, head, seen, d]."""
        d = rows.shape[1] // n_heads
        memory = self._memory.get((block, part))
        start, stop = self.length, self.length + self.n_new
        if memory is None or memory.shape[2] < stop:  # by doubling, for a context is only what may be read
            grown = np.empty((self.batch, n_heads, min(self.capacity, max(2 * stop, 64)), d), dtype=rows.dtype)
            if memory is not None:
                grown[:, :, :start] = memory[:, :, :start]
            memory = self._memory[block, part] = grown
        memory[:, :, start:stop] = rows.reshape(self.batch, self.n_new, n_heads, d).swapaxes(1, 2)
        first = 0 if window is None else max(0, start - window + 1)
        return memory[:, :, first:stop]

    def distances(self, n_seen: int) -> NDArray[np.intp]:
        """How far each of the last ``n_seen`` positions lies behind each new one, [new, seen]; negative ahead of it."""
        stop = self.length + self.n_new
        return np.arange(self.length, stop)[:, None] - np.arange(stop - n_seen, stop)[None, :]

    def ahead(self, n_seen: int, window: int | None) -> Rows:
        """Return what to add to scores: minus infinity where a new position may not look, else 0, [new, seen]."""
        back = self.distances(n_seen)
        visible = back >= 0 if window is None else (back >= 0) & (back < window)
        return np.where(visible, 0.0, -np.inf).astype(self.interpreter.dtype)


def _joined(places: list[int]) -> Callable[[Stream], Rows]:
    """Return the function that puts variables side by side."""
    if len(places) == 1:
        (at,) = places
        return lambda s: s.values[at]
    return lambda s: np.concatenate([s.values[i] for i in places], axis=1)


def _sum(places: list[int]) -> Callable[[Stream], Rows]:
    if len(places) == 2:
        i, j = places
        return lambda s: s.values[i] + s.values[j]

    def step(s: Stream) -> Rows:
        total = s.values[places[0]]
        for i in places[1:]:
            total = total + s.values[i]
        return total

    return step
