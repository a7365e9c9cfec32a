"""Every rule of validity has a program that breaks it, and every fault is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings

from englishroom.errors import EnglishRoomError, InvalidProgramError
from englishroom.ir.levels import FEATURED_BLOCKS
from englishroom.ir.program import (
    Block,
    Conditions,
    Join,
    Linear,
    Lookup,
    Normalise,
    Program,
    Space,
    SparseTable,
    Table,
    Vote,
    tables_of,
)
from englishroom.ir.text import parse_program
from englishroom.ir.verify import require_valid, verify
from programs import full_program, programs

EXACT = """\
Program(level='exact', n_ctx=3)
Space('vocab', 5)
Space('resid', 4)
Space('kv', 2)
Lookup('embed', 'resid', index='token', table=Table('W_E'))
Lookup('pos', 'resid', index='position', table=Table('W_pos'))
Sum('sum', 'resid', reads=('embed', 'pos'))
Normalise('norm', 'resid', reads='sum', centred=True, eps=1e-05, gain=Table('g'), bias=Table('b'), form=None)
Linear('q', 'resid', reads='norm', weight=Table('W_Q'), bias=Table('b'), transposed=False)
Linear('k', 'kv', reads='norm', weight=Table('W_K'), bias=None, transposed=False)
Linear('v', 'kv', reads='norm', weight=Table('W_K'), bias=None, transposed=False)
Rotate('turned', 'resid', reads='q', n_heads=2, theta=10.0)
Attend('z', 'resid', queries='turned', keys='k', values='v', n_heads=2, n_kv_heads=1, scale=0.5, window=2)
Activate('act', 'resid', reads='z', function='silu')
Product('gated', 'resid', reads=('act', 'sum'))
Linear('logits', 'vocab', reads='gated', weight=Table('W_E'), bias=None, transposed=True)
Vote('log_probs', 'vocab', reads=('logits',))
Dense('W_E', 'float32', (5, 4), '1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20')
Dense('W_pos', 'float64', (3, 4), '1 2 3 4 5 6 7 8 9 10 11 12')
Dense('W_Q', 'float32', (4, 4), '1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16')
Dense('W_K', 'float32', (4, 2), '1 2 3 4 5 6 7 8')
Dense('g', 'float32', (4,), '1 1 1 1')
Dense('b', 'float32', (4,), '0 0 0 0')
"""
SPARSE = """\
Program(level='sparse', n_ctx=3)
Space('vocab', 5)
Space('resid', 4)
Space('both', 8)
Lookup('embed', 'resid', index='token', table=Table('E'))
Lookup('pos', 'resid', index='position', table=Table('P'))
Join('join', 'both', reads=('embed', 'pos'))
Linear('mixed', 'resid', reads='join', weight=Table('M'), bias=Table('b'), transposed=False)
Normalise('norm', 'resid', reads='mixed', centred=False, eps=0.5, gain=Table('b'), bias=None, form=Table('F'))
Select('few', 'resid', reads='norm', k=2, thresholds=Table('b'))
Match('look', 'both', queries='few', keys='norm', values='few', scores=((Table('F'),), (Table('S'),)), \
distance=Table('D'))
Match('far', 'resid', queries='few', keys='norm', values='look', scores=((Table('N'), Table('F')),), buckets=(0, 2), \
moves=(Table('M'),))
Rules('fire', 'vocab', reads='look', conditions=Table('C'), thresholds=Table('t'), effects=Table('O'))
Vote('log_probs', 'vocab', reads=('fire', 'fire'))
Sparse('E', 'int64', 'int32', 'float32', 4, '0 1 2 4 5 6', '0 1 0 3 2 3', '1 2 3 4 5 6')
Sparse('P', 'int64', 'int64', 'float64', 4, '0 0 1 1', '2', '1')
Sparse('M', 'int32', 'int32', 'float64', 4, '0 1 1 1 2 2 2 2 3', '0 1 2', '1 2 3')
Sparse('F', 'int64', 'int64', 'float64', 4, '0 1 2 3 4', '0 1 2 3', '1 1 1 1')
Sparse('S', 'int64', 'int64', 'float64', 4, '0 0 0 0 0', '', '')
Sparse('N', 'int64', 'int64', 'float64', 4, '0 1 1 1 1', '3', '0.5')
Sparse('C', 'int64', 'int64', 'float64', 8, '0 2 3', '0 7 3', '1 -1 2')
Sparse('O', 'int64', 'int64', 'float64', 5, '0 1 3', '4 0 1', '1 2 3')
Dense('D', 'float64', (2, 3), '1 2 3 4 5 6')
Dense('b', 'float64', (4,), '1 2 3 4')
Dense('t', 'float64', (2,), '1 2')
"""
FEATURED = SPARSE.replace("level='sparse'", "level='featured'").replace(
    "Vote(", "Unexplained('rest', 'resid', exact='mixed', explained='few')\nVote("
)
READABLE = """\
Program(level='sparse', n_ctx=3)
Space('vocab', 5)
Space('lists', 4)
Space('moved', 3)
Space('rules', 2)
Lookup('lists', 'lists', index='token', table=Table('E'))
Lookup('follows', 'vocab', index='token', table=Table('V'))
Looks('moved', 'moved', reads=('lists',), queries=Table('Q'), query_biases=Table('q'), keys=Table('K'), \
key_biases=Table('q'), matches=(2, 0), lone_keys=Table('L'), distance=Table('D'), conditions=Table('C'), \
biases=Table('b'), thresholds=Table('t'), moved=(1, 2), window=2)
Fire('rules', 'rules', reads=('lists', 'moved'), conditions=Table('R'), biases=Table('q'), thresholds=Table('u'))
Votes('list_votes', 'lists', reads=('rules',), weights=Table('W'))
Linear('words', 'vocab', reads='list_votes', weight=Table('E'), bias=None, transposed=True)
Votes('votes', 'vocab', reads=('moved', 'rules'), weights=Table('X'), bias=Table('v'))
Vote('log_probs', 'vocab', reads=('follows', 'words', 'votes'))
Sparse('E', 'int64', 'int32', 'float32', 4, '0 1 2 4 5 6', '0 1 0 3 2 3', '1 2 3 4 5 6')
Sparse('V', 'int64', 'int64', 'float64', 5, '0 0 1 1 1 1', '2', '-1')
Sparse('Q', 'int64', 'int64', 'float64', 4, '0 1 2', '0 3', '1 -1')
Sparse('K', 'int64', 'int64', 'float64', 4, '0 1 2', '2 1', '2 1')
Sparse('L', 'int64', 'int64', 'float64', 4, '0 0 1', '1', '-0.5')
Sparse('C', 'int64', 'int64', 'float64', 4, '0 1 2 3', '0 1 2', '1 1 1')
Sparse('R', 'int64', 'int64', 'float64', 7, '0 2 3', '0 4 6', '1 -1 2')
Sparse('W', 'int64', 'int64', 'float64', 4, '0 1 1', '3', '1')
Sparse('X', 'int64', 'int64', 'float64', 5, '0 1 1 1 2 2', '0 1', '1 -1')
Dense('D', 'float64', (2, 3), '1 2 3 4 5 6')
Dense('q', 'float64', (2,), '1 -2')
Dense('b', 'float64', (3,), '0 0 -1')
Dense('t', 'float64', (3,), '1 2 0')
Dense('u', 'float64', (2,), '0 0')
Dense('v', 'float64', (5,), '1 2 3 4 5')
"""
BASES = {program.level: program for program in map(parse_program, (EXACT, FEATURED, SPARSE))}
BASES |= {"readable": parse_program(READABLE)}
Change = Callable[[Program], Program]


def fields_of(name: str, /, **changes: Any) -> Change:
    """Replace fields of one block."""
    return lambda p: replace(p, blocks=tuple(replace(b, **changes) if b.name == name else b for b in p.blocks))


def program_of(**changes: Any) -> Change:
    return lambda p: replace(p, **changes)


def blocks_of(edit: Callable[[list[Block]], object]) -> Change:
    """Edit the list of blocks."""

    def change(program: Program) -> Program:
        blocks = list(program.blocks)
        edit(blocks)
        return replace(program, blocks=tuple(blocks))

    return change


def table_of(name: str, /, **changes: Any) -> Change:
    """Replace parts of one table, wherever it is held; a function makes the new part from the old."""

    def changed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(changed, value))
        if not isinstance(value, Table | SparseTable) or value.name != name:
            return value
        return replace(value, **{k: v(getattr(value, k)) if callable(v) else v for k, v in changes.items()})

    def change(program: Program) -> Program:
        held = [
            replace(b, **{k: changed(v) for k, v in vars(b).items()}) if list(tables_of(b)) else b
            for b in program.blocks
        ]
        return replace(program, blocks=tuple(held))

    return change


def put(position: Any, number: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that copies an array with one number changed."""

    def change(array: np.ndarray) -> np.ndarray:
        copy = array.copy()
        copy[position] = number
        return copy

    return change


