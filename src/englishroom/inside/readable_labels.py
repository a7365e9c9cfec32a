"""Name the features of a readable program after what is seen of them on a text, each without the name of another.

1. Run the program over the text; keep which rules and moved features are on where, with their strengths.
2. Follow looks back: at which word, and how far back, that stands which adds most to a moved feature.
3. Add up the votes of each feature at its usual strength, and how much they matter; what a feature is read for counts
   for it, shared among all that its reader reads.
4. Name it: its place in the program (``r1.12``, ``m0.3``), then the word that it is most often on at, or that a moved
   feature most often finds, and how far back (``r1.12:she``, ``m0.3:she@1``); a second one where another of its block
   has the same (``r1.12:she/her``), or where none is frequent (``r1.12:she/was/..``).

A vote is kept for a word that does follow there, where it comes to ``NOISE_NATS`` at the usual strength: one below
changes the chance of its word by less than a tenth. Votes are taken against their mean over words as frequent as they
are, for a vote for all words says nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from englishroom.inside.firings import FiringText
from englishroom.inside.grouping import CLASSES, classes_of
from englishroom.interp.looking import Looking
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.labels import Feature, Scores
from englishroom.ir.program import Fire, Looks, Lookup, Program, SparseTable, Votes
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.wording import as_word, distinct, token_words
from englishroom.steps import StepProgress

Csr = scipy.sparse.csr_array
ROWS_FOLLOWED = 32
"""Rows of text on which looks are followed back."""
LISTED = 6
SAID_FOR, SAID_AGAINST = 4, 2
"""Votes for and against words that are kept."""
NOISE_NATS = 0.1
FAINT = 0.2
"""Share of the strongest vote below which none is kept."""
NAMED = 0.1
"""Share of the positions at which a feature is on that a word of its name must have."""
CLOSE = 1
"""Words by which the middle half of what a moved feature finds may lie apart for one distance to tell where."""
HALF = 0.5
OPENING = 8
"""Positions that count as the opening of a text."""
LONGEST_WORD = 13
VOTE_GROUPS = {
    "name": "names",
    "continuation": "goes on with a word",
    "quote": "speech",
    "punctuation": "punctuation and ends of sentences",
}


class ReadableNaming:
    """The features of a readable program, named after rows of tokens; :func:`labelling.label` says more."""

    unit = "nats: half the mean square of a feature times the variance of its votes, and shares of what reads it"

    def __init__(
        self, program: Program, tokenizer: Tokenizer, rows: Sequence[NDArray[np.integer]], progress: StepProgress
    ) -> None:
        self.program, self.tokenizer, self.progress = program, tokenizer, progress
        self.rows = [np.asarray(row) for row in rows]
        self.words = token_words(tokenizer)
        self.classes = classes_of(tokenizer, rows)
        self.text = FiringText(self.rows, tokenizer, self.words)
        self.tokens, self.places = self.text.tokens, self.text.places
        self.n_positions = len(self.tokens)
        self.chance = (np.bincount(self.tokens, minlength=program.d_vocab) + 0.5) / (
            len(self.tokens) + 0.5 * program.d_vocab
        )
        self.sizes = {block.name: program.space(block.space).size for block in program.blocks}
        self.named = [block for block in program.blocks if isinstance(block, Looks | Fire)]
        self.found: dict[str, list[NDArray[np.integer]]] = {b.name: [] for b in self.named}
        self.arrived: dict[str, list[Csr]] = {b.name: [] for b in self.named}
        self.on = self._run()
        self.votes = self._votes_of_features()

    def _run(self) -> dict[str, Csr]:
        """Run the program; return the values of rules and moved features at all positions, [pos, feature]."""
        interpreter = Interpreter(self.program, np.float32)
        looking = {block.name: Looking(block, interpreter) for block in self.named if isinstance(block, Looks)}
        found: dict[str, list[Csr]] = {block.name: [] for block in self.named}
        first = 0
        for number, tokens in enumerate(self.rows):
            variables = interpreter.variables(tokens)
            for block in self.named:
                found[block.name].append(Csr(variables[block.name]))
                if isinstance(block, Looks) and number < ROWS_FOLLOWED:
                    x = np.concatenate([variables[name] for name in block.reads], axis=1)
                    self._follow(block, looking[block.name], x, variables[block.name] > 0, first)
            first += len(tokens)
            self.progress(number + 1, len(self.rows))
        return {name: Csr(scipy.sparse.vstack(parts)) for name, parts in found.items()}

    def _follow(self, block: Looks, looking: Looking, x: NDArray, on: NDArray[np.bool_], first: int) -> None:
        """Keep what moved features find, [(feature, position, what adds most to it)], and how much each is looked at.

        Args:
            first: the position in the whole text of the first of these.
        """
        n_pos = len(x)
        back = np.arange(n_pos)[:, None] - np.arange(n_pos)
        seen = back >= 0 if block.window is None else (back >= 0) & (back < block.window)
        parts = looking.parts(x)
        ahead = np.where(seen, 0, -np.inf).astype(x.dtype)
        looks = looking.weights(parts.queries, parts.keys, parts.lone_keys, back, ahead)
        there = np.maximum(parts.there, 0)
        arrived = np.zeros_like(there)
        for weights, own in zip(looks, looking.moved, strict=True):
            arrived[:, own] = weights.T @ on[:, own]
            here, features = np.nonzero(on[:, own])
            added = weights[here] * there[:, own].T[features]
            most = np.where(added.any(1), added.argmax(1), weights[here].argmax(1))
            self.found[block.name].append(np.stack([features + own.start, here + first, most + first]))
        self.arrived[block.name].append(Csr(arrived))

    def _votes_of_features(self) -> dict[str, Csr]:
        """Return the votes of the features of every variable for words, [feature, d_vocab]."""
        words, found = self.program.vote.space, {}
        for block in self.program.blocks:
            if isinstance(block, Votes) and block.space == words:
                first, table = 0, Csr(block.weights.csr())
                for name in block.reads:
                    own = Csr(table[first : first + self.sizes[name]])
                    found[name] = own + found[name] if name in found else own
                    first += self.sizes[name]
        return found

    def _importance(self) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
        """Return how much the votes of each feature matter, in nats; and with its share of what reads it."""
        direct: dict[str, NDArray[np.float64]] = {}
        for block in self.named:
            square = np.asarray(self.on[block.name].power(2).mean(0)).ravel().astype(np.float64)
            votes = self.votes.get(block.name, Csr((self.sizes[block.name], self.program.d_vocab)))
            mean = votes @ self.chance
            direct[block.name] = 0.5 * square * (votes.power(2) @ self.chance - mean * mean)
        importance = {name: values.copy() for name, values in direct.items()}
        n_followed = sum(len(row) for row in self.rows[:ROWS_FOLLOWED])
        for block in reversed(self.named):
            conditions, values = Csr(block.conditions.csr()), self.on[block.name]
            if isinstance(block, Looks):
                there = Csr(scipy.sparse.vstack(self.arrived[block.name]))
                limit = n_followed
            else:
                there, limit = Csr((np.ones_like(values.data), values.indices, values.indptr), values.shape), None
            first, shares = 0, {}
            for name in block.reads:
                if name in importance:
                    own = abs(Csr(conditions[:, first : first + self.sizes[name]]))
                    shares[name] = Csr(own.multiply(Csr(there.T @ self.on[name][:limit])))
                first += self.sizes[name]
            own_words = self._excited_by_words(block, there, limit)
            total = own_words + sum(np.asarray(part.sum(1)).ravel() for part in shares.values())
            share = np.divide(importance[block.name], total, out=np.zeros_like(total), where=total > 0)
            for name, part in shares.items():
                importance[name] += part.T @ share
        return direct, importance

    def _excited_by_words(self, block: Looks | Fire, there: Csr, limit: int | None) -> NDArray[np.float64]:
        """Add up what words, and what else is looked up, add to the sums of a block where it is on, [feature]."""
        first, total = 0, np.zeros(self.sizes[block.name])
        lookups = {b.name: b for b in self.program.blocks if isinstance(b, Lookup)}
        for name in block.reads:
            size = self.sizes[name]
            if name in lookups and isinstance(stored := lookups[name].table, SparseTable):
                table = Csr(stored.csr())
                read = (self.tokens if lookups[name].index == "token" else self.places)[:limit]
                counted = Csr(
                    (np.ones(len(read), np.float32), read, np.arange(len(read) + 1)), (len(read), stored.shape[0])
                )
                own = abs(Csr(Csr(block.conditions.csr())[:, first : first + size]))
                often: Any = Csr(there.T @ counted)
                total += np.asarray(often.multiply(own @ table.T).sum(1)).ravel()
            first += size
        return total

    def features(self) -> dict[str, tuple[Feature, ...]]:
        direct, importance = self._importance()
        found = {block.name: self._places(block) for block in self.program.blocks if _has_places(block)}
        for block in self.named:
            on = self.on[block.name].tocsc()
            kind = "m" if isinstance(block, Looks) else "r"
            own = f"{kind}{block.name.rpartition('.')[2]}" if "." in block.name else as_word(block.name)
            self.follow_of = self._found_by_feature(block)
            shares = direct[block.name], importance[block.name]
            features = [
                self._feature(block, at, on, *(float(part[at]) for part in shares))
                for at in range(self.sizes[block.name])
            ]
            labels = _names(own, features)
            found[block.name] = tuple(replace(f, label=label) for f, label in zip(features, labels, strict=True))
        return found

    def _found_by_feature(self, block: Looks | Fire) -> list[NDArray[np.integer]]:
        """Return of each moved feature the positions at which it is on, and what it mostly finds there, [2, pos]."""
        if not isinstance(block, Looks):
            return []
        parts = np.concatenate([np.zeros((3, 0), int), *self.found[block.name]], axis=1)
        parts = parts[:, np.lexsort((parts[1], parts[0]))]
        return np.split(parts[1:], np.searchsorted(parts[0], np.arange(1, self.sizes[block.name])), axis=1)

    def _feature(self, block: Looks | Fire, at: int, on: Any, direct: float, importance: float) -> Feature:
        """Say everything of a feature but its name."""
        low, high = on.indptr[at], on.indptr[at + 1]
        positions, values = on.indices[low:high], on.data[low:high].astype(np.float64)
        order = np.argsort(positions, kind="stable")
        positions, values = positions[order], values[order]
        mean = float(values.mean()) if len(values) else 0.0
        by_token = np.zeros(self.program.d_vocab)
        np.add.at(by_token, self.tokens[positions], values)
        group = self._group(block.name, at, by_token, positions, values, direct, importance)
        back, of_all, sources, shown = (), (), None, positions
        stand = self.text.stand(self.tokens[positions], LISTED)
        if isinstance(block, Looks):
            shown, sources = self.follow_of[at]
            stand = self.text.stand(self.tokens[sources], LISTED)
            if len(shown):
                far = np.sort(shown - sources)
                back = tuple(int(far[int(share * (len(far) - 1))]) for share in (0.25, 0.5, 0.75))
        else:
            n_on = np.bincount(self.tokens[positions], minlength=self.program.d_vocab)
            of_all = tuple(_short(float(n_on[token] / self.text.counts[token])) for token, _ in stand)
        return Feature(
            "",
            "" if isinstance(block, Looks) else group,
            _short(importance),
            _short(len(positions) / len(self.tokens)),
            _short(mean),
            tokens=tuple((self.words[token], _short(float(share))) for token, share in stand),
            votes=self._said(block.name, at, mean, self.text.follow_shares(positions)),
            back=back,
            of_all=of_all,
            follows=self.text.following(positions),
            examples=self.text.examples(shown, sources, (block.name, at)),
            near_miss=self.text.near_miss(positions, (block.name, at)),
        )

    def _said(self, variable: str, at: int, mean: float, follow: NDArray[np.float64]) -> Scores:
        """Return the words that a feature votes for or against, in nats at its usual strength, none that is noise.

        Args:
            follow: how often each word follows the words at which the feature is on; others are left out.
        """
        if variable not in self.votes or not mean or not follow.any():
            return ()
        table = self.votes[variable]
        votes = Csr(table[[at]]).toarray().ravel().astype(np.float64)
        votes = np.where(follow > 0, (votes - votes @ self.chance) * mean, 0.0)
        weighed = votes * follow**0.5
        ranked = np.argsort(-weighed, kind="stable")
        least = max(NOISE_NATS, FAINT * float(abs(votes[ranked[[0, -1]]]).max()))
        best = [*ranked[:SAID_FOR].tolist(), *ranked[::-1][:SAID_AGAINST].tolist()]
        kept = list(dict.fromkeys(token for token in best if abs(votes[token]) >= least))
        kept.sort(key=lambda token: (votes[token] < 0, -abs(votes[token])))
        return tuple((self.words[token], _short(float(votes[token]))) for token in kept)

    def _group(
        self,
        variable: str,
        at: int,
        by_token: NDArray[np.float64],
        positions: NDArray[np.integer],
        values: NDArray[np.float64],
        direct: float,
        importance: float,
    ) -> str:
        """Name the kind of work that a rule does."""
        if not len(positions):
            return "never on in the text"
        if values[self.places[positions] < OPENING].sum() > HALF * values.sum():
            return "the opening of a text"
        if direct < FAINT * importance:
            return "read by other rules"
        if variable in self.votes:
            votes = Csr(self.votes[variable][[at]]).toarray().ravel()
            weighed = np.maximum(votes - votes @ self.chance, 0) * self.chance
            shares = np.bincount(self.classes, weighed, len(CLASSES))
            best = int(shares.argmax())
            if shares[best] > HALF * shares.sum() and CLASSES[best] in VOTE_GROUPS:
                return VOTE_GROUPS[CLASSES[best]]
        few = np.sort(by_token)[::-1][:3].sum()
        return "after a word, words" if few > HALF * by_token.sum() else "words"

    def _places(self, block: Any) -> tuple[Feature, ...]:
        """Name features of position after the positions where they are on at least half as much as anywhere."""
        dense = block.table.dense()
        values = dense[self.places]
        n_on = np.count_nonzero(values, axis=0)
        means = values.sum(0) / np.maximum(n_on, 1)
        names = []
        for column in dense.T:
            on = np.flatnonzero(column >= 0.5 * column.max(initial=0.0)) if column.any() else np.zeros(0, int)
            names.append(f"place:{on[0]}..{on[-1]}" if len(on) > 1 else f"place:{on[0]}" if len(on) else "place:none")
        shares = zip(distinct(names), n_on / len(values), means, strict=True)
        return tuple(Feature(name, frequency=_short(share), mean=_short(mean)) for name, share, mean in shares)


def _has_places(block: Any) -> bool:
    return isinstance(block, Lookup) and block.index == "position" and isinstance(block.table, SparseTable)


def _names(own: str, features: Sequence[Feature]) -> list[str]:
    """Name features by place and main word, with a second one where others have the same; ``own`` is their block's.

    Words none of which has its share end in ``/..``; of a moved feature it is told how far back it finds them.
    """
    words = [
        [w if len(w) <= LONGEST_WORD else w[: LONGEST_WORD - 1] + "*" for w, s in f.tokens if s >= NAMED]
        for f in features
    ]
    often = Counter(known[0] for known in words if known)
    names = []
    for at, (feature, known) in enumerate(zip(features, words, strict=True)):
        part = "/".join(known[: 1 if often[known[0]] == 1 else 2]) if known else ""
        if not known and feature.tokens:
            part = "/".join([*(word[:LONGEST_WORD] for word, _ in feature.tokens[:2]), ".."])
        if part and feature.back:
            low, median, high = feature.back
            part += f"@{low}..{high}" if high - low > CLOSE else f"@{median}"
        names.append(as_word(f"{own}.{at}:{part}" if part else f"{own}.{at}"))
    return names


def _short(value: float) -> float:
    return float(f"{value:.4g}")
