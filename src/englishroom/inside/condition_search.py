"""Search the condition that says best when a feature is on.

1. List what can be said of each position in one word (``inside/atoms.py``).
2. Grow a list of words for each relation and its negation, word by word, as long as the Matthews correlation with the
   feature rises.
3. Join terms into an alternative: keep a few of the best, grow lists again at the positions that these leave, up to the
   most terms.
4. Exchange each term for the best one that its place can have, until nothing gets better.
5. Add alternatives in the same way, for what those before miss, as long as the correlation rises.

What is scored is always the whole condition, on all positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from englishroom.inside.atoms import FAMILIES, N_RELATIONS, QUOTES, Atoms
from englishroom.inside.condition_config import SearchConfig
from englishroom.ir.condition import MOST_WORDS, Condition
from englishroom.kernels.conditions import correlation, count_atoms, grow

Mask = NDArray[np.bool_]
Counts = NDArray[np.int32]
SHORTLIST = 120
"""Words that are tried for a list after its first."""


@dataclass(frozen=True)
class _Found:
    """A term with the correlation of the whole condition that it makes."""

    relation: int
    negated: bool
    atoms: tuple[int, ...]
    score: float

    @property
    def family(self) -> tuple[str, bool]:
        return FAMILIES[self.relation], self.negated


Alternative = tuple[_Found, ...]


class ConditionSearch:
    """Searches conditions for many features on the same rows.

    Args:
        atoms: of the rows to fit on.
    """

    def __init__(self, atoms: Atoms, config: SearchConfig) -> None:
        self.atoms, self.config = atoms, config
        every = np.ones(len(atoms.rows), bool)
        self._totals = every, np.diff(atoms.ends).astype(np.int32)
        self._on_totals = self._totals
        self._listed = np.zeros(len(atoms.rows), np.uint8)
        self._chosen = np.zeros(MOST_WORDS, np.int64)

    def search(self, on: Mask) -> tuple[Condition, float]:
        """Return the condition found for a feature, with its Matthews correlation on the rows.

        Args:
            on: where the feature is on, [pos].
        """
        self._on_totals = on, self._counted(on, self._totals)
        found: list[Alternative] = []
        score = 0.0
        while len(found) < self.config.alternatives:
            more = self._alternative(on, self._holds(found))
            if not more or more[-1].score < score + self.config.term_gain:
                break
            found.append(more)
            found, score = self._exchanged(on, found, more[-1].score)
        written = (sorted(terms, key=lambda term: (term.relation, term.negated)) for terms in found)
        return Condition(
            tuple(tuple(self.atoms.term(t.relation, t.atoms, t.negated) for t in terms) for terms in written)
        ), score

    def _alternative(self, on: Mask, others: Mask) -> Alternative:
        """Return the best alternative to add to what holds already, its last term with the score of all."""
        beam: list[Alternative] = [()]
        best: Alternative = ()
        best_score = self._score(on, others)
        for _ in range(self.config.terms):
            longer = [(*terms, more) for terms in beam for more in self._proposed(on, others, self._all(terms))]
            beam = self._kept(longer)
            if not beam or beam[0][-1].score < best_score + self.config.term_gain:
                break
            best, best_score = beam[0], beam[0][-1].score
        return best

    def _kept(self, longer: Sequence[Alternative]) -> list[Alternative]:
        """Keep the best alternatives, one of a kind."""
        kept: dict[tuple[tuple[str, bool], ...], Alternative] = {}
        for terms in sorted(longer, key=lambda terms: -terms[-1].score):
            kept.setdefault(tuple(sorted(term.family for term in terms)), terms)
        return list(kept.values())[: self.config.beam]

    def _exchanged(self, on: Mask, found: list[Alternative], score: float) -> tuple[list[Alternative], float]:
        """Leave out or exchange terms as long as that makes the whole condition better, or no worse and shorter."""
        for _ in range(self.config.rounds):
            before = score
            for number, slot in [(n, s) for n, terms in enumerate(found) for s in range(len(terms))]:
                terms = found[number]
                if slot >= len(terms):
                    continue
                others = self._holds([*found[:number], *found[number + 1 :]])
                rest = (*terms[:slot], *terms[slot + 1 :])
                within = self._all(rest)
                shorter = self._score(on, others | within) if rest else -1.0
                best = max(self._proposed(on, others, within), key=lambda term: term.score, default=None)
                if shorter > max(score, best.score if best else -1.0) - self.config.term_gain:
                    found[number], score = rest, shorter
                elif best is not None and best.score > score:
                    found[number], score = (*terms[:slot], best, *terms[slot + 1 :]), best.score
            if score <= before:
                break
        return found, score

    def _proposed(self, on: Mask, others: Mask, within: Mask) -> list[_Found]:
        """Grow terms that say where, within some positions, what holds otherwise is not enough.

        Lists of words that stand earlier overlap, so that growing one takes long: only those relations are grown that
        would be best if theirs did not.
        """
        is_active = within & ~others
        counts, hits = self._counted(is_active, self._totals), self._counted(is_active & on, self._on_totals)
        proposed = []
        for negated in (False, True):
            said = within | others if negated else others
            grown = [self._grown(r, False, on, is_active, said, negated, counts, hits) for r in range(N_RELATIONS)]
            earlier = [found for found in grown if found.atoms and FAMILIES[found.relation] == "earlier"]
            earlier = sorted(earlier, key=lambda found: -found.score)[: self.config.earlier]
            proposed += [found for found in grown if found.atoms and FAMILIES[found.relation] != "earlier"]
            proposed += [
                self._grown(found.relation, True, on, is_active, said, negated, counts, hits) for found in earlier
            ]
        return proposed

    def _grown(
        self, relation: int, overlaps: bool, on: Mask, is_active: Mask, said: Mask, negated: bool, counts: Counts,
        hits: Counts,
    ) -> _Found:  # fmt: skip
        """Grow a list of one relation."""
        atoms, config = self.atoms, self.config
        own = slice(atoms.firsts[relation], atoms.firsts[relation + 1])
        kept = counts[own].copy(), hits[own].copy()
        true, n_said, n_on = (int(np.count_nonzero(mask)) for mask in (said & on, said, on))
        size, score = grow(
            relation, overlaps, is_active, on, n_on, true, n_said, -1 if negated else 1, config.surprise,
            config.word_gain, config.words if relation < QUOTES else 1, SHORTLIST, atoms.firsts, atoms.starts,
            atoms.atoms, atoms.ends, atoms.places, counts, hits, self._chosen, self._listed,
        )  # fmt: skip
        counts[own], hits[own] = kept
        return _Found(relation, negated, tuple(self._chosen[:size].tolist()), float(score))

    def _counted(self, where: Mask, totals: tuple[Mask, Counts]) -> Counts:
        """Count at how many of some positions each atom is true, from what is known of positions that hold them."""
        every, known = totals
        inside, outside = np.flatnonzero(where), np.flatnonzero(every & ~where)
        counts = np.zeros(len(known), np.int32)
        fewer = inside if len(inside) < len(outside) else outside
        count_atoms(fewer, N_RELATIONS, self.atoms.starts, self.atoms.atoms, counts)
        return counts if fewer is inside else known - counts

    def _all(self, terms: Sequence[_Found]) -> Mask:
        """Say where all of some terms hold."""
        found = np.ones(len(self.atoms.rows), bool)
        for term in terms:
            found &= self.atoms.where(term.atoms, term.negated)
        return found

    def _holds(self, alternatives: Sequence[Alternative]) -> Mask:
        """Say where any of some alternatives holds."""
        found = np.zeros(len(self.atoms.rows), bool)
        for terms in alternatives:
            found |= self._all(terms)
        return found

    def _score(self, on: Mask, holds: Mask) -> float:
        true, said, n_on = (int(np.count_nonzero(mask)) for mask in (holds & on, holds, on))
        return float(correlation(true, said, n_on, len(on)))