def dense(name: str, *shape: int) -> Table:
    return Table(name, np.ones(shape))


def csr(name: str, *shape: int) -> SparseTable:
    starts = np.zeros(shape[0] + 1, dtype=np.int64)
    return SparseTable(name, starts, np.zeros(0, dtype=np.int64), np.zeros(0), shape[1])


VOTE = Vote(name="early", space="vocab", reads=("logits",))
BREAKS: list[tuple[str, Change, list[str]]] = [
    # the program
    ("exact", program_of(level="vague"), ["level is 'vague', expected one of exact, featured, sparse, explained"]),
    ("exact", program_of(n_ctx=0), ["n_ctx is 0, expected at least 1"]),
    ("exact", program_of(n_ctx=4), ["pos: table W_pos has 3 rows, expected 4"]),
    ("exact", program_of(blocks=()), ["the last block is not a vote"]),
    ("exact", blocks_of(lambda b: b.pop()), ["the last block is not a vote"]),
    ("exact", blocks_of(lambda b: b.insert(-1, VOTE)), ["early: a vote stands before the last block"]),
    # spaces
    (
        "exact",
        lambda p: replace(p, spaces=(*p.spaces, Space("kv", 2))),
        ["space kv is declared twice"],
    ),
    (
        "exact",
        lambda p: replace(p, spaces=(*p.spaces, Space("void", 0))),
        ["space void has size 0, expected at least 1"],
    ),
    ("exact", fields_of("act", space="nowhere"), ["act: unknown space nowhere"]),
    (
        "exact",
        fields_of("sum", space="kv"),
        [
            "sum: reads embed of space resid, but writes space kv",
            "sum: reads pos of space resid, but writes space kv",
            "norm: reads sum of space kv, but writes space resid",
            "gated: reads sum of space kv, but writes space resid",
        ],
    ),
    # variables
    ("exact", fields_of("k", reads="z"), ["k: reads z, which no earlier block makes"]),
    ("exact", fields_of("k", reads="k"), ["k: reads k, which no earlier block makes"]),
    ("exact", fields_of("sum", reads=("embed", "other")), ["sum: reads other, which no earlier block makes"]),
    (
        "exact",
        fields_of("pos", name="embed"),
        [
            "embed: this variable is made twice",
            "sum: reads pos, which no earlier block makes",
        ],
    ),
    # shared tables
    (
        "exact",
        fields_of("logits", weight=dense("W_E", 5, 4)),
        ["logits: table W_E differs from another of the same name"],
    ),
    (
        "sparse",
        fields_of("norm", form=csr("E", 4, 4)),
        ["norm: table E differs from another of the same name"],
    ),
    (
        "sparse",
        fields_of("norm", gain=dense("E", 4)),
        ["norm: table E differs from another of the same name"],
    ),
    # numbers
    ("exact", table_of("W_Q", values=put((1, 2), np.nan)), ["q: table W_Q holds a number that is not finite"]),
    ("exact", table_of("g", values=put(0, -np.inf)), ["norm: table g holds a number that is not finite"]),
    ("sparse", table_of("C", values=put(1, np.inf)), ["fire: table C holds a number that is not finite"]),
    (
        "exact",
        table_of("W_Q", values=lambda v: v.astype(np.int64)),
        ["q: table W_Q holds int64, expected float32 or float64"],
    ),
    (
        "exact",
        table_of("W_Q", values=lambda v: v.astype(np.float16)),
        ["q: table W_Q holds float16, expected float32 or float64"],
    ),
    (
        "sparse",
        table_of("C", values=lambda v: v.astype(">f8")),
        ["fire: table C holds >f8, expected float32 or float64"],
    ),
    # sparse tables
    (
        "sparse",
        table_of("C", starts=lambda s: s.astype(np.uint32)),
        ["fire: table C is indexed by uint32, expected int32 or int64"],
    ),
    (
        "sparse",
        table_of("C", columns=lambda c: c.astype(np.float64)),
        ["fire: table C is indexed by float64, expected int32 or int64"],
    ),
    ("sparse", table_of("C", values=lambda v: v[:, None]), ["fire: table C does not hold its rows as three lists"]),
    ("sparse", table_of("C", columns=lambda c: c[:, None]), ["fire: table C does not hold its rows as three lists"]),
    (
        "sparse",
        table_of("C", starts=lambda s: s[None]),
        [
            "fire: table C does not hold its rows as three lists",
        ],
    ),
    (
        "sparse",
        table_of("S", starts=lambda s: s[:0]),
        [
            "look: table S does not hold its rows as three lists",
        ],
    ),
    *(
        ("sparse", table_of("C", **change), ["fire: table C has row starts that do not cover its entries in order"])
        for change in (
            {"starts": put(0, 1)},
            {"starts": put(1, 4)},
            {"starts": put(1, -1)},
            {"starts": put(2, 2)},
            {"columns": lambda c: c[:2]},
            {"values": lambda v: v[:2]},
        )
    ),
    ("sparse", table_of("C", columns=put(1, 8)), ["fire: table C has a column outside 0..7"]),
    ("sparse", table_of("C", columns=put(0, -1)), ["fire: table C has a column outside 0..7"]),
    ("sparse", table_of("C", columns=put(1, 0)), ["fire: table C has a row whose columns do not rise"]),
    ("sparse", table_of("C", columns=lambda c: c[[1, 0, 2]]), ["fire: table C has a row whose columns do not rise"]),
    # shapes
    (
        "exact",
        table_of("W_E", values=lambda v: v[:, :3]),
        [
            "embed: table W_E has shape [5, 3], expected [rows, 4]",
            "logits: table W_E has shape [5, 3], expected [5, 4]",
        ],
    ),
    (
        "exact",
        table_of("W_E", values=lambda v: v[:4]),
        [
            "embed: table W_E has 4 rows, expected 5",
            "logits: table W_E has shape [4, 4], expected [5, 4]",
        ],
    ),
    (
        "exact",
        table_of("W_pos", values=np.ravel),
        [
            "pos: table W_pos has shape [12], expected [rows, 4]",
            "pos: table W_pos has 12 rows, expected 3",
        ],
    ),
    ("exact", fields_of("embed", index="word"), ["embed: index is 'word', expected token or position"]),
    ("exact", fields_of("logits", transposed=False), ["logits: table W_E has shape [5, 4], expected [4, 5]"]),
    ("exact", fields_of("q", bias=dense("c", 2)), ["q: table c has shape [2], expected [4]"]),
    ("exact", fields_of("q", bias=dense("c", 1, 4)), ["q: table c has shape [1, 4], expected [4]"]),
    ("exact", fields_of("norm", gain=dense("c", 3)), ["norm: table c has shape [3], expected [4]"]),
    ("exact", fields_of("norm", bias=dense("c", 3)), ["norm: table c has shape [3], expected [4]"]),
    ("sparse", fields_of("norm", form=csr("c", 4, 3)), ["norm: table c has shape [4, 3], expected [4, 4]"]),
    ("sparse", fields_of("few", thresholds=dense("c", 5)), ["few: table c has shape [5], expected [4]"]),
    ("sparse", fields_of("fire", conditions=csr("c", 2, 7)), ["fire: table c has shape [2, 7], expected [2, 8]"]),
    ("sparse", fields_of("fire", thresholds=dense("c", 3)), ["fire: table c has shape [3], expected [2]"]),
    ("sparse", fields_of("fire", effects=csr("c", 3, 5)), ["fire: table c has shape [3, 5], expected [2, 5]"]),
    ("sparse", fields_of("fire", biases=dense("c", 5)), ["fire: table c has shape [5], expected [2]"]),
    ("sparse", fields_of("fire", offset=dense("c", 2)), ["fire: table c has shape [2], expected [5]"]),
    ("sparse", fields_of("fire", passes="all"), ["fire: passes 'all', expected excess or value"]),
    ("sparse", fields_of("fire", k=0), ["fire: k is 0, expected 1..2"]),
    ("sparse", fields_of("fire", k=3), ["fire: k is 3, expected 1..2"]),
    ("sparse", fields_of("fire", effects=csr("c", 2, 4)), ["fire: table c has shape [2, 4], expected [2, 5]"]),
    ("sparse", fields_of("join", reads=("embed",)), ["join: joins 4 coordinates, but space both has 8"]),
    ("sparse", fields_of("join", reads=()), ["join: joins 0 coordinates, but space both has 8"]),
    # settings
    ("exact", fields_of("sum", reads=()), ["sum: reads nothing"]),
    ("exact", fields_of("log_probs", reads=()), ["log_probs: reads nothing"]),
    ("exact", fields_of("log_probs", reads=("sum",)), ["log_probs: reads sum of space resid, but writes space vocab"]),
    ("exact", fields_of("gated", reads=("act",)), ["gated: reads 1 variables, expected 2"]),
    ("exact", fields_of("gated", reads=("act", "k")), ["gated: reads k of space kv, but writes space resid"]),
    ("exact", fields_of("act", reads="k"), ["act: reads k of space kv, but writes space resid"]),
    ("exact", fields_of("act", function="tanh"), ["act: unknown function 'tanh'"]),
    ("exact", fields_of("norm", reads="k"), ["norm: reads k, which no earlier block makes"]),
    ("exact", fields_of("norm", eps=0.0), ["norm: eps is 0.0, expected a finite number above 0"]),
    ("sparse", fields_of("norm", eps=-1e-9), ["norm: eps is -1e-09, expected a finite number above 0"]),
    ("exact", fields_of("norm", eps=float("nan")), ["norm: eps is nan, expected a finite number above 0"]),
    ("exact", fields_of("norm", eps=float("inf")), ["norm: eps is inf, expected a finite number above 0"]),
    (
        "sparse",
        fields_of("norm", centred=True),
        ["norm: a form measures the scale of uncentred features; centred must be false"],
    ),
    ("sparse", fields_of("few", k=0), ["few: k is 0, expected 1..4"]),
    ("sparse", fields_of("few", k=5), ["few: k is 5, expected 1..4"]),
    ("sparse", fields_of("few", k=None, thresholds=None), ["few: selects neither by threshold nor by count"]),
    ("sparse", fields_of("few", reads="join"), ["few: reads join of space both, but writes space resid"]),
    ("exact", fields_of("turned", n_heads=4), ["turned: 4 coordinates do not form 4 heads of even size"]),
    ("exact", fields_of("turned", n_heads=0), ["turned: 4 coordinates do not form 0 heads of even size"]),
    ("exact", fields_of("turned", theta=0.0), ["turned: theta is 0.0, expected a finite number above 0"]),
    ("exact", fields_of("turned", theta=float("nan")), ["turned: theta is nan, expected a finite number above 0"]),
    (
        "exact",
        fields_of("turned", reads="norm", space="kv"),
        [
            "turned: reads norm of space resid, but writes space kv",
            "turned: 2 coordinates do not form 2 heads of even size",
            "z: queries have 1 coordinates a head, keys 2",
        ],
    ),
    ("exact", fields_of("z", window=0), ["z: window is 0, expected at least 1"]),
    ("exact", fields_of("z", scale=float("inf")), ["z: scale is inf, expected a finite number"]),
    ("exact", fields_of("z", n_kv_heads=0), ["z: 2 heads cannot share 0 key-value heads evenly"]),
    ("exact", fields_of("z", n_heads=0), ["z: 0 heads cannot share 1 key-value heads evenly"]),
    ("exact", fields_of("z", n_heads=3, n_kv_heads=2), ["z: 3 heads cannot share 2 key-value heads evenly"]),
    ("exact", fields_of("z", n_heads=3), ["z: 4, 2 and 2 coordinates do not form 3 and 1 heads"]),
    ("exact", fields_of("z", n_heads=3, n_kv_heads=3), ["z: 4, 2 and 2 coordinates do not form 3 and 3 heads"]),
    ("exact", fields_of("z", n_heads=1), ["z: queries have 4 coordinates a head, keys 2"]),
    ("exact", fields_of("z", values="norm"), ["z: mixes 8 coordinates, but space resid has 4"]),
    ("sparse", fields_of("look", window=-1), ["look: window is -1, expected at least 1"]),
    (
        "sparse",
        fields_of("look", scores=((csr("c", 4, 4),),)),
        [
            "look: mixes 1 heads of 4 coordinates, but space both has 8",
            "look: table D has shape [2, 3], expected [1, distances]",
        ],
    ),
    (
        "sparse",
        fields_of("look", scores=()),
        [
            "look: has no heads",
            "look: mixes 0 heads of 4 coordinates, but space both has 8",
            "look: table D has shape [2, 3], expected [0, distances]",
        ],
    ),
    (
        "sparse",
        fields_of("look", scores=((csr("c", 4, 4),), (csr("d", 4, 3),))),
        ["look: table d has shape [4, 3], expected [4, 4]"],
    ),
    (
        "sparse",
        fields_of("far", scores=((csr("c", 4, 4),),)),
        ["far: head 0 has 1 tables of scores for 2 buckets"],
    ),
    (
        "sparse",
        fields_of("far", scores=((csr("c", 4, 4), csr("d", 4, 5)),)),
        ["far: table d has shape [4, 5], expected [4, 4]"],
    ),
    *(
        (
            "sparse",
            fields_of("far", buckets=buckets),
            [f"far: buckets begin at {list(buckets)}, expected distances that rise from 0"],
        )
        for buckets in ((1, 2), (0, 0), (-1, 0))
    ),
    (
        "sparse",
        fields_of("far", buckets=()),
        [
            "far: buckets begin at [], expected distances that rise from 0",
            "far: head 0 has 2 tables of scores for 0 buckets",
        ],
    ),
    ("sparse", fields_of("far", moves=()), ["far: 0 tables of moves for 1 heads"]),
    ("sparse", fields_of("far", moves=(csr("c", 4, 4),)), ["far: table c has shape [4, 4], expected [8, 4]"]),
    ("sparse", fields_of("far", moves=None), ["far: mixes 1 heads of 8 coordinates, but space resid has 4"]),
    (
        "sparse",
        fields_of("far", moves=(dense("c", 8, 4),)),
        ["far: table c is a dense matrix, which does not stand at the sparse level"],
    ),
    ("sparse", fields_of("look", distance=dense("c", 2)), ["look: table c has shape [2], expected [2, distances]"]),
    (
        "sparse",
        fields_of("look", distance=dense("c", 2, 0)),
        ["look: table c has shape [2, 0], expected [2, distances]"],
    ),
    (
        "featured",
        fields_of("rest", explained="join"),
        ["rest: reads join of space both, but writes space resid"],
    ),
    # levels
    ("exact", fields_of("k", weight=csr("c", 4, 2)), ["k: a sparse table does not stand at the exact level"]),
    (
        "exact",
        blocks_of(
            lambda b: b.insert(
                -1, Normalise(name="n", space="kv", reads="k", centred=False, eps=1, form=csr("c", 2, 2))
            )
        ),
        ["n: a sparse table does not stand at the exact level"],
    ),
    (
        "sparse",
        fields_of("mixed", weight=dense("c", 8, 4)),
        ["mixed: table c is a dense matrix, which does not stand at the sparse level"],
    ),
    (
        "sparse",
        fields_of("look", scores=((dense("c", 4, 4),), (csr("d", 4, 4),))),
        ["look: table c is a dense matrix, which does not stand at the sparse level"],
    ),
    ("featured", program_of(level="sparse"), ["rest: a Unexplained block does not stand at the sparse level"]),
    # looks, rules and votes: shapes
    *(
        ("readable", fields_of("moved", **{field: csr("c", *shape)}), [f"moved: table c has shape {wrong}"])
        for field, shape, wrong in (
            ("queries", (2, 3), "[2, 3], expected [2, 4]"),
            ("keys", (3, 4), "[3, 4], expected [2, 4]"),
            ("lone_keys", (1, 4), "[1, 4], expected [2, 4]"),
            ("conditions", (3, 5), "[3, 5], expected [3, 4]"),
        )
    ),
    *(
        ("readable", fields_of("moved", **{field: dense("c", *shape)}), [f"moved: table c has shape {wrong}"])
        for field, shape, wrong in (
            ("query_biases", (3,), "[3], expected [2]"),
            ("key_biases", (1,), "[1], expected [2]"),
            ("biases", (2,), "[2], expected [3]"),
            ("thresholds", (4,), "[4], expected [3]"),
            ("distance", (2,), "[2], expected [2, distances]"),
            ("distance", (1, 3), "[1, 3], expected [2, distances]"),
            ("distance", (2, 0), "[2, 0], expected [2, distances]"),
        )
    ),
    ("readable", fields_of("moved", matches=(2,)), ["moved: 1 numbers of matches for 2 looks"]),
    ("readable", fields_of("moved", matches=(3, -1)), ["moved: a look has -1 matches, expected 0 or more"]),
    (
        "readable",
        fields_of("moved", matches=(2, 1)),
        [
            "moved: table Q has shape [2, 4], expected [3, 4]",
            "moved: table K has shape [2, 4], expected [3, 4]",
            "moved: table q has shape [2], expected [3]",
            "moved: table q has shape [2], expected [3]",
        ],
    ),
    ("readable", fields_of("moved", moved=(0, 3)), ["moved: a look makes 0 moved features, expected at least 1"]),
    ("readable", fields_of("moved", moved=(1, 1)), ["moved: makes 2 moved features, but space moved has 3"]),
    (
        "readable",
        fields_of("moved", moved=(), matches=()),
        [
            "moved: has no looks",
            "moved: makes 0 moved features, but space moved has 3",
            "moved: table Q has shape [2, 4], expected [0, 4]",
            "moved: table K has shape [2, 4], expected [0, 4]",
            "moved: table q has shape [2], expected [0]",
            "moved: table q has shape [2], expected [0]",
            "moved: table L has shape [2, 4], expected [0, 4]",
            "moved: table D has shape [2, 3], expected [0, distances]",
        ],
    ),
    ("readable", fields_of("moved", window=0), ["moved: window is 0, expected at least 1"]),
    (
        "readable",
        fields_of("moved", thresholds=Table("c", np.array([0.5, -0.25, 0]))),
        ["moved: table c holds a threshold of -0.25, expected 0 or more"],
    ),
    (
        "readable",
        fields_of("rules", thresholds=Table("c", np.array([-1.0, 0]))),
        ["rules: table c holds a threshold of -1, expected 0 or more"],
    ),
    ("readable", fields_of("rules", conditions=csr("c", 2, 6)), ["rules: table c has shape [2, 6], expected [2, 7]"]),
    ("readable", fields_of("rules", conditions=csr("c", 3, 7)), ["rules: table c has shape [3, 7], expected [2, 7]"]),
    ("readable", fields_of("rules", biases=dense("c", 3)), ["rules: table c has shape [3], expected [2]"]),
    ("readable", fields_of("votes", weights=csr("c", 5, 4)), ["votes: table c has shape [5, 4], expected [5, 5]"]),
    ("readable", fields_of("votes", bias=dense("c", 4)), ["votes: table c has shape [4], expected [5]"]),
    *(
        ("readable", fields_of(name, reads=()), [f"{name}: reads nothing", f"{name}: table {table} has shape {wrong}"])
        for name, table, wrong in (
            ("rules", "R", "[2, 7], expected [2, 0]"),
            ("votes", "X", "[5, 5], expected [0, 5]"),
        )
    ),
    (
        "readable",
        fields_of("moved", reads=()),
        ["moved: reads nothing", "moved: table C has shape [3, 4], expected [3, 0]"]
        + [f"moved: table {name} has shape [2, 4], expected [2, 0]" for name in "QKL"],
    ),
    ("readable", fields_of("rules", reads=("lists", "few")), ["rules: reads few, which no earlier block makes"]),
    # looks, rules and votes: what stands at the sparse level beside them
    (
        "readable",
        fields_of("rules", conditions=dense("c", 2, 7)),
        ["rules: table c is a dense matrix, which does not stand at the sparse level"],
    ),
    (
        "readable",
        fields_of("moved", lone_keys=dense("c", 2, 4)),
        ["moved: table c is a dense matrix, which does not stand at the sparse level"],
    ),
    (
        "readable",
        blocks_of(lambda b: b.insert(1, Join(name="join", space="rules", reads=("lists", "lists")))),
        [
            "join: a Join block does not stand in a program of looks, rules and votes",
            "join: joins 8 coordinates, but space rules has 2",
        ],
    ),
    (
        "readable",
        fields_of("lists", table=SparseTable("c", np.array([0, 1, 1, 1, 1, 2]), np.arange(2), np.array([1, -2.0]), 4)),
        ["lists: table c holds -2, expected strengths above 0"],
    ),
    (
        "readable",
        fields_of("lists", table=SparseTable("c", np.array([0, 1, 1, 1, 1, 1]), np.array([0]), np.zeros(1), 4)),
        ["lists: table c holds 0, expected strengths above 0"],
    ),
    (
        "readable",
        fields_of("rules", reads=("follows", "rules")),
        [
            "rules: reads rules, which no earlier block makes",
            "rules: reads follows, which is votes, expected features",
        ],
    ),
    (
        "readable",
        fields_of("votes", reads=("list_votes", "rules")),
        [
            "votes: reads list_votes, which is votes, expected features",
            "votes: table X has shape [5, 5], expected [6, 5]",
        ],
    ),
    (
        "readable",
        fields_of("rules", space="vocab"),
        [
            "rules: makes features in space vocab, which is that of votes for words",
            "rules: table R has shape [2, 7], expected [5, 7]",
            "rules: table q has shape [2], expected [5]",
            "rules: table u has shape [2], expected [5]",
            "list_votes: table W has shape [2, 4], expected [5, 4]",
            "votes: table X has shape [5, 5], expected [8, 5]",
        ],
    ),
    ("readable", fields_of("words", reads="lists"), ["words: reads lists, expected votes for word lists"]),
    (
        "readable",
        blocks_of(
            lambda b: b.insert(-1, Linear(name="more", space="rules", reads="list_votes", weight=csr("c", 4, 2)))
        ),
        ["more: writes space rules, expected vocab"],
    ),
]


