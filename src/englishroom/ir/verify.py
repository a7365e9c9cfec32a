"""The rules of validity, per level. ``verify`` returns every fault at once."""

from __future__ import annotations

import itertools
import math
import re
from typing import assert_never

import numpy as np

from englishroom.errors import InvalidProgramError, one_line
from englishroom.ir import program as ir
from englishroom.ir.levels import level_faults
from englishroom.ir.marks import MARKS

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
SMALL_SPACE = 2**16
"""Size that a space may have whatever its program stores; a larger one is no larger than all tables together, so that
no number by itself says how much memory a program takes."""


def verify(program: ir.Program) -> list[str]:
    """Return every fault of a program, one line each; an empty list means that it is valid."""
    return _Verifier(program).faults()


def require_valid(program: ir.Program) -> ir.Program:
    """Return the program, or raise with every fault it has.

    Raises:
        InvalidProgramError: the program has at least one fault.
    """
    faults = verify(program)
    if faults:
        raise InvalidProgramError(faults)
    return program


class _Verifier:
    def __init__(self, program: ir.Program) -> None:
        self.program = program
        self.found: list[str] = []
        self.sizes: dict[str, int] = {}
        self.made: dict[str, str] = {}  # variable -> its space
        self.features: set[str] = set()  # variables of a readable program that are features, and no votes
        self.block: ir.Block | None = None

    def fault(self, text: str) -> None:
        self.found.append(one_line(f"{self.block.name}: {text}" if self.block is not None else text))

    def faults(self) -> list[str]:
        program = self.program
        if program.level not in ir.LEVELS:
            self.fault(f"level is {program.level!r}, expected one of {', '.join(ir.LEVELS)}")
        if program.n_ctx < 1:
            self.fault(f"n_ctx is {program.n_ctx}, expected at least 1")
        most = max(SMALL_SPACE, sum(map(_stored, program.tables().values())))
        for space in program.spaces:
            self._name(space.name, "space")
            if space.name in self.sizes:
                self.fault(f"space {space.name} is declared twice")
            if space.size < 1:
                self.fault(f"space {space.name} has size {space.size}, expected at least 1")
            if space.size > most:
                self.fault(
                    f"space {space.name} has size {space.size}, expected at most {most}: the numbers of all tables, or "
                    f"{SMALL_SPACE}"
                )
            self.sizes[space.name] = space.size
        if not program.blocks or not isinstance(program.blocks[-1], ir.Vote):
            self.fault("the last block is not a vote")
        for block in program.blocks:
            self.block = block
            self._block(block)
            self.made[block.name] = block.space
        self._shared_tables()
        return self.found

    def _name(self, name: str, what: str) -> None:
        if not _NAME.fullmatch(name):
            self.fault(f"{what} name {name!r} is not of the form word.word, letters, digits and _ only")

    def _block(self, block: ir.Block) -> None:
        self._name(block.name, "variable")
        if block.name in self.made:
            self.fault("this variable is made twice")
        if block.space not in self.sizes:
            self.fault(f"unknown space {block.space}")
        for name in ir.reads_of(block):
            if name not in self.made:
                self.fault(f"reads {name}, which no earlier block makes")
        whole = [self._table(table) for table in ir.tables_of(block)]
        if not all(whole):
            return
        for text in level_faults(self.program, block, self.made, self.features):
            self.fault(text)
        if block.space in self.sizes and all(self._size(name) for name in ir.reads_of(block)):
            self._shapes(block)

    def _size(self, variable: str) -> int:
        """Size of a variable, or 0 where it is unknown (which is a fault already reported)."""
        return self.sizes.get(self.made.get(variable, ""), 0)

    def _table(self, table: ir.AnyTable) -> bool:
        """Check a table by itself, and say whether it is whole enough to be looked into."""
        self._name(table.name, "table")
        if table.values.dtype not in (np.float32, np.float64):
            self.fault(f"table {table.name} holds {table.values.dtype}, expected float32 or float64")
        elif not np.isfinite(table.values).all():
            self.fault(f"table {table.name} holds a number that is not finite")
        if isinstance(table, ir.Table):
            if table.values.ndim == 0:
                self.fault(f"table {table.name} is a single number, expected a list or a matrix")
            return table.values.ndim > 0
        starts, columns = table.starts, table.columns
        for part in (starts, columns):
            if part.dtype not in (np.int32, np.int64):
                self.fault(f"table {table.name} is indexed by {part.dtype}, expected int32 or int64")
                return False
        if not (starts.ndim == columns.ndim == table.values.ndim == 1 and len(starts)):
            self.fault(f"table {table.name} does not hold its rows as three lists")
            return False
        inside = starts[0] == 0 and starts.min() == 0 and starts.max() == len(columns)
        in_order = inside and (np.diff(starts.astype(np.int64)) >= 0).all()
        if not in_order or starts[-1] != len(columns) or len(columns) != len(table.values):
            self.fault(f"table {table.name} has row starts that do not cover its entries in order")
            return False
        if len(columns) and (columns.min() < 0 or columns.max() >= table.n_columns):
            self.fault(f"table {table.name} has a column outside 0..{table.n_columns - 1}")
            return False
        row_of = np.repeat(np.arange(len(starts) - 1), np.diff(starts.astype(np.int64)))
        same_row = row_of[1:] == row_of[:-1]
        if (np.diff(columns.astype(np.int64))[same_row] <= 0).any():
            self.fault(f"table {table.name} has a row whose columns do not rise")
        return True

    def _expect(self, table: ir.AnyTable | None, shape: tuple[int, ...]) -> None:
        if table is not None and table.shape != shape:
            self.fault(f"table {table.name} has shape {list(table.shape)}, expected {list(shape)}")

    def _keeps_space(self, *reads: str) -> None:
        assert self.block is not None
        for name in reads:
            if self.made[name] != self.block.space:
                self.fault(f"reads {name} of space {self.made[name]}, but writes space {self.block.space}")

    def _shapes(self, block: ir.Block) -> None:
        size = self.sizes[block.space]
        match block:
            case ir.Lookup():
                if block.index not in ("token", "position"):
                    self.fault(f"index is {block.index!r}, expected token or position")
                if block.table.shape[1:] != (size,):
                    self.fault(f"table {block.table.name} has shape {list(block.table.shape)}, expected [rows, {size}]")
                rows = self.program.n_ctx if block.index == "position" else self._d_vocab()
                if rows and block.table.shape[0] != rows:
                    self.fault(f"table {block.table.name} has {block.table.shape[0]} rows, expected {rows}")
            case ir.Linear():
                shape = (self._size(block.reads), size)
                self._expect(block.weight, shape[::-1] if block.transposed else shape)
                self._expect(block.bias, (size,))
            case ir.Sum():
                if not block.reads:
                    self.fault("reads nothing")
                self._keeps_space(*block.reads)
            case ir.Product():
                if len(block.reads) != 2:
                    self.fault(f"reads {len(block.reads)} variables, expected 2")
                self._keeps_space(*block.reads)
            case ir.Join():
                total = sum(self._size(name) for name in block.reads)
                if total != size:
                    self.fault(f"joins {total} coordinates, but space {block.space} has {size}")
            case ir.Normalise():
                self._keeps_space(block.reads)
                if not (math.isfinite(block.eps) and block.eps > 0):
                    self.fault(f"eps is {block.eps}, expected a finite number above 0")
                self._expect(block.gain, (size,))
                self._expect(block.bias, (size,))
                self._expect(block.form, (size, size))
                if block.form is not None and block.centred:
                    self.fault("a form measures the scale of uncentred features; centred must be false")
            case ir.Activate():
                self._keeps_space(block.reads)
                if block.function not in ("gelu_new", "gelu", "relu", "silu"):
                    self.fault(f"unknown function {block.function!r}")
            case ir.Select():
                self._keeps_space(block.reads)
                self._expect(block.thresholds, (size,))
                if block.k is None and block.thresholds is None:
                    self.fault("selects neither by threshold nor by count")
                if block.k is not None and not 1 <= block.k <= size:
                    self.fault(f"k is {block.k}, expected 1..{size}")
            case ir.Rotate():
                self._keeps_space(block.reads)
                if block.n_heads < 1 or size % (2 * block.n_heads):
                    self.fault(f"{size} coordinates do not form {block.n_heads} heads of even size")
                if not (math.isfinite(block.theta) and block.theta > 0):
                    self.fault(f"theta is {block.theta}, expected a finite number above 0")
            case ir.Attend():
                self._attend(block, size)
            case ir.Match():
                self._match(block, size)
            case ir.Rules():
                n_rules = block.conditions.shape[0]
                self._expect(block.conditions, (n_rules, self._size(block.reads)))
                self._expect(block.thresholds, (n_rules,))
                self._expect(block.effects, (n_rules, size))
                self._expect(block.biases, (n_rules,))
                self._expect(block.offset, (size,))
                if block.passes not in ("excess", "value"):
                    self.fault(f"passes {block.passes!r}, expected excess or value")
                if block.k is not None and not 1 <= block.k <= n_rules:
                    self.fault(f"k is {block.k}, expected 1..{n_rules}")
            case ir.Looks():
                self._looks(block, size)
            case ir.Fire():
                self._rows(block, block.conditions, size)
            case ir.Conditions():
                self._conditions(block, size)
            case ir.Votes():
                self._expect(block.weights, (self._joined(block.reads), size))
                self._expect(block.bias, (size,))
            case ir.Unexplained():
                self._keeps_space(block.exact, block.explained)
            case ir.Vote():
                if not block.reads:
                    self.fault("reads nothing")
                self._keeps_space(*block.reads)
                if block is not self.program.blocks[-1]:
                    self.fault("a vote stands before the last block")
            case _:
                assert_never(block)

    def _d_vocab(self) -> int:
        last = self.program.blocks[-1]
        return self.sizes.get(last.space, 0) if isinstance(last, ir.Vote) else 0

    def _window(self, window: int | None) -> None:
        if window is not None and window < 1:
            self.fault(f"window is {window}, expected at least 1")

    def _attend(self, block: ir.Attend, size: int) -> None:
        self._window(block.window)
        if block.n_heads < 1 or block.n_kv_heads < 1 or block.n_heads % block.n_kv_heads:
            self.fault(f"{block.n_heads} heads cannot share {block.n_kv_heads} key-value heads evenly")
            return
        if not math.isfinite(block.scale):
            self.fault(f"scale is {block.scale}, expected a finite number")
        q, k, v = (self._size(name) for name in (block.queries, block.keys, block.values))
        if q % block.n_heads or k % block.n_kv_heads or v % block.n_kv_heads:
            self.fault(f"{q}, {k} and {v} coordinates do not form {block.n_heads} and {block.n_kv_heads} heads")
        elif q // block.n_heads != k // block.n_kv_heads:
            self.fault(f"queries have {q // block.n_heads} coordinates a head, keys {k // block.n_kv_heads}")
        elif v // block.n_kv_heads * block.n_heads != size:
            mixed = v // block.n_kv_heads * block.n_heads
            self.fault(f"mixes {mixed} coordinates, but space {block.space} has {size}")

    def _match(self, block: ir.Match, size: int) -> None:
        self._window(block.window)
        n_heads = len(block.scores)
        q, k, v = (self._size(name) for name in (block.queries, block.keys, block.values))
        if not n_heads:
            self.fault("has no heads")
        if block.buckets[:1] != (0,) or any(low >= high for low, high in itertools.pairwise(block.buckets)):
            self.fault(f"buckets begin at {list(block.buckets)}, expected distances that rise from 0")
        for head, tables in enumerate(block.scores):
            if len(tables) != len(block.buckets):
                self.fault(f"head {head} has {len(tables)} tables of scores for {len(block.buckets)} buckets")
            for table in tables:
                self._expect(table, (q, k))
        if block.moves is not None:
            if len(block.moves) != n_heads:
                self.fault(f"{len(block.moves)} tables of moves for {n_heads} heads")
            for table in block.moves:
                self._expect(table, (v, size))
        elif n_heads * v != size:
            self.fault(f"mixes {n_heads} heads of {v} coordinates, but space {block.space} has {size}")
        if block.distance is not None:
            self._distance(block.distance, n_heads)

    def _joined(self, reads: tuple[str, ...]) -> int:
        """Size of variables side by side."""
        if not reads:
            self.fault("reads nothing")
        return sum(self._size(name) for name in reads)

    def _rows(self, block: ir.Looks | ir.Fire, conditions: ir.SparseTable, size: int) -> None:
        """Check the conditions, biases and thresholds of features that are rules."""
        self._expect(conditions, (size, self._joined(block.reads)))
        self._expect(block.biases, (size,))
        self._expect(block.thresholds, (size,))
        if (block.thresholds.values < 0).any():
            lowest = block.thresholds.values.min()
            self.fault(f"table {block.thresholds.name} holds a threshold of {lowest:g}, expected 0 or more")

    def _conditions(self, block: ir.Conditions, size: int) -> None:
        """Check conditions, what their features are worth, and what tokens do to sentences and quotes."""
        if len(block.conditions) != size:
            self.fault(f"has {len(block.conditions)} conditions, but space {block.space} has {size}")
        self._expect(block.values, (size,))
        if (block.values.values < 0).any():
            self.fault(f"table {block.values.name} holds a value of {block.values.values.min():g}, expected 0 or more")
        d_vocab = self._d_vocab()
        most = max((word.token for condition in block.conditions for word in condition.words), default=-1)
        if most >= d_vocab:
            self.fault(f"a condition has the token {most}, expected less than {d_vocab}")
        self._expect(block.marks, (d_vocab, MARKS))
        others = [other for other in self.program.blocks if isinstance(other, ir.Conditions)]
        if block.marks != others[0].marks:
            self.fault(f"has other marks than {others[0].name}, expected the same")
        if (block.marks.values != 1).any():
            self.fault(f"table {block.marks.name} holds other numbers than 1")
        of_quotes = np.bincount(block.marks.rows()[block.marks.columns > 0], minlength=1)
        if of_quotes.max() > 1:
            self.fault(f"table {block.marks.name} says of token {int(of_quotes.argmax())} twice what it does to quotes")

    def _looks(self, block: ir.Looks, size: int) -> None:
        self._window(block.window)
        self._rows(block, block.conditions, size)
        n_looks, n_matches, n_read = len(block.moved), sum(block.matches), sum(self._size(r) for r in block.reads)
        if not n_looks:
            self.fault("has no looks")
        if len(block.matches) != n_looks:
            self.fault(f"{len(block.matches)} numbers of matches for {n_looks} looks")
        if min(block.matches, default=0) < 0:
            self.fault(f"a look has {min(block.matches)} matches, expected 0 or more")
            return
        if min(block.moved, default=1) < 1:
            self.fault(f"a look makes {min(block.moved)} moved features, expected at least 1")
        if sum(block.moved) != size:
            self.fault(f"makes {sum(block.moved)} moved features, but space {block.space} has {size}")
        for table in (block.queries, block.keys):
            self._expect(table, (n_matches, n_read))
        for table in (block.query_biases, block.key_biases):
            self._expect(table, (n_matches,))
        self._expect(block.lone_keys, (n_looks, n_read))
        self._distance(block.distance, n_looks)

    def _distance(self, distance: ir.Table, n_heads: int) -> None:
        """Check curves over distance, one for each head or look."""
        if distance.values.ndim != 2 or distance.shape[0] != n_heads or distance.shape[1] < 1:
            self.fault(f"table {distance.name} has shape {list(distance.shape)}, expected [{n_heads}, distances]")

    def _shared_tables(self) -> None:
        seen: dict[str, ir.AnyTable] = {}
        for block in self.program.blocks:
            self.block = block
            for table in ir.tables_of(block):
                first = seen.setdefault(table.name, table)
                if first is not table and first != table:
                    self.fault(f"table {table.name} differs from another of the same name")


def _stored(table: ir.AnyTable) -> int:
    return table.values.size + (table.starts.size if isinstance(table, ir.SparseTable) else 0)
