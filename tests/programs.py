"""Small valid programs drawn at random, of every kind of block that a level admits, and what a test needs beside them.

Hypothesis draws the level, the kinds and a seed; numpy draws the rest from the seed, which is fast and still shrinks to
few blocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from englishroom.emit.python import Emitted, Header, emit
from englishroom.ir.condition import (
    Condition,
    InQuotes,
    IntoSentence,
    Repeated,
    Term,
    Word,
    WordAt,
    WordEarlier,
)
from englishroom.ir.levels import SMALL_MATRIX
from englishroom.ir.marks import Marks, marks_table
from englishroom.ir.program import (
    LEVELS,
    Activate,
    AnyTable,
    Attend,
    Block,
    Conditions,
    Fire,
    Join,
    Level,
    Linear,
    Looks,
    Lookup,
    Match,
    Normalise,
    Origin,
    Product,
    Program,
    Rotate,
    Rules,
    Select,
    Space,
    SparseTable,
    Sum,
    Table,
    Unexplained,
    Vote,
    Votes,
    reads_of,
)
from englishroom.ir.room import pack
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.wording import token_words
from englishroom.names import TABLES

KINDS: Mapping[Level, tuple[str, ...]] = MappingProxyType(
    {
        "exact": ("lookup", "linear", "sum", "product", "normalise", "activate", "rotate", "attend"),
        "featured": (
            *("lookup", "linear", "sum", "join", "product", "normalise", "activate", "select", "rotate", "attend"),
            *("match", "rules", "looks", "fire", "votes", "unexplained"),
        ),
        "sparse": (*("lookup", "linear", "sum", "join", "product", "normalise", "select", "match", "rules"),),
        "explained": ("lookup", "told", "votes"),
    }
)
READABLE_KINDS = ("lookup", "looks", "fire", "votes")
"""Kinds of blocks of a readable program, which is at the sparse level."""
SITES = ("hook_embed", "blocks.0.attn.hook_q", "blocks.0.hook_resid_mid", "blocks.12.mlp.hook_post", "ln_final.w")
AWKWARD = (
    *(
        "class",
        "match",
        "None",
        "sum",
        "list",
        "math",
        "step",
        "token",
        "position",
        "memory",
        "main",
        "numbers",
        "self",
    ),
    *("TABLES", "TOKENIZER", "PIECES", "MERGES", "N_CTX", "Tokenizer", "__file__", "__name__", "__builtins__", "_"),
    *("hook_", "attn.hook_", "blocks.0.1", "a.b", "a_b", "a.hook_b", "rows", "columns", "x_columns", "x", "x.values"),
)
"""Names that the verifier admits and that emitted code could trip over."""
SOURCES = ("wte.weight", 'a """ b', "line\nbreak", "back\\slash\\", "# hash", "\u202eright to left", "\ud800", "")
HEADER = Header("a test")
LETTERS = "abcdefgh"


@st.composite
def programs(draw: st.DrawFn, level: Level | None = None) -> Program:
    """Draw a valid program at a level, or at any of the three."""
    at = level or draw(st.sampled_from(LEVELS))
    readable = at == "sparse" and draw(st.booleans())
    kinds = draw(st.lists(st.sampled_from(READABLE_KINDS if readable else KINDS[at]), max_size=9))
    return random_program(at, kinds, draw(st.integers(0, 2**32 - 1)), readable)


def random_program(level: Level, kinds: Sequence[str], seed: int, readable: bool = False) -> Program:
    """Make a valid program that has a block of each of ``kinds``, in order, and what these need to stand on."""
    return _Writer(level, seed, readable).program(kinds)


def random_readable(seed: int = 0) -> Program:
    """Make a readable program that has every kind of its blocks, twice over."""
    return random_program("sparse", (*READABLE_KINDS, *reversed(READABLE_KINDS)), seed, readable=True)


def full_program(level: Level, seed: int = 0) -> Program:
    """Make a program that has every kind of block of its level, twice over."""
    return random_program(level, (*KINDS[level], *reversed(KINDS[level])), seed)


def chain() -> Program:
    """Make a program whose likeliest story is the alphabet up to h, and which may tell any other."""
    size = len(LETTERS) + 1
    scores = np.random.default_rng(1).uniform(-1, 1, (size, size)) + 3.0 * np.roll(np.eye(size), 1, axis=1)
    blocks = (
        Lookup(name="x", space="vocab", index="token", table=Table("W", scores)),
        Vote(name="v", space="vocab", reads=("x",)),
    )
    return Program("exact", 10, (Space("vocab", size),), blocks)