def _told(case: Any) -> str | None:
    return case[0] if isinstance(case, list) else None


@pytest.mark.parametrize("level", list(BASES))
def test_the_programs_that_are_broken_below_are_valid(level: str) -> None:
    assert verify(BASES[level]) == []
    assert require_valid(BASES[level]) is BASES[level]


@pytest.mark.parametrize(("level", "change", "faults"), BREAKS, ids=_told)
def test_every_broken_rule_is_told(level: str, change: Change, faults: list[str]) -> None:
    assert verify(change(BASES[level])) == faults


@pytest.mark.parametrize("kind", ["Join", "Select", "Match", "Rules", "Unexplained"])
def test_kinds_that_do_not_stand_at_the_exact_level(kind: str) -> None:
    faults = verify(replace(BASES["featured"], level="exact"))
    name = next(block.name for block in BASES["featured"].blocks if type(block).__name__ == kind)
    assert f"{name}: a {kind} block does not stand at the exact level" in faults


def filled(n_rows: int, n_columns: int, row_entries: int) -> Program:
    """Make a sparse program of one lookup by position, whose table has so many entries in each row."""
    starts = np.arange(n_rows + 1) * row_entries
    table = SparseTable("E", starts, np.tile(np.arange(row_entries), n_rows), np.ones(starts[-1]), n_columns)
    blocks = (
        Lookup(name="x", space="s", index="position", table=table),
        Vote(name="v", space="s", reads=("x",)),
    )
    return Program("sparse", n_rows, (Space("s", n_columns),), blocks)


