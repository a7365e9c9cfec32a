"""Write a program of explanations alone as Python: every condition is a line in the file, and can be called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from englishroom.emit.listing import ReadableListing
from englishroom.emit.prelude import readable, terms
from englishroom.emit.readable import ReadableEmitter
from englishroom.emit.source import LineOrigin
from englishroom.ir.labels import Labels
from englishroom.ir.program import Block, Conditions, Program
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.wording import between_quotes, distinct, token_words

_GUIDE = (
    "How to read it. Every feature of the program that this was made of is told here by the text alone: it is worth",
    "its number where its condition holds. All that is on votes for the next word. step() does this for one word.",
    "",
    "Below step() stands the program, in sections. A line of a condition is a number and a name, what the feature is",
    "worth, and where; words of a list have / between them. Other lines are a number and a name, then names, each with",
    'a number behind it: of what votes the words that it votes for, in nats. Terms behind "..." are below a tenth of',
    "the largest. Lines that begin with # say something of the line below them, and decide nothing; lines that begin",
    "with a space go on with the line above.",
    "",
    "program.holds(name, tokens) says whether the condition of a feature holds at the last of some tokens.",
)
_MARKS = ("ends", "opens", "closes", "turns")


class ExplainedEmitter(ReadableEmitter):
    """Spells a program of conditions and votes."""

    MODULES = READING = (readable, terms)
    GUIDE = _GUIDE

    def __init__(self, program: Program, tokenizer: Tokenizer, labels: Labels) -> None:
        super().__init__(program, tokenizer, labels)
        self.told = [block for block in program.blocks if isinstance(block, Conditions)]
        self.calls |= {"holds", "new_text", "read_word", "true_terms", "told", "marks_in", "conditions_in"}
        self.calls |= {"arranged", "by_term", "by_place", "exact"}

    def _listing(self, program: Program, tokenizer: Tokenizer, labels: Labels) -> ReadableListing:
        words = distinct([word.replace("/", "\\x2f") for word in token_words(tokenizer)], ())
        return ReadableListing(program, words, labels)

    def _new_memory(self) -> tuple[str, str]:
        return ('    """Return an empty memory: the words already read."""', "    return new_text()")

    def _add_reasons(self) -> None:
        """Write nothing more: what says whether conditions hold stands with what reads their lines."""

    def _read_word(self) -> tuple[str, ...]:
        return ("    read_word(token, memory, MARKS)", "    true = true_terms(memory, TERMS)")

    def _turned_on(self, block: Block, looks: Sequence[str]) -> list[str]:
        if isinstance(block, Conditions):
            return [f"    on.update({self._call('told', 'true', self.name[block.name])})"]
        return super()._turned_on(block, looks)

    def _reading(self) -> Iterator[tuple[str, LineOrigin]]:
        emitter = LineOrigin("emit")
        yield "WORD_NUMBERS = {word: number for number, word in enumerate(WORDS)}", emitter
        yield f"MARKS = marks_in({between_quotes(self._marks())}, WORD_NUMBERS)", emitter
        yield "TERM_NUMBERS, FEATURES = {}, {}", emitter
        spelt = dict[str, str]()
        for block in self.told:
            single = block.values.values.dtype == np.float32
            number = self._call("exact", "()", single)
            own, text = self.name[block.name], self._part(block, "lines")
            yield (
                f"{own} = conditions_in({text}, TERM_NUMBERS, WORD_NUMBERS, {number})",
                LineOrigin(block.origin.made_by, block.name),
            )
            yield f"FEATURES.update({own})", LineOrigin(block.origin.made_by, block.name)
            spelt[own] = block.name
        yield "TERMS = arranged(TERM_NUMBERS)\nFEATURES = by_place(FEATURES)", emitter
        for own, name in spelt.items():
            yield f"{own} = by_term({own}, TERM_NUMBERS)", LineOrigin(self.listing.by_name[name].origin.made_by, name)
        yield from super()._reading()

    def _marks(self) -> list[str]:
        """Write the words that end a sentence, open quotes, close them, and turn inside into outside and back."""
        if not self.told:
            return list(_MARKS)
        table = self.told[0].marks
        rows = table.rows()
        return [
            " ".join([name, *(self.listing.words[token] for token in np.sort(rows[table.columns == column]).tolist())])
            for column, name in enumerate(_MARKS)
        ]
