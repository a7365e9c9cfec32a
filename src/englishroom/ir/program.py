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

from englishroom.ir.condition import Condition
from englishroom.ir.table import AnyTable, SparseTable, Table

Level = Literal["exact", "featured", "sparse", "explained"]
LEVELS: tuple[Level, ...] = ("exact", "featured", "sparse", "explained")
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
class Looks(_Block):
    """All looks of a layer, and the moved features that they make: what stands where a look looks.

    Here ``x`` is the variables of ``reads`` side by side, ``x_i`` at the position at hand and ``x_j`` at an earlier one
    or the same. A look has some of the matches, as many as ``matches`` says, one look after the other. Match m makes
    the query ``q_m = max(0, queries[m] . x_i + query_biases[m])`` and the key
    ``k_m = max(0, keys[m] . x_j + key_biases[m])``. Look h scores position j by
    ``distance[h, i - j] + lone_keys[h] . x_j`` plus the sum of ``q_m k_m`` over its matches; a lone key counts whatever
    is asked for, and the last column of ``distance`` stands for anything farther. Weights are the softmax of its scores
    over the last ``window`` positions, all where ``None``.

    A look makes some of the moved features, as many as ``moved`` says, one look after the other. Feature f is
    ``s = biases[f] + sum of weight_j (conditions[f] . x_j)`` over positions j where ``s > thresholds[f]``, else 0.
    """

    reads: tuple[str, ...]
    queries: SparseTable
    query_biases: Table
    keys: SparseTable
    key_biases: Table
    matches: tuple[int, ...]
    lone_keys: SparseTable
    distance: Table
    conditions: SparseTable
    biases: Table
    thresholds: Table
    moved: tuple[int, ...]
    window: int | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Fire(_Block):
    """Rules that are features: rule r is ``s = conditions[r] . x + biases[r]`` where ``s > thresholds[r]``, else 0.

    Here ``x`` is the variables of ``reads`` side by side.
    """

    reads: tuple[str, ...]
    conditions: SparseTable
    biases: Table
    thresholds: Table


@final
@dataclass(frozen=True, kw_only=True)
class Conditions(_Block):
    """Features told by the text alone: feature f is ``values[f]`` where ``conditions[f]`` holds, else 0.

    Conditions are formulas over the text so far (``ir/condition.py``). ``marks`` has a row for every token: column 0
    where a sentence ends with it, 1 where it opens quotes, 2 where it closes them, 3 where it does either in turn.
    """

    conditions: tuple[Condition, ...]
    values: Table
    marks: SparseTable


@final
@dataclass(frozen=True, kw_only=True)
class Votes(_Block):
    """Votes of features for words, or for word lists: ``x @ weights + bias``.

    Here ``x`` is the variables of ``reads`` side by side.
    """

    reads: tuple[str, ...]
    weights: SparseTable
    bias: Table | None = None


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
    | Looks
    | Fire
    | Conditions
    | Votes
    | Unexplained
    | Vote
)


@final
@dataclass(frozen=True)
class Program:
    """Blocks in order over named spaces, at one of the levels.

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
    def is_readable(self) -> bool:
        """Whether it is sparse and made of looks, rules that are features, and their votes, each stage one block."""
        return self.level == "sparse" and any(isinstance(block, Looks | Fire | Votes) for block in self.blocks)

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
        case Lookup() | Conditions():
            return ()
        case Linear() | Normalise() | Activate() | Select() | Rotate() | Rules():
            return (block.reads,)
        case Sum() | Join() | Product() | Looks() | Fire() | Votes() | Vote():
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