@pytest.mark.parametrize(
    ("n_rows", "n_columns", "row_entries", "faults"),
    [
        (2, 600, 256, []),
        (2, 600, 257, ["x: table E has a row of 257 entries, expected 256 at most"]),
        (32, 32, 32, []),
        (5, 205, 103, ["x: table E stores 515 of 1025 entries, expected half of them at most"]),
        (5, 205, 102, []),
        (40, 40, 20, []),
        (40, 40, 21, ["x: table E stores 840 of 1600 entries, expected half of them at most"]),
        (
            4,
            300,
            300,
            [
                "x: table E has a row of 300 entries, expected 256 at most",
                "x: table E stores 1200 of 1200 entries, expected half of them at most",
            ],
        ),
    ],
)
def test_sparse_tables_have_short_rows_at_the_sparse_level(
    n_rows: int, n_columns: int, row_entries: int, faults: list[str]
) -> None:
    program = filled(n_rows, n_columns, row_entries)
    assert verify(program) == faults
    assert verify(replace(program, level="featured")) == []


@pytest.mark.parametrize("kind", ["Activate", "Attend"])
def test_kinds_that_do_not_stand_at_the_sparse_level(kind: str) -> None:
    faults = verify(replace(BASES["exact"], level="sparse"))
    name = next(block.name for block in BASES["exact"].blocks if type(block).__name__ == kind)
    assert f"{name}: a {kind} block does not stand at the sparse level" in faults