def tokens_for(program: Program, seed: int = 0, n_texts: int = 1) -> NDArray[np.int64]:
    """Draw texts that fill the context, [text, pos]."""
    return np.random.default_rng(seed).integers(0, program.d_vocab, (n_texts, program.n_ctx))


def tokenizer_for(d_vocab: int) -> Tokenizer:
    """Make a tokenizer of so many pieces: a start token, then letters from ``a`` on (at most 25)."""
    letters = [bytes([97 + i]) for i in range(d_vocab - 1)]
    ids = {letter[0]: 1 + i for i, letter in enumerate(letters)}
    return Tokenizer(
        kind="byte_bpe",
        pieces=(b"<s>", *letters),
        merges=(),
        scores=(),
        byte_ids=tuple(ids.get(byte, -1) for byte in range(256)),
        specials=(0,),
        start_id=0,
        stop_ids=(0,),
        prefix_space=False,
    )


def emitted(program: Program, tokenizer: Tokenizer | None = None, header: Header = HEADER) -> Emitted:
    """Emit a program whose tables are packed as in a room."""
    tokenizer = tokenizer or tokenizer_for(program.d_vocab)
    return emit(program, tokenizer, header, hashlib.sha256(pack(program, tokenizer)[TABLES]).hexdigest())


def quoting_tokenizer() -> Tokenizer:
    """Make a tokenizer of 12 pieces, some of which open and close quotes and end sentences."""
    plain = tokenizer_for(12)
    return replace(plain, pieces=(*plain.pieces[:7], b'"', b".", "\u201c".encode(), "!\u201d".encode(), b"\n"))


def write_emitted(folder: Path, program: Program, tokenizer: Tokenizer | None = None, header: Header = HEADER) -> Path:
    """Write ``program.py`` and its tables into a folder; return the path of the former."""
    tokenizer = tokenizer or tokenizer_for(program.d_vocab)
    (folder / TABLES).write_bytes(pack(program, tokenizer)[TABLES])
    path = folder / "program.py"
    path.write_text(emitted(program, tokenizer, header).text, encoding="utf-8")
    return path


def run_file(path: Path) -> dict[str, Any]:
    """Run an emitted file in this process, as an import would; return its names."""
    names: dict[str, Any] = {"__name__": "program", "__file__": str(path)}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True), names)
    return names


