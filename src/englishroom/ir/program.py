"""What a program is: blocks in order over named spaces.

A program reads tokens one after the other. At every position each block makes one *variable*, a vector in a named
space, out of variables made before it; the last block makes the log-probabilities of the next token. A block's name is
the name of the variable it makes; at the exact level these are the target's own sites (``blocks.0.attn.hook_q``).

Blocks are a closed union (``Block``): code that handles them uses ``match`` and ends in ``assert_never``. Everything
here is immutable, arrays included.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Literal, final

import numpy as np

from englishroom.ir.table import AnyTable, SparseTable, Table

Level = Literal["exact", "featured", "sparse"]
LEVELS: tuple[Level, ...] = ("exact", "featured", "sparse")
Function = Literal["gelu_new", "gelu", "relu", "silu"]


@dataclass(frozen=True)
class Space:
    """A named basis: variables in the same space may be added; a linear map joins two spaces."""

    name: str
    size: int


@dataclass(frozen=True)
class Origin:
    """Where a block comes from: the pass that made it and what it made it of (weights of the target, other blocks)."""

    made_by: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Block:
    """What all blocks have: the variable they make, its space, and where they come from."""

    name: str
    space: str
    origin: Origin = field(default=Origin("unknown"))


@final
@dataclass(frozen=True, kw_only=True)
class Lookup(_Block):
    """Row of a table, chosen by the token read here or by the position."""

    index: Literal["token", "position"]
    table: AnyTable


@final
@dataclass(frozen=True, kw_only=True)
class Linear(_Block):
    """``x @ weight + bias``; with ``transposed``, ``x @ weight.T + bias``."""

    reads: str
    weight: AnyTable
    bias: Table | None = None
    transposed: bool = False


@final
@dataclass(frozen=True, kw_only=True)
class Sum(_Block):
    """Sum of variables of one space."""

    reads: tuple[str, ...]


@final
@dataclass(frozen=True, kw_only=True)
class Join(_Block):
    """Variables side by side: the space's size is the sum of theirs."""

    reads: tuple[str, ...]


@final
@dataclass(frozen=True, kw_only=True)
class Product(_Block):
    """Elementwise product of two variables of one space."""

    reads: tuple[str, str]


@final
@dataclass(frozen=True, kw_only=True)
class Normalise(_Block):
    """``(x - m) / sqrt(s + eps) * gain + bias``.

    ``m`` is the mean of x where ``centred``, else 0; ``s`` is the mean of ``(x - m)**2``, or ``max(x @ form @ x, 0)``
    where a program measures the scale of what its features stand for (a pruned form need not be positive). ``eps`` is
    above 0, so that every x has a finite answer.
    """

    reads: str
    centred: bool
    eps: float
    gain: Table | None = None
    bias: Table | None = None
    form: SparseTable | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Activate(_Block):
    """A function of each coordinate by itself: ``gelu_new``, ``gelu``, ``relu`` or ``silu``."""

    reads: str
    function: Function


@final
@dataclass(frozen=True, kw_only=True)
class Select(_Block):
    """Keep some coordinates and zero the others: those above their threshold, then of these the ``k`` largest.

    At least one of the two is given. Ties among the ``k`` largest go to the lower index.
    """

    reads: str
    k: int | None = None
    thresholds: Table | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Rotate(_Block):
    """Turn each head's vector by its position (RoPE).

    Within a head of size d, coordinates i and i + d/2 turn together by ``position * theta ** (-2 i / d)``.
    """

    reads: str
    n_heads: int
    theta: float


@final
@dataclass(frozen=True, kw_only=True)
class Attend(_Block):
    """Dot-product attention: each head mixes the values of earlier positions (this one included).

    Head h of ``queries`` reads head ``h // (n_heads / n_kv_heads)`` of ``keys`` and ``values``; weights are the softmax
    of ``scale * q . k`` over the last ``window`` positions (all where ``None``). Makes the heads' mixes side by side.
    """

    queries: str
    keys: str
    values: str
    n_heads: int
    n_kv_heads: int
    scale: float
    window: int | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Match(_Block):
    """Attention by tables: a head's score is a sum over pairs of features, one here and one there.

    ``scores[h][b][i, j]`` is added for feature i of ``queries`` here and feature j of ``keys`` there (times both
    values) if there lies in bucket b: ``buckets[b]`` to ``buckets[b + 1] - 1`` positions back, the last bucket without
    end. ``distance[h, d]`` is added for looking d positions back (its last column for anything farther).

    Each head mixes ``values``, weighted by the softmax of its scores. Makes the heads' mixes side by side; with
    ``moves``, the sum over heads of ``mix @ moves[h]``, which turns what a head finds into features of this space.
    """

    queries: str
    keys: str
    values: str
    scores: tuple[tuple[AnyTable, ...], ...]
    buckets: tuple[int, ...] = (0,)
    distance: Table | None = None
    moves: tuple[AnyTable, ...] | None = None
    window: int | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Rules(_Block):
    """Many short rules: rule r fires where its strength exceeds its threshold, and adds what it passes on.

    The strength is ``s = conditions[r] . x + biases[r]``. Where ``s > thresholds[r]``, the rule passes the excess
    ``s - thresholds[r]`` or the value ``s`` (JumpReLU), and adds that times ``effects[r]``. With ``k``, of the rules
    that fire only the ``k`` that pass most do so, ties to the lower index. ``offset`` is added once, whatever fires.
    """

    reads: str
    conditions: SparseTable
    thresholds: Table
    effects: SparseTable
    biases: Table | None = None
    passes: Literal["excess", "value"] = "excess"
    k: int | None = None
    offset: Table | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Unexplained(_Block):
    """An error block: what ``exact`` has that ``explained`` lacks. Counted in reports; never at the sparse level."""

    exact: str
    explained: str


