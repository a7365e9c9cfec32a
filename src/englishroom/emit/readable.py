"""Write a readable program as Python that a person learns from: every list, look, rule and vote is a line in the file.

1. The header says how to read a line, and walks through a line of this very program.
2. ``step`` reads one token: what is on, layer by layer, then the votes. Features go by their names.
3. Sections of lines are the program itself, the weightiest section first; code at the end of the file reads them.
   Only blocks with a table too large for this lie in ``tables.safetensors``, and are read from there.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from types import ModuleType

import numpy as np

from englishroom.emit import conditions, lines, reasons
from englishroom.emit import tables as table_text
from englishroom.emit.emitter import Emitted, Emitter, Header
from englishroom.emit.lines import Numbers
from englishroom.emit.listing import ALWAYS, ReadableListing, Section
from englishroom.emit.naming import identifiers
from englishroom.emit.prelude import arithmetic, holding, loading, readable, talking
from englishroom.emit.source import Code, LineOrigin
from englishroom.ir import tokenizer as tokenizer_module
from englishroom.ir.labels import Labels
from englishroom.ir.program import (
    Block,
    Conditions,
    Fire,
    Linear,
    Looks,
    Lookup,
    Program,
    Table,
    Vote,
    Votes,
)
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.wording import between_quotes, comment, token_words

_ALWAYS_ON = f'{{"{ALWAYS}": 1.0}}'
_LOCALS = ("on", "seen", "scores", "for_lists", "token", "position", "memory", "WORDS", "POSITIONS", "table_names")
_GUIDE = (
    "Key: r0.12 is rule 12 of layer 0, m1.3 moved feature 3 of layer 1; behind the colon stands its main word, or two",
    "of many (/..), and behind @ how many words back a moved feature mostly finds it (5..34: the middle half).",
    "~ing goes on with a word or begins one without a space, other words begin with a space; _ is any other space.",
    "place:4..9 is a part of the text, by position; a match asks for features here and offers them there, behind ->.",
    'Behind ... in a line stand terms below a tenth of the largest; " .. " in an example leaves words out.',
    "In an example [ ] is the word here, { } what a moved feature mostly finds, and -> the word that came next.",
    "",
    "How to read it. Looks say where to look back, and moved features what stands there; rules say what is on",
    "besides, from the word here and from all that is on before; and all that is on votes for the next word.",
    "step() does this for one word. Whatever is on goes by its name, with how strongly it is on.",
    "",
    "Below step() stands the program, in sections, those first without which the answers change most. A rule's",
    "line:",
    "",
    "    12 NAME: for WORDS | against WORDS | FEATURES > 1 | bias B threshold T ... SMALL TERMS",
    "",
    "A number stands behind each name. Where the word here is one of the words for it, its number counts; of the",
    "words against it, less its number; each feature that is on counts its number times how strongly it is on.",
    "The rule is on where this exceeds 1: numbers are in units of what it asks for, the threshold minus the bias.",
    'Behind "..." stand terms below a tenth of the largest. A rule that says "> 0.01" or the like asks for next',
    'to nothing, and its numbers are as they are; "> -1" is on by itself. "where look 1.2 looks" begins the line',
    "of a moved feature: it sums up its terms over all positions, by the weight with which look 2 of layer 1",
    "looks at each, and the words are those that stand there.",
    "",
    "A line goes on in lines that begin with spaces. Lines that begin with # decide nothing: they say of the",
    "feature below at which words it is on, and at how many of all that stand in the text that was read (of a",
    "moved feature, which words it finds, and how far back: the median, and the middle half); which words come",
    "next there (else: where the same words stand and it is off); which of the words that may come next it votes",
    "for and against at its usual strength, in nats; places drawn by chance where it is on; and behind off: one",
    "with the same word where it is off; then its condition, where one was searched. Lists that several read have",
    "a section of their own. What follows a word, and the votes of features, are in nats. Numbers have two digits",
    "or more; where a table has few different numbers, each stands for the nearest of these.",
    "",
    'Why it says a word: python program.py "Once upon a" --explain --max-tokens 1',
)


class ReadableEmitter(Emitter):
    """Spells a program of looks, rules and votes."""

    MODULES: tuple[ModuleType, ...] = (readable, holding, *reasons.MODULES)
    READING: tuple[ModuleType, ...] = (readable,)
    """What reads lines."""
    GUIDE: tuple[str, ...] = _GUIDE

    def __init__(self, program: Program, tokenizer: Tokenizer, labels: Labels) -> None:
        super().__init__(program, tokenizer, self.MODULES)
        self.listing = self._listing(program, tokenizer, labels)
        self.conditions, self.means = reasons.conditions_of(self.listing), reasons.means_of(self.listing)
        if not any(map(self.listing.is_beside, program.blocks)):
            self.calls.remove("load_tables")
        self.calls |= {"holds"} if self.conditions else set()
        self.calls |= {"means_in"} if self.means else set()
        taken = (*self.verbatim.pieces, *self.verbatim.imports, *_LOCALS, *self.name.values())
        parts = [f"{own}_{part}" for own in self.name.values() for part in ("lines", ALWAYS, f"{ALWAYS}_lines")]
        self.part = identifiers(parts, taken)

    def _listing(self, program: Program, tokenizer: Tokenizer, labels: Labels) -> ReadableListing:
        return ReadableListing(program, token_words(tokenizer), labels)

    def _add_reasons(self) -> None:
        """Write how the program explains itself, and what says whether conditions hold, where features have any."""
        self._add("\n# How it explains what it says\n")
        for module in reasons.MODULES:
            self._copy(module)
        if self.conditions:
            self._add(
                '\n# Its conditions: program.holds("r1.12", tokens) says whether that of r1.12 holds at their end\n'
            )
        self._copy(holding)
        if self.conditions:
            self._add(conditions.source(self.conditions))
        if self.means:
            units = [f"{name} {value!r}" for name, value in self.means.items()]
            self._add("\n# What features are on average, over the text that they were named on")
            self._add(f"MEANS = {between_quotes(lines.folded(units).splitlines())}")
        laid = reasons.laid_out(
            self.listing,
            lambda block: Code(self.name[block.name]),
            lambda block: Code(self._part(block, ALWAYS)),
        )
        laid["words"] = Code("WORDS")
        laid["means"] = Code(self._call("means_in", "MEANS")) if self.means else {}
        laid["conditions"] = Code("CONDITIONS") if self.conditions else {}
        self._add(reasons.source(laid))

    def _part(self, block: Block, part: str) -> str:
        return self.part[f"{self.name[block.name]}_{part}"]

    def emit(self, header: Header, tables_sha256: str) -> Emitted:
        sections = sorted(self.listing.sections(), key=lambda section: section.weight, reverse=True)
        step, reading = list(self._step()), list(self._reading())
        texts = [self.verbatim.pieces[name][0] for name in self.verbatim.needed(self.calls)]
        self._add(self._header(header))
        self._add("\n".join(self.verbatim.imports_of(texts)))
        self._add(f"\nN_CTX = {self.program.n_ctx}\nD_VOCAB = {self.program.d_vocab}\n")
        self._add("\n# 1. How it thinks, one word at a time\n")
        for text, origin in step:
            self.source.add(text, origin)
        self._add("\n\n# 2. What it knows: the weightiest section first")
        for section in sections:
            self.source.add(self._section(section), LineOrigin(section.block.origin.made_by, section.block.name))
        self._add("\n\n# 3. How it talks\n")
        self._copy(talking)
        self._add_reasons()
        self._add("\n# 4. Its arithmetic, and how it reads the lines above\n")
        for module in (*self.READING, arithmetic, loading):
            self._copy(module)
        self._add("\n# 5. Its tokenizer\n")
        self._copy(tokenizer_module)
        self._add(table_text.tokenizer_literal(self.tokenizer))
        self._add("\n# 6. The lines above, read")
        self._add("\n# Every word, as the lines call it.\nWORDS = " + table_text.word_list(self.listing.words))
        self._add("POSITIONS = [str(position) for position in range(N_CTX)]")
        beside = any(map(self.listing.is_beside, self.program.blocks))
        if beside:
            self._add(f'TABLES = load_tables(__file__, "{tables_sha256}")')
            self._add("table_names = {}")
            for name, names in self.listing.names.items():
                self._add(f"table_names[{name!r}] = {table_text.word_list(names)}")
        for text, origin in reading:
            self.source.add(text, origin)
        if beside:
            self._add("TABLES.clear()\ntable_names.clear()")
        self._add('\nif __name__ == "__main__":\n    main()')
        return Emitted(self.source.text(), self.source.ranges())

    def _section(self, section: Section) -> str:
        about = f"{self.name[section.block.name]}: {section.about}"
        heads = [comment(line) for line in textwrap.wrap(about, table_text.WIDTH - 2, break_long_words=False)]
        if section.lines is None:
            return "\n".join(["", *heads, "# Its tables lie in tables.safetensors."])
        name = self._part(section.block, f"{ALWAYS}_lines" if section.always else "lines")
        return "\n".join(["", *heads, f"{name} = {between_quotes(section.lines)}"])

    def _guide(self) -> tuple[str, ...]:
        return (*self.GUIDE, "", *self.listing.walk(self.name))

    # How it thinks.

    def _step(self) -> Iterator[tuple[str, LineOrigin]]:
        """Spell how one token is read: what is on, block by block, and then the votes."""
        program, emitter = self.program, LineOrigin("emit")
        looks = [block.name for block in program.blocks if isinstance(block, Looks)]
        on = f"{{{self._call('the_word', 'WORDS[token]')}: 1.0}}" if self.listing.own.words else "{}"
        yield (
            "\n".join(
                [
                    "\ndef new_memory():",
                    *self._new_memory(),
                    "\n\ndef step(token, position, memory):",
                    '    """Read one token at its position; return the log-probabilities of what may come next."""',
                    f"    on = {on}  # whatever is on here: name -> how strongly",
                    *self._read_word(),
                ]
            ),
            emitter,
        )
        for block in program.blocks:
            if self.listing.is_feature(block.name) and not self.listing.own.all_of(block.name):
                head = f"    {comment(f'{block.name}: {_purpose(block)}')}"
                code = self._turned_on(block, looks)
                yield "\n".join(["", head, *code]), LineOrigin(block.origin.made_by, block.name)
        yield "\n    # The votes of all that is on, for every word\n    scores = [0.0] * D_VOCAB", emitter
        for name in program.vote.reads:
            for line, block in self._votes(self.listing.by_name[name]):
                yield f"    {line}", LineOrigin(block.origin.made_by, block.name)
        last = program.vote
        yield f"    return {self._call('log_softmax', 'scores')}", LineOrigin(last.origin.made_by, last.name)

    def _new_memory(self) -> tuple[str, str]:
        n_looks = sum(isinstance(block, Looks) for block in self.program.blocks)
        return (
            '    """Return an empty memory: what looks keep of the positions already read."""',
            f"    return [[] for _ in range({n_looks})]",
        )

    def _read_word(self) -> tuple[str, ...]:
        """Spell what is done with a word before it is known what is on."""
        return ()

    def _turned_on(self, block: Block, looks: Sequence[str]) -> list[str]:
        """Spell which features of a block are on."""
        own = self.name[block.name]
        match block:
            case Lookup(index=index):
                return [f"    on.update({own}.get({index}, ()))"]
            case Looks(window=window):
                memory = f"memory[{looks.index(block.name)}]"
                options = {} if window is None else {"window": str(window)}
                there = self._call("what_is_there", "on", "seen", own, memory)
                return [
                    f"    seen = {self._call('where_to_look', 'on', own, memory, **options)}",
                    f"    on.update({there})",
                ]
            case _:
                return [f"    on.update({self._call('fire', 'on', own)})"]

    def _votes(self, block: Block) -> Iterator[tuple[str, Block]]:
        """Spell how one block adds to the scores of words; and of each line, which block it spells."""
        own = self.name[block.name]
        match block:
            case Lookup(index=index):
                yield self._call("vote", f"{{{index}: 1.0}}", own, "scores"), block
            case Votes():
                yield self._call("vote", "on", own, "scores"), block
            case Linear():
                voted = self.listing.by_name[block.reads]
                assert isinstance(voted, Votes)
                yield f"for_lists = {self._call('votes_for_lists', 'on', self.name[voted.name])}", voted
                if voted.bias is not None:
                    yield self._call("vote", _ALWAYS_ON, self._part(voted, ALWAYS), "for_lists"), voted
                yield self._call("vote", "for_lists", own, "scores"), block
            case _:
                raise AssertionError(f"{block.name} votes for no words")
        if isinstance(block, Votes | Linear) and block.bias is not None:
            yield self._call("vote", _ALWAYS_ON, self._part(block, ALWAYS), "scores"), block

    # How it reads its lines.

    def _reading(self) -> Iterator[tuple[str, LineOrigin]]:
        for block in self.program.blocks:
            origin, own = LineOrigin(block.origin.made_by, block.name), self.name[block.name]
            match block:
                case Lookup() if self.listing.own.all_of(block.name):
                    pass
                case Lookup() | Votes() | Linear():
                    yield f"{own} = {self._read_table(block)}", origin
                    if isinstance(block, Votes | Linear) and block.bias is not None:
                        yield f"{self._part(block, ALWAYS)} = {self._read_always(block, block.bias)}", origin
                case Looks() | Fire():
                    yield f"{own} = {self._read_rules(block)}", origin
                case Vote() | Conditions():
                    pass
                case _:
                    raise AssertionError(f"{block.name} stands in no readable program")

    def _read_table(self, block: Lookup | Votes | Linear) -> str:
        """Spell how a table is read, arranged by what is looked up in it."""
        if isinstance(block, Lookup):
            keys = ["WORDS" if block.index == "token" else "POSITIONS"]
        else:
            from_words = isinstance(block, Linear) and self._is_of_words(self.listing.by_name[block.reads])
            keys = ["WORDS"] if from_words else []
        pairs = self._pairs_beside(block) if self.listing.is_beside(block) else self._pairs_of_lines(block)
        if self._is_of_words(block):
            pairs = self._call("to_numbers", pairs, "WORDS")
        return self._call("keyed", pairs, *keys)

    def _is_of_words(self, block: Block) -> bool:
        return block.space == self.program.vote.space

    def _pairs_of_lines(self, block: Lookup | Votes | Linear) -> str:
        """Spell how the lines of a block are read, as pairs (what is looked up, terms)."""
        source = self.listing.by_name[self.listing.tied.get(block.name, block.name)]
        table = self.listing.laid_out(block)[0]
        pairs = self._tables_in(self._part(source, "lines"), self.listing.numbers(table))
        return self._call("turned", pairs) if self.listing.is_feature(block.name) else pairs

    def _pairs_beside(self, block: Lookup | Votes | Linear) -> str:
        """Spell how the table of a block is read that lies beside the program, as pairs (what is looked up, terms)."""
        match block:
            case Lookup(index=index, table=table):
                rows = "WORDS" if index == "token" else "POSITIONS"
                return self._call("table_beside", repr(table.name), rows, self._spelt_coordinates(block.name))
            case Votes(weights=table):
                rows = self._spelt_read(block.reads)
                return self._call("table_beside", repr(table.name), rows, self._spelt_coordinates(block.name))
            case Linear(weight=table, transposed=transposed):
                names = (self._spelt_coordinates(block.reads), "WORDS")
                if not transposed:
                    return self._call("table_beside", repr(table.name), *names)
                return self._call("turned", self._call("table_beside", repr(table.name), *names[::-1]))

    def _spelt_read(self, reads: Sequence[str]) -> str:
        return "[" + ", ".join(f"*table_names[{name!r}]" for name in reads) + "]"

    def _spelt_coordinates(self, name: str) -> str:
        if self._is_of_words(self.listing.by_name[name]):
            return "WORDS"
        return f"table_names[{self.listing.lists_voted_for(name)!r}]"

    def _read_always(self, block: Votes | Linear, bias: Table) -> str:
        if self.listing.is_beside(block):
            names = self._spelt_coordinates(block.name)
            self.calls.add("rows")
            pairs = f"[({ALWAYS!r}, list(zip({names}, rows({bias.name!r}))))]"
        else:
            pairs = self._tables_in(self._part(block, f"{ALWAYS}_lines"), self._numbers_of_always(bias))
        return self._call("keyed", self._call("to_numbers", pairs, "WORDS") if self._is_of_words(block) else pairs)

    def _numbers_of_always(self, bias: Table) -> Numbers:
        values = bias.values[np.flatnonzero(bias.values)]
        return Numbers.of(values, values.dtype == np.float32)

    def _tables_in(self, text: str, numbers: Numbers) -> str:
        return self._call("tables_in", text, numbers.options(), repr(numbers.single))

    def _read_rules(self, block: Looks | Fire) -> str:
        own, read = f"table_names[{block.name!r}]", self._spelt_read(block.reads)
        if isinstance(block, Fire):
            if not self.listing.is_beside(block):
                numbers = self.listing.sum_numbers(block, block.conditions)
                single = repr(lines.is_single_block(block))
                return self._call("rules_in", self._part(block, "lines"), numbers.options(), single)
            tables = [repr(table.name) for table in (block.conditions, block.biases, block.thresholds)]
            return self._call("rules_beside", *tables, own, read)
        if not self.listing.is_beside(block):
            few = self.listing.numbers_of_looks(block)
            options = ", ".join([few[0].words.options(), *(numbers.features.options() for numbers in few)])
            single = repr(lines.is_single_block(block))
            return self._call("looks_in", self._part(block, "lines"), f"({options})", single)
        tables = (
            block.distance,
            block.lone_keys,
            block.queries,
            block.query_biases,
            block.keys,
            block.key_biases,
            block.conditions,
            block.biases,
            block.thresholds,
        )
        names = tuple(table.name for table in tables)
        return self._call("looks_beside", repr(names), repr(block.matches), repr(block.moved), own, read)


def _purpose(block: Block) -> str:
    """Say in a few words which features a block turns on."""
    match block:
        case Lookup(index="token"):
            return "the lists that this word is in"
        case Lookup():
            return "the part of the text that this is"
        case Conditions():
            return "the features whose conditions hold here"
        case Looks():
            return "where each look looks, and the moved features that stand there"
        case _:
            return "rules, which read all that is on so far"