class _Writer:
    """A program in the making. Every method named after a kind adds such a block over variables made before."""

    def __init__(self, level: Level, seed: int, readable: bool) -> None:
        self.level, self.readable = level, readable or level == "explained"
        self.random = np.random.default_rng(seed)
        self.n_ctx = self.between(1, 8)
        self.sizes = {"vocab": self.between(3, 12), "resid": self.between(1, 6)}
        self.blocks: list[Block] = []
        self.made: dict[str, str] = {}  # variable -> its space
        self.degree: dict[str, int] = {}  # variable -> how many others it multiplies, which bounds its size
        self.tables: dict[str, AnyTable] = {}
        self.marks: SparseTable | None = None

    def program(self, kinds: Sequence[str]) -> Program:
        self.lookup("resid", "token")
        for kind in kinds:
            getattr(self, kind)()
        self.vote()
        spaces = tuple(Space(name, size) for name, size in self.sizes.items())
        return Program(self.level, self.n_ctx, spaces, tuple(self.blocks))

    def lookup(self, space: str | None = None, index: str | None = None) -> str:
        index = index or self.pick(("token", "position"))
        rows = self.sizes["vocab"] if index == "token" else self.n_ctx
        space = space or self.pick(tuple(self.sizes))
        if self.readable and space != "vocab":
            return self.add(Lookup, space, index=index, table=self.sparse(rows, self.sizes[space], positive=True))
        return self.add(Lookup, space, index=index, table=self.matrix(rows, self.sizes[space]))

    def linear(self, space: str | None = None, reads: str | None = None) -> str:
        reads = reads or self.variable()
        space = space or (self.pick(tuple(self.sizes)) if self.chance(0.5) else self.space(self.between(1, 6)))
        shape = self.size(reads), self.sizes[space]
        transposed = self.chance(0.5)
        weight = self.matrix(*(shape[::-1] if transposed else shape))
        bias = self.vector(shape[1]) if self.chance(0.5) else None
        return self.add(Linear, space, reads=reads, weight=weight, bias=bias, transposed=transposed)

    def sum(self) -> str:
        first = self.variable()
        return self.add(Sum, self.made[first], reads=(first, *self.others(first, self.between(0, 2))))

    def join(self) -> str:
        reads = tuple(self.variable() for _ in range(self.between(1, 3)))
        return self.add(Join, self.space(sum(map(self.size, reads))), reads=reads)

    def product(self) -> str:
        tame = [name for name in self.made if self.degree[name] <= 2]
        first = self.pick(tame)
        second = self.pick([name for name in tame if self.made[name] == self.made[first]])
        return self.add(Product, self.made[first], reads=(first, second))

    def normalise(self) -> str:
        reads = self.variable()
        size = self.size(reads)
        form = self.form(size) if self.level != "exact" and self.chance(0.5) else None
        return self.add(
            Normalise,
            self.made[reads],
            reads=reads,
            centred=form is None and self.chance(0.5),
            eps=float(self.random.uniform(0.01, 1.0)),
            gain=self.vector(size) if self.chance(0.6) else None,
            bias=self.vector(size) if self.chance(0.6) else None,
            form=form,
        )

    def activate(self) -> str:
        reads = self.variable()
        function = self.pick(("gelu_new", "gelu", "relu", "silu"))
        return self.add(Activate, self.made[reads], reads=reads, function=function)

    def select(self) -> str:
        """Add a selection from values that no accident makes equal, so that rounding cannot turn it."""
        small = [name for name in self.made if self.n_ctx * self.size(name) <= SMALL_MATRIX]
        plain = self.pick(small[-4:])
        space = self.made[plain]
        size = self.sizes[space]
        values = self.numbers(self.n_ctx, size)
        dense = self.level != "sparse"
        table = self.named(Table("", values)) if dense else self.by_rows(np.full(values.shape, True), values)
        apart = self.add(Lookup, space, index="position", table=table)
        reads = self.add(Sum, space, reads=(plain, apart))
        how = self.between(1, 3)
        k = self.between(1, size) if how & 1 else None
        return self.add(Select, space, reads=reads, k=k, thresholds=self.vector(size) if how & 2 else None)

    def rotate(self) -> str:
        n_heads = self.between(1, 2)
        reads = self.linear(self.space(2 * n_heads * self.between(1, 2)))
        theta = float(self.random.uniform(1.5, 1e4))
        return self.add(Rotate, self.made[reads], reads=reads, n_heads=n_heads, theta=theta)

    def attend(self) -> str:
        n_kv_heads, group, d_key, d_value = (self.between(1, 2) for _ in range(4))
        n_heads = n_kv_heads * group
        return self.add(
            Attend,
            self.space(n_heads * d_value),
            queries=self.linear(self.space(n_heads * d_key)),
            keys=self.linear(self.space(n_kv_heads * d_key)),
            values=self.linear(self.space(n_kv_heads * d_value)),
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            scale=float(self.random.uniform(-1.0, 1.0)),
            window=self.window(),
        )

    def match(self) -> str:
        queries, keys, values = (self.variable() for _ in range(3))
        n_heads, distances = self.between(1, 3), self.between(1, self.n_ctx + 1)
        later = [back for back in range(1, self.n_ctx + 2) if self.chance(0.2)]
        moving = self.chance(0.5)
        space = self.pick(tuple(self.sizes)) if moving else self.space(n_heads * self.size(values))
        pair = self.size(queries), self.size(keys)
        return self.add(
            Match,
            space,
            queries=queries,
            keys=keys,
            values=values,
            scores=tuple(tuple(self.matrix(*pair) for _ in (0, *later)) for _ in range(n_heads)),
            buckets=(0, *later),
            moves=tuple(self.matrix(self.size(values), self.sizes[space]) for _ in range(n_heads)) if moving else None,
            distance=self.named(Table("", self.numbers(n_heads, distances))) if self.chance(0.5) else None,
            window=self.window(),
        )

    def rules(self) -> str:
        reads, n_rules = self.variable(), self.between(0, 5)
        space = self.pick(tuple(self.sizes))
        return self.add(
            Rules,
            space,
            reads=reads,
            conditions=self.sparse(n_rules, self.size(reads)),
            thresholds=self.vector(n_rules),
            effects=self.sparse(n_rules, self.sizes[space]),
            biases=self.vector(n_rules) if self.chance(0.5) else None,
            passes=self.pick(("excess", "value")),
            k=self.between(1, n_rules) if n_rules and self.chance(0.5) else None,
            offset=self.vector(self.sizes[space]) if self.chance(0.5) else None,
        )

    def looks(self) -> str:
        reads, n_read = self.features()
        n_looks = self.between(1, 3)
        matches, moved = (tuple(self.between(low, 3) for _ in range(n_looks)) for low in (0, 1))
        tables = {
            **{name: self.sparse(sum(matches), n_read) for name in ("queries", "keys")},
            **{name: self.vector(sum(matches)) for name in ("query_biases", "key_biases")},
            "lone_keys": self.sparse(n_looks, n_read),
            "distance": self.named(Table("", self.numbers(n_looks, self.between(1, self.n_ctx + 1)))),
            **self.conditions(sum(moved), n_read),
        }
        fields = {"matches": matches, "moved": moved, "window": self.window()}
        return self.add(Looks, self.space(sum(moved)), reads=reads, **tables, **fields)

    def fire(self) -> str:
        (reads, n_read), size = self.features(), self.between(1, 5)
        return self.add(Fire, self.space(size), reads=reads, **self.conditions(size, n_read))

    def told(self) -> str:
        """Add features that are told by the text alone."""
        size, dtype = self.between(1, 5), self.pick((np.float32, np.float64))
        values = np.abs(self.numbers(size)).astype(dtype)
        if self.marks is None:
            tokens = np.arange(self.sizes["vocab"])
            ends, quotes = self.random.random(len(tokens)) < 0.3, self.random.integers(0, 5, len(tokens))
            inside = np.stack([np.isin(quotes, (1, 3)), ~np.isin(quotes, (2, 3))])
            self.marks = marks_table(Marks(ends, inside))
        conditions = tuple(self.condition() for _ in range(size))
        return self.add(
            Conditions, self.space(size), conditions=conditions, values=self.named(Table("", values)), marks=self.marks
        )

    def condition(self) -> Condition:
        return Condition(
            tuple(tuple(self.term() for _ in range(self.between(1, 3))) for _ in range(self.between(0, 3)))
        )

    def term(self) -> Term:
        d_vocab, negated = self.sizes["vocab"], self.chance(0.3)
        chosen = self.random.choice(d_vocab, min(d_vocab, self.between(1, 3)), replace=False).tolist()
        letters = token_words(tokenizer_for(d_vocab))
        words = tuple(Word(token, letters[token]) for token in chosen)
        reach = self.pick(("text", "sentence", "quote", 1, 2, 4))
        terms = (
            WordAt(words, self.between(0, 3), negated),
            WordEarlier(words, reach, negated),
            InQuotes(negated),
            IntoSentence(self.between(1, 3), negated),
            Repeated(negated),
        )
        return self.pick((*terms[:2], *terms))

    def conditions(self, size: int, n_read: int) -> dict[str, AnyTable]:
        return {
            "conditions": self.sparse(size, n_read),
            "biases": self.vector(size),
            "thresholds": self.named(Table("", np.abs(self.numbers(size)) * self.pick((0, 1)))),
        }

    def votes(self) -> str:
        """Add votes for words, or for word lists; at the sparse level these are turned into votes for words."""
        reads, n_read = self.features()
        space = "vocab" if self.chance(0.5) else self.space(self.between(1, 4))
        bias = self.vector(self.sizes[space]) if self.chance(0.5) else None
        return self.add(Votes, space, reads=reads, weights=self.sparse(n_read, self.sizes[space]), bias=bias)

    def features(self) -> tuple[tuple[str, ...], int]:
        """Pick variables that may be read side by side: of a readable program, those that are features."""
        made = {block.name: block for block in self.blocks}
        votes = [name for name in made if self.made[name] == "vocab" or isinstance(made[name], Votes)]
        known = [name for name in self.made if not (self.readable and name in votes)]
        reads = tuple(self.pick(known) for _ in range(self.between(1, 3)))
        return reads, sum(map(self.size, reads))

    def unexplained(self) -> str:
        exact = self.variable()
        return self.add(Unexplained, self.made[exact], exact=exact, explained=self.others(exact, 1)[0])

    def vote(self) -> str:
        """Close the program so that every block has a say: what nothing reads yet is turned into votes."""
        read = {name for block in self.blocks for name in reads_of(block)}
        unread = [name for name in self.made if name not in read]
        votes = [name if self.made[name] == "vocab" else self.vote_of(name) for name in unread]
        return self.add(Vote, "vocab", reads=tuple(votes))

    def vote_of(self, name: str) -> str:
        """Turn a variable into votes for words."""
        block = next(block for block in self.blocks if block.name == name)
        if not self.readable or isinstance(block, Votes):
            return self.linear("vocab", name)
        return self.add(Votes, "vocab", reads=(name,), weights=self.sparse(self.size(name), self.sizes["vocab"]))

    def add(self, kind: type, space: str, **fields: Any) -> str:
        name = self.fresh(self.made, kind.__name__.lower())
        sources = tuple(self.pick(SOURCES) for _ in range(self.between(0, 2)))
        block: Block = kind(name=name, space=space, origin=Origin(self.pick(("lift", "a pass")), sources), **fields)
        degrees = [self.degree[read] for read in reads_of(block)]
        self.degree[name] = sum(degrees) if isinstance(block, Product) else max(degrees, default=1)
        self.blocks.append(block)
        self.made[name] = space
        return name

    def fresh(self, taken: Mapping[str, object], stem: str) -> str:
        """Name something; one time in three as a site of a target, or so that a careless emitter trips."""
        name = self.pick((*SITES, *AWKWARD)) if self.chance(1 / 3) else f"{stem}.{len(taken)}"
        return f"{stem}.{len(taken)}" if name in taken else name

    def between(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def pick(self, options: Sequence[Any]) -> Any:
        return options[self.between(0, len(options) - 1)]

    def size(self, variable: str) -> int:
        return self.sizes[self.made[variable]]

    def space(self, size: int) -> str:
        name = f"space.{len(self.sizes)}"
        self.sizes[name] = size
        return name

    def variable(self) -> str:
        """Pick a variable made before, the newest ones rather than the old."""
        return self.pick(list(self.made)[-4:] if self.chance(0.7) else list(self.made))

    def others(self, first: str, count: int) -> tuple[str, ...]:
        same = [name for name in self.made if self.made[name] == self.made[first]]
        return tuple(self.pick(same) for _ in range(count))

    def window(self) -> int | None:
        return self.between(1, self.n_ctx + 1) if self.chance(0.5) else None

    def numbers(self, *shape: int) -> NDArray:
        return (0.6 * self.random.normal(size=shape)).astype(self.pick((np.float32, np.float64)))

    def named(self, table: AnyTable) -> AnyTable:
        name = self.fresh(self.tables, "table")
        if isinstance(table, Table):
            table = Table(name, table.values)
        else:
            table = SparseTable(name, table.starts, table.columns, table.values, table.n_columns)
        self.tables[name] = table
        return table

    def matrix(self, *shape: int) -> AnyTable:
        """Share a matrix of this shape, or make one, dense where the level admits it."""
        if self.level in ("sparse", "explained") or (self.level == "featured" and self.chance(0.5)):
            return self.sparse(*shape)
        return self.tied(Table, shape) or self.named(Table("", self.numbers(*shape)))

    def vector(self, size: int) -> AnyTable:
        return self.tied(Table, (size,)) or self.named(Table("", self.numbers(size)))

    def sparse(self, n_rows: int, n_columns: int, positive: bool = False) -> AnyTable:
        densest = 0.3 if self.level in ("sparse", "explained") and n_rows * n_columns > SMALL_MATRIX else 1.0
        held = self.random.random((n_rows, n_columns)) < densest * self.random.random()
        if positive:
            return self.by_rows(held, np.abs(self.numbers(n_rows, n_columns)))
        return self.tied(SparseTable, (n_rows, n_columns)) or self.by_rows(held, self.numbers(n_rows, n_columns))

    def by_rows(self, held: NDArray[np.bool_], values: NDArray) -> AnyTable:
        index = self.pick((np.int32, np.int64))
        starts = np.concatenate([[0], np.cumsum(held.sum(axis=1))]).astype(index)
        columns = np.nonzero(held)[1].astype(index)
        return self.named(SparseTable("", starts, columns, values[held], held.shape[1]))

    def tied(self, kind: type, shape: tuple[int, ...]) -> AnyTable | None:
        same = [table for table in self.tables.values() if isinstance(table, kind) and table.shape == shape]
        return self.pick(same) if same and self.chance(0.4) else None

    def form(self, size: int) -> AnyTable:
        """Make a form, B S B^T of a sparse B and signs S: positive half the time, else indefinite."""
        share = 0.6 if size**2 <= SMALL_MATRIX else 0.3 / size**0.5
        root = np.where(self.random.random((size, size)) < share, self.random.normal(size=(size, size)), 0.0)
        form = root @ root.T if self.chance(0.5) else root * self.random.choice((-1.0, 1.0), size) @ root.T
        return self.by_rows(form != 0, form.astype(self.pick((np.float32, np.float64))))
