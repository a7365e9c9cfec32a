"""What can be said of a position in one word: the atoms that conditions are made of, for rows of tokens.

An atom is a relation and a token ("``girl`` stands in this sentence"), or one of a few facts (inside quotes, so many
words into the sentence, the word is repeated). The loops that use them are in ``kernels/conditions.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from englishroom.ir.condition import (
    FARTHEST_BACK,
    InQuotes,
    IntoSentence,
    Reach,
    Repeated,
    Term,
    Word,
    WordAt,
    WordEarlier,
)
from englishroom.ir.holding import ReadRows
from englishroom.kernels.conditions import list_atoms

REACHES: tuple[Reach, ...] = (3, 8, 20, "sentence", "quote", "text")
INTO = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)
"""How many words into a sentence a term asks for."""
BACKS = FARTHEST_BACK + 1
QUOTES, PLACE, AGAIN = (BACKS + len(REACHES) + fact for fact in range(3))
"""Relations that are no lists of words."""
N_RELATIONS = AGAIN + 1
FAMILIES: MappingProxyType[int, str] = MappingProxyType(
    {r: "here" if r == 0 else "back" if r < BACKS else "earlier" if r < QUOTES else "fact" for r in range(N_RELATIONS)}
)


@dataclass(frozen=True)
class Atoms:
    """The atoms of rows of tokens, by position and by atom; see ``kernels/conditions.py``.

    Attributes:
        firsts: first atom of each relation, [relation + 1].
        starts: where the atoms of each position and relation begin, [pos * relation + 1].
        atoms: the atoms that are true, position by position.
        ends: where the places of each atom begin, [atom + 1].
        places: positions at which an atom is true, atom by atom.
    """

    rows: ReadRows
    words: Sequence[str]
    firsts: NDArray[np.int64]
    starts: NDArray[np.int64]
    atoms: NDArray[np.int32]
    ends: NDArray[np.int64]
    places: NDArray[np.int32]

    def where(self, atoms: Sequence[int], negated: bool) -> NDArray[np.bool_]:
        """Say at which positions one of some atoms is true, or none, [pos]."""
        found = np.full(len(self.rows), negated)
        for atom in atoms:
            found[self.places[self.ends[atom] : self.ends[atom + 1]]] = not negated
        return found

    def term(self, relation: int, atoms: Sequence[int], negated: bool) -> Term:
        """Write a list of atoms of one relation as a term of a condition."""
        numbers = [int(atom - self.firsts[relation]) for atom in atoms]
        if relation == QUOTES:
            return InQuotes(negated)
        if relation == PLACE:
            return IntoSentence(INTO[numbers[0]], negated)
        if relation == AGAIN:
            return Repeated(negated)
        words = tuple(Word(number, self.words[number]) for number in numbers)
        if relation < BACKS:
            return WordAt(words, relation, negated)
        return WordEarlier(words, REACHES[relation - BACKS], negated)


def atoms_of(rows: ReadRows, words: Sequence[str], least_rows: int = 1) -> Atoms:
    """List the atoms of rows of tokens.

    Args:
        words: the text of each token, [d_vocab].
        least_rows: rows in which an atom must be true somewhere; what is rarer is left out.
    """
    sizes = [rows.d_vocab] * (BACKS + len(REACHES)) + [1, len(INTO), 1]
    firsts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    into = np.searchsorted(INTO, rows.here - rows.sentence, side="right") - 1
    flags = np.stack([rows.inside - 1, into, rows.repeated - 1]).astype(np.int64)
    earlier = np.stack([rows.first(reach) for reach in REACHES])
    starts = np.zeros(len(rows) * N_RELATIONS + 1, np.int64)
    given = rows.tokens, rows.began, _next_at(rows), earlier, flags, firsts, BACKS, starts
    list_atoms(*given, np.zeros(0, np.int32))
    atoms = np.zeros(int(starts[-1]), np.int32)
    list_atoms(*given, atoms)
    position = np.repeat(np.arange(len(rows), dtype=np.int32), np.diff(starts[::N_RELATIONS]))
    pairs = np.unique(rows.began[position] * firsts[-1] + atoms) % firsts[-1]
    kept = (np.bincount(pairs, minlength=int(firsts[-1])) >= least_rows)[atoms]
    starts = np.concatenate([[0], np.cumsum(kept)])[starts]
    atoms, position = atoms[kept], position[kept]
    places = position[np.argsort(atoms, kind="stable")]
    ends = np.concatenate([[0], np.cumsum(np.bincount(atoms, minlength=int(firsts[-1])))]).astype(np.int64)
    return Atoms(rows, words, firsts, starts, atoms, ends, places)


def _next_at(rows: ReadRows) -> NDArray[np.int64]:
    """Return where the token of each position stands next in its row; behind the end where it does not."""
    found = np.full(len(rows), len(rows), np.int64)
    order = np.lexsort((rows.here, rows.tokens, rows.began))
    same = (np.diff(rows.tokens[order]) == 0) & (np.diff(rows.began[order]) == 0)
    found[order[:-1][same]] = order[1:][same]
    return found
