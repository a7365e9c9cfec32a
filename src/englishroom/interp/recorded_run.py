"""One text as a program read it, to follow effects through: backwards from what it said, forwards from a change.

Both ways can be taken *as it was read*: scales as they were, heads looking where they looked, the same rules firing.
A program is then a sum of products of what is stored with what is on, and an effect is followed exactly. Backwards,
scales and heads can be followed too, for the whole derivative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.interp.looking import Looking, LookParts, attention_weights, positions_seen, slices
from englishroom.interp.pointwise import kept, log_softmax, strongest, through_softmax
from englishroom.interp.vectorised import Interpreter, Stream
from englishroom.ir import program as ir

Rows = NDArray[Any]
"""Values of a variable, one row for each position: [pos, size]."""
Through = Literal["additions", "rules and heads", "everything"]
"""What effects are followed through: what only adds and scales, up to features; also rules that fire and heads, as it
was read; or everything, scales and where heads look included."""


@dataclass(frozen=True)
class Parts:
    """What rules passed on, or how strong they are: one entry a rule, [pos, rule]."""

    strengths: Rows
    fired: NDArray[np.bool_]
    passed: Rows


class RecordedRun:
    """A text read by a program at the sparse level, with all that is needed to follow effects.

    Attributes:
        variables: every variable at every position, name -> [pos, size]; a feature is on where it is not 0.
        weights: where heads, or looks, looked, name -> [head, pos, pos].
        scales: what norms multiplied by, name -> [pos, 1].
        rules: what rules did that add to features, name -> :class:`Parts`.
    """

    def __init__(self, interpreter: Interpreter, tokens: NDArray[np.integer]) -> None:
        self.interpreter, self.tokens = interpreter, np.asarray(tokens)
        self.program = interpreter.program
        self.blocks: Mapping[str, ir.Block] = {block.name: block for block in self.program.blocks}
        self.variables = dict(interpreter.variables(self.tokens))
        self.weights: dict[str, Rows] = {}
        self.scales: dict[str, Rows] = {}
        self.rules: dict[str, Parts] = {}
        for block in self.program.blocks:
            match block:
                case ir.Match():
                    queries, keys = self.variables[block.queries], self.variables[block.keys]
                    self.weights[block.name] = attention_weights(block, queries, keys, self.apply)
                case ir.Looks():
                    looking, parts = self.looked(block)
                    back, visible = positions_seen(len(self.tokens), block.window)
                    ahead = np.where(visible, 0.0, -np.inf)
                    looks = looking.weights(parts.queries, parts.keys, parts.lone_keys, back, ahead)
                    self.weights[block.name] = np.stack(looks)
                case ir.Normalise():
                    self.scales[block.name] = self._scale(block, self.centred(block))
                case ir.Rules():
                    self.rules[block.name] = self._fired(block)
                case _:
                    pass

    @property
    def log_probs(self) -> Rows:
        return self.variables[self.program.vote.name]

    def size(self, name: str) -> int:
        return self.program.space(self.blocks[name].space).size

    def apply(self, table: ir.AnyTable, x: Rows, transposed: bool = False) -> Rows:
        """Return ``x @ table``, or ``x @ table.T``."""
        if isinstance(table, ir.Table):
            weight = self.interpreter.dense(table)
            return x @ (weight.T if transposed else weight)
        matrix = self.interpreter._sparse(table)
        return (matrix @ x.T).T if transposed else (matrix.T @ x.T).T

    def _scale(self, block: ir.Normalise, x: Rows) -> Rows:
        """Return what a norm multiplies x by, which is centred already."""
        return 1.0 / np.sqrt(self._square(block, x) + block.eps)

    def _square(self, block: ir.Normalise, x: Rows) -> Rows:
        if block.form is None:
            return (x * x).mean(1, keepdims=True)
        return np.maximum((self.apply(block.form, x) * x).sum(1, keepdims=True), 0.0)

    def centred(self, block: ir.Normalise) -> Rows:
        """Return what a norm scales."""
        x = self.variables[block.reads]
        return x - x.mean(1, keepdims=True) if block.centred else x

    def _fired(self, block: ir.Rules) -> Parts:
        strengths = self.apply(block.conditions, self.variables[block.reads], transposed=True)
        if block.biases is not None:
            strengths = strengths + block.biases.values
        passed = _passed(block, strengths)
        fired = np.asarray(strongest(passed, strengths > block.thresholds.values, block.k))
        return Parts(strengths, fired, np.where(fired, passed, 0.0))

    def bucket(self, block: ir.Match, number: int) -> NDArray[np.bool_]:
        """Say which pairs of positions lie in a bucket of distances, [pos, pos]."""
        back, _ = positions_seen(len(self.tokens), None)
        later = block.buckets[number + 1] if number + 1 < len(block.buckets) else len(self.tokens)
        return (back >= block.buckets[number]) & (back < later)

    def joined(self, reads: Sequence[str]) -> Rows:
        """Return variables side by side."""
        return np.concatenate([self.variables[name] for name in reads], axis=1)

    def looked(self, block: ir.Looks) -> tuple[Looking, LookParts]:
        """Return looks made ready, and what they make of each position by itself."""
        looking = Looking(block, self.interpreter)
        return looking, looking.parts(self.joined(block.reads))

    def mix(self, block: ir.Match, values: Rows) -> Rows:
        """Return the mix that heads make of values, looking where they looked."""
        mixes = [weights @ values for weights in self.weights[block.name]]
        if block.moves is None:
            return np.concatenate(mixes, axis=1)
        return sum((self.apply(t, m) for t, m in zip(block.moves, mixes, strict=True)), np.zeros(()))

    def unmixed(self, block: ir.Match, gradient: Rows) -> list[Rows]:
        """Return, for each head, the gradient on what it mixed."""
        if block.moves is None:
            return np.split(gradient, len(block.scores), axis=1)
        return [self.apply(table, gradient, transposed=True) for table in block.moves]

    def back(self, gradient: Rows, through: Through) -> dict[str, Rows]:
        """Follow a gradient on the sum of votes back: variable -> gradient on it, [pos, size].

        Args:
            gradient: [pos, d_vocab].
            through: with ``additions``, gradients stop at looked-up features, rules and outputs of heads.
        """
        found: dict[str, Rows] = {self.program.vote.name: gradient}
        for block in reversed(self.program.blocks):
            if block.name in found:
                for name, part in self._back(block, found[block.name], through):
                    found[name] = found[name] + part if name in found else part
        return found

    def _back(self, block: ir.Block, g: Rows, through: Through) -> list[tuple[str, Rows]]:
        match block:
            case ir.Lookup() | ir.Conditions():
                return []
            case ir.Product() | ir.Rules() | ir.Match() | ir.Fire() | ir.Looks() if through == "additions":
                return []
            case ir.Linear(reads=reads):
                return [(reads, self.apply(block.weight, g, transposed=not block.transposed))]
            case ir.Sum(reads=reads) | ir.Vote(reads=reads):
                return [(name, g) for name in reads]
            case ir.Join(reads=reads):
                return self._parted(reads, g)
            case ir.Select(reads=reads):
                return [(reads, np.where(self.variables[block.name] != 0, g, 0.0))]
            case ir.Normalise(reads=reads):
                return [(reads, self._back_of_norm(block, g, through))]
            case ir.Rotate(reads=reads):
                return [(reads, self._turned(block, g, -1.0))]
            case ir.Product(reads=(a, b)):
                return [(a, g * self.variables[b]), (b, g * self.variables[a])]
            case ir.Rules(reads=reads):
                passed = np.where(self.rules[block.name].fired, self.apply(block.effects, g, transposed=True), 0.0)
                return [(reads, self.apply(block.conditions, passed))]
            case ir.Match():
                return self._back_of_heads(block, g, through)
            case ir.Votes(reads=reads, weights=weights):
                return self._parted(reads, self.apply(weights, g, transposed=True))
            case ir.Fire(reads=reads, conditions=conditions):
                return self._parted(reads, self.apply(conditions, self._where_on(block.name, g)))
            case ir.Looks(reads=reads):
                return self._parted(reads, self._back_of_looks(block, self._where_on(block.name, g), through))
            case ir.Activate() | ir.Attend() | ir.Unexplained():
                raise _not_sparse(block)
            case _:
                assert_never(block)

    def _parted(self, reads: Sequence[str], x: Rows) -> list[tuple[str, Rows]]:
        """Part what belongs to variables side by side."""
        ends = np.cumsum([self.size(name) for name in reads])[:-1]
        return list(zip(reads, np.split(x, ends, axis=1), strict=True))

    def _where_on(self, name: str, x: Rows) -> Rows:
        """Keep what belongs to features that are on."""
        return np.where(self.variables[name] != 0, x, 0.0)

    def _back_of_looks(self, block: ir.Looks, g: Rows, through: Through) -> Rows:
        """Return the gradient on what looks read, side by side, given that on their moved features that are on."""
        looking, parts = self.looked(block)
        weights = self.weights[block.name]
        on_there = np.empty_like(g)
        for own, w in zip(looking.moved, weights, strict=True):
            on_there[:, own] = w.T @ g[:, own]
        found = self.apply(block.conditions, on_there)
        if through != "everything":
            return found
        on = LookParts(*map(np.zeros_like, parts))
        for look, (match, own, w) in enumerate(zip(looking.matches, looking.moved, weights, strict=True)):
            on_scores = through_softmax(w, g[:, own] @ parts.there[:, own].T)
            on.lone_keys[:, look] = on_scores.sum(0)
            on.queries[:, match] = np.where(parts.queries[:, match] > 0, on_scores @ parts.keys[:, match], 0.0)
            on.keys[:, match] = np.where(parts.keys[:, match] > 0, on_scores.T @ parts.queries[:, match], 0.0)
        pairs = ((block.queries, on.queries), (block.keys, on.keys), (block.lone_keys, on.lone_keys))
        return sum((self.apply(table, part) for table, part in pairs), found)

    def _turned(self, block: ir.Rotate, x: Rows, way: float) -> Rows:
        """Turn each head by its position, or back."""
        half = x.shape[1] // block.n_heads // 2
        angles = way * np.outer(np.arange(len(x)), block.theta ** (-np.arange(half) / half))[:, None]
        first, second = np.split(x.reshape(len(x), block.n_heads, 2 * half), 2, axis=2)
        turned = (first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles))
        return np.concatenate(turned, axis=2).reshape(x.shape)

    def _back_of_norm(self, block: ir.Normalise, g: Rows, through: Through) -> Rows:
        scale, x = self.scales[block.name], self.centred(block)
        g = g if block.gain is None else g * block.gain.values
        y = g * scale
        if through == "everything":
            along = (g * x).sum(1, keepdims=True) * scale**3
            if block.form is None:
                y = y - along * x / x.shape[1]
            else:
                form = (self.apply(block.form, x) + self.apply(block.form, x, transposed=True)) / 2
                y = y - np.where(self._square(block, x) > 0, along, 0.0) * form
        return y - y.mean(1, keepdims=True) if block.centred else y

    def _back_of_heads(self, block: ir.Match, g: Rows, through: Through) -> list[tuple[str, Rows]]:
        queries, keys, values = (self.variables[name] for name in (block.queries, block.keys, block.values))
        mixes = self.unmixed(block, g)
        weights = self.weights[block.name]
        found = [(block.values, sum((w.T @ mix for w, mix in zip(weights, mixes, strict=True)), np.zeros(())))]
        if through != "everything":
            return found
        on_queries, on_keys = np.zeros_like(queries), np.zeros_like(keys)
        for tables, w, mix in zip(block.scores, weights, mixes, strict=True):
            on_scores = through_softmax(w, mix @ values.T)
            for number, table in enumerate(tables):
                here = np.where(self.bucket(block, number), on_scores, 0.0)
                on_queries += self.apply(table, here @ keys, transposed=True)
                on_keys += here.T @ self.apply(table, queries)
        return [*found, (block.queries, on_queries), (block.keys, on_keys)]

    def without(self, name: str, index: int, direct: bool = False) -> Rows:
        """Predict the log-probabilities without one rule (or looked-up feature), from the text as it was read.

        What it adds is taken out of all that adds it up later. Scales follow; rules that fire go on firing, and heads
        look where they looked.

        Args:
            direct: take it out of what votes only, and of nothing that rules or heads read.
        """
        changes = {name: -self.own(name, index)}
        if direct:
            changes |= {source: np.zeros_like(self.variables[source]) for source in self.sources() if source != name}
        return log_softmax(self._votes_after(changes, scales=True))

    def votes_alone(self) -> Rows:
        """Return the sum of votes of the constants alone, at the scales that were, [pos, d_vocab]."""
        none = {name: self.constant(name) - self.variables[name] for name in self.sources()}
        return self._votes_after(none, scales=False)

    def sources(self) -> list[str]:
        """Name what votes are split into: looked-up and moved features, rules, products, and outputs of heads."""
        sources = ir.Lookup | ir.Rules | ir.Match | ir.Product | ir.Looks | ir.Fire | ir.Conditions
        return [block.name for block in self.program.blocks if isinstance(block, sources)]

    def constant(self, name: str) -> Rows:
        """Return what such a variable is when none of its features is on, [size]."""
        block = self.blocks[name]
        offset = block.offset if isinstance(block, ir.Rules) else None
        return np.zeros(self.size(name)) if offset is None else offset.values.astype(np.float64)

    def own(self, name: str, index: int) -> Rows:
        """Return what one rule, or one looked-up feature, adds to its variable, [pos, size]."""
        block = self.blocks[name]
        if not isinstance(block, ir.Rules):
            alone = np.zeros_like(self.variables[name])
            alone[:, index] = self.variables[name][:, index]
            return alone
        effects = np.zeros(self.size(name))
        for at, weight in block.effects.row(index):
            effects[at] = weight
        return np.outer(self.rules[name].passed[:, index], effects)

    def _votes_after(self, changes: Mapping[str, Rows], scales: bool) -> Rows:
        """Return the sum of votes after these variables change."""
        found = dict(changes)
        for block in self.program.blocks:
            if block.name not in found and (change := self._change(block, found, scales)) is not None:
                found[block.name] = change
        votes = sum((self.variables[read] for read in self.program.vote.reads), np.zeros(()))
        return votes + found.get(self.program.vote.name, 0.0)

    def _change(self, block: ir.Block, changes: Mapping[str, Rows], scales: bool) -> Rows | None:
        """Return how a variable changes when those that it reads do; ``None`` if it does not."""
        match block:
            case ir.Lookup() | ir.Conditions():
                return None
            case ir.Linear(reads=reads) if reads in changes:
                return self.apply(block.weight, changes[reads], block.transposed)
            case ir.Sum(reads=reads) | ir.Vote(reads=reads) if changes.keys() & set(reads):
                return sum((changes[name] for name in reads if name in changes), np.zeros(()))
            case ir.Join(reads=reads) if changes.keys() & set(reads):
                return self._joined_changes(reads, changes)
            case ir.Votes(reads=reads, weights=weights) if changes.keys() & set(reads):
                return self.apply(weights, self._joined_changes(reads, changes))
            case ir.Fire(reads=reads, conditions=conditions) if changes.keys() & set(reads):
                passed = self.apply(conditions, self._joined_changes(reads, changes), transposed=True)
                return self._where_on(block.name, passed)
            case ir.Looks(reads=reads) if changes.keys() & set(reads):
                there = self.apply(block.conditions, self._joined_changes(reads, changes), transposed=True)
                parts = zip(self.weights[block.name], slices(block.moved), strict=True)
                return self._where_on(block.name, np.concatenate([w @ there[:, own] for w, own in parts], axis=1))
            case ir.Select(reads=reads) if reads in changes:
                return np.where(self.variables[block.name] != 0, changes[reads], 0.0)
            case ir.Normalise(reads=reads) if reads in changes:
                return self._change_of_norm(block, changes[reads], scales)
            case ir.Rotate(reads=reads) if reads in changes:
                return self._turned(block, changes[reads], 1.0)
            case ir.Product(reads=(a, b)) if changes.keys() & {a, b}:
                return changes.get(a, 0.0) * self.variables[b] + changes.get(b, 0.0) * self.variables[a]
            case ir.Rules(reads=reads) if reads in changes:
                passed = self.apply(block.conditions, changes[reads], transposed=True)
                return self.apply(block.effects, np.where(self.rules[block.name].fired, passed, 0.0))
            case ir.Match(values=values) if values in changes:
                return self.mix(block, changes[values])
            case ir.Activate() | ir.Attend() | ir.Unexplained():
                raise _not_sparse(block)
            case _:
                return None

    def _joined_changes(self, reads: Sequence[str], changes: Mapping[str, Rows]) -> Rows:
        return np.concatenate([changes.get(r, np.zeros_like(self.variables[r])) for r in reads], axis=1)

    def _change_of_norm(self, block: ir.Normalise, change: Rows, scales: bool) -> Rows:
        x, scale = self.centred(block), self.scales[block.name]
        change = change - change.mean(1, keepdims=True) if block.centred else change
        y = change * scale
        if scales:
            new = x + change
            after = self._scale(block, new)
            y = new * after - x * scale
        return y if block.gain is None else y * block.gain.values

    def really_without(self, name: str, index: int) -> Rows:
        """Run the program without one rule, all later blocks computed anew; return log-probabilities, [pos, d_vocab].

        Where only so many rules may fire, the next strongest fires in its place.
        """
        new = self._left(name, index)
        at = next(i for i, block in enumerate(self.program.blocks) if block.name == name)
        values = [*(self.variables[block.name] for block in self.program.blocks[:at]), new]
        return Stream(self.interpreter, 1, capacity=len(self.tokens)).resume(self.tokens[None, :], values)[0]

    def votes_without(self, name: str, index: int) -> Rows:
        """Run the program without what one rule itself votes: all that rules and heads read stays as it was."""
        stream = Stream(self.interpreter, 1, capacity=len(self.tokens))
        values: list[Rows] = []
        for block in self.program.blocks:
            if block.name == name:
                values.append(self.variables[name] - self.own(name, index))
            elif block.name in self.sources():
                values.append(self.variables[block.name])
            else:
                stream.resume(self.tokens[None, :], values, stop=len(values) + 1)
                values, stream.length = stream.values, 0
        return values[-1]

    def _left(self, name: str, index: int) -> Rows:
        """Return what rules make where one of them may not fire, or what is looked up without one feature."""
        block = self.blocks[name]
        if not isinstance(block, ir.Rules):
            return self.variables[name] - self.own(name, index)
        parts = self.rules[name]
        admitted = parts.strengths > block.thresholds.values
        admitted[:, index] = False
        return self.apply(block.effects, kept(_passed(block, parts.strengths), admitted, block.k)) + self.constant(name)


def _passed(block: ir.Rules, strengths: Rows) -> Rows:
    """Return what rules pass on where they fire."""
    return strengths - block.thresholds.values if block.passes == "excess" else strengths


def _not_sparse(block: ir.Block) -> ConfigError:
    return ConfigError(
        f"{block.name}: a {type(block).__name__} block; only programs at the sparse level can be followed, give one"
    )
