"""Write a sparse program as Python that people read: its rules and kinds as lists of names, its sums of what is on.

Where the language has up to six blocks for adding up features and dividing by their loudness, the emitted file has one
line (``ir/stages.py``). Features travel as pairs (feature, value), so that only those that are on cost time. The
answers are the interpreter's up to rounding. Programs of other forms are written block by block.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from englishroom.emit import graph, listed
from englishroom.emit import tables as table_text
from englishroom.emit.emitter import Emitter
from englishroom.emit.naming import identifiers
from englishroom.emit.source import LineOrigin
from englishroom.ir import program as ir
from englishroom.ir.labels import Labels
from englishroom.ir.stages import Stage, stages_of
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.wording import comment, token_words

PURPOSES: Mapping[str, str] = MappingProxyType(
    {
        "words": "the kinds of words that this token is, each with how much it is of that kind",
        "places": "the stations of the text that this position lies between",
        "always": "a feature that is on whatever the text says",
        "heads": "what each head asks for here, offers to heads that look back later, and lets them carry away",
        "asks": "what each head asks for, which turns with the position",
        "offers": "what each head is offered, which turns with the position",
        "brought": "what the heads bring here from where they look",
        "moved": "moved features that are on: what the heads brought, put into names",
        "rules": "rules that fire: the features in their conditions, weighed, exceed what they ask for",
        "said": "how strongly each kind of word is voted for by the features that are on",
        "votes": "the votes for kinds of words, turned into a score for every word",
    }
)
GUIDE = (
    "How to read it. A token is a few kinds of words (`words`) and stands at a place (`places`). Heads look back and",
    "bring numbers here (`heads_0`, `brought_0`), which moved features put into names (`moved_0`). Rules read features",
    "that are on, and are features themselves once they fire (`rules_0`); and so on, layer by layer. All features that",
    "are on vote for kinds of words (`said`), and these for words (`votes`). step() does this for one token.",
    "",
    "Section 5 lists the program: every kind with its words, and every rule on a line of its own,",
    "    number name +weight feature -weight feature ... | bias remarks",
    "It adds up its weights times the features that are on, divides by how loud it is here (the line `loudness`), adds",
    "the bias, and fires above 0, with that value, if it is among the strongest. The remarks say how often it fires on",
    "the text that it was named on, and what it says: the words that it speaks for. They and the headings change",
    "nothing; all else there is the program itself. Rules are grouped by what they do; the groups, and the rules in a",
    "group, stand in the order of what they are worth: about the nats lost if they fell silent, by what they vote for.",
    'To follow a token: python program.py "Once upon a" --explain --max-tokens 1',
)


def is_staged(program: ir.Program) -> bool:
    """Say whether a program adds up features in stages, so that it can be written as one."""
    return program.level == "sparse" and any(
        stage.norm is not None and _is_fusible(stage) for stage in stages_of(program).values()
    )


def _is_fusible(stage: Stage) -> bool:
    """Say whether one line of emitted code can stand for a stage."""
    block = stage.adds
    if isinstance(block, ir.Linear):
        return stage.norm is not None
    effects, n_rules = block.effects, block.conditions.shape[0]
    itself = effects.n_entries == n_rules == effects.n_columns and bool((effects.values == 1).all())
    return n_rules > 0 and itself and bool((effects.columns == np.arange(n_rules)).all()) and block.offset is None


class SparseEmitter(Emitter):
    """Spells stages in one line each, and their tables as lists."""

    def __init__(self, program: ir.Program, tokenizer: Tokenizer, labels: Labels) -> None:
        super().__init__(program, tokenizer)
        self.labels = labels
        self.stages = {name: stage for name, stage in stages_of(program).items() if _is_fusible(stage)}
        self.inner = {name for stage in self.stages.values() for name in stage.blocks if name != stage.name}
        self.by_name = {block.name: block for block in program.blocks}
        self.sizes = {block.name: program.space(block.space).size for block in program.blocks}
        self.on = self._on()
        self.rules = [name for name, stage in self.stages.items() if isinstance(stage.adds, ir.Rules)]
        self.lists = {block.name: name for block in program.blocks if (name := self._listed(block))}
        read = [part.variable for stage in self.stages.values() for part in stage.parts]
        named = {name: self.sizes[name] for name in (*self.lists.values(), *read, *self.rules)}
        self.names = listed.feature_names(named, labels)
        self.words = token_words(tokenizer)
        taken = (*self.verbatim.pieces, *self.verbatim.imports, *self.name.values(), *_FIXED)
        taken = (*taken, *(self.table_name[t.name] for t in program.tables().values() if self._is_defined(t)))
        wanted = [f"{self.name[name]}_{what}" for name in self.by_name for what in _PARTS]
        self.part = dict(zip(wanted, identifiers(wanted, taken).values(), strict=True))

    def _on(self) -> set[str]:
        """Name the variables that travel as pairs: those of few features, read by stages alone."""
        stage_of = {name for stage in self.stages.values() for name in stage.blocks}
        constants = {block.name for block in self.program.blocks if _is_constant(block)}
        few = {
            block.name
            for block in self.program.blocks
            if isinstance(block, ir.Lookup) and isinstance(block.table, ir.SparseTable)
        }
        few |= constants | {name for name, stage in self.stages.items() if isinstance(stage.adds, ir.Rules)}
        plainly = {name for b in self.program.blocks if b.name not in stage_of | constants for name in ir.reads_of(b)}
        return few - plainly

    def _listed(self, block: ir.Block) -> str | None:
        """Name the variable whose features a block's table lists words of, if it is written as lists."""
        if isinstance(block, ir.Lookup) and block.name in self.on:
            return block.name
        if not isinstance(block, ir.Linear) or not isinstance(block.weight, ir.SparseTable) or not block.transposed:
            return None
        votes = block.bias is None and block.space == self.program.vote.space and block.reads not in self.on
        return block.reads if votes and self.sizes[block.reads] > 1 else None

    def _looks_back(self, block: ir.Block) -> bool:
        """Say whether a block's heads compare and carry numbers, in one way whatever the distance."""
        if not isinstance(block, ir.Match) or block.moves is None or len(block.buckets) != 1:
            return False
        tables = (*(table for by_bucket in block.scores for table in by_bucket), *block.moves)
        return self.on.isdisjoint(ir.reads_of(block)) and all(isinstance(table, ir.SparseTable) for table in tables)

    def _part(self, variable: str, what: str) -> str:
        return self.part[f"{self.name[variable]}_{what}"]

    def _guide(self) -> tuple[str, ...]:
        return GUIDE

    def _laid_out(self, tables_sha256: str) -> str:
        names = ", ".join(f"{name!r}: {self._part(name, 'names')}" for name in self.names)
        return f"{graph.source(self.program, tables_sha256)}\nNAMES.update({{{names}}})"

    def _block(self, block: ir.Block) -> str:
        if block.name in self.inner:
            return ""
        sources = [part.variable for part in self.stages[block.name].parts] if block.name in self.stages else None
        if sources is None:  # what stands for itself reads whole vectors
            whole = {
                n: self._call("spread", own, self.sizes[n]) if n in self.on else own for n, own in self.name.items()
            }
            expression = self._expression(block, whole)
            about = (
                f"reads {', '.join(ir.reads_of(block))}" if ir.reads_of(block) else "read by its number in a list below"
            )
        else:
            expression, about = self._staged(self.stages[block.name]), f"reads {', '.join(sources)}"
        made = f"{self.name[block.name]} = {expression}"
        return "\n    ".join(["", _heading(block.name), comment(about), made])

    def _expression(self, block: ir.Block, v: Mapping[str, str]) -> str:
        match block:
            case ir.Lookup(index=index) if block.name in self.on:
                return f"{self._part(block.name, 'of')}[{index}]"
            case ir.Linear(bias=bias) if block.name in self.on and bias is not None:
                return self._call("features_on", self._table(bias, "rows"))
            case ir.Linear(reads=reads) if block.name in self.lists:
                return self._call("vote_for", v[reads], self._part(block.name, "ballots"))
            case ir.Match(distance=distance, window=window) if self._looks_back(block):
                options = {} if distance is None else {"distances": self._table(distance, "rows")}
                options |= {} if window is None else {"window": str(window)}
                heads, size = self._part(block.name, "heads"), self.sizes[block.name]
                numbers = [v[name] for name in ir.reads_of(block)]
                return self._call("look_back", *numbers, self._memory(block), heads, size, **options)
            case _:
                return super()._expression(block, v)

    def _staged(self, stage: Stage) -> str:
        pairs = [
            self.name[part.variable] if part.variable in self.on else self._call("every", self.name[part.variable])
            for part in stage.parts
        ]
        answer = self._call("add_up", self._part(stage.name, "alone"), self._part(stage.name, "edges"), *pairs)
        if stage.norm is not None:
            answer = self._call("divide", answer, repr(float(stage.norm.eps)))
        rules = stage.adds
        if isinstance(rules, ir.Rules):
            options = {} if rules.k is None else {"k": str(rules.k)}
            options |= {} if rules.passes == "value" else {"passes": '"excess"'}
            parts = [self._part(stage.name, what) for what in ("biases", "thresholds")]
            answer = self._call("fire", answer, *parts, **options)
            return answer if stage.name in self.on else self._call("spread", answer, self.sizes[stage.name])
        bias = None if stage.norm is None else stage.norm.bias
        return answer if bias is None else self._call("total", answer, self._table(bias, "rows"))

    def _is_defined(self, table: ir.AnyTable) -> bool:
        """Say whether a table keeps a definition of its own."""
        kept: set[str] = set()
        for block in self.program.blocks:
            if block.name in self.stages or block.name in self.inner:
                stage = self.stages.get(block.name)
                tables = [] if stage is None else self._vectors(stage)
            elif block.name in self.lists:
                tables = []
            elif isinstance(block, ir.Match) and self._looks_back(block):
                tables = [block.distance]
            elif isinstance(block, ir.Linear) and block.name in self.on:
                tables = [block.bias]
            else:
                tables = list(ir.tables_of(block))
            kept |= {found.name for found in tables if found is not None}
        return table.name in kept

    def _vectors(self, stage: Stage) -> list[ir.Table | None]:
        """List the vectors of a stage of sums; those of rules stand on their lines."""
        if not isinstance(stage.adds, ir.Linear) or stage.norm is None:
            return []
        return [stage.adds.bias, stage.norm.bias]

    def _tables(self) -> list[tuple[str, LineOrigin]]:
        words = f"\n# Every word, as the lists below call it.\nWORDS = {table_text.word_list(self.words)}"
        found = [(words, LineOrigin("emit"))]
        listed_names = {*self.lists.values(), *self.rules}
        for name, names in self.names.items():
            if name not in listed_names:
                found.append((f"{self._part(name, 'names')} = {table_text.word_list(names)}", self._origin(name)))
        found += super()._tables()
        for block in self.program.blocks:
            if block.name in self.stages:
                found.append((self._staged_table(self.stages[block.name]), self._origin(block.name)))
            elif block.name in self.lists:
                found.append((self._list(block), self._origin(block.name)))
            elif isinstance(block, ir.Match) and self._looks_back(block):
                found.append((self._heads(block), self._origin(block.name)))
        return found

    def _origin(self, name: str) -> LineOrigin:
        return LineOrigin(self.by_name[name].origin.made_by, name)

    def _list(self, block: ir.Block) -> str:
        table = block.table if isinstance(block, ir.Lookup) else block.weight if isinstance(block, ir.Linear) else None
        assert isinstance(table, ir.SparseTable)
        variable, own = self.lists[block.name], self._part(block.name, "of")
        by_position = isinstance(block, ir.Lookup) and block.index == "position"
        members = [str(at) for at in range(table.shape[0])] if by_position else self.words
        text = listed.lists(table, self.names[variable], members, self.labels.features.get(variable, ()))
        among = "[str(position) for position in range(N_CTX)]" if by_position else "WORDS"
        read = self._call("kinds", text, among, **_precision(table.values))
        cast = self._part(block.name, "ballots")
        voted = f"\n{cast} = {self._call('ballots', own)}" if isinstance(block, ir.Linear) else ""
        return f"\n{_heading(block.name)}\n{self._part(variable, 'names')}, {own} = {read}{voted}"

    def _heads(self, block: ir.Match) -> str:
        assert block.moves is not None
        calls = [
            self._call("head", self._load("sparse_rows", scores.name), self._load("sparse_rows", moves.name))
            for (scores,), moves in zip(block.scores, block.moves, strict=True)
        ]
        lines = "".join(f"    {call},\n" for call in calls)
        return f"\n{_heading(block.name)}\n{self._part(block.name, 'heads')} = [\n{lines}]"

    def _staged_table(self, stage: Stage) -> str:
        block, name = stage.adds, stage.name
        read = "[" + ", ".join(self._part(part.variable, "names") for part in stage.parts) + "]"
        if isinstance(block, ir.Rules):
            loud = () if stage.loudness is None else (stage.loudness.weight, stage.loudness.bias)
            single = _precision(*(t.values for t in (block.conditions, block.biases, block.thresholds, *loud) if t))
            text = listed.rules(stage, name, self.names, self.labels)
            made = ", ".join(self._part(name, what) for what in ("names", "alone", "edges", "biases", "thresholds"))
            return f"\n{_heading(name)}\n{made} = {self._call('rules', text, read, **single)}"
        assert stage.loudness is not None
        loud = repr(stage.loudness.weight.name)
        alone = (
            "*[0.0] * " + str(block.weight.shape[1]) if block.bias is None else f"*{self._table(block.bias, 'rows')}"
        )
        return (
            f"\n{_heading(name)}\n{self._part(name, 'alone')} = [{alone}, {stage.loud()[1]!r}]\n"
            f"{self._part(name, 'edges')} = {self._call('edges', repr(block.weight.name), loud, read)}"
        )


_FIXED = ("WORDS",)
_PARTS = ("names", "of", "ballots", "heads", "alone", "edges", "biases", "thresholds")


def _precision(*arrays: NDArray[np.floating]) -> dict[str, str]:
    return {} if listed.is_single(*arrays) else {"single": "False"}


def _heading(name: str) -> str:
    does = PURPOSES.get(name.partition(".")[0])
    return comment(f"{name}: {does}" if does else name)


def _is_constant(block: ir.Block) -> bool:
    return (
        isinstance(block, ir.Linear)
        and isinstance(block.weight, ir.SparseTable)
        and not block.weight.n_entries
        and block.bias is not None
    )
