"""What a readable program knows, as lines: features by their names, and sections of lists, looks, rules and votes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from englishroom.emit import lines
from englishroom.emit.lines import Numbers
from englishroom.emit.listed import feature_names
from englishroom.emit.prelude import loading, readable
from englishroom.emit.tables import WIDTH
from englishroom.ir.labels import Feature, Labels
from englishroom.ir.program import (
    AnyTable,
    Block,
    Fire,
    Linear,
    Looks,
    Lookup,
    Program,
    SparseTable,
    Table,
    Vote,
    Votes,
    tables_of,
)
from englishroom.ir.wording import comment

SAID = 4
"""Votes that a remark behind a rule names."""
NOISE_NATS = 0.1
"""A vote is named where it comes to this much, at the strength that its feature usually has."""
ALWAYS = "always"
"""What votes whatever is on goes by this name."""


@dataclass(frozen=True)
class Section:
    """A part of the program as lines.

    Attributes:
        block: whose lines they are.
        about: what it does, a sentence or two.
        lines: none where the tables lie beside the program.
        weight: by which sections are ordered: nats where labels say them, and then how many numbers it has.
        always: whether these are the votes that the block has whatever is on.
    """

    block: Block
    about: str
    lines: Sequence[str] | None
    weight: tuple[float, int]
    always: bool = False


class ReadableListing:
    """A readable program as it is listed.

    Attributes:
        names: of the features of every variable, and of what is voted for on the way to words.
        words: of the vocabulary.
        tied: for votes of lists, the lists that words are read by, where these are the same.
        rule_lines: of every block with rules or moved features, their lines.
    """

    def __init__(self, program: Program, words: list[str], labels: Labels) -> None:
        self.program, self.words, self.labels = program, words, labels
        self.by_name = {block.name: block for block in program.blocks}
        self.sizes = {block.name: program.space(block.space).size for block in program.blocks}
        self._turns_to_words = {block.reads: block for block in reversed(program.blocks) if isinstance(block, Linear)}
        self.tied = {block.name: lists for block in program.blocks if (lists := self._tied(block))}
        named = {name: size for name, size in self.sizes.items() if self.is_feature(name) or self._goes_to_lists(name)}
        self.names = feature_names(named, labels, (*lines.RESERVED, ALWAYS))
        self._says = self._votes_of_features()
        self.rule_lines = {
            block.name: self._rule_lines(block)
            for block in program.blocks
            if isinstance(block, Looks | Fire) and not self.is_beside(block)
        }

    def _tied(self, block: Block) -> str | None:
        """Name the lists that a block turns votes for lists into votes for words by, if these are lists read before."""
        if not isinstance(block, Linear) or not block.transposed or self._turns_to_words[block.reads] is not block:
            return None
        return next(
            (
                lists.name
                for lists in self.program.blocks
                if isinstance(lists, Lookup)
                and lists.index == "token"
                and lists.table == block.weight
                and not self.is_beside(lists)
            ),
            None,
        )

    def is_feature(self, name: str) -> bool:
        block = self.by_name[name]
        words = self.program.vote.space
        return isinstance(block, Looks | Fire) or (isinstance(block, Lookup) and block.space != words)

    def _goes_to_lists(self, name: str) -> bool:
        """Say whether votes go to lists first, whose names are their own, not those of lists that are read."""
        linear = self._turns_to_words.get(name)
        return (
            linear is not None and linear.name not in self.tied and self.by_name[name].space != self.program.vote.space
        )

    def is_beside(self, block: Block) -> bool:
        """Say whether a block has a table that is too large for the file."""
        return any(_n_bytes(table) > loading.LARGE for table in tables_of(block))

    def coordinates(self, name: str) -> list[str]:
        """Name the coordinates of a variable."""
        if self.by_name[name].space == self.program.vote.space:
            return self.words
        return self.names[self.lists_voted_for(name)]

    def lists_voted_for(self, name: str) -> str:
        """Name the variable whose features are those that votes are for."""
        linear = self._turns_to_words.get(name)
        return name if linear is None else self.tied.get(linear.name, name)

    def names_read(self, reads: Sequence[str]) -> list[str]:
        return [name for variable in reads for name in self.names[variable]]

    def _told(self, variable: str, index: int) -> Feature:
        return self.labels.feature(variable, index) or Feature("")

    def sections(self) -> Iterator[Section]:
        """Yield the sections of the program, block by block."""
        for block in self.program.blocks:
            beside = self.is_beside(block)
            if not isinstance(block, Vote) and block.name not in self.tied:
                nats = sum(feature.importance for feature in self.labels.features.get(block.name, ()))
                about = _about(block, self.program.vote.space) + (f" About {nats:.3g} nats hang on it." if nats else "")
                weight = (nats, sum(table.n_entries for table in tables_of(block)))
                yield Section(block, about, None if beside else list(self._lines(block)), weight)
            if isinstance(block, Votes | Linear) and block.bias is not None and not beside:
                yield Section(block, "votes whatever is on.", self._always(block.bias, block), (0.0, 0), always=True)

    def _lines(self, block: Block) -> Iterator[str]:
        match block:
            case Lookup() | Votes() | Linear():
                table, names, members = self.laid_out(block)
                variable = block.name if self.is_feature(block.name) else None
                spelt = lines.table_lines(table, names, members, self.numbers(table))
                if isinstance(block, Votes):
                    owners = [(read, at) for read in block.reads for at in range(self.sizes[read])]
                    told = [replace(self._told(*owner), group=f"Votes of {owner[0]}") for owner in owners]
                else:
                    told = [Feature("") if variable is None else self._told(variable, at) for at in range(len(names))]
                yield from lines.grouped(spelt, [f.importance for f in told], [f.group for f in told])
            case Fire():
                spelt = self.rule_lines[block.name]
                told = [self._told(block.name, at) for at in range(len(spelt))]
                yield from lines.grouped(spelt, [f.importance for f in told], [f.group for f in told])
            case Looks():
                yield from self._looks_lines(block)
            case _:
                return

    def laid_out(self, block: Lookup | Votes | Linear) -> tuple[SparseTable, list[str], list[str]]:
        """Return the table of a block as it is listed, the names of its rows, and those of its columns."""
        if isinstance(block, Lookup):
            assert isinstance(block.table, SparseTable)
            members = self.words if block.index == "token" else list(map(str, range(self.program.n_ctx)))
            if not self.is_feature(block.name):
                return block.table, members, self.words
            return _transposed(block.table), self.names[block.name], members
        if isinstance(block, Votes):
            return block.weights, self.names_read(block.reads), self.coordinates(block.name)
        assert isinstance(block.weight, SparseTable)
        table = _transposed(block.weight) if block.transposed else block.weight
        return table, self.coordinates(block.reads), self.words

    def numbers(self, table: AnyTable) -> Numbers:
        return Numbers.of(table.values, table.values.dtype == np.float32)

    def _always(self, bias: Table, block: Block) -> list[str]:
        on = np.flatnonzero(bias.values)
        table = SparseTable(bias.name, np.array([0, len(on)]), on, bias.values[on], len(bias.values))
        found = lines.table_lines(table, [ALWAYS], self.coordinates(block.name), self.numbers(table))
        return [line for line in found if line]

    def _rule_lines(self, block: Looks | Fire) -> list[str]:
        """Write the rules of a block, or its moved features, with what is said of each."""
        single, names = lines.is_single_block(block), self.names[block.name]
        numbers = Numbers.of(block.conditions.values, single)
        entries = lines.entries_of(block.conditions, self.names_read(block.reads))
        ends = zip(
            block.biases.values.astype(float).tolist(), block.thresholds.values.astype(float).tolist(), strict=True
        )
        return [
            lines.rule_line(at, names[at], terms, *end, numbers, single) + self._remark(block.name, at)
            for at, (terms, end) in enumerate(zip(entries, ends, strict=True))
        ]

    def _remark(self, variable: str, index: int) -> str:
        """Say of a feature how often it is on, when, and what it votes for."""
        told = self._told(variable, index)
        parts = [f"on {told.frequency:.2%}"] if told.frequency else []
        if told.explanation is not None:
            precision, recall = told.explanation.precision, told.explanation.recall
            parts.append(f"when {told.explanation.condition} (precision {precision:.2f}, recall {recall:.2f})")
        said = self._said(variable, index)
        parts += [f"says {said}"] if said else []
        return "".join(f" | {part}" for part in parts)

    def _said(self, variable: str, index: int) -> str:
        """Name the strongest votes of a feature that are more than noise."""
        usual = self._told(variable, index).mean or 1.0
        votes = self._says.get((variable, index), [])
        least = max([NOISE_NATS / usual, *(abs(vote) / 3 for _, vote in votes[:1])])
        return " ".join(f"{word} {vote:+.2g}" for word, vote in votes[:SAID] if abs(vote) >= least)

    def _votes_of_features(self) -> dict[tuple[str, int], list[tuple[str, float]]]:
        """Collect what every feature votes for, the strongest first."""
        found: dict[tuple[str, int], list[tuple[str, float]]] = {}
        for block in self.program.blocks:
            if isinstance(block, Votes):
                owners = ((read, at) for read in block.reads for at in range(self.sizes[read]))
                entries = lines.entries_of(block.weights, self.coordinates(block.name))
                for owner, votes in zip(owners, entries, strict=True):
                    found.setdefault(owner, []).extend(votes)
        return {owner: sorted(votes, key=lambda vote: -abs(vote[1])) for owner, votes in found.items()}

    def _looks_lines(self, block: Looks) -> Iterator[str]:
        single, read = lines.is_single_block(block), self.names_read(block.reads)
        queries, keys, lone = (
            list(lines.entries_of(table, read)) for table in (block.queries, block.keys, block.lone_keys)
        )
        of_lone, of_queries, of_keys, _ = self.numbers_of_looks(block)
        reach = min(self.program.n_ctx, block.window or self.program.n_ctx)
        first_match = first_moved = 0
        for look, (n_matches, n_moved) in enumerate(zip(block.matches, block.moved, strict=True)):
            moved = range(first_moved, first_moved + n_moved)
            nats = sum(self._told(block.name, at).importance for at in moved)
            worth = f" About {nats:.3g} nats hang on it." if nats else ""
            curve = block.distance.values[look]
            yield comment(f"Look {look}. {lines.curve_text(curve, reach)}{worth}")
            yield lines.curve_words(curve if single else curve.astype(float))
            if lone[look]:
                yield " ".join(["lone", *_side(lone[look], of_lone)])
            for m in range(first_match, first_match + n_matches):
                biases = (block.query_biases, block.key_biases)
                asked, offered = (lines.vector_word(float(table.values[m]), single) for table in biases)
                sides = [*_side(queries[m], of_queries), "|", asked, "->", *_side(keys[m], of_keys), "|", offered]
                yield " ".join(["match", *sides])
            spelt = self.rule_lines[block.name][moved.start : moved.stop]
            told = [self._told(block.name, at) for at in moved]
            yield from lines.grouped(spelt, [f.importance for f in told], [f.group for f in told])
            first_match, first_moved = first_match + n_matches, first_moved + n_moved

    def numbers_of_looks(self, block: Looks) -> list[Numbers]:
        single = lines.is_single_block(block)
        tables = (block.lone_keys, block.queries, block.keys, block.conditions)
        return [Numbers.of(table.values, single) for table in tables]

    def walk(self, own: Mapping[str, str]) -> Iterator[str]:
        """Walk through the line of one rule, the most important that reads several features."""
        best = max(self._rules(), key=lambda found: found[0], default=None)
        if best is None:
            return
        _, block, index = best
        name, spelt = self.names[block.name][index], self.rule_lines[block.name][index]
        words = readable.lines_of(spelt)[0]
        asked = words.index(">")
        terms = list(zip(words[2:asked:2], words[3:asked:2], strict=True))
        bias, low = float(block.biases.values[index]), float(block.thresholds.values[index])
        unit = lines.units(bias, low)[0] if words[asked + 1] in ("1", "-1") else 1.0
        listed = ", ".join(f"{word} times {read}" for read, word in terms)
        enough, reached = [], 0.0
        for read, word in terms:
            if float(word) > 0 and reached <= 1:
                enough.append(read)
                reached += float(word)
        yield f"One line, of {own[block.name]}:"
        yield f"    {spelt}"
        text = (
            f"This is rule {index}, called {name}. It adds up {listed}, each as strong as it is on, and is on where "
            f"the sum is above {words[asked + 1]}. "
        )
        if reached > 1:
            text += f"With {' and '.join(enough)} on at strength 1 the sum is {reached:.3g}, so it is on. "
        text += f"It is then on as strongly as {unit:.3g} times the sum, {bias:+.3g}: from {max(low, 0.0):.3g} upwards."
        if said := self._said(block.name, index):
            text += f" Words that it votes for: {said}."
        yield from textwrap.wrap(text, WIDTH, break_long_words=False)

    def _rules(self) -> Iterator[tuple[tuple[bool, float, int], Fire, int]]:
        """Yield the rules with how good an example each is: it asks for something, it matters, it comes early."""
        count = 0
        for block in self.program.blocks:
            if isinstance(block, Fire) and not self.is_beside(block):
                for index in range(block.conditions.shape[0]):
                    count += 1
                    asks = block.thresholds.values[index] > block.biases.values[index]
                    shows = bool(asks) and 2 <= len(block.conditions.row(index)) <= 6
                    yield (shows, self._told(block.name, index).importance, -count), block, index


def _about(block: Block, words: str) -> str:
    """Say what the lines of a block do."""
    match block:
        case Lookup(index="token", space=space) if space == words:
            return "for each word, what follows it, whatever stands before."
        case Lookup(index="position", space=space) if space == words:
            return "for each position in the text, what stands behind it."
        case Lookup(index="token"):
            return "lists of words; a word is in some of them, and they are on where it stands."
        case Lookup():
            return "parts of the text, each with its positions."
        case Looks():
            return (
                "looks, and the moved features that each makes of what stands where it looks. A match multiplies what "
                "is asked for here, left of the arrow, by what is offered there, right of it; each with its bias, and "
                "where above 0. A lone key counts for a position whatever is asked for."
            )
        case Fire():
            return "rules; a rule is on where its terms add up to more than it asks for."
        case Votes(space=space) if space == words:
            return "what each feature votes for, in nats where it is on at strength 1."
        case Votes():
            return "which lists each feature votes for; all words of a list get its vote."
        case Linear():
            return "the words of each list that is voted for."
        case _:
            return ""


def _side(terms: list[tuple[str, float]], numbers: Numbers) -> list[str]:
    """Write the terms of one side of a match, or of a lone key, the largest first."""
    ordered = sorted(terms, key=lambda term: -abs(term[1]))
    values = np.array([value for _, value in ordered], np.float32 if numbers.single else np.float64)
    spelt = [f"{name} {word}" for (name, _), word in zip(ordered, numbers.words(values), strict=True)]
    return lines.marked(spelt, np.abs(values))


def _transposed(table: SparseTable) -> SparseTable:
    turned = table.csr().T.tocsr()
    turned.sort_indices()
    return SparseTable(table.name, turned.indptr, turned.indices, turned.data, table.shape[0])


def _n_bytes(table: AnyTable) -> int:
    parts = (table.values, table.columns, table.starts) if isinstance(table, SparseTable) else (table.values,)
    return sum(part.nbytes for part in parts)