def test_the_featured_level_admits_every_kind_but_conditions() -> None:
    assert verify(replace(BASES["exact"], level="featured")) == []
    assert verify(replace(BASES["sparse"], level="featured")) == []
    assert verify(replace(BASES["readable"], level="featured")) == []
    kinds = {type(block) for program in BASES.values() for block in program.blocks}
    assert kinds == set(get_args(Block)) - {Conditions}
    assert set(FEATURED_BLOCKS) == kinds
    faults = verify(replace(full_program("explained"), level="featured"))
    assert any(fault.endswith("a Conditions block does not stand at the featured level") for fault in faults)


@pytest.mark.parametrize(
    "name", ["", "a b", "a'b", 'a"b', "a\n", "\na", "a\\", "a.", ".a", "a..b", "1a", "a-b", "a:b", "é", "a#", "a\u202e"]
)
def test_names_are_plain_words(name: str) -> None:
    form = "is not of the form word.word, letters, digits and _ only"
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)  # a fault is one line
    base = BASES["exact"]
    told = verify(fields_of("act", name=name)(base))
    assert told == [f"{shown}: variable name {name!r} {form}", "gated: reads act, which no earlier block makes"]
    told = verify(replace(base, spaces=(*base.spaces, Space(name, 1))))
    assert told == [f"space name {name!r} {form}"]
    told = verify(table_of("W_Q", name=name)(base))
    assert told == [f"q: table name {name!r} {form}"]


