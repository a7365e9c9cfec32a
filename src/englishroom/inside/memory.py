"""Memory and algorithm apart: what a sparse program merely stores, what it works out, and how important each is.

A feature is *memory* where the token at hand alone decides about it: token features, and rules that read nothing else.
It is *position* where the position in the text counts too. It is *algorithm* where earlier tokens count: outputs of
heads, and every rule that reads them, directly or by way of others. An entry of a table belongs with the rule that it
makes; where it makes no rule, with the feature that it begins at. What all share, such as word lists and constants, is
counted by itself.

The importance of a part is measured by taking it out: features are held at their means, which is again a program, and
that is run on held-out text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.evaluate.description import describe_program
from englishroom.interp.vectorised import Interpreter
from englishroom.ir import program as ir
from englishroom.ir.stages import Stage, stages_of
from englishroom.ir.verify import require_valid
from englishroom.steps import StepProgress, silent

PARTS = ("memory", "position", "algorithm", "shared")
MEMORY, POSITION, ALGORITHM, SHARED = range(4)
Masks = Mapping[str, NDArray[np.bool_]]
Rows = Sequence[NDArray[np.integer]]


def parts_of(program: ir.Program) -> dict[str, NDArray[np.int8]]:
    """Say of every feature of a sparse program which part it belongs to: variable -> part of each coordinate.

    Raises:
        ConfigError: the program is not sparse, or it is readable, or its rules do not make one feature each.
    """
    if program.is_readable:
        raise ConfigError(
            "the program is made of looks, rules and votes; memory and algorithm cannot be told apart in such programs "
            "yet, give a room of the older form"
        )
    if program.level != "sparse":
        raise ConfigError(f"the program is {program.level}; memory and algorithm are told apart in sparse ones only")
    stages, found = stages_of(program), {}
    for block in program.blocks:
        size = program.space(block.space).size
        if isinstance(block, ir.Lookup):
            found[block.name] = np.full(size, MEMORY if block.index == "token" else POSITION, np.int8)
        elif isinstance(block, ir.Match):
            found[block.name] = np.full(size, ALGORITHM, np.int8)
        elif block.name in stages:
            found[block.name] = _of_stage(stages[block.name], size, found)
    return found


def _of_stage(stage: Stage, size: int, found: Mapping[str, NDArray[np.int8]]) -> NDArray[np.int8]:
    """A sum or rule belongs with the latest of the parts that it reads."""
    if isinstance(stage.adds, ir.Rules) and stage.adds.conditions.shape[0] != size:
        raise ConfigError(
            f"{stage.name}: {stage.adds.conditions.shape[0]} rules add to {size} features, expected one rule for each; "
            "memory and algorithm are told apart in programs that englishroom decompile wrote"
        )
    sources = _sources(stage, found)
    features, columns, weights = stage.entries()
    parts = np.zeros(size, np.int8)
    used = weights != 0
    np.maximum.at(parts, columns[used], sources[features[used]])
    return parts


def _sources(stage: Stage, found: Mapping[str, NDArray[np.int8]]) -> NDArray[np.int8]:
    """List the part of each feature that a stage reads; what no stage explains counts as algorithm."""
    unknown = (np.full(part.size, ALGORITHM, np.int8) for part in stage.parts)
    return np.concatenate([found.get(part.variable, other) for part, other in zip(stage.parts, unknown, strict=True)])


def bits_of(program: ir.Program) -> dict[str, int]:
    """Count the bits of each part under the code of ``description_bits``, each part's entries by themselves.

    The parts' sum is a little more or less than ``whole``, which codes all entries of a table together.
    """
    parts, tables = parts_of(program), program.tables()
    owners: dict[str, NDArray[np.int8]] = {name: np.full(t.n_entries, SHARED, np.int8) for name, t in tables.items()}
    stages = {name: stage for stage in stages_of(program).values() for name in stage.blocks}
    voting = _voting(program)
    for block in program.blocks:
        stage = stages.get(block.name)
        for table in ir.tables_of(block):
            owners[table.name] = _owners(block, table, stage, parts, voting)
    bits = dict.fromkeys(PARTS, 0)
    for number, part in enumerate(PARTS):
        own = {name: _restricted(table, owners[name] == number) for name, table in tables.items()}
        kept = [table for name, table in own.items() if (owners[name] == number).any()]
        bits[part] = describe_program(_holding(program, kept)).table_bits
    whole = describe_program(program)
    return bits | {"source": whole.source_bits, "whole": whole.bits}


def _voting(program: ir.Program) -> set[str]:
    """Name the blocks of the stages whose sums become scores of words."""
    stages = stages_of(program)
    found: set[str] = set()
    queue = list(program.vote.reads)
    while queue:
        stage = stages.get(queue.pop())
        if stage is not None and isinstance(stage.adds, ir.Linear):
            found |= set(stage.blocks)
            if stage.norm is None:
                queue += [part.variable for part in stage.parts]
    return found


def _owners(
    block: ir.Block,
    table: ir.Table | ir.SparseTable,
    stage: Stage | None,
    parts: Mapping[str, NDArray[np.int8]],
    voting: set[str],
) -> NDArray[np.int8]:
    """Say of every entry of a table which part it belongs to."""
    n = table.n_entries
    if isinstance(block, ir.Lookup):
        return np.full(n, MEMORY if block.index == "token" else POSITION, np.int8)
    if isinstance(block, ir.Match):
        return np.full(n, ALGORITHM, np.int8)
    if isinstance(block, ir.Rules):
        own = parts[block.name] if block.name in parts else np.full(block.conditions.shape[0], ALGORITHM, np.int8)
        if isinstance(table, ir.SparseTable):
            return own[table.rows()]
        return own if n == len(own) else np.full(n, SHARED, np.int8)
    if stage is None or not isinstance(table, ir.SparseTable):
        return np.full(n, SHARED, np.int8)
    if block.name not in voting:
        return np.full(n, ALGORITHM if isinstance(block, ir.Linear) else SHARED, np.int8)
    if isinstance(block, ir.Linear) and stage.norm is not None and not block.transposed:
        return _sources(stage, parts)[table.rows()]
    return np.full(n, SHARED, np.int8)


def _restricted(table: ir.Table | ir.SparseTable, kept: NDArray[np.bool_]) -> ir.Table | ir.SparseTable:
    """Keep some entries of a table."""
    if isinstance(table, ir.Table):
        values = table.values.ravel()[kept] if not kept.all() else table.values
        return ir.Table(table.name, values)
    return table.keep(kept)


def _holding(program: ir.Program, tables: Sequence[ir.Table | ir.SparseTable]) -> ir.Program:
    """Make something that holds some tables and nothing else, to be described."""
    lookups = tuple(ir.Lookup(name=table.name, space="held", index="token", table=table) for table in tables)
    return replace(program, blocks=(*lookups, program.blocks[-1]))


def held_at_means(program: ir.Program, fixed: Masks, means: Mapping[str, NDArray[np.floating]]) -> ir.Program:
    """Hold features at their means: a program in which they say the same whatever the text.

    Args:
        fixed: variable -> which of its coordinates are held; of variables that rules, heads or lookups make.
        means: variable -> the mean of each coordinate.
    """
    first = program.blocks[0]
    blocks: list[ir.Block] = [first]
    empty = np.zeros(program.space(first.space).size + 1, np.int64)
    for block in program.blocks:
        mask, name = fixed.get(block.name), block.name
        if mask is None or not mask.any():
            blocks += [] if block is first else [block]
            continue
        constant = ir.Table(f"{name}.held", np.where(mask, means[name], 0).astype(np.float32))
        nothing = ir.SparseTable(f"{name}.unread", empty, np.zeros(0, np.int32), np.zeros(0, np.float32), len(mask))
        if block is first:  # the constants read it, and it is read under its own name
            raise ConfigError(f"{name}: the first block of a program cannot be held")
        mean = ir.Linear(name=f"{name}.mean", space=block.space, reads=first.name, weight=nothing, bias=constant)
        if mask.all():
            blocks.append(replace(mean, name=name))
            continue
        if not isinstance(block, ir.Rules):
            raise ConfigError(f"{name}: only some coordinates are to be held, which is for rules")
        kept = replace(
            block,
            name=f"{name}.kept",
            conditions=_without(block.conditions, mask),
            thresholds=_unbiased(block.thresholds, mask),
            biases=None if block.biases is None else _unbiased(block.biases, mask),
        )
        blocks += [kept, mean, ir.Sum(name=name, space=block.space, reads=(kept.name, mean.name))]
    return require_valid(replace(program, blocks=tuple(blocks)))


def silenced(program: ir.Program, fixed: Masks, means: Mapping[str, NDArray[np.floating]]) -> ir.Program:
    """Let features vote as at their means, whatever they are to all else.

    Raises:
        ConfigError: the program's features do not vote side by side.
    """
    voting = _voting(program)
    joins = [b for b in program.blocks if isinstance(b, ir.Join) and b.name in voting and set(b.reads) & set(fixed)]
    if not joins:
        raise ConfigError("the features of the program do not vote side by side; decompile it again")
    spaces = {block.name: block.space for block in program.blocks}
    blocks: list[ir.Block] = []
    for block in program.blocks:
        if isinstance(block, ir.Join) and block is joins[0]:
            for name in block.reads:
                if name in fixed:
                    blocks.append(_as_at_mean(name, spaces[name], fixed[name], means[name]))
            block = replace(block, reads=tuple(f"{n}.voting" if n in fixed else n for n in block.reads))
        blocks.append(block)
    return require_valid(replace(program, blocks=tuple(blocks)))


def _as_at_mean(name: str, space: str, mask: NDArray[np.bool_], mean: NDArray[np.floating]) -> ir.Linear:
    """Copy a variable, some of its coordinates at their means."""
    kept = np.flatnonzero(~mask)
    starts = np.concatenate([[0], np.cumsum(~mask)])
    weight = ir.SparseTable(f"{name}.copied", starts, kept, np.ones(len(kept), np.float32), len(mask))
    bias = ir.Table(f"{name}.at_mean", np.where(mask, mean, 0).astype(np.float32))
    return ir.Linear(name=f"{name}.voting", space=space, reads=name, weight=weight, bias=bias)


def _without(conditions: ir.SparseTable, mask: NDArray[np.bool_]) -> ir.SparseTable:
    return replace(conditions.keep(~mask[conditions.rows()]), name=f"{conditions.name}.kept")


def _unbiased(table: ir.Table, mask: NDArray[np.bool_]) -> ir.Table:
    """Give rules that are held a bias or a threshold of 0, which their strength, then 0, does not exceed."""
    return ir.Table(f"{table.name}.kept", np.where(mask, 0, table.values).astype(table.values.dtype))


def measure_memory(program: ir.Program, fitted: Rows, report: Rows, progress: StepProgress = silent) -> dict[str, Any]:
    """Tell memory and algorithm apart, in bits and in nats.

    Args:
        fitted: rows of tokens on which means are taken; of a text that was fitted or chosen on.
        report: rows of tokens, held out, on which the nats are measured.

    Returns:
        ``bits`` of each part; ``rules`` in each; per row of ``programs`` its cross-entropy and the divergence of it
        from the whole program; ``nats``: what memory adds to constants, position to that, and algorithm to both.
    """
    parts = parts_of(program)
    makers = {b.name for b in program.blocks if isinstance(b, ir.Lookup | ir.Match | ir.Rules)}
    means = _means(program, makers, fitted)
    masks = {name: part for name, part in parts.items() if name in makers}
    programs = {
        "whole": program,
        "memory and position": held_at_means(program, {n: m == ALGORITHM for n, m in masks.items()}, means),
        "memory": held_at_means(program, {n: m >= POSITION for n, m in masks.items()}, means),
        "constants": silenced(program, {name: part >= MEMORY for name, part in masks.items()}, means),
        "algorithm": silenced(program, {name: part <= POSITION for name, part in masks.items()}, means),
    }
    total = len(programs) * len(report)
    interpreters = {name: Interpreter(own, np.float32) for name, own in programs.items()}
    sums = {name: np.zeros(2) for name in programs}
    positions = done = 0
    for row in report:
        tokens = np.asarray(row)
        answers = {}
        for name, interpreter in interpreters.items():
            answers[name] = interpreter.log_probs(tokens[:-1]).astype(np.float64)
            done += 1
            progress(done, total)
        whole, n = answers["whole"], len(tokens) - 1
        for name, answer in answers.items():
            said = -answer[np.arange(n), tokens[1:]].sum()
            sums[name] += said, (np.exp(whole) * (whole - answer)).sum()
        positions += n
    rows = [
        {"name": name, "ce_nats": float(found[0] / positions), "kl_whole_part_nats": float(found[1] / positions)}
        for name, found in sums.items()
    ]
    ce = {row["name"]: row["ce_nats"] for row in rows}
    rules = np.concatenate([parts[b.name] for b in program.blocks if isinstance(b, ir.Rules)] or [np.zeros(0, np.int8)])
    return {
        "bits": bits_of(program),
        "rules": {part: int((rules == number).sum()) for number, part in enumerate(PARTS[:SHARED])},
        "positions": positions,
        "programs": rows,
        "nats": {
            "memory": ce["constants"] - ce["memory"],
            "position": ce["memory"] - ce["memory and position"],
            "algorithm": ce["memory and position"] - ce["whole"],
            "stored_votes": ce["algorithm"] - ce["whole"],
        },
    }


def _means(program: ir.Program, names: set[str], rows: Rows) -> dict[str, NDArray[np.float64]]:
    interpreter = Interpreter(program, np.float32)
    sums: dict[str, NDArray[np.float64]] = {}
    for row in rows:
        variables = interpreter.variables(np.asarray(row))
        for name in names:
            sums[name] = sums.get(name, 0) + variables[name].sum(0, dtype=np.float64)
    count = sum(len(row) for row in rows)
    return {name: total / count for name, total in sums.items()}


def summary_lines(measured: Mapping[str, Any]) -> list[str]:
    """Say in a few lines what memory and algorithm take and give."""
    bits, nats, rules = measured["bits"], measured["nats"], measured["rules"]
    return [
        f"{part}: {bits[part] / 1e6:.2f} Mbit, {rules[part]:,} rules, {nats[part]:+.3f} nats"
        for part in ("memory", "position", "algorithm")
    ] + [
        f"shared: {bits['shared'] / 1e6:.2f} Mbit; without the votes that are stored, the rest loses "
        f"{nats['stored_votes']:.3f} nats"
    ]
