"""Tables in emitted code as lists that people read: what is of a kind, and what a rule reads; the text is the table.

Numbers are written in the fewest digits that give back every bit. Lines begin with the number of the list or rule,
which is its place in the program whatever the order of the lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from englishroom.ir.labels import Feature, Labels
from englishroom.ir.program import Rules, SparseTable
from englishroom.ir.stages import Stage
from englishroom.ir.wording import as_word, between_quotes, comment, distinct

TOLD = 4
"""Votes that a remark behind a rule names."""
Names = dict[str, list[str]]
"""Of every variable with features, the words for them, by number."""


def feature_names(sizes: Mapping[str, int], labels: Labels, reserved: Iterable[str] = ("|", "loudness")) -> Names:
    """Give the features of variables words of their own, no two alike: their labels, or what stands for these."""
    taken = set(reserved)
    found: Names = {}
    for variable, size in sizes.items():
        found[variable] = distinct([as_word(labels.of(variable, at)) for at in range(size)], taken)
        taken.update(found[variable])
    return found


def decimals(values: NDArray[np.floating], sign: bool = False) -> list[str]:
    """Write numbers in the fewest digits that give back every bit of them."""
    if values.dtype == np.float32:
        words = [str(value) for value in values]
        back = np.array([float(word) for word in words], np.float64).astype(np.float32)
        for at in np.flatnonzero(back != values):
            words[at] = repr(float(values[at]))
    else:
        words = [repr(float(value)) for value in values]
    words = [word.removesuffix(".0") for word in words]
    return [word if word[0] == "-" else f"+{word}" for word in words] if sign else words


def is_single(*arrays: NDArray[np.floating]) -> bool:
    """Say whether numbers are stored in float32, all of them."""
    return all(array.dtype == np.float32 for array in arrays)


def lists(table: SparseTable, names: Sequence[str], members: Sequence[str], features: Sequence[Feature]) -> str:
    """Write a sparse table by its columns: of each its number, its name, and its members, the heaviest first.

    Args:
        names: of the columns.
        members: names of the rows.
        features: labels of the columns, which say in which order they stand; none keeps their own.
    """
    rows = table.rows()
    order = np.lexsort((rows, -np.abs(table.values), table.columns))
    words, rows = decimals(table.values[order]), rows[order].tolist()
    starts = np.searchsorted(table.columns[order], np.arange(table.n_columns + 1)).tolist()

    def line(column: int) -> str:
        low, high = starts[column], starts[column + 1]
        pairs = [f"{word} {members[row]}" for word, row in zip(words[low:high], rows[low:high], strict=True)]
        return " ".join([f"{column} {names[column]}", *pairs])

    return between_quotes(_sorted(range(table.n_columns), features, line))


def rules(stage: Stage, name: str, names: Names, labels: Labels) -> str:
    """Write the rules of a stage, a line each: what it reads and its bias, grouped by what it does."""
    block = stage.adds
    assert isinstance(block, Rules)
    n_rules = block.conditions.shape[0]
    read = [word for part in stage.parts for word in names[part.variable]]
    features, columns, weights = stage.entries()
    order = np.lexsort((features, -np.abs(weights), columns))
    features, columns = features[order].tolist(), columns[order]
    words = decimals(weights[order], sign=True)
    starts = np.searchsorted(columns, np.arange(n_rules + 1)).tolist()
    biases = decimals(np.zeros(n_rules, np.float32) if block.biases is None else block.biases.values)
    lows = decimals(block.thresholds.values)
    own, told = names[name], labels.features.get(name, ())

    def line(rule: int) -> str:
        low, high = starts[rule], starts[rule + 1]
        terms = [f"{word} {read[at]}" for word, at in zip(words[low:high], features[low:high], strict=True)]
        ends = [f"> {lows[rule]}"] if lows[rule] not in ("0", "-0") else []
        remarks = [_remark(told[rule])] if told else []
        return " ".join([f"{rule} {own[rule]}", *terms, f"| {biases[rule]}", *ends, *remarks])

    lines = _sorted(range(n_rules), told, line)
    if stage.loudness is not None:
        lines = [_loudness(stage, read), *lines]
    return between_quotes(lines)


def _loudness(stage: Stage, read: Sequence[str]) -> str:
    weights, alone = stage.loud()
    on = np.flatnonzero(weights)
    assert stage.loudness is not None
    kind = stage.loudness.weight.values.dtype
    words = decimals(weights[on].astype(kind), sign=True)
    terms = [f"{word} {read[at]}" for word, at in zip(words, on.tolist(), strict=True)]
    return " ".join(["-1 loudness", *terms, f"| {decimals(np.array([alone], kind))[0]}"])


def _remark(feature: Feature) -> str:
    """Say what a rule speaks for, and how often it fires."""
    fires = f"fires {feature.frequency:.2%}"
    if not feature.votes:
        return fires
    return f"{fires} says " + " ".join(f"{as_word(word)} {value:+.2g}" for word, value in feature.votes[:TOLD])


def _sorted(numbers: Iterable[int], features: Sequence[Feature], line: Callable[[int], str]) -> list[str]:
    """Write lines by group, the weightiest group first, and inside it the most important first."""
    if not features:
        return [line(number) for number in numbers]
    weight: dict[str, float] = {}
    for feature in features:
        weight[feature.group] = weight.get(feature.group, 0.0) + feature.importance
    ranked = sorted(numbers, key=lambda n: (-weight[features[n].group], features[n].group, -features[n].importance, n))
    lines: list[str] = []
    for group, members in groupby(ranked, key=lambda number: features[number].group):
        found = list(members)
        if group:
            lines.append(comment(f"{group}: {len(found)}, worth {weight[group]:.3g} together"))
        lines += [line(number) for number in found]
    return lines
