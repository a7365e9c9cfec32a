"""Readable programs as lines of text that are the program: lists, looks, moved features, rules and votes.

A name is followed by its number. Weights of a rule are in units of what it asks for, its threshold minus its bias, so
that it is on where its terms add up to more than 1 (-1 where it is on by itself, and its terms may turn it off).
Numbers have three digits, or as many as it takes to give back every bit: the emitted file reads a number as the nearest
of those that its table has, where these are few, as they are in programs whose numbers were rounded to a palette.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from englishroom.emit.listed import decimals, is_single
from englishroom.emit.prelude.readable import exact, units
from englishroom.emit.remarks import LONGEST, about_group
from englishroom.ir.condition import Condition, Word, WordAt, WordEarlier
from englishroom.ir.program import AnyTable, Fire, Looks, SparseTable, tables_of

MANY = 256
"""Different numbers of a table from which on they are written in full."""
DIGITS = 3
"""Digits that a number has at least, where it needs them."""
SMALL = "..."
"""Stands before terms below a tenth of the largest."""
RESERVED = ("|", ">", "->", SMALL)
"""Words of lines that are no names."""
MOST_INDENT = "        "
Terms = Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Numbers:
    """How the numbers of one table are spelt.

    Attributes:
        few: those that the table has, in order, where they are few.
        single: whether all numbers are stored in 32 bits.
    """

    few: tuple[float, ...]
    single: bool
    read: Callable[..., float]

    @classmethod
    def of(cls, values: NDArray[np.floating], single: bool) -> Numbers:
        different = np.unique(values)
        few = tuple(different.astype(float).tolist()) if len(different) <= MANY else ()
        return cls(few, single, getattr(exact(few, single), "__wrapped__"))  # noqa: B009  (nothing kept in memory)

    def spelt(self, value: float, unit: float = 1.0) -> str | None:
        """Write a number in units, or return ``None`` where no number of digits gives it back."""
        for digits in range(DIGITS, 18):
            word = plain_number(float(f"{value / unit:.{digits}g}"))
            if self.read(word, unit) == value:
                return word
        return None

    def words(self, values: NDArray[np.floating]) -> list[str]:
        """Write many numbers in units of 1."""
        if not self.few:
            return decimals(values if self.single else values.astype(float))
        known = {value: self.spelt(value) for value in self.few}
        return [known[value] or plain_number(value) for value in values.astype(float).tolist()]

    def options(self) -> str:
        """Spell what the reader of these numbers is given."""
        return "(" + "".join(f"{plain_number(value)}, " for value in self.few) + ")"


def plain_number(value: float) -> str:
    """Write a number in the fewest digits that give it back."""
    return repr(value).removesuffix(".0")


def is_single_block(block: Looks | Fire) -> bool:
    """Say whether all numbers of a block are stored in 32 bits."""
    return is_single(*(table.values for table in tables_of(block)))


@dataclass(frozen=True)
class TermSum:
    """The terms of a sum: words that count for it, or against it where their weight is below 0, and features."""

    features: Terms
    words: Terms = ()

    @property
    def largest(self) -> float:
        """The largest weight, whatever its sign."""
        return max([abs(value) for _, value in (*self.features, *self.words)], default=0.0)


@dataclass(frozen=True)
class SumNumbers:
    """How the numbers of sums are spelt: those of their words, and those of the features that they read."""

    features: Numbers
    words: Numbers

    def options(self) -> str:
        """Spell what the reader of these numbers is given."""
        return f"({self.words.options()}, {self.features.options()})"


def table_lines(table: SparseTable, names: Sequence[str], members: Sequence[str], numbers: Numbers) -> list[str]:
    """Write a sparse table by its rows: of each its number, its name, and its terms; rows without any are left out.

    Args:
        names: of the rows.
        members: names of the columns.
    """
    rows = table.rows()
    order = np.lexsort((table.columns, -np.abs(table.values), rows))
    words = numbers.words(table.values[order])
    starts, columns, sizes = table.starts.tolist(), table.columns[order].tolist(), np.abs(table.values[order])

    def line(row: int) -> str:
        low, high = starts[row], starts[row + 1]
        terms = [f"{members[at]} {word}" for at, word in zip(columns[low:high], words[low:high], strict=True)]
        return folded([f"{row} {names[row]}:", *marked(terms, sizes[low:high])])

    return [line(row) if starts[row] < starts[row + 1] else "" for row in range(table.shape[0])]


def folded(units_of_text: Sequence[str], indent: str = MOST_INDENT) -> str:
    """Join units of text with spaces, in lines of no more than so many characters where that can be."""
    found, length = [units_of_text[0]], len(units_of_text[0].rpartition("\n")[2])
    for unit in units_of_text[1:]:
        if length + 1 + len(unit) > LONGEST:
            found.append(f"\n{indent}{unit}")
            length = len(indent) + len(unit)
        else:
            found.append(f" {unit}")
            length += 1 + len(unit)
    return "".join(found)


def marked(terms: list[str], sizes: Sequence[float] | NDArray[np.floating]) -> list[str]:
    """Put a mark before those of sorted terms that are below a tenth of the largest."""
    strong = sum(1 for size in sizes if size * 10 >= sizes[0])
    return terms if strong == len(terms) else [*terms[:strong], SMALL, *terms[strong:]]


def sum_units(terms: TermSum, numbers: SumNumbers, unit: float = 1.0) -> tuple[list[str], list[str]] | None:
    """Write the strong terms of a sum, and those below a tenth of the largest: words for, words against, features.

    Returns:
        Units of text that are not to be torn apart; ``None`` where a number cannot be written in such units.
    """
    parts = (
        (["for"], [term for term in terms.words if term[1] >= 0], numbers.words),
        (["against"], [(name, -value) for name, value in terms.words if value < 0], numbers.words),
        ([], terms.features, numbers.features),
    )
    sides: tuple[list[str], list[str]] = ([], [])
    for keyword, own, spelling in parts:
        ordered = sorted(own, key=lambda term: -abs(term[1]))
        spelt = [spelling.spelt(value, unit) for _, value in ordered]
        if None in spelt:
            return None
        units_of_text = [f"{name} {word}" for (name, _), word in zip(ordered, spelt, strict=True)]
        strong = sum(1 for _, value in ordered if abs(value) * 10 >= terms.largest)
        for side, found in zip(sides, (units_of_text[:strong], units_of_text[strong:]), strict=True):
            if found:
                side += [*(["|"] if side else []), *keyword, *found]
    return sides


def rule_line(index: int, name: str, terms: TermSum, bias: float, low: float, numbers: SumNumbers, single: bool) -> str:
    """Write one rule: its name, its terms, what they must exceed, its bias, and a threshold above 0.

    Args:
        name: with a colon, and where it looks.
    """
    unit, asked = units(bias, low, terms.largest)
    sides = sum_units(terms, numbers, unit)
    if sides is None:
        asked, sides = plain_number(low - bias), sum_units(terms, numbers)
    assert sides is not None, "a number is written in all its digits"
    ends = [f"> {asked} |", f"bias {vector_word(bias, single)}"]
    ends += [f"threshold {vector_word(low, single)}"] if low else []
    weak = [SMALL, *sides[1]] if sides[1] else []
    line = " ".join([f"{index} {name}", *sides[0], *ends, *weak])
    if len(line) <= LONGEST:
        return line
    head = folded([f"{index} {name}", *sides[0], *ends])
    return head + (f"\n    {folded(weak)}" if weak else "")


def side_line(start: str, terms: TermSum, numbers: SumNumbers, ends: Sequence[str] = ()) -> str:
    """Write one side of a match, or lone keys: the strong terms, and behind a mark the others."""
    sides = sum_units(terms, numbers)
    assert sides is not None, "a number is written in all its digits"
    return folded([start, *sides[0], *([SMALL, *sides[1]] if sides[1] else []), *ends])


def vector_word(value: float, single: bool) -> str:
    """Write a number of a vector."""
    return decimals(np.array([value], np.float32 if single else np.float64))[0]


def condition_words(condition: Condition, words: Sequence[str]) -> str:
    """Write a condition with words that stand for tokens, none of which has a slash in it."""
    own = [
        tuple(
            replace(term, words=tuple(Word(word.token, words[word.token]) for word in term.words))
            if isinstance(term, WordAt | WordEarlier)
            else term
            for term in terms
        )
        for terms in condition.alternatives
    ]
    return str(Condition(tuple(own)))


def curve_words(values: NDArray[np.floating]) -> str:
    """Write a curve over distance, the nearest first, a number that repeats once with how often."""
    runs = [(word, len(list(same))) for word, same in groupby(decimals(values))]
    return " ".join(["curve", *(word if count == 1 else f"{word}*{count}" for word, count in runs)])


def curve_text(values: NDArray[np.floating], reach: int) -> str:
    """Say where a look looks that goes by distance alone.

    Args:
        reach: positions that it sees, the one at hand included.
    """
    full = values.astype(float)[np.minimum(np.arange(reach), len(values) - 1)]
    shares = np.exp(full - full.max())
    shares /= shares.sum()
    if np.ptp(full) == 0:
        return f"It goes by no distance: alike to all of the last {reach} positions."
    strong = [int(at) for at in np.argsort(-shares, kind="stable")[:3] if shares[at] >= 0.1]
    parts = [f"{shares[at]:.0%} on the word {f'{at} back' if at else 'here'}" for at in strong]
    half, most = (int(np.searchsorted(shares.cumsum(), share)) for share in (0.5, 0.9))
    spread = f"half of it within {half} back and nine tenths within {most}"
    return f"By distance alone its weight falls {', '.join([*parts, spread])}, of {reach - 1} at most."


def grouped(
    lines: Sequence[str], importance: Sequence[float], groups: Sequence[str], silent: Mapping[str, float | None]
) -> list[str]:
    """Order lines by group, the weightiest first, and inside it the most important first; leave empty ones out.

    Args:
        silent: of groups, by how much the answers change without it, where that was measured; it then is the weight.
    """
    total: dict[str, float] = {}
    for group, value in zip(groups, importance, strict=True):
        total[group] = total.get(group, 0.0) + value
    weight = {group: value if (nats := silent.get(group)) is None else nats for group, value in total.items()}
    ranked = sorted(range(len(lines)), key=lambda at: (-weight[groups[at]], groups[at], -importance[at], at))
    found: list[str] = []
    for group, members in groupby(ranked, key=lambda at: groups[at]):
        own = [lines[at] for at in members if lines[at]]
        if group and own:
            found += about_group(group, len(own), total[group], silent.get(group))
        found += own
    return found


def entries_of(table: AnyTable, names: Sequence[str]) -> Iterator[list[tuple[str, float]]]:
    """Yield the rows of a sparse table with names in place of columns."""
    assert isinstance(table, SparseTable)
    for row in range(table.shape[0]):
        yield [(names[at], float(value)) for at, value in table.row(row)]
