"""Spell a program as Python block by block; what other forms of emitted files build on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from types import ModuleType
from typing import assert_never

from englishroom.emit import graph
from englishroom.emit import tables as table_text
from englishroom.emit.naming import identifiers, purpose
from englishroom.emit.prelude import arithmetic, features, loading, talking
from englishroom.emit.source import TO_HEAR, WRITTEN, LineOrigin, SourceText, Verbatim
from englishroom.ir import program as ir
from englishroom.ir import tokenizer as tokenizer_module
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.wording import comment, docstring

_EMIT = LineOrigin("emit")
_FIXED = (
    "step",
    "new_memory",
    "memory",
    "token",
    "position",
    "N_CTX",
    "D_VOCAB",
    "blocks_of_program",
    "parts_of_program",
    "MEANS",
    "CONDITIONS",
    "NAMES",
    "TABLES",
    "PIECES",
    "MERGES",
    "BYTE_IDS",
    "TOKENIZER",
    "MARKS",
    "TERMS",
    "TERM_NUMBERS",
    "WORD_NUMBERS",
    "FEATURES",
    "WORDS",
    "true",
    "on",
    "scores",
    "__file__",
    "__builtins__",
)
"""Names that emitted code has beside those of its blocks and tables."""
_KEEPING = (ir.Attend, ir.Match, ir.Looks)
"""Blocks that keep something of the positions already read."""


@dataclass(frozen=True)
class Header:
    """What the header of an emitted file says: of which model, and how faithful, one line each."""

    target: str
    summary_lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Emitted:
    """An emitted file.

    Attributes:
        text: the Python source.
        origins: runs of lines with the pass and block they come from (see :meth:`SourceText.ranges`).
    """

    text: str
    origins: list[dict[str, object]]


class Emitter:
    """Spells a program block by block."""

    def __init__(self, program: ir.Program, tokenizer: Tokenizer, modules: Sequence[ModuleType] = ()) -> None:
        self.program, self.tokenizer = program, tokenizer
        self.explains = program.level == "sparse" and not program.is_readable
        more = (features, *graph.MODULES) if self.explains else modules
        self.verbatim = Verbatim((arithmetic, tokenizer_module, talking, loading, *more))
        self.calls: set[str] = {"main", "log_probs", "talk", "Tokenizer", "numbers", "load_tables", "float32"}
        self.calls |= {graph.MAIN, "rows", "sparse_rows"} if self.explains else set()
        taken = (*self.verbatim.pieces, *self.verbatim.imports, *_FIXED)
        self.name = identifiers([block.name for block in program.blocks], taken)
        self.writing = _writing(program)
        self.layouts = _layouts(program)
        tables = list(program.tables())
        self.table_name = identifiers(tables, (*taken, *self.name.values()))
        several = [(name, layout) for name in tables for layout in sorted(self.layouts[name] - {"rows"})]
        several = [(name, layout) for name, layout in several if len(self.layouts[name]) > 1]
        suffixed = {key: "_".join(key) for key in several}
        chosen = identifiers(list(suffixed.values()), (*taken, *self.name.values(), *self.table_name.values()))
        self.layout_name = {key: chosen[name] for key, name in suffixed.items()}
        self.source = SourceText()

    def emit(self, header: Header, tables_sha256: str) -> Emitted:
        spelt = [(self._block(block), LineOrigin(block.origin.made_by, block.name)) for block in self.program.blocks]
        sections = [(text, origin) for text, origin in spelt if text]
        tables = self._tables()
        self._add(self._header(header))
        texts = [self.verbatim.pieces[name][0] for name in self.verbatim.needed(self.calls)]
        self._add("\n".join(self.verbatim.imports_of(texts)))
        self._add(f"\nN_CTX = {self.program.n_ctx}\nD_VOCAB = {self.program.d_vocab}\n")
        self._add("\n# 1. How it talks\n")
        self._copy(talking)
        self._add("\n# 2. How it thinks, one position at a time\n")
        self._add(self._step_head())
        for text, origin in sections:
            self.source.add(text, origin)
        self._add(f"    return {self.name[self.program.vote.name]}\n")
        self._add("\n# 3. Its arithmetic\n")
        self._copy(arithmetic)
        self._copy(features)
        self._add("\n# 4. Its tokenizer\n")
        self._copy(tokenizer_module)
        if self.explains:
            self._add("\n# How it explains what it says\n")
            for module in graph.MODULES:
                self._copy(module)
        self._add("\n# 5. Its tables: short ones here, long ones in tables.safetensors\n")
        self._copy(loading)
        self._add(table_text.tokenizer_literal(self.tokenizer))
        self._add(f'\nTABLES = load_tables(__file__, "{tables_sha256}")')
        for text, origin in tables:
            self.source.add(text, origin)
        self._add("TABLES.clear()")
        if self.explains:
            self._add(self._laid_out(tables_sha256))
        self._add(f'\nif __name__ == "__main__":\n    {graph.MAIN if self.explains else "main"}()')
        return Emitted(self.source.text(), self.source.ranges())

    def _add(self, text: str) -> None:
        self.source.add(text, _EMIT)

    def _copy(self, module: ModuleType) -> None:
        """Copy what the program needs of one module."""
        for name in self.verbatim.needed(self.calls):
            if self.verbatim.module_of[name] is module:
                self._add(f"\n{self.verbatim.pieces[name][0]}\n")

    def _header(self, header: Header) -> str:
        program = self.program
        size = f"{len(program.blocks)} blocks, {program.n_entries:,} numbers in tables"
        lines = [
            f"A program that talks: {header.target}, decompiled to the {program.level} level.",
            "",
            WRITTEN,
            f"{size}, {program.d_vocab:,} tokens, context {program.n_ctx}.",
            "",
            *header.summary_lines,
            "",
            *TO_HEAR,
            "",
            *self._guide(),
        ]
        return docstring(lines) + "\n"

    def _laid_out(self, tables_sha256: str) -> str:
        """Write what explanations walk."""
        return graph.source(self.program, tables_sha256)

    def _guide(self) -> tuple[str, ...]:
        """Say in the header how to read the file."""
        return (
            "To read it, begin at step(): it takes one token and says how likely every next token is. Each block",
            "there makes one variable; its comment says what the variable is for, then what it reads and which",
            "tensors it came from. Tables are named as in the literature: W_Q_0 is the query matrix of layer 0,",
            "W_E the embedding.",
        )

    def _step_head(self) -> str:
        return (
            "\ndef new_memory():\n"
            '    """Return an empty memory: what attention keeps of the positions already read."""\n'
            f"    return [[] for _ in range({sum(isinstance(b, _KEEPING) for b in self.program.blocks)})]\n\n\n"
            "def step(token, position, memory):\n"
            '    """Read one token at its position; return the log-probabilities of every token that may come next."""'
        )

    def _block(self, block: ir.Block) -> str:
        """Spell one block: what it is for, what it reads and comes from, and its code."""
        kind = type(block).__name__.lower()
        space = self.program.space(block.space)
        facts = [f"{kind} -> {space.name} ({space.size})"]
        facts += (
            [f"reads {', '.join(ir.reads_of(block))}"]
            if ir.reads_of(block)
            else [f"reads the {getattr(block, 'index', 'token')}"]
        )
        if block.origin.sources:
            facts.append(f"from {', '.join(block.origin.sources)}")
        why = purpose(block.name)
        head = block.name + (f": {why}" if why else "")
        comments = [f"    {comment(line)}" for line in (head, "; ".join(facts))]
        return "\n".join(["", *comments, f"    {self.name[block.name]} = {self._expression(block, self.name)}"])

    def _expression(self, block: ir.Block, v: Mapping[str, str]) -> str:
        """Spell what a block computes.

        Args:
            v: how the variables that it reads are spelt.
        """
        size = self.program.space(block.space).size
        match block:
            case ir.Lookup(index=index, table=table):
                row = f"{self._table(table, 'rows')}[{index}]"
                return row if isinstance(table, ir.Table) else self._call("spread", row, size)
            case ir.Linear(reads=reads, bias=ir.Table() as bias) if block.name in self.writing:
                return self._call("write_rows", v[reads], self._table(block.weight, "rows"), self._table(bias, "rows"))
            case ir.Linear(reads=reads, bias=bias):
                offset = () if bias is None else (self._table(bias, "rows"),)
                return self._linear(v[reads], block.weight, block.transposed, size, offset)
            case ir.Sum(reads=reads):
                return v[reads[0]] if len(reads) == 1 else self._call("total", *(v[name] for name in reads))
            case ir.Join(reads=reads):
                return _joined(v, reads)
            case ir.Product(reads=(first, second)):
                return self._call("product", v[first], v[second])
            case ir.Normalise(reads=reads):
                options = {k: self._table(t, "rows") for k in ("gain", "bias", "form") if (t := getattr(block, k))}
                if block.centred:
                    options["centred"] = "True"
                return self._call("normalise", v[reads], repr(float(block.eps)), **options)
            case ir.Activate(reads=reads, function=function):
                self.calls.add(function)
                return f"list(map({function}, {v[reads]}))"
            case ir.Select(reads=reads, k=k, thresholds=thresholds):
                options = {} if thresholds is None else {"thresholds": self._table(thresholds, "rows")}
                return self._call("select", v[reads], **options, **({} if k is None else {"k": str(k)}))
            case ir.Rotate(reads=reads, n_heads=n_heads, theta=theta):
                return self._call("rotate", v[reads], n_heads, repr(float(theta)), "position")
            case ir.Attend():
                parts = (v[block.queries], v[block.keys], v[block.values], self._memory(block))
                window = {} if block.window is None else {"window": str(block.window)}
                heads = {"n_heads": str(block.n_heads), "n_kv_heads": str(block.n_kv_heads)}
                return self._call("attend", *parts, **heads, scale=repr(float(block.scale)), **window)
            case ir.Match():
                return self._match(block, v)
            case ir.Rules(reads=reads):
                parts = [self._table(t, "rows") for t in (block.conditions, block.thresholds, block.effects)]
                options = {k: self._table(t, "rows") for k in ("biases", "offset") if (t := getattr(block, k))}
                options |= {} if block.k is None else {"k": str(block.k)}
                options |= {} if block.passes == "excess" else {"passes": '"value"'}
                return self._call("apply_rules", v[reads], *parts, size, **options)
            case ir.Looks():
                return self._looks(block, v)
            case ir.Fire(reads=reads):
                sums = self._call("sparse_products", _joined(v, reads), self._table(block.conditions, "rows"))
                return self._above(sums, block)
            case ir.Conditions():
                raise AssertionError(f"{block.name} stands at the level of explanations alone")
            case ir.Votes(reads=reads, bias=bias):
                offset = () if bias is None else (self._table(bias, "rows"),)
                return self._linear(_joined(v, reads), block.weights, False, size, offset)
            case ir.Unexplained(exact=exact, explained=explained):
                return self._call("difference", v[exact], v[explained])
            case ir.Vote(reads=reads):
                votes = v[reads[0]] if len(reads) == 1 else self._call("total", *(v[name] for name in reads))
                return self._call("log_softmax", votes)
            case _:
                assert_never(block)

    def _call(self, function: str, *arguments: object, **options: str) -> str:
        self.calls.add(function)
        parts = [*map(str, arguments), *(f"{key}={value}" for key, value in options.items())]
        return f"{function}({', '.join(parts)})"

    def _linear(self, x: str, weight: ir.AnyTable, transposed: bool, size: int, bias: Sequence[str] = ()) -> str:
        if isinstance(weight, ir.Table):
            return self._call("linear", x, self._table(weight, "rows" if transposed else "columns"), *bias)
        rows = self._table(weight, "rows")
        if not transposed:
            return self._call("sparse_linear", x, rows, size, *bias)
        products = self._call("sparse_products", x, rows)
        return self._call("total", products, *bias) if bias else products

    def _match(self, block: ir.Match, v: Mapping[str, str]) -> str:
        options = {"scores": f"[{', '.join(map(self._pairs, block.scores))}]"}
        if block.buckets != (0,):
            options["buckets"] = repr(block.buckets)
        if block.distance is not None:
            options["distances"] = self._table(block.distance, "rows")
        if block.moves is not None:
            options |= {"moves": self._pairs(block.moves), "size": str(self.program.space(block.space).size)}
        if block.window is not None:
            options["window"] = str(block.window)
        return self._call("match", v[block.queries], v[block.keys], v[block.values], self._memory(block), **options)

    def _looks(self, block: ir.Looks, v: Mapping[str, str]) -> str:
        queries, keys = (
            f"({self._table(rows, 'rows')}, {self._table(biases, 'rows')})"
            for rows, biases in ((block.queries, block.query_biases), (block.keys, block.key_biases))
        )
        options = {
            "queries": queries,
            "keys": keys,
            "lone_keys": self._table(block.lone_keys, "rows"),
            "distances": self._table(block.distance, "rows"),
            "conditions": self._table(block.conditions, "rows"),
            "matches": repr(block.matches),
            "moved": repr(block.moved),
        }
        if block.window is not None:
            options["window"] = str(block.window)
        return self._above(self._call("look", _joined(v, block.reads), self._memory(block), **options), block)

    def _above(self, sums: str, block: ir.Looks | ir.Fire) -> str:
        return self._call("above", sums, self._table(block.biases, "rows"), self._table(block.thresholds, "rows"))

    def _pairs(self, tables: Sequence[ir.AnyTable]) -> str:
        return f"[{', '.join(self._table(table, 'pairs') for table in tables)}]"

    def _memory(self, block: ir.Block) -> str:
        keeping = [b.name for b in self.program.blocks if isinstance(b, _KEEPING)]
        return f"memory[{keeping.index(block.name)}]"

    def _table(self, table: ir.AnyTable, layout: str) -> str:
        """Name a table in a layout; the layout stands in the name only where a table is laid out in several."""
        return self.layout_name.get((table.name, layout), self.table_name[table.name])

    def _tables(self) -> list[tuple[str, LineOrigin]]:
        """Write the definition of every table, short ones spelt out."""
        first_use: Mapping[str, ir.Block] = {t.name: b for b in reversed(self.program.blocks) for t in ir.tables_of(b)}
        found: list[tuple[str, LineOrigin]] = []
        for name, table in self.program.tables().items():
            if not self._is_defined(table):
                continue
            block = first_use[name]
            origin = LineOrigin(block.origin.made_by, block.name)
            for layout in sorted(self.layouts[name]):
                if isinstance(table, ir.SparseTable):
                    value = self._load("sparse_rows", name)
                elif table_text.is_literal(table):
                    value = table_text.literal(table)
                else:
                    value = self._load(layout, name)
                shape = " x ".join(map(str, table.shape))
                found.append((f"{self._table(table, layout)} = {value}  # {shape}", origin))
        return found

    def _is_defined(self, table: ir.AnyTable) -> bool:
        """Say whether a table is defined by itself, under its name."""
        return table.name in self.table_name

    def _load(self, function: str, name: str) -> str:
        self.calls.add(function)
        return f'{function}("{name}")'


def _joined(v: Mapping[str, str], reads: Sequence[str]) -> str:
    """Spell variables side by side."""
    return "[" + ", ".join(f"*{v[name]}" for name in reads) + "]"


def _layouts(program: ir.Program) -> dict[str, set[str]]:
    """Say, table by table, whether the code wants its rows, its columns, or rows of pairs (column, value).

    Sparse tables are always rows of pairs, and have no other layout.
    """
    wanted: dict[str, set[str]] = {}
    writing = _writing(program)
    for block in program.blocks:
        match block:
            case ir.Linear(transposed=False) if block.name not in writing:
                layouts = {"weight": "columns"}
            case ir.Match():
                layouts = {"scores": "pairs", "moves": "pairs"}
            case _:
                layouts = {}
        for item in fields(block):
            for table in ir.tables_in(getattr(block, item.name)):
                layout = layouts.get(item.name, "rows") if isinstance(table, ir.Table) else "rows"
                wanted.setdefault(table.name, set()).add(layout)
    return wanted


def _writing(program: ir.Program) -> frozenset[str]:
    """Name the dense maps that read a few features out of many, whose rows are better added one by one."""
    chosen = {block.name for block in program.blocks if isinstance(block, ir.Select)}
    return frozenset(
        block.name
        for block in program.blocks
        if isinstance(block, ir.Linear)
        and block.reads in chosen
        and isinstance(block.weight, ir.Table)
        and isinstance(block.bias, ir.Table)
        and not block.transposed
    )
