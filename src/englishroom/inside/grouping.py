"""Sort features by what they do, each by a criterion measured on text.

Words are sorted into classes by their spelling and by where they stand in the text; a feature is sorted by the class
that it votes for, where that has more than half of its votes, and otherwise by what excites it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from englishroom.inside.evidence import BEFORE, FURTHER, HERE, FeatureEvidence
from englishroom.ir.tokenizer import Tokenizer

CLASSES = ("word", "name", "continuation", "quote", "punctuation")
HALF = 0.5
OPENING = 8
"""Positions that count as the opening of a text."""
FEW = 3
"""Tokens on which a feature must have half of its activation to count as one that follows those tokens."""
LIKELIEST = 12
"""Words that a feature votes for most; whether it repeats what was moved to it is judged by them."""
DIRECT = 0.2
"""Share of its importance that a rule must have by its own votes to be sorted by them."""


@dataclass(frozen=True)
class Profile:
    """What decides in which group a feature is.

    Attributes:
        frequency: share of positions where it is on.
        direct: share of its importance that is by its own votes.
        votes_for: share of its votes for each class of words, [class].
        opening: share of its activation at the first positions.
        few: share of its activation on the few tokens that it is on most.
        excited: share of what excites it that comes from each kind of variable.
        origins: share of what heads move to it by class of the token, [class]; zeros where nothing is moved.
        back: share of that from here, from the position before, and from further back.
        again: share of that from tokens that it then votes for.
    """

    frequency: float
    direct: float
    votes_for: NDArray[np.float64]
    opening: float
    few: float
    excited: Mapping[str, float]
    origins: NDArray[np.float64]
    back: NDArray[np.float64]
    again: float


def group_of(profile: Profile) -> str:
    """Name the group of a rule: the first whose criterion it meets."""
    votes_for = dict(zip(CLASSES, profile.votes_for.tolist(), strict=True))
    origins = dict(zip(CLASSES, profile.origins.tolist(), strict=True))
    moved = profile.origins.sum() > 0
    if not profile.frequency:
        return "never on in the text"
    if profile.opening > HALF or profile.excited.get("place", 0.0) > HALF:
        return "position and opening"
    if profile.direct >= DIRECT:
        if moved and profile.again > HALF:
            return "says again what stood earlier"
        if votes_for["continuation"] > HALF:
            return "goes on with a word"
        if votes_for["quote"] > HALF:
            return "speech"
        if votes_for["punctuation"] > HALF:
            return "punctuation and ends of sentences"
        if votes_for["name"] > HALF:
            return "names"
    if moved:
        if profile.back[HERE] > HALF:
            return "brought from the word itself"
        if profile.back[BEFORE] > HALF:
            return "brought from the word before"
        if profile.back[FURTHER] > HALF and origins["name"] > HALF:
            return "names brought from further back"
        return "brought from further back"
    if profile.few > HALF:
        return "after a word, a word"
    for kind, name in (
        ("moved", "what stood earlier"),
        ("rules", "rules that read rules"),
        ("word", "after a kind of word"),
    ):
        if profile.excited.get(kind, 0.0) > HALF:
            return name
    return "several things at once"


def classes_of(tokenizer: Tokenizer, rows: Sequence[NDArray[np.integer]]) -> NDArray[np.intp]:
    """Sort tokens into classes, [d_vocab].

    - ``quote``: has a quotation mark in it; ``punctuation``: has no letter or digit.
    - ``continuation``: begins with a letter or digit, and in the text stands mostly right behind another.
    - ``name``: begins with a capital and goes on with small letters, and in the text stands mostly where no sentence
      begins.
    - ``word``: any other.
    """
    texts = [piece.decode("utf-8", "replace") for piece in tokenizer.pieces]
    behind, inside, counts = (np.zeros(len(texts)) for _ in range(3))
    ends = np.array([text[-1:].isalnum() for text in texts])
    stops = np.array([not text.strip() or any(c in text for c in '.!?"“”\n') for text in texts])
    for special in tokenizer.specials:
        ends[special], stops[special] = False, True
    for row in rows:
        before, here = np.asarray(row)[:-1], np.asarray(row)[1:]
        np.add.at(counts, here, 1)
        np.add.at(behind, here, ends[before])
        np.add.at(inside, here, ~stops[before])
    found = np.zeros(len(texts), np.intp)
    for token, text in enumerate(texts):
        own = text.strip()
        mostly_behind = behind[token] > HALF * counts[token]
        if '"' in own or "“" in own or "”" in own:
            found[token] = CLASSES.index("quote")
        elif not any(c.isalnum() for c in own):
            found[token] = CLASSES.index("punctuation")
        elif text[:1].isalnum() and mostly_behind:
            found[token] = CLASSES.index("continuation")
        elif own[:1].isupper() and own[1:2].islower() and inside[token] > HALF * counts[token]:
            found[token] = CLASSES.index("name")
    return found


def profiles(
    evidence: FeatureEvidence,
    name: str,
    kinds: Mapping[str, str],
    classes: NDArray[np.intp],
    voted: NDArray[np.float32],
) -> list[Profile]:
    """Measure what decides in which group each rule of a variable is.

    Args:
        kinds: kind of each variable: word, place, moved or rules.
        classes: of each token.
        voted: the positive votes of each rule for each word, times the chance of the word, [rule, d_vocab].
    """
    seen, n_rules = evidence.seen[name], len(evidence.seen[name].frequency)
    member = np.eye(len(CLASSES))[classes]  # [d_vocab, class]
    votes_for = _shares(voted @ member)
    opening = _share(np.asarray(seen.by_place[:OPENING].sum(0)).ravel(), np.asarray(seen.by_place.sum(0)).ravel())
    few = few_of(seen.by_token)
    excited = {kind: np.zeros(n_rules) for kind in kinds.values()}
    for variable, part in seen.excited.items():
        excited[kinds[variable]] += np.asarray(part.maximum(0).sum(1)).ravel()
    total = sum(excited.values(), np.zeros(n_rules))
    excited = {kind: _share(values, total) for kind, values in excited.items()}
    origins, back, again = np.zeros((n_rules, len(CLASSES))), np.zeros((n_rules, 3)), np.zeros(n_rules)
    if seen.origins is not None and seen.back is not None:
        origins, back = _shares(seen.origins.T @ member), _shares(seen.back.T)
        likeliest = np.argpartition(-voted, min(LIKELIEST, voted.shape[1] - 1), axis=1)[:, :LIKELIEST]
        repeated = np.take_along_axis(seen.origins.T, likeliest, 1) * (np.take_along_axis(voted, likeliest, 1) > 0)
        again = _share(repeated.sum(1), seen.origins.sum(0))
    direct = _share(evidence.direct[name], evidence.importance[name])
    return [
        Profile(
            float(seen.frequency[at]),
            float(direct[at]),
            votes_for[at],
            float(opening[at]),
            float(few[at]),
            {kind: float(values[at]) for kind, values in excited.items()},
            origins[at],
            back[at],
            float(again[at]),
        )
        for at in range(n_rules)
    ]


def few_of(by_token: csr_array) -> NDArray[np.float64]:
    """Return the share of each feature's activation on the few tokens that it is on most."""
    columns = by_token.tocsc()
    found = np.zeros(len(columns.indptr) - 1)
    for at, (low, high) in enumerate(itertools.pairwise(columns.indptr)):
        values = np.sort(columns.data[low:high])[::-1]
        found[at] = values[:FEW].sum() / values.sum() if len(values) and values.sum() > 0 else 0.0
    return found


def _share(part: NDArray, whole: NDArray) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def _shares(values: NDArray) -> NDArray[np.float64]:
    """Divide rows by their sums; a row of nothing stays so."""
    total = values.sum(1, keepdims=True)
    return np.divide(values, total, out=np.zeros(values.shape), where=total > 0)
