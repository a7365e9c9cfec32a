"""Explain every feature of a sparse program by a condition, and measure how well conditions do, beside two nulls.

1. Run the program over rows to fit on and over held-out rows, and keep where each feature is on.
2. Search the condition with the best Matthews correlation on the rows to fit on (``inside/condition_search.py``).
3. Measure precision, recall and Matthews correlation on the held-out rows.
4. Nulls: the conditions shuffled among the features of a variable; and the same search for activations that are shifted
   against the text, in the rows to fit on and in the held-out rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from englishroom.inside.activations import Csc, features_on
from englishroom.inside.atoms import atoms_of
from englishroom.inside.condition_config import SearchConfig
from englishroom.inside.condition_search import ConditionSearch
from englishroom.ir.condition import Condition
from englishroom.ir.holding import ReadRows, read_rows, where_holds
from englishroom.ir.labels import Explanation, Labels
from englishroom.ir.marks import marks_of
from englishroom.ir.program import Program
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.wording import token_words
from englishroom.steps import Progress, silent

Mask = NDArray[np.bool_]
Once = Callable[[str, Callable[[], Any]], Any]
AT_ONCE = 50
"""Features whose conditions are kept at once."""
Rows = Sequence[NDArray[np.integer]]


@dataclass(frozen=True)
class Explained:
    """One feature with its explanation.

    Attributes:
        group: the kind of work that its label says it does.
        frequency: share of the held-out positions at which it is on.
        mcc_fitted: Matthews correlation of its condition on the rows that it was searched on.
        mcc_shuffled: that of the condition of another feature of the variable, on the held-out rows.
    """

    variable: str
    index: int
    group: str
    importance: float
    frequency: float
    explanation: Explanation
    mcc_fitted: float
    mcc_shuffled: float


@dataclass(frozen=True)
class Explanations:
    """What was found for the features of a program.

    Attributes:
        features: those explained; features that are never on in the rows to fit on are none of them.
        mcc_shifted: held-out Matthews correlations of conditions that were searched for shifted activations.
    """

    features: tuple[Explained, ...]
    mcc_shifted: tuple[float, ...]
    positions: int
    held_out_positions: int

    @property
    def by_place(self) -> dict[tuple[str, int], Explanation]:
        """The explanations by variable and index."""
        return {(feature.variable, feature.index): feature.explanation for feature in self.features}


def explain(
    program: Program,
    tokenizer: Tokenizer,
    labels: Labels,
    fit: Rows,
    held_out: Rows,
    config: SearchConfig,
    most_features: int | None = None,
    n_nulls: int = 0,
    seed: int = 0,
    progress: Progress = silent,
    once: Once = lambda _name, make: make(),
) -> Explanations:
    """Search and measure conditions for the features of a program.

    Args:
        labels: of the program; they say how important each feature is.
        most_features: explain only so many of each variable, the most important ones.
        n_nulls: features for which the search is done again on shifted activations.
        once: returns what was made and kept under a name before, or makes it and keeps it.
    """
    marks, words, generator = marks_of(tokenizer), token_words(tokenizer), np.random.default_rng(seed)
    fitted_on = features_on(program, fit, lambda done, total: progress("reading the text", done, total))
    held_on = features_on(program, held_out, lambda done, total: progress("reading the held-out text", done, total))
    read, held = read_rows(fit, marks), read_rows(held_out, marks)
    search = ConditionSearch(atoms_of(read, words, config.least_rows), config)
    chosen = {name: _chosen(labels, name, values, most_features) for name, values in fitted_on.items()}
    total, done = sum(map(len, chosen.values())), 0
    features: list[Explained] = []
    for name, indices in chosen.items():
        found: list[tuple[int, Condition, float]] = []
        for first in range(0, len(indices), AT_ONCE):
            own = indices[first : first + AT_ONCE]

            def searched(name: str = name, own: Sequence[int] = own) -> list[Any]:
                return [_plain(*search.search(_on(fitted_on[name], index))) for index in own]

            kept = once(f"{name}-{first}.json", searched)
            found += [(index, *_searched(one)) for index, one in zip(own, kept, strict=True)]
            done += len(own)
            progress("searching conditions", done, total)
        features += _measured(name, found, labels, fitted_on[name], held_on[name], read, held, generator)
    shifted: list[float] = []
    for at in generator.permutation(len(features))[:n_nulls]:
        feature = features[at]
        on, held_feature = (
            _shifted(_on(of[feature.variable], feature.index), generator) for of in (fitted_on, held_on)
        )
        condition, _ = search.search(on)
        shifted.append(scores(where_holds(condition, held), held_feature)[2])
        progress("searching conditions for shifted features", len(shifted), min(n_nulls, len(features)))
    return Explanations(tuple(features), tuple(shifted), len(read), len(held))


_CONDITION = TypeAdapter(Condition)


def _plain(condition: Condition, mcc: float) -> list[Any]:
    """Return a condition that was found, as plain data."""
    return [json.loads(_CONDITION.dump_json(condition)), mcc]


def _searched(plain: Sequence[Any]) -> tuple[Condition, float]:
    """Read what :func:`_plain` made."""
    return _CONDITION.validate_json(json.dumps(plain[0])), float(plain[1])


def _chosen(labels: Labels, variable: str, values: Csc, most: int | None) -> list[int]:
    """Choose the features of a variable that are on anywhere, the most important ones."""
    on = np.flatnonzero(np.diff(values.indptr))
    ranked = sorted(on.tolist(), key=lambda index: (-_label(labels, variable, index)[1], index))
    return sorted(ranked[:most])


def _label(labels: Labels, variable: str, index: int) -> tuple[str, float]:
    feature = labels.feature(variable, index)
    return ("", 0.0) if feature is None else (feature.group, feature.importance)


def _strengths(values: Csc, index: int) -> NDArray[np.float32]:
    """Return how strongly a feature is on at each position, [pos]."""
    return values[:, [index]].toarray().ravel()


def _on(values: Csc, index: int) -> Mask:
    """Say where a feature is on."""
    return _strengths(values, index) != 0


def _shifted(on: Mask, generator: np.random.Generator) -> Mask:
    """Shift activations against the text by a random number of positions; the end comes to the beginning."""
    return np.roll(on, int(generator.integers(1, max(2, len(on)))))


def _measured(
    name: str,
    found: Sequence[tuple[int, Condition, float]],
    labels: Labels,
    fitted: Csc,
    held: Csc,
    read_fit: ReadRows,
    read_held: ReadRows,
    generator: np.random.Generator,
) -> list[Explained]:
    """Measure the conditions of a variable's features, and each against the feature before it in a shuffled order."""
    holds = [where_holds(condition, read_held) for _, condition, _ in found]
    order = generator.permutation(len(found))
    other = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    measured = []
    for at, (index, condition, mcc_fitted) in enumerate(found):
        on = _on(held, index)
        values = _strengths(fitted, index)[where_holds(condition, read_fit)]
        strength = float(values.mean()) if len(values) else 0.0
        rounded = (float(f"{value:.4g}") for value in (strength, *scores(holds[at], on)))
        measured.append(
            Explained(
                name,
                index,
                *_label(labels, name, index),
                float(on.mean()),
                Explanation(condition, *rounded),
                mcc_fitted,
                scores(holds[other[at]], on)[2],
            )
        )
    return measured


def scores(holds: Mask, on: Mask) -> tuple[float, float, float]:
    """Return precision, recall and Matthews correlation of a condition for a feature."""
    both, held, is_on, n = (float(np.count_nonzero(mask)) for mask in (holds & on, holds, on, np.ones_like(on)))
    spread = held * (n - held) * is_on * (n - is_on)
    return (
        both / held if held else 0.0,
        both / is_on if is_on else 0.0,
        (n * both - held * is_on) / spread**0.5 if spread else 0.0,
    )


def weighted_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """Return a mean weighted by importance; the plain one where nothing is important, 0 of nothing."""
    if not values:
        return 0.0
    return float(np.average(values, weights=weights if sum(weights) > 0 else None))
