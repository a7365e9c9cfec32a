"""How much of a program works at one position: rules that fire, features that are on, edges that are used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.inside.activations import Firing
from englishroom.inside.entries_used import entries_used
from englishroom.interp.pointwise import strongest
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Conditions, Linear, Lookup, Match, Program, Rules, SparseTable, Vote, Votes, reads_of
from englishroom.steps import StepProgress, silent

ALWAYS = "always"
"""Name of a feature that is on whatever the text says: a constant, not something that a rule reads."""
HEADS = re.compile(r"heads\.\d+\.sums")
"""Names of the blocks that add up queries, keys and values."""


def trace_of(
    program: Program, text: str, tokens: Sequence[NDArray[np.integer]], progress: StepProgress = silent
) -> dict[str, Any]:
    """Say how much of a program works at a position of a text, and how much its rules read.

    Reads are given for all rules, for those that fired on the text, and for the dimensions of queries,
    keys and values, which are sums of features too. Moved features of looks, and conditions, count as rules.
    """
    counts, fired = measure_trace(program, tokens, progress)
    reads = reads_per_rule(program)
    return {
        "text": text,
        "rules": len(reads),
        "rules_that_fired": int(fired.sum()),
        "reads_per_rule": _spread(reads),
        "reads_per_rule_that_fired": _spread(reads[fired]),
        "reads_per_number": _spread(reads_per_number(program)),
        **counts,
    }


def measure_trace(
    program: Program, texts: Sequence[NDArray[np.integer]], progress: StepProgress = silent
) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    """Run a program over texts and count, at every position, what works.

    - ``rules_fired``: rules over all blocks whose strength exceeds their threshold, and that are among the strongest
      where a block bounds them; moved features and rules of readable programs, and conditions, that are on.
    - ``features_on``: coordinates other than 0 of the variables that such blocks, linear maps and heads read; of a
      readable program, those that looks, rules and votes read.
    - ``edges_used``: entries of sparse tables that carry something (``entries_used``); those of lookups are counted
      in readable programs only.

    Returns:
        The counts, and which rules of all blocks ever fired.
    """
    interpreter = Interpreter(program, np.float32)
    fires: list[NDArray] = []
    on: list[NDArray] = []
    used: list[NDArray] = []
    readable = any(isinstance(block, Firing) for block in program.blocks)
    readers = Firing | Votes if readable else Rules | Linear | Match | Vote
    read = {name for block in program.blocks if isinstance(block, readers) for name in reads_of(block)}
    rules = rule_blocks(program)
    counted = [block for block in program.blocks if readable or not isinstance(block, Lookup)]
    ever = {block.name: np.zeros(n_rules(block), bool) for block in rules}
    for number, tokens in enumerate(texts):
        variables = interpreter.variables(np.asarray(tokens))
        now = {block.name: rules_on(block, variables) for block in rules}
        for name, which in now.items():
            ever[name] |= which.any(0)
        fires.append(sum((which.sum(1) for which in now.values()), np.zeros(len(tokens))))
        used.append(sum(entries_used(counted, variables, tokens).values(), np.zeros(len(tokens))))
        on.append(np.sum([(variables[name] != 0).sum(1) for name in read], axis=0))
        progress(number + 1, len(texts))
    found = {"rules_fired": fires, "features_on": on, "edges_used": used}
    counts = {name: _summary(np.concatenate(parts)) for name, parts in found.items()}
    return counts, np.concatenate([np.zeros(0, bool), *ever.values()])


def rule_blocks(program: Program) -> list[Rules | Firing]:
    """List the blocks that have rules, moved features or conditions."""
    return [block for block in program.blocks if isinstance(block, Rules | Firing)]


def n_rules(block: Rules | Firing) -> int:
    """Count the rules, moved features or conditions of a block."""
    return len(block.conditions) if isinstance(block, Conditions) else block.conditions.shape[0]


def rules_on(block: Rules | Firing, variables: Mapping[str, NDArray]) -> NDArray[np.bool_]:
    """Say which rules, moved features or conditions of a block are on at each position, [pos, rule]."""
    return fired(block, variables[block.reads]) if isinstance(block, Rules) else variables[block.name] != 0


def fired(block: Rules, x: NDArray) -> NDArray[np.bool_]:
    """Say which rules of a block fire at each row of what it reads, [row, rule]."""
    strengths = x @ block.conditions.csr().toarray().T + (0 if block.biases is None else block.biases.values)
    passed = strengths - block.thresholds.values if block.passes == "excess" else strengths
    return np.asarray(strongest(passed, strengths > block.thresholds.values, block.k))


def reads_per_rule(program: Program) -> NDArray[np.int64]:
    """Count the features that each rule and moved feature of a program reads; a constant is none.

    Conditions read the text alone, and so no feature.
    """
    found = [np.zeros(0, np.int64)]
    for block in rule_blocks(program):
        if isinstance(block, Conditions):
            found.append(np.zeros(n_rules(block), np.int64))
        else:
            constant = _constants(program, block.reads) if isinstance(block, Rules) else []
            kept = (block.conditions.values != 0) & ~np.isin(block.conditions.columns, constant)
            found.append(np.bincount(block.conditions.rows()[kept], minlength=n_rules(block)))
    return np.concatenate(found)


def reads_per_number(program: Program) -> NDArray[np.int64]:
    """Count the features that each dimension of a query, key or value is a sum of."""
    found = [np.zeros(0, np.int64)]
    for block in program.blocks:
        if isinstance(block, Linear) and HEADS.fullmatch(block.name) and isinstance(block.weight, SparseTable):
            kept = block.weight.columns[block.weight.values != 0]
            found.append(np.bincount(kept, minlength=block.weight.n_columns))
    return np.concatenate(found)


def _constants(program: Program, variable: str) -> list[int]:
    """List the coordinates of a variable that hold the constant feature, through joins and norms."""
    by_name = {block.name: block for block in program.blocks}
    sizes = {block.name: program.space(block.space).size for block in program.blocks}

    def search(name: str, first: int) -> list[int]:
        if name == ALWAYS:
            return [first]
        found, block = [], by_name[name]
        if sizes[name] == sum(sizes[part] for part in reads_of(block)):  # a join, or a norm of one variable
            for part in reads_of(block):
                found += search(part, first)
                first += sizes[part]
        return found

    return search(variable, 0)


def _summary(counts: NDArray) -> dict[str, float]:
    return {"mean": float(counts.mean()), "p95": float(np.quantile(counts, 0.95)), "positions": len(counts)}


def _spread(reads: NDArray[np.int64]) -> dict[str, float]:
    reads = reads if len(reads) else np.zeros(1, np.int64)
    return {"median": float(np.median(reads)), "p95": float(np.quantile(reads, 0.95)), "most": float(reads.max())}
