"""What is seen of the features of a sparse program on a text: when they are on, what excites them, what they vote for.

1. Run the program over the text and keep which features are on where, with their values.
2. For every rule, average what each feature in its condition adds where the rule fires.
3. For rules that read the outputs of heads, follow these back to the tokens that they were moved from.
4. For every feature, add up its votes for words, at the mean scale, and how important these are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from englishroom.interp.looking import attention_weights
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import AnyTable, Linear, Lookup, Match, Program, Rules, SparseTable, Table
from englishroom.ir.stages import Stage, stages_of
from englishroom.steps import StepProgress, silent

Csr = scipy.sparse.csr_array
ROWS_FOLLOWED = 64
"""Rows of text on which the outputs of heads are followed back to where they come from."""
HERE, BEFORE, FURTHER = range(3)


@dataclass(frozen=True)
class Seen:
    """What was seen of the features of one variable.

    Attributes:
        frequency: share of positions where each is on, [feature].
        mean: mean value where it is on, [feature].
        by_token: sum of its values where each token is read, [d_vocab, feature].
        by_place: sum of its values at each position of the context, [n_ctx, feature].
        excited: what excites rules: variable -> mean of what each feature adds where the rule fires, [rule, feature].
        origins: what heads move to it, by the token it comes from, [d_vocab, rule]; ``None`` where it reads no heads.
        back: the same from here, from the position before, and from further back, [3, rule].
    """

    frequency: NDArray[np.float64]
    mean: NDArray[np.float64]
    by_token: Csr
    by_place: Csr
    excited: Mapping[str, Csr] = field(default_factory=dict)
    origins: NDArray[np.float32] | None = None
    back: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class FeatureEvidence:
    """What was seen of a program on a text.

    Attributes:
        counts: how often each token was read, [d_vocab].
        seen: by variable whose features are on or off.
        values: by variable that heads make, the mean of the values at each token, [d_vocab, dimension].
        votes_for: by variable, votes of each feature for each word at the mean scale, as two factors.
        direct: by variable, the importance of the votes of each feature, or word list, in nats, [feature].
        importance: the same with its share of the importance of every rule that it excites, [feature].
    """

    counts: NDArray[np.int64]
    seen: Mapping[str, Seen]
    values: Mapping[str, NDArray[np.float64]]
    votes_for: Mapping[str, tuple[Csr, Csr]]
    direct: Mapping[str, NDArray[np.float64]]
    importance: Mapping[str, NDArray[np.float64]]


def gather(program: Program, rows: Sequence[NDArray[np.integer]], progress: StepProgress = silent) -> FeatureEvidence:
    """Run a program over rows of tokens and gather what there is to see of its features."""
    return _Gathering(program, rows, progress).evidence()


class _Gathering:
    def __init__(self, program: Program, rows: Sequence[NDArray[np.integer]], progress: StepProgress) -> None:
        self.program, self.rows, self.progress = program, rows, progress
        self.stages = stages_of(program)
        self.sizes = {block.name: program.space(block.space).size for block in program.blocks}
        self.rules = {n: s for n, s in self.stages.items() if isinstance(s.adds, Rules)}
        lookups = [b.name for b in program.blocks if isinstance(b, Lookup) and isinstance(b.table, SparseTable)]
        self.named = [block.name for block in program.blocks if block.name in self.rules or block.name in lookups]
        self.heads = {block.name: block for block in program.blocks if isinstance(block, Match) and block.moves}
        self.tokens = np.concatenate([np.asarray(row) for row in rows])
        places = np.concatenate([np.arange(len(row)) for row in rows])
        self.counts = np.bincount(self.tokens, minlength=program.d_vocab)
        n_pos = len(self.tokens)
        ones, each = np.ones(n_pos, np.float32), np.arange(n_pos + 1)
        self.of_token = Csr((ones, self.tokens, each), shape=(n_pos, program.d_vocab))
        self.of_place = Csr((ones, places, each), shape=(n_pos, program.n_ctx))
        self.values: dict[str, Csr] = {}
        self.scales: dict[str, NDArray[np.float32]] = {}
        self.origins: dict[str, NDArray[np.float32]] = {}
        self.back: dict[str, NDArray[np.float64]] = {}
        self.ballots = {
            stage.parts[0].variable: np.zeros(self.sizes[stage.parts[0].variable])
            for name in program.vote.reads
            if (stage := self.stages.get(name)) is not None and stage.norm is None and len(stage.parts) == 1
        }
        self.head_values = {name: np.zeros((program.d_vocab, self.sizes[name])) for name in self.heads}

    def evidence(self) -> FeatureEvidence:
        self._run()
        seen = {name: self._seen(name) for name in self.named}
        votes_for, direct = self._votes()
        importance = {name: values.copy() for name, values in direct.items()}
        for name in reversed(self.rules):  # the importance of a rule is shared among those that excite it
            excited = seen[name].excited
            total = sum((np.asarray(abs(part).sum(1)).ravel() for part in excited.values()), np.zeros(self.sizes[name]))
            share = np.divide(importance[name], total, out=np.zeros_like(total), where=total > 0)
            for variable, part in excited.items():
                if variable in importance:
                    importance[variable] += abs(part).T @ share
        counted = np.maximum(self.counts, 1)[:, None]
        head_values = {name: values / counted for name, values in self.head_values.items()}
        return FeatureEvidence(self.counts, seen, head_values, votes_for, direct, importance)

    def _run(self) -> None:
        interpreter = Interpreter(self.program, np.float32)
        found: dict[str, list[Csr]] = {name: [] for name in self.named}
        scales: dict[str, list[NDArray]] = {name: [] for name, stage in self.stages.items() if stage.norm is not None}
        for number, tokens in enumerate(self.rows):
            variables = interpreter.variables(np.asarray(tokens))
            for name, parts in found.items():
                parts.append(Csr(variables[name]))
            for name, parts in scales.items():
                stage = self.stages[name]
                assert stage.loudness is not None
                assert stage.norm is not None
                sums = variables[stage.loudness.name][:, 0]
                parts.append(1 / np.sqrt(sums * sums + np.float32(stage.norm.eps)))
            for name, squares in self.ballots.items():
                squares += np.square(variables[name], dtype=np.float64).sum(0)
            for block in self.heads.values():
                self._follow(block, np.asarray(tokens), variables, number < ROWS_FOLLOWED)
            self.progress(number + 1, len(self.rows))
        self.values = {name: Csr(scipy.sparse.vstack(parts)) for name, parts in found.items()}
        self.scales = {name: np.concatenate(parts) for name, parts in scales.items()}

    def _follow(self, block: Match, tokens: NDArray, variables: Mapping[str, NDArray], back: bool) -> None:
        """Add up the values of heads at tokens, and where the outputs that rules read come from."""
        assert block.moves is not None
        values = variables[block.values]
        moved = [values @ _matrix(table) for table in block.moves]  # [pos, number] per head
        np.add.at(self.head_values[block.name], tokens, sum(moved))
        if not back:
            return
        looks = attention_weights(block, variables[block.queries], variables[block.keys], lambda t, x: x @ _matrix(t))
        for name, stage in self.rules.items():
            part = next((part for part in stage.parts if part.variable == block.name), None)
            if part is None or not isinstance(stage.adds, Rules):
                continue
            conditions = stage.adds.conditions.csr()[:, part.first : part.first + part.size].T  # [number, rule]
            fires = (variables[name] > 0).astype(np.float32)
            origins = self.origins.setdefault(name, np.zeros((self.program.d_vocab, self.sizes[name]), np.float32))
            shares = self.back.setdefault(name, np.zeros((3, self.sizes[name])))
            for head, weights in enumerate(looks):
                adds = moved[head] @ conditions  # [place looked at, rule]
                arrived = np.maximum((weights.T @ fires) * adds, 0)
                np.add.at(origins, tokens, arrived)
                here = np.maximum(weights.diagonal()[:, None] * fires * adds, 0).sum(0)
                before = np.maximum(weights.diagonal(-1)[:, None] * fires[1:] * adds[:-1], 0).sum(0)
                shares += np.stack([here, before, arrived.sum(0) - here - before])

    def _seen(self, name: str) -> Seen:
        values = self.values[name]
        on = np.diff(values.tocsc().indptr)
        total = np.asarray(values.sum(0)).ravel().astype(np.float64)
        return Seen(
            frequency=on / len(self.tokens),
            mean=total / np.maximum(on, 1),
            by_token=Csr(self.of_token.T @ values),
            by_place=Csr(self.of_place.T @ values),
            excited=self._excited(self.rules[name]) if name in self.rules else {},
            origins=self.origins.get(name),
            back=self.back.get(name),
        )

    def _excited(self, stage: Stage) -> dict[str, Csr]:
        """Average what each feature adds to each rule, where the rule fires; the scale divides it."""
        assert isinstance(stage.adds, Rules)
        values = self.values[stage.name]
        fires = Csr((np.ones_like(values.data), values.indices, values.indptr), shape=values.shape)
        times = np.maximum(np.diff(values.tocsc().indptr), 1)
        conditions = stage.adds.conditions.csr()
        scale = self.scales.get(stage.name, np.ones(len(self.tokens), np.float32))
        found = {}
        for part in stage.parts:
            if part.variable in self.values:
                here = scipy.sparse.diags_array(scale) @ self.values[part.variable]
                own = Csr(conditions[:, part.first : part.first + part.size])
                found[part.variable] = Csr(own.multiply(Csr(fires.T @ here)) / times[:, None])
        return found

    def _votes(self) -> tuple[dict[str, tuple[Csr, Csr]], dict[str, NDArray[np.float64]]]:
        """Follow features to the scores of words: directly, or by way of word lists."""
        votes_for: dict[str, tuple[Csr, Csr]] = {}
        direct = {name: np.zeros(self.sizes[name]) for name in self.named}
        chance = (self.counts + 0.5) / (self.counts + 0.5).sum()
        for read in self.program.vote.reads:
            stage, words = self._scored(read)
            if stage is None:
                continue
            features, columns, weights = stage.entries()
            edges = Csr((weights, (features, columns)), shape=(stage.n_features, len(words.indptr) - 1))
            mean = np.asarray(words @ chance).ravel()
            spread = (words.multiply(chance[None, :]) @ words.T).toarray() - np.outer(mean, mean)  # [list, list]
            if stage.name in self.ballots:
                squares = self.ballots[stage.name][: len(mean)] / len(self.tokens)
                direct[stage.name] = np.append(
                    0.5 * squares * spread.diagonal(), np.zeros(self.sizes[stage.name] - len(mean))
                )
            scale = self.scales.get(stage.name, np.ones(len(self.tokens), np.float32))
            for part in stage.parts:
                if part.variable not in self.values:
                    continue
                own = Csr(edges[part.first : part.first + part.size])
                votes_for[part.variable] = (own * np.float32(scale.mean()), words)
                here = Csr(scipy.sparse.diags_array(scale) @ self.values[part.variable])
                square = np.asarray(here.multiply(here).mean(0)).ravel()
                direct[part.variable] += 0.5 * square * np.asarray(own.multiply(own @ spread).sum(1)).ravel()
        return votes_for, direct

    def _scored(self, read: str) -> tuple[Stage | None, Csr]:
        """Return the stage whose sums become scores, and the map of its sums to words."""
        d_vocab, stage = self.program.d_vocab, self.stages.get(read)
        if stage is None or not isinstance(stage.adds, Linear):
            return None, Csr((0, 0))
        if stage.norm is None and stage.adds.reads in self.stages:
            features, columns, weights = stage.entries()
            before = self.stages[stage.adds.reads]
            if isinstance(before.adds, Linear):
                n_sums = before.adds.weight.shape[0 if before.adds.transposed else 1]
                kept = features < n_sums
                words = Csr((weights[kept], (features[kept], columns[kept])), shape=(n_sums, d_vocab))
                return before, words
        return stage, Csr(scipy.sparse.eye_array(d_vocab))


def _matrix(table: AnyTable) -> NDArray | Csr:
    return table.values if isinstance(table, Table) else table.csr()