@pytest.mark.parametrize("name", ["a", "_", "W_1", "blocks.0.attn.hook_q", "a.0", "class", "__file__"])
def test_words_joined_by_dots_are_names(name: str) -> None:
    assert verify(table_of("W_Q", name=name)(BASES["exact"])) == []


def test_all_faults_are_told_at_once() -> None:
    program = BASES["exact"]
    for change in (fields_of("z", window=0), fields_of("turned", theta=-1.0), table_of("g", values=put(0, np.nan))):
        program = change(program)
    faults = (
        "norm: table g holds a number that is not finite",
        "turned: theta is -1.0, expected a finite number above 0",
        "z: window is 0, expected at least 1",
    )
    assert verify(program) == list(faults)
    with pytest.raises(InvalidProgramError) as caught:
        require_valid(program)
    assert caught.value.faults == faults
    assert str(caught.value) == f"invalid program, 3 faults: {'; '.join(faults)}"
    assert isinstance(caught.value, EnglishRoomError)


def test_one_fault_is_told_in_the_singular() -> None:
    with pytest.raises(InvalidProgramError, match=r"\Ainvalid program, 1 fault: n_ctx is 0"):
        require_valid(replace(BASES["exact"], n_ctx=0))


@given(programs())
@settings(deadline=None, max_examples=60)
def test_programs_made_for_tests_are_valid(program: Program) -> None:
    assert verify(program) == []


@given(programs())
@settings(deadline=None, max_examples=40)
def test_no_block_can_be_left_out_unnoticed(program: Program) -> None:
    """Every block but the last is read by a later one, so a program without it has a fault that names it."""
    for block in program.blocks[:-1]:
        rest = replace(program, blocks=tuple(b for b in program.blocks if b is not block))
        assert any(f"reads {block.name}, which no earlier block makes" in fault for fault in verify(rest))
