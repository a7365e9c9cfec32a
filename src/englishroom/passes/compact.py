"""Leave out what nothing makes or nothing reads: coordinates, rules, variables and blocks.

1. From the first block on, note which coordinates can be anything but 0.
2. From the votes back, mark every such coordinate that something reads, through tables that have entries there. What
   stands side by side, or in one space, is marked together.
3. Leave out rules that add to nothing that is marked, blocks whose variable has no mark, and what is not marked of
   spaces and tables.
4. Begin again, as long as something was left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from englishroom.ir import program as ir
from englishroom.passes.tables import Mask, cut


@dataclass(frozen=True)
class Compact:
    """Leave out coordinates that nothing reads, rules that add to nothing, and blocks that nothing needs.

    A rule that fires and that nothing reads may keep another from firing where only so many may; without it the
    program then says something else.
    """

    unread: bool = False
    """Leave out rules that nothing reads even where only so many may fire."""

    name = "compact"

    def __call__(self, program: ir.Program) -> tuple[ir.Program, tuple[str, ...]]:
        found, kept = compacted(program, self.unread)
        sizes = {block.name: program.space(block.space).size for block in program.blocks}
        rewrites = [f"{name}: left out" for name in sizes if name not in kept]
        rewrites += [f"{key}: kept {len(at):,} of {sizes[key]:,}" for key, at in kept.items() if len(at) < sizes[key]]
        return found, tuple(rewrites)


def compacted(
    program: ir.Program, unread: bool = False, fires: Mapping[str, Mask] = MappingProxyType({})
) -> tuple[ir.Program, dict[str, NDArray[np.intp]]]:
    """Compact a program.

    Args:
        unread: leave out rules that nothing reads even where only so many may fire.
        fires: block of rules -> which of them ever fire; the others go. By default any may, and so may rules
            that are features whatever stands here.

    Returns:
        The program, and for every variable left which of its coordinates are.
    """
    found, kept = _once(program, unread, fires)
    while True:
        smaller, left = _once(found, unread, {})
        if smaller.spaces == found.spaces and smaller.n_entries == found.n_entries and len(left) == len(kept):
            return found, kept
        found, kept = smaller, {name: kept[name][places] for name, places in left.items()}


def _once(
    program: ir.Program, unread: bool, fires: Mapping[str, Mask]
) -> tuple[ir.Program, dict[str, NDArray[np.intp]]]:
    marks = _Marks(program, unread, fires)
    blocks = _named_apart([_smaller(block, marks) for block in program.blocks if block.name in marks.live])
    spaces = {block.space for block in blocks}
    kept = tuple(ir.Space(s.name, int(marks.spaces[s.name].sum())) for s in program.spaces if s.name in spaces)
    found = replace(program, spaces=kept, blocks=tuple(blocks))
    return found, {block.name: np.flatnonzero(marks.spaces[block.space]) for block in blocks}


class _Marks:
    """What is needed.

    Attributes:
        spaces: space -> mask of its coordinates.
        live: variables of which something is needed.
        rules: block of rules -> mask of its rules.
    """

    def __init__(self, program: ir.Program, unread: bool, fires: Mapping[str, Mask]) -> None:
        self.program, self.unread, self.fires = program, unread, fires
        self.blocks: Mapping[str, ir.Block] = {block.name: block for block in program.blocks}
        self.spaces: dict[str, Mask] = {space.name: np.zeros(space.size, bool) for space in program.spaces}
        self.live: set[str] = {program.vote.name}
        self.rules: dict[str, Mask] = {}
        self.spaces[program.vote.space][:] = True
        self.made: dict[str, Mask] = {}
        for block in program.blocks:
            self.made[block.name] = _made(block, self.made, len(self.of(block.name)))
        self.changed = True
        while self.changed:
            self.changed = False
            for block in reversed(program.blocks):
                if block.name in self.live:
                    self._block(block)

    def of(self, variable: str) -> Mask:
        return self.spaces[self.blocks[variable].space]

    def need(self, variable: str, mask: Mask | bool) -> None:
        """Mark coordinates of a variable; a variable that is read has one at least."""
        now = self.of(variable)
        new = now | mask
        if not new.any():
            new[0] = True
        if (new != now).any() or variable not in self.live:
            now[:] = new
            self.live.add(variable)
            self.changed = True

    def _block(self, block: ir.Block) -> None:
        mask = self.spaces[block.space]
        match block:
            case ir.Lookup() | ir.Conditions():
                pass
            case ir.Linear(reads=reads, weight=weight):
                self.need(reads, self.made[reads] & _reading(weight, mask, block.transposed))
            case ir.Sum(reads=reads) | ir.Product(reads=reads) | ir.Vote(reads=reads):
                for read in reads:
                    self.need(read, mask)
            case ir.Join(reads=reads):
                self._join(reads, mask)
            case ir.Normalise(reads=reads, form=form):
                if form is None:
                    self.need(reads, True)
                else:
                    both = np.zeros(len(mask), bool)
                    both[form.columns] = both[form.rows()] = True
                    self.need(reads, mask | both)
            case ir.Rotate(reads=reads):
                self.need(reads, True)
            case ir.Activate(reads=reads) | ir.Select(reads=reads):
                self.need(reads, mask if not isinstance(block, ir.Select) or block.k is None else True)
            case ir.Match():
                self._match(block, mask)
            case ir.Rules(reads=reads):
                fires = self.fires.get(block.name, np.ones(block.effects.shape[0], bool))
                whole = block.k is not None and not self.unread
                kept = fires if whole else fires & _reading(block.effects, mask, transposed=False)
                self.rules[block.name] = kept
                self.need(reads, self.made[reads] & _reading(block.conditions, kept, transposed=True))
            case ir.Looks():
                live = _live(block, mask)
                needed = _reading(block.conditions, mask, transposed=True)
                needed |= _reading(block.lone_keys, live, transposed=True)
                for table in (block.queries, block.keys):
                    needed |= _reading(table, np.repeat(live, block.matches), transposed=True)
                self._side_by_side(block.reads, needed)
            case ir.Fire(reads=reads, conditions=conditions):
                self._side_by_side(reads, _reading(conditions, mask, transposed=True))
            case ir.Votes(reads=reads, weights=weights):
                self._side_by_side(reads, _reading(weights, mask, transposed=False))
            case ir.Attend():
                for name in (block.name, *ir.reads_of(block)):
                    self.need(name, True)
            case ir.Unexplained(exact=exact, explained=explained):
                self.need(exact, mask)
                self.need(explained, mask)
            case _:
                assert_never(block)

    def _join(self, reads: tuple[str, ...], mask: Mask) -> None:
        first = 0
        for read in reads:
            size = len(self.of(read))
            part = mask[first : first + size]
            if part.any() or (read in self.live and self.of(read).any()):
                self.need(read, part)
                if (self.of(read) & ~part).any():
                    part |= self.of(read)  # a view: marks the space of the join
                    self.changed = True
            first += size

    def _side_by_side(self, reads: tuple[str, ...], needed: Mask) -> None:
        """Mark what is needed of variables side by side; of one of them at least something."""
        made = _joined(reads, self.made)
        needed = needed & made
        if not needed.any():
            self.need(reads[0], False)
        ends = np.cumsum([len(self.of(read)) for read in reads])[:-1]
        for read, part in zip(reads, np.split(needed, ends), strict=True):
            if part.any():
                self.need(read, part)

    def _match(self, block: ir.Match, mask: Mask) -> None:
        asked, offered = np.zeros(len(self.of(block.queries)), bool), np.zeros(len(self.of(block.keys)), bool)
        for table in (table for tables in block.scores for table in tables):
            asked |= _held(table, 0)
            offered |= _held(table, 1)
        self.need(block.queries, asked & self.made[block.queries])
        self.need(block.keys, offered & self.made[block.keys])
        if block.moves is None:
            self.need(block.values, True)
            self.need(block.name, True)
        else:
            carried = [_reading(table, mask, transposed=False) for table in block.moves]
            self.need(block.values, np.logical_or.reduce(carried) & self.made[block.values])


def _made(block: ir.Block, made: Mapping[str, Mask], size: int) -> Mask:
    """Say which coordinates of a variable can be anything but 0."""
    match block:
        case ir.Lookup(table=table):
            return _held(table, 1)
        case ir.Linear(reads=reads, weight=weight, bias=bias):
            found = _reading(weight, made[reads], not block.transposed)
            return found if bias is None else found | (bias.values != 0)
        case ir.Join(reads=reads):
            return _joined(reads, made)
        case ir.Looks(reads=reads, conditions=conditions) | ir.Fire(reads=reads, conditions=conditions):
            read = _reading(conditions, _joined(reads, made), transposed=False)
            return read | (block.biases.values > block.thresholds.values)
        case ir.Conditions(conditions=conditions, values=values):
            return np.array([bool(condition.alternatives) for condition in conditions]) & (values.values != 0)
        case ir.Votes(reads=reads, weights=weights, bias=bias):
            found = _reading(weights, _joined(reads, made), transposed=True)
            return found if bias is None else found | (bias.values != 0)
        case ir.Sum(reads=reads) | ir.Vote(reads=reads):
            return np.logical_or.reduce([made[read] for read in reads])
        case ir.Product(reads=(a, b)):
            return made[a] & made[b]
        case ir.Normalise(reads=reads, centred=False, bias=bias):
            return made[reads] if bias is None else made[reads] | (bias.values != 0)
        case ir.Select(reads=reads):
            return made[reads]
        case ir.Rules(effects=effects, offset=offset):
            return _held(effects, 1) if offset is None else _held(effects, 1) | (offset.values != 0)
        case ir.Match(values=values, moves=moves):
            if moves is None:
                return np.tile(made[values], len(block.scores))
            return np.logical_or.reduce([_reading(table, made[values], transposed=True) for table in moves])
        case ir.Normalise() | ir.Rotate() | ir.Activate() | ir.Attend() | ir.Unexplained():
            return np.ones(size, bool)
        case _:
            assert_never(block)


def _joined(reads: tuple[str, ...], masks: Mapping[str, Mask]) -> Mask:
    """Put the masks of variables side by side."""
    return np.concatenate([masks[read] for read in reads])


def _live(block: ir.Looks, moved: Mask) -> Mask:
    """Say which looks make any of the moved features that are marked."""
    return np.array([part.any() for part in _by_look(block, moved)])


def _by_look(block: ir.Looks, moved: Mask) -> list[Mask]:
    """Part a mask of moved features by look."""
    return np.split(moved, np.cumsum(block.moved)[:-1])


def _reading(table: ir.AnyTable, outputs: Mask, transposed: bool) -> Mask:
    """Say which inputs of a map have an entry towards outputs that are marked."""
    if isinstance(table, ir.Table):
        held = table.values != 0
        return (held[outputs] if transposed else held[:, outputs].T).any(0)
    inputs, outs = (table.columns, table.rows()) if transposed else (table.rows(), table.columns)
    mask = np.zeros(table.shape[1] if transposed else table.shape[0], bool)
    mask[inputs[outputs[outs]]] = True
    return mask


def _held(table: ir.AnyTable, axis: int) -> Mask:
    """Say which rows, or columns, of a table have an entry."""
    if isinstance(table, ir.Table):
        return (table.values != 0).any(1 - axis)
    mask = np.zeros(table.shape[axis], bool)
    mask[table.rows() if axis == 0 else table.columns] = True
    return mask


def _smaller(block: ir.Block, marks: _Marks) -> ir.Block:
    """Keep what is marked of one block."""
    kept, out = marks.of, marks.spaces[block.space]

    match block:
        case ir.Lookup(table=table):
            return _with(block, table=cut(table, None, out))
        case ir.Linear(reads=reads, weight=weight, bias=bias):
            sides = (out, kept(reads)) if block.transposed else (kept(reads), out)
            return _with(block, weight=cut(weight, *sides), bias=cut(bias, out))
        case ir.Join(reads=reads):
            return _with(block, reads=_left(reads, marks))
        case ir.Normalise():
            parts = {
                "gain": cut(block.gain, out),
                "bias": cut(block.bias, out),
                "form": cut(block.form, out, out),
            }
            return _with(block, **parts)
        case ir.Select(thresholds=thresholds, k=k):
            return _with(block, thresholds=cut(thresholds, out), k=k)
        case ir.Match(moves=moves):
            asked, offered, carried = kept(block.queries), kept(block.keys), kept(block.values)
            scores = tuple(tuple(cut(table, asked, offered) for table in tables) for tables in block.scores)
            return _with(block, scores=scores, moves=moves and tuple(cut(table, carried, out) for table in moves))
        case ir.Rules():
            rules = marks.rules[block.name]
            return _with(
                block,
                conditions=cut(block.conditions, rules, kept(block.reads)),
                thresholds=cut(block.thresholds, rules),
                effects=cut(block.effects, rules, out),
                biases=cut(block.biases, rules),
                offset=cut(block.offset, out),
                k=None if block.k is None or block.k >= rules.sum() else block.k,
            )
        case ir.Looks(reads=reads):
            read, live = _joined(reads, {name: kept(name) for name in reads}), _live(block, out)
            matches = np.repeat(live, block.matches)
            return _with(
                block,
                reads=_left(reads, marks),
                queries=cut(block.queries, matches, read),
                query_biases=cut(block.query_biases, matches),
                keys=cut(block.keys, matches, read),
                key_biases=cut(block.key_biases, matches),
                matches=tuple(n for n, on in zip(block.matches, live, strict=True) if on),
                lone_keys=cut(block.lone_keys, live, read),
                distance=cut(block.distance, live, None),
                conditions=cut(block.conditions, out, read),
                biases=cut(block.biases, out),
                thresholds=cut(block.thresholds, out),
                moved=tuple(int(part.sum()) for part in _by_look(block, out) if part.any()),
            )
        case ir.Fire(reads=reads):
            return _with(
                block,
                reads=_left(reads, marks),
                conditions=cut(block.conditions, out, _joined(reads, {name: kept(name) for name in reads})),
                biases=cut(block.biases, out),
                thresholds=cut(block.thresholds, out),
            )
        case ir.Conditions(conditions=conditions, values=values, marks=table):
            told = tuple(condition for condition, on in zip(conditions, out, strict=True) if on)
            return _with(block, conditions=told, values=cut(values, out), marks=table)
        case ir.Votes(reads=reads):
            read = _joined(reads, {name: kept(name) for name in reads})
            return _with(
                block,
                reads=_left(reads, marks),
                weights=cut(block.weights, read, out),
                bias=cut(block.bias, out),
            )
        case ir.Sum() | ir.Product() | ir.Rotate() | ir.Activate() | ir.Attend() | ir.Unexplained() | ir.Vote():
            return block
        case _:
            assert_never(block)


def _left(reads: tuple[str, ...], marks: _Marks) -> tuple[str, ...]:
    """Leave out variables that have no coordinate left."""
    return tuple(read for read in reads if read in marks.live and marks.of(read).any())


def _named_apart(blocks: list[ir.Block]) -> list[ir.Block]:
    """Give tables that were one, and of which different parts were kept, names of their own."""
    first: dict[str, ir.AnyTable] = {}

    def named(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(named, value))
        if not isinstance(value, ir.Table | ir.SparseTable):
            return value
        new, count = value, 1
        while first.setdefault(new.name, new) != new:
            count += 1
            new = replace(value, name=f"{value.name}_{count}")
        return new

    return [_with(block, **{item.name: named(getattr(block, item.name)) for item in fields(block)}) for block in blocks]


def _with(block: Any, **parts: Any) -> ir.Block:
    """Replace parts of a block; one that is as it was stays as it is."""
    new = {name: part for name, part in parts.items() if part != getattr(block, name)}
    return replace(block, **new, origin=ir.Origin(Compact.name, block.origin.sources)) if new else block