@final
@dataclass(frozen=True, kw_only=True)
class Vote(_Block):
    """Log-probabilities of the next token: log-softmax of the sum of votes. The last block of every program."""

    reads: tuple[str, ...]


Block = (
    Lookup
    | Linear
    | Sum
    | Join
    | Product
    | Normalise
    | Activate
    | Select
    | Rotate
    | Attend
    | Match
    | Rules
    | Unexplained
    | Vote
)


@final
@dataclass(frozen=True)
class Rule:
    """One rule of a :class:`Rules` block, as a reader sees it."""

    index: int
    reads: tuple[tuple[int, float], ...]
    bias: float
    threshold: float
    adds: tuple[tuple[int, float], ...]


@final
@dataclass(frozen=True)
class Program:
    """Blocks in order over named spaces, at one of three levels.

    Attributes:
        n_ctx: positions the program can read.
        spaces: every space that a block writes.
        blocks: in order of evaluation; the last is the only :class:`Vote`.
    """

    level: Level
    n_ctx: int
    spaces: tuple[Space, ...]
    blocks: tuple[Block, ...]

    def space(self, name: str) -> Space:
        """Look a space up by name."""
        for space in self.spaces:
            if space.name == name:
                return space
        raise KeyError(name)

    @property
    def vote(self) -> Vote:
        """The block whose variable is the program's answer."""
        last = self.blocks[-1]
        assert isinstance(last, Vote), "the verifier admits no program without a closing vote"
        return last

    @property
    def d_vocab(self) -> int:
        return self.space(self.vote.space).size

    def tables(self) -> dict[str, AnyTable]:
        """List every table once, by name, in order of first use."""
        found: dict[str, AnyTable] = {}
        for block in self.blocks:
            for table in tables_of(block):
                found.setdefault(table.name, table)
        return found

    @property
    def n_entries(self) -> int:
        """Numbers stored in all tables, shared ones once."""
        return sum(table.n_entries for table in self.tables().values())


def reads_of(block: Block) -> tuple[str, ...]:
    """List the variables that a block reads."""
    match block:
        case Lookup():
            return ()
        case Linear() | Normalise() | Activate() | Select() | Rotate() | Rules():
            return (block.reads,)
        case Sum() | Join() | Product() | Vote():
            return tuple(block.reads)
        case Attend() | Match():
            return (block.queries, block.keys, block.values)
        case Unexplained():
            return (block.exact, block.explained)


def tables_of(block: Block) -> Iterator[AnyTable]:
    """Yield the tables that a block holds, in the order of its fields."""
    for item in fields(block):
        yield from tables_in(getattr(block, item.name))


def tables_in(value: object) -> Iterator[AnyTable]:
    """Yield the tables in the value of a field: itself, or those in its tuples."""
    if isinstance(value, Table | SparseTable):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from tables_in(part)


def rule_count(program: Program) -> int:
    """Count what a program at the sparse level consists of: its rules, and the edges beside them.

    A row of a :class:`Rules` block is one rule, however many features it reads and adds to, and whatever its tables
    share with others. Every number other than 0 in any other sparse table is one edge, in tables that several blocks
    hold once. Dense tables (biases, thresholds, gains) are not counted.
    """
    rules = [block for block in program.blocks if isinstance(block, Rules)]
    tables = {t.name: t for b in program.blocks if not isinstance(b, Rules) for t in tables_of(b)}
    edges = sum(int(np.count_nonzero(t.values)) for t in tables.values() if isinstance(t, SparseTable))
    return sum(block.conditions.shape[0] for block in rules) + edges


def rule_at(block: Rules, index: int) -> Rule:
    """View one rule of a block: which features it reads, its bias and threshold, what it adds to which features."""
    return Rule(
        index=index,
        reads=tuple(block.conditions.row(index)),
        bias=0.0 if block.biases is None else float(block.biases.values[index]),
        threshold=float(block.thresholds.values[index]),
        adds=tuple(block.effects.row(index)),
    )
