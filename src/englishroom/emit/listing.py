"""What a readable program knows, as lines: features by their names, and sections of lists, looks, rules and votes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from englishroom.emit import lines, looking, remarks, walking
from englishroom.emit.lines import Numbers, SumNumbers, TermSum
from englishroom.emit.listed import feature_names
from englishroom.emit.own_words import own_words
from englishroom.emit.prelude import loading
from englishroom.emit.prelude.holding import place_of
from englishroom.emit.tables import WIDTH
from englishroom.ir.labels import Feature, Labels
from englishroom.ir.program import (
    AnyTable,
    Block,
    Conditions,
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
from englishroom.ir.wording import comment, distinct

SHORT = 240
"""Characters that the line of a rule has at most that the header walks through."""
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
        self.program, self.labels = program, labels
        self.words = distinct(words, lines.RESERVED)
        self.by_name = {block.name: block for block in program.blocks}
        self.sizes = {block.name: program.space(block.space).size for block in program.blocks}
        self._turns_to_words = {block.reads: block for block in reversed(program.blocks) if isinstance(block, Linear)}
        self.tied = {block.name: lists for block in program.blocks if (lists := self._tied(block))}
        named = {name: size for name, size in self.sizes.items() if self.is_feature(name) or self._goes_to_lists(name)}
        self.names = feature_names(named, labels, (*lines.RESERVED, ALWAYS))
        self.own = own_words(program, lambda block: not self.is_beside(block))
        self._says = self._votes_of_features()
        self.rule_lines = {
            block.name: self._rule_lines(block)
            for block in program.blocks
            if isinstance(block, Looks | Fire) and not self.is_beside(block)
        }
        self.rule_lines |= {b.name: self._condition_lines(b) for b in program.blocks if isinstance(b, Conditions)}

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
        return isinstance(block, Looks | Fire | Conditions) or (isinstance(block, Lookup) and block.space != words)

    def _goes_to_lists(self, name: str) -> bool:
        """Say whether votes go to lists first, whose names are their own, not those of lists that are read."""
        linear = self._turns_to_words.get(name)
        return (
            linear is not None and linear.name not in self.tied and self.by_name[name].space != self.program.vote.space
        )

    def is_beside(self, block: Block) -> bool:
        """Say whether a block has a table that is too large for the file."""
        large = any(_n_bytes(table) > loading.LARGE for table in tables_of(block))
        return large and not isinstance(block, Conditions)

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
            if not isinstance(block, Vote) and block.name not in self.tied and not self.own.all_of(block.name):
                nats = sum(feature.importance for feature in self.labels.features.get(block.name, ()))
                about = _about(block, self.program.vote.space)
                if (silent := self.labels.silent_nats(block.name)) is not None:
                    about += f" With all of it silent the answers change by {silent:.3g} nats."
                elif nats:
                    about += f" About {nats:.3g} nats hang on it."
                weight = (nats if silent is None else silent, sum(table.n_entries for table in tables_of(block)))
                yield Section(block, about, None if beside else _split(self._lines(block)), weight)
            if isinstance(block, Votes | Linear) and block.bias is not None and not beside:
                always = _split(self._always(block.bias, block))
                yield Section(block, "votes whatever is on.", always, (0.0, 0), always=True)

    def _lines(self, block: Block) -> Iterator[str]:
        match block:
            case Lookup() | Votes() | Linear():
                table, names, members = self.laid_out(block)
                variable = block.name if self.is_feature(block.name) else None
                spelt = lines.table_lines(table, names, members, self.numbers(table))
                if block.name in self.own.taken:
                    spelt = ["" if own else line for line, own in zip(spelt, self.own.taken[block.name], strict=True)]
                if isinstance(block, Votes):
                    owners = [(read, at) for read in block.reads for at in range(self.sizes[read])]
                    told = [replace(self._told(*owner), group=f"Votes of {owner[0]}") for owner in owners]
                else:
                    told = [Feature("") if variable is None else self._told(variable, at) for at in range(len(names))]
                yield from self._grouped(block.name, spelt, told)
            case Fire() | Conditions():
                spelt = self._with_remarks(block.name, range(self.sizes[block.name]))
                told = [self._told(block.name, at) for at in range(len(spelt))]
                yield from self._grouped(block.name, spelt, told)
            case Looks():
                yield from self._looks_lines(block)
            case _:
                return

    def _grouped(self, variable: str, spelt: Sequence[str], told: Sequence[Feature]) -> list[str]:
        """Order lines by group, the weightiest first, and inside it the most important first; leave empty ones out."""
        groups = [feature.group for feature in told]
        importance = [feature.importance for feature in told]
        silent = {group: self.labels.silent_nats(variable, group) for group in set(groups)}
        return lines.grouped(spelt, importance, groups, silent)

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

    def sums(self, block: Looks | Fire, part: str) -> list[TermSum]:
        """Return the sums of one table of a block, lists that are written into them taken apart into words."""
        table, first = getattr(block, part), 0
        left = np.ones(table.n_columns, bool)
        for name in block.reads:
            if name in self.own.taken:
                left[first : first + self.sizes[name]] = ~self.own.taken[name]
            first += self.sizes[name]
        names = self.names_read(block.reads)
        own = [self.own.words.get((block.name, part, row), []) for row in range(table.shape[0])]
        return [
            TermSum(
                [(names[at], float(value)) for at, value in table.row(row) if left[at]],
                [(self.words[token], value) for token, value in words],
            )
            for row, words in enumerate(own)
        ]

    def sum_numbers(self, block: Looks | Fire, table: SparseTable) -> SumNumbers:
        """Say how the numbers of the sums of a table are spelt."""
        strengths = [values for name in block.reads for values in self.own.values.get(name, ())]
        values = np.concatenate(strengths) if strengths else np.zeros(0)
        features = Numbers.of(table.values, lines.is_single_block(block))
        return SumNumbers(features, Numbers.of(values, values.dtype == np.float32))

    def _rule_lines(self, block: Looks | Fire) -> list[str]:
        """Write the rules of a block, or its moved features."""
        single, names = lines.is_single_block(block), self.names[block.name]
        numbers = self.sum_numbers(block, block.conditions)
        where = [""] * len(names)
        if isinstance(block, Looks):
            where = [
                f" where look {self.look_name(block, h)} looks" for h, n in enumerate(block.moved) for _ in range(n)
            ]
        ends = zip(
            block.biases.values.astype(float).tolist(), block.thresholds.values.astype(float).tolist(), strict=True
        )
        return [
            lines.rule_line(at, f"{names[at]}:{where[at]}", terms, *end, numbers, single)
            for at, (terms, end) in enumerate(zip(self.sums(block, "conditions"), ends, strict=True))
        ]

    def short_name(self, variable: str, index: int) -> str:
        """Name a feature by its place where its name begins with that, as ``r1.12:she/her`` does; else by its name."""
        return place_of(self.names[variable][index])

    def votes_of(self, variable: str, index: int) -> list[tuple[str, float]]:
        """Return what a feature votes for, the strongest first."""
        return self._says.get((variable, index), [])

    def look_name(self, block: Looks, look: int) -> str:
        """Name a look by its layer and its number."""
        return f"{block.name.removeprefix('moved.')}.{look}"

    def _condition_lines(self, block: Conditions) -> list[str]:
        """Write what features are worth, and where."""
        names, words = self.names[block.name], lines.decimals(block.values.values)
        spelt = [lines.condition_words(condition, self.words) for condition in block.conditions]
        return [
            lines.folded([f"{at}", f"{names[at]}:", words[at], "where", *text.split(" ")])
            for at, text in enumerate(spelt)
        ]

    def _remarks(self, variable: str, index: int) -> list[str]:
        told = self._told(variable, index)
        if isinstance(self.by_name[variable], Conditions):  # its line says when it is on
            told = replace(told, explanation=None)
        return remarks.remarks(self.names[variable][index], told, self.votes_of(variable, index))

    def _with_remarks(self, variable: str, own: range) -> list[str]:
        """Put what is said of rules above their lines."""
        spelt = self.rule_lines[variable]
        return ["\n".join([*self._remarks(variable, at), spelt[at]]) for at in own]

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
        single = lines.is_single_block(block)
        queries, keys, lone = (self.sums(block, part) for part in ("queries", "keys", "lone_keys"))
        of_lone, of_queries, of_keys, _ = self.numbers_of_looks(block)
        reach = min(self.program.n_ctx, block.window or self.program.n_ctx)
        first_match = first_moved = 0
        for look, (n_matches, n_moved) in enumerate(zip(block.matches, block.moved, strict=True)):
            moved = range(first_moved, first_moved + n_moved)
            nats = sum(self._told(block.name, at).importance for at in moved)
            worth = f" About {nats:.3g} nats hang on it." if nats else ""
            if (silent := self.labels.silent_nats(block.name, f"look {look}")) is not None:
                worth = f" With its moved features silent the answers change by {silent:.3g} nats."
            curve = block.distance.values[look]
            own_matches = range(first_match, first_match + n_matches)
            pairs = [(queries[m], keys[m]) for m in own_matches]
            text = looking.look_text(curve, reach, pairs, lone[look], self._finders)
            yield from _comments(f"Look {self.look_name(block, look)}. {text}{worth}")
            yield lines.curve_words(curve if single else curve.astype(float))
            if lone[look].features or lone[look].words:
                yield lines.side_line("lone", lone[look], of_lone)
            for m in own_matches:
                biases = (block.query_biases, block.key_biases)
                asked, offered = (lines.vector_word(float(table.values[m]), single) for table in biases)
                yield lines.side_line("match here", queries[m], of_queries, ("|", f"bias {asked}"))
                yield "    " + lines.side_line("-> there", keys[m], of_keys, ("|", f"bias {offered}"))
            spelt = self._with_remarks(block.name, moved)
            told = [self._told(block.name, at) for at in moved]
            yield from self._grouped(block.name, spelt, told)
            first_match, first_moved = first_match + n_matches, first_moved + n_moved

    @cached_property
    def _finders(self) -> looking.Found:
        """Return the moved features that find one word at one distance."""
        looks = []
        for block in self.program.blocks:
            if not isinstance(block, Looks):
                continue
            ends, sums = np.cumsum(block.moved).tolist(), self.sums(block, "conditions")
            for look, end in enumerate(ends):
                own = slice(end - block.moved[look], end)
                drawn = block.matches[look] or self.sums(block, "lone_keys")[look].largest
                back = None if drawn else looking.exact_back(block.distance.values[look])
                looks.append((back, self.names[block.name][own], sums[own]))
        return looking.finders(looks)

    def numbers_of_looks(self, block: Looks) -> list[SumNumbers]:
        tables = (block.lone_keys, block.queries, block.keys, block.conditions)
        return [self.sum_numbers(block, table) for table in tables]

    def walk(self, own: Mapping[str, str]) -> Iterator[str]:
        """Walk through the line of one rule, the most important that is short."""
        best = max(self._rules(), key=lambda found: found[0], default=None)
        if best is None:
            return
        _, block, index = best
        yield f"One line, of {own[block.name]}:"
        for line in self._with_remarks(block.name, range(index, index + 1))[0].splitlines():
            yield f"    {line}"
        bias, low = float(block.biases.values[index]), float(block.thresholds.values[index])
        terms = self.sums(block, "conditions")[index]
        unit = lines.units(bias, low, terms.largest)
        text = walking.walked(f"rule {index}, called {self.names[block.name][index]}", terms, *unit)
        text += f"plus {bias:.3g}" if bias > 0 else f"minus {-bias:.3g}" if bias else "itself"
        text += f": from {max(low, 0.0):.3g} upwards."
        yield from textwrap.wrap(text, WIDTH, break_long_words=False)

    def _rules(self) -> Iterator[tuple[tuple[bool, float, int], Fire, int]]:
        """Yield the rules with how good an example each is: it asks for something, it matters, it comes early."""
        count = 0
        for block in self.program.blocks:
            if isinstance(block, Fire) and not self.is_beside(block):
                for index in range(block.conditions.shape[0]):
                    count += 1
                    asks = block.thresholds.values[index] > block.biases.values[index]
                    shows = bool(asks) and len(self.rule_lines[block.name][index]) < SHORT
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
        case Conditions():
            return "features that are told by the text alone: each is worth its number where what is said of it holds."
        case Votes(space=space) if space == words:
            return "what each feature votes for, in nats where it is on at strength 1."
        case Votes():
            return "which lists each feature votes for; all words of a list get its vote."
        case Linear():
            return "the words of each list that is voted for."
        case _:
            return ""


def _comments(text: str) -> list[str]:
    return [comment(line) for line in textwrap.wrap(text, WIDTH, break_long_words=False)]


def _split(texts: Iterable[str]) -> list[str]:
    """Split texts into lines."""
    return [line for text in texts for line in text.split("\n")]


def _transposed(table: SparseTable) -> SparseTable:
    turned = table.csr().T.tocsr()
    turned.sort_indices()
    return SparseTable(table.name, turned.indptr, turned.indices, turned.data, table.shape[0])


def _n_bytes(table: AnyTable) -> int:
    parts = (table.values, table.columns, table.starts) if isinstance(table, SparseTable) else (table.values,)
    return sum(part.nbytes for part in parts)
