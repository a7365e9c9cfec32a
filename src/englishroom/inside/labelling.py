"""Name every feature of a sparse program after its evidence on a text: what excites it, and what it votes for.

- Token features and word lists are named after the words that weigh most in them: ``word:she/her/he``.
- Features of position after the positions where they are on at least half as much as anywhere: ``place:12..16``.
- Dimensions of the outputs of heads after the words with the largest and the smallest values: ``b0:she/her-the``.
- Features that are moved after the words that they are moved from, and, where half of their activation is on few
  words, those: ``m0:lily/tom@named``.
- Rules after what excites them, the word at hand and what else adds most, and the words they vote for:
  ``r1:once->upon``, ``r1:was+..lily->she``.

Of the words of a token feature those come first whose value times the fourth root of their frequency is largest. Of the
words on which a feature is on, or from which it is moved, it is those that add most to how far their shares are from
the usual ones (``s log(s / p)``), so that what is named is both telling and met. Of its votes, it is value times the
root of the frequency.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from englishroom.inside.evidence import BEFORE, Csr, gather
from englishroom.inside.grouping import CLASSES, HALF, classes_of, group_of, profiles
from englishroom.inside.readable_labels import ReadableNaming
from englishroom.ir.labels import Feature, Labels, Scores
from englishroom.ir.program import Linear, Lookup, Match, Program, Rules, SparseTable
from englishroom.ir.stages import stages_of
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.wording import as_word, distinct, token_words
from englishroom.steps import StepProgress, silent

LISTED = 6
"""Tokens, contexts and votes that are kept as evidence."""
LONGEST, LONGEST_WORD = 44, 13
"""Characters of a label, before a number that tells it from another, and of a word in it."""
PLURALS = ("words", "names", "continuations of words", "speech", "punctuation")
"""Groups of token features and word lists, by the class that most of their words are of."""
OWN_VOTES = 0.1
"""Share of its importance that a rule must have by its own votes for its label to name them."""
MARKS = MappingProxyType({"word": "[{}]", "place": "at_{}", "moved": "..{}", "rules": "&{}"})
"""How a label writes the feature that excites a rule most."""
TELLING = 0.3
"""Share of the activation that the words named must have, or share of what excites a rule that a context must have."""


def label(
    program: Program,
    tokenizer: Tokenizer,
    rows: Sequence[NDArray[np.integer]],
    text: str = "",
    progress: StepProgress = silent,
) -> Labels:
    """Name the features of a sparse program, readable or not, after what is seen of them on rows of tokens.

    Args:
        rows: texts, each from its start token on; of a text that was fitted or chosen on, not of one reported on.
        text: what the text is called in ``labels.json``.
    """
    naming = (ReadableNaming if program.is_readable else _Naming)(program, tokenizer, rows, progress)
    about: dict[str, str | int | float] = {"text": text, "rows": len(rows), "positions": naming.n_positions}
    return Labels(naming.features(), about | {"importance": naming.unit})


class _Naming:
    unit = "nats: half the mean square of a feature times the variance of its votes, and shares of what it excites"

    def __init__(
        self, program: Program, tokenizer: Tokenizer, rows: Sequence[NDArray[np.integer]], progress: StepProgress
    ) -> None:
        self.program, self.evidence = program, gather(program, rows, progress)
        evidence, self.n_positions = self.evidence, int(self.evidence.counts.sum())
        self.stages = stages_of(program)
        self.words = token_words(tokenizer)
        self.often = np.sqrt(evidence.counts / max(1, evidence.counts.sum()))
        self.chance = (evidence.counts + 0.5) / (evidence.counts + 0.5).sum()
        self.classes = classes_of(tokenizer, rows)
        self.read = {part.variable for stage in self.stages.values() for part in stage.parts}
        self.found: dict[str, tuple[Feature, ...]] = {}
        self.kinds = {block.name: kind for block in program.blocks if (kind := self._kind(block.name))}

    def _kind(self, name: str) -> str | None:
        """Say what kind of features a variable has."""
        block = next(block for block in self.program.blocks if block.name == name)
        if isinstance(block, Lookup) and isinstance(block.table, SparseTable):
            return "word" if block.index == "token" else "place"
        if isinstance(block, Rules) and name in self.stages:
            heads = {b.name for b in self.program.blocks if isinstance(b, Match)}
            return "moved" if any(part.variable in heads for part in self.stages[name].parts) else "rules"
        return None

    def features(self) -> dict[str, tuple[Feature, ...]]:
        for block in self.program.blocks:
            number = block.name.rpartition(".")[2] if "." in block.name else ""
            kind = self.kinds.get(block.name)
            if isinstance(block, Lookup) and kind == "word":
                self._words_of(block.name, block.table, "word")
            elif isinstance(block, Lookup) and kind == "place":
                self._positions(block.name, block.table)
            elif isinstance(block, Match) and block.name in self.evidence.values:
                self._head_outputs(block.name, f"b{number}")
            elif kind in ("moved", "rules"):
                self._rules(block.name, f"{kind[0]}{number}", kind)
            elif isinstance(block, Linear) and isinstance(block.weight, SparseTable):
                self._linear(block, block.weight)
        return self.found

    def _linear(self, block: Linear, weight: SparseTable) -> None:
        size = self.program.space(block.space).size
        if not weight.n_entries and block.bias is not None and block.name in self.read:
            own = [as_word(block.name)] if size == 1 else [f"{as_word(block.name)}:{at}" for at in range(size)]
            self.found[block.name] = tuple(Feature(word, "constant", frequency=1.0) for word in own)
        elif block.transposed and block.space == self.program.vote.space and block.reads in self.stages:
            self._words_of(block.reads, weight, "say")

    def _keep(self, variable: str, features: Sequence[Feature]) -> None:
        own = distinct([as_word(_cut(feature.label, LONGEST)) for feature in features])
        self.found[variable] = tuple(
            Feature(
                word,
                feature.group,
                _short(feature.importance),
                _short(feature.frequency),
                _short(feature.mean),
                _rounded(feature.tokens),
                _rounded(feature.contexts),
                _rounded(feature.votes),
            )
            for word, feature in zip(own, features, strict=True)
        )

    def _words_of(self, variable: str, table: object, stem: str) -> None:
        """Name token features, or word lists, after their words."""
        assert isinstance(table, SparseTable)
        columns = table.csr().tocsc()
        seen, importance = self.evidence.seen.get(variable), self.evidence.importance.get(variable)
        features: list[Feature] = []
        for at in range(table.n_columns):
            low, high = columns.indptr[at], columns.indptr[at + 1]
            tokens, values = columns.indices[low:high], columns.data[low:high]
            ranked = np.lexsort((tokens, -np.abs(values) * np.sqrt(self.often[tokens] + 1e-6)))
            best = [(self.words[tokens[i]], float(values[i])) for i in ranked[:LISTED]]
            shares = np.bincount(self.classes[tokens], np.abs(values) * self.often[tokens], len(CLASSES))
            features.append(
                Feature(
                    f"{stem}:{_joined(best)}" if best else f"{stem}:none",
                    PLURALS[int(shares.argmax())] if best else "empty",
                    0.0 if importance is None else float(importance[at]),
                    1.0 if seen is None else float(seen.frequency[at]),
                    0.0 if seen is None else float(seen.mean[at]),
                    tuple(best),
                    votes=self._votes(variable, at),
                )
            )
        self._keep(variable, features)

    def _positions(self, variable: str, table: object) -> None:
        """Name features of position after the positions where they are on most."""
        assert isinstance(table, SparseTable)
        dense, seen, importance = table.dense(), self.evidence.seen[variable], self.evidence.importance[variable]
        features: list[Feature] = []
        for at in range(table.n_columns):
            strong = np.flatnonzero(dense[:, at] >= HALF * max(dense[:, at].max(), 1e-9))
            where = f"{strong[0]}..{strong[-1]}" if len(strong) > 1 else f"{strong[0]}" if len(strong) else "none"
            ranked = np.argsort(-dense[:, at], kind="stable")[:LISTED]
            tokens = tuple((f"position_{position}", float(dense[position, at])) for position in ranked)
            numbers = float(importance[at]), float(seen.frequency[at]), float(seen.mean[at])
            features.append(Feature(f"place:{where}", "places", *numbers, tokens, votes=self._votes(variable, at)))
        self._keep(variable, features)

    def _head_outputs(self, variable: str, stem: str) -> None:
        """Name dimensions of the outputs of heads after the words with the largest and the smallest values."""
        values = self.evidence.values[variable]
        telling = (values - self.chance @ values) * self.often[:, None]
        features: list[Feature] = []
        for at in range(values.shape[1]):
            ranked = np.lexsort((np.arange(len(telling)), -telling[:, at]))
            high, low = ranked[:2], ranked[::-1][:1]
            best = [(self.words[token], float(values[token, at])) for token in (*high, *low)]
            name = f"{stem}:{_joined(best[:2])}-{_joined(best[2:])}" if telling[:, at].any() else f"{stem}:none"
            features.append(Feature(name, "brought", frequency=1.0, tokens=tuple(best)))
        self._keep(variable, features)

    def _rules(self, variable: str, stem: str, kind: str) -> None:
        """Name rules after what excites them and what they vote for."""
        evidence, seen = self.evidence, self.evidence.seen[variable]
        voted = self._voted(variable)
        kept = profiles(evidence, variable, self.kinds, self.classes, voted)
        by_token = seen.by_token.tocsc()
        usual = None if seen.origins is None else seen.origins.sum(1) / max(float(seen.origins.sum()), 1e-9)
        features: list[Feature] = []
        for at, profile in enumerate(kept):
            low, high = by_token.indptr[at], by_token.indptr[at + 1]
            tokens = self._telling(by_token.data[low:high], by_token.indices[low:high], self.chance)
            share = sum(value for _, value in tokens[:3])
            contexts, telling = self._contexts(variable, at, share > TELLING)
            votes = self._votes(variable, at)
            voted_for = f"->{_joined(votes[:2])}" if votes and profile.direct >= OWN_VOTES else ""
            if not profile.frequency:
                name = f"{stem}:never{voted_for}"
            elif kind == "moved" and seen.origins is not None and usual is not None:
                origins = self._telling(seen.origins[:, at], np.arange(len(usual)), usual)
                before = "<" if profile.back[BEFORE] > HALF else ""
                on = f"@{_joined(tokens[:2])}" if share > HALF else ""
                name = f"{stem}:{before}{_joined(origins) or 'none'}{on}"
                contexts = tuple((f"from_{word}", value) for word, value in origins)
            else:
                words = [_joined(tokens[:2])] if share > TELLING else []
                name = f"{stem}:{'+'.join([*words, *telling]) or 'any'}{voted_for}"
            numbers = float(evidence.importance[variable][at]), profile.frequency, float(seen.mean[at])
            features.append(Feature(name, group_of(profile), *numbers, tokens, contexts, votes))
        self._keep(variable, features)

    def _telling(self, values: NDArray, tokens: NDArray, usual: NDArray) -> Scores:
        """Return the tokens whose shares of something lie farthest above the usual ones, with these shares."""
        values = np.maximum(values, 0)
        total = float(values.sum())
        if total <= 0:
            return ()
        shares = values / total
        far = shares * np.log(np.maximum(shares, 1e-12) / np.maximum(usual[tokens], 1e-9))
        ranked = np.lexsort((tokens, -far))[:LISTED]
        return tuple((self.words[tokens[i]], float(shares[i])) for i in ranked if far[i] > 0)

    def _contexts(self, variable: str, at: int, by_word: bool) -> tuple[Scores, list[str]]:
        """Return what excites a rule beside the word at hand, and how its label names what is telling."""
        parts = [
            (float(value), name, int(column))
            for name, excited in self.evidence.seen[variable].excited.items()
            for column, value in zip(*_row(excited, at), strict=True)
            if value > 0
        ]
        total = sum(value for value, _, _ in parts)
        ranked = sorted(parts, key=lambda part: (-part[0], part[1], part[2]))[:LISTED]
        scores = tuple((self._called(name, column), value) for value, name, column in ranked)
        telling = []
        for value, name, column in ranked[:1]:
            kind, body = self.kinds[name], _body(self._called(name, column))
            if value > TELLING * total or kind == "word" or not by_word:
                telling.append(MARKS[kind].format(_cut(body, 18)))
        return scores, telling

    def _called(self, variable: str, at: int) -> str:
        of = self.found.get(variable, ())
        return of[at].label if at < len(of) else f"{variable}[{at}]"

    def _voted(self, variable: str) -> NDArray[np.float32]:
        """Return the positive votes of each feature for each word, against their mean, times the chance of the word."""
        size = self.program.space(next(b.space for b in self.program.blocks if b.name == variable)).size
        if variable not in self.evidence.votes_for:
            return np.zeros((size, len(self.words)), np.float32)
        edges, words = self.evidence.votes_for[variable]
        votes = Csr(edges @ words).toarray()
        votes -= (votes @ self.chance)[:, None]
        return (np.maximum(votes, 0) * self.chance).astype(np.float32)

    def _votes(self, variable: str, at: int) -> Scores:
        """Return the words that a feature votes for most, with nats at its mean value."""
        if variable not in self.evidence.votes_for:
            return ()
        edges, words = self.evidence.votes_for[variable]
        votes = Csr(edges[[at]] @ words).toarray().ravel()
        if not votes.any():
            return ()
        votes = (votes - votes @ self.chance) * float(self.evidence.seen[variable].mean[at])
        ranked = np.argsort(-votes * (self.often + 1e-6), kind="stable")[:LISTED]
        return tuple((self.words[token], float(votes[token])) for token in ranked if votes[token] > 0)


def _row(table: Csr, at: int) -> tuple[NDArray, NDArray]:
    low, high = table.indptr[at], table.indptr[at + 1]
    return table.indices[low:high], table.data[low:high]


def _body(label: str) -> str:
    """Take a label's kind, its votes and its number off."""
    return label.partition(":")[2].partition("->")[0].partition("#")[0]


def _rounded(scores: Scores) -> Scores:
    return tuple((word, _short(value)) for word, value in scores)


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _joined(scores: Iterable[tuple[str, float]]) -> str:
    """Join the first few words with strokes."""
    return "/".join(_cut(word, LONGEST_WORD) for word, _ in list(scores)[:3])


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "*"
