"""A readable program whose answers can be computed by hand: it says what followed the same word before.

Its words are the letters a to k; ``<s>`` begins a text.

- ``lists``: a list for each of the words a to d, ``names`` (a and b), and ``ends`` (e and f, strength 2).
- ``moved.0``: one look, at the word before (weight 3/4) and the word here (1/4): is the word before an a, b, c, d?
- ``rules.0``: an a, then a b; the first word of all.
- ``moved.1``: two looks. One looks for positions where the word before is the word here (nine times as much as
  elsewhere) and moves which word of a to d stands there. The other looks at names (three times as much as elsewhere,
  and farther back half as much as here), and moves whether there are any.
- ``rules.1``: a b was found after the word here, and there are names.
- Votes: what follows each word; the word found; c after an a and a b; and words that are ends, by their list.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from englishroom.ir.program import Fire, Linear, Looks, Lookup, Program, Space, SparseTable, Table, Vote, Votes
from englishroom.ir.verify import require_valid

WORDS = ("<s>", *"abcdefghijk")
LISTS = ("a", "b", "c", "d", "names", "ends")
N_CTX = 8
SPACES = {"vocab": len(WORDS), "lists": len(LISTS), "position_basis": 2, "moved.0": 4, "rules.0": 2}
SPACES |= {"moved.1": 5, "rules.1": 1}
Entries = Mapping[tuple[int, int], float]


def induction() -> Program:
    """Make the program that the module describes."""
    in_list = {(word, word - 1): 1.0 for word in (1, 2, 3, 4)}
    in_list |= {(1, 4): 1.0, (2, 4): 1.0, (5, 5): 2.0, (6, 5): 2.0}
    lists = sparse("lists.words", SPACES["vocab"], SPACES["lists"], in_list)
    basis = sparse("position_basis.positions", N_CTX, 2, {(at, min(at, 1)): 1.0 for at in range(N_CTX)})
    follows = sparse("follows.words", SPACES["vocab"], SPACES["vocab"], {(1, 2): 0.5, (2, 1): -0.25})
    itself = {(word, word): 1.0 for word in range(4)}
    known = ("lists", "position_basis", "moved.0")  # features 0-5, 6-7, 8-11
    features = (*known, "rules.0", "moved.1", "rules.1")  # then 12-13, 14-18, 19
    found = {(14 + word, 1 + word): 4.0 for word in range(4)}
    blocks = (
        Lookup(name="lists", space="lists", index="token", table=lists),
        Lookup(name="position_basis", space="position_basis", index="position", table=basis),
        Lookup(name="follows", space="vocab", index="token", table=follows),
        Looks(
            name="moved.0",
            space="moved.0",
            reads=("lists",),
            queries=sparse("moved.0.queries", 0, 6, {}),
            query_biases=vector("moved.0.query_biases"),
            keys=sparse("moved.0.keys", 0, 6, {}),
            key_biases=vector("moved.0.key_biases"),
            matches=(0,),
            lone_keys=sparse("moved.0.lone_keys", 1, 6, {}),
            distance=Table("moved.0.distance", np.array([[0.0, math.log(3)]])),
            conditions=sparse("moved.0.conditions", 4, 6, itself),
            biases=vector("moved.0.biases", *[0.0] * 4),
            thresholds=vector("moved.0.thresholds", *[0.5] * 4),
            moved=(4,),
            window=2,
        ),
        Fire(
            name="rules.0",
            space="rules.0",
            reads=known,
            conditions=sparse("rules.0.conditions", 2, 12, {(0, 1): 1.0, (0, 8): 4.0, (1, 6): 1.0}),
            biases=vector("rules.0.biases", -3.0, 0.0),
            thresholds=vector("rules.0.thresholds", 0.5, 0.0),
        ),
        Looks(
            name="moved.1",
            space="moved.1",
            reads=known,
            queries=sparse("moved.1.queries", 4, 12, itself),
            query_biases=vector("moved.1.query_biases", *[0.0] * 4),
            keys=sparse("moved.1.keys", 4, 12, {(m, 8 + m): math.log(9) / 0.25 for m in range(4)}),
            key_biases=vector("moved.1.key_biases", *[-2 * math.log(9)] * 4),  # 0.75 of a feature makes log 9
            matches=(4, 0),
            lone_keys=sparse("moved.1.lone_keys", 2, 12, {(1, 4): math.log(3)}),
            distance=Table("moved.1.distance", np.array([[0.0, 0.0], [0.0, -math.log(2)]])),
            conditions=sparse("moved.1.conditions", 5, 12, itself | {(4, 4): 1.0}),
            biases=vector("moved.1.biases", 0.0, 0.0, 0.0, 0.0, -0.25),
            thresholds=vector("moved.1.thresholds", 0.6, 0.6, 0.6, 0.6, 0.0),
            moved=(4, 1),
        ),
        Fire(
            name="rules.1",
            space="rules.1",
            reads=("moved.1",),
            conditions=sparse("rules.1.conditions", 1, 5, {(0, 1): 2.0, (0, 4): 1.0}),
            biases=vector("rules.1.biases", -1.5),
            thresholds=vector("rules.1.thresholds", 0.25),
        ),
        Votes(
            name="list_votes",
            space="lists",
            reads=("rules.1",),
            weights=sparse("list_votes.weights", 1, 6, {(0, 5): 2.0}),
        ),
        Linear(name="votes_of_lists", space="vocab", reads="list_votes", weight=lists, transposed=True),
        Votes(
            name="votes",
            space="vocab",
            reads=features,
            weights=sparse("votes.weights", 20, len(WORDS), found | {(12, 3): 1.0, (13, 1): 1.0}),
            bias=vector("votes.bias", -5.0, *[0.0] * 11),
        ),
        Vote(name="log_probs", space="vocab", reads=("follows", "votes_of_lists", "votes")),
    )
    spaces = tuple(Space(name, size) for name, size in SPACES.items())
    return require_valid(Program("sparse", N_CTX, spaces, blocks))


def tokens(text: str) -> NDArray[np.int64]:
    """Read letters as words, after ``<s>``."""
    return np.array([0, *(WORDS.index(letter) for letter in text)])


def sparse(name: str, n_rows: int, n_columns: int, entries: Entries) -> SparseTable:
    """Store entries given as (row, column) -> value."""
    places = sorted(entries)
    starts = np.searchsorted([row for row, _ in places], np.arange(n_rows + 1))
    columns = np.array([column for _, column in places], np.int64)
    return SparseTable(name, starts, columns, np.array([entries[place] for place in places], np.float64), n_columns)


def vector(name: str, *values: float) -> Table:
    return Table(name, np.array(values, np.float64))
