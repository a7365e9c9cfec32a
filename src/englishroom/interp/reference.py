"""The meaning of the language: what every block computes, in float64, written to be read and not to be fast."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import assert_never

import numpy as np
from numpy.typing import ArrayLike, NDArray

from englishroom.errors import ConfigError
from englishroom.ir import program as ir
from englishroom.ir.condition import holds
from englishroom.ir.marks import marks_in

Vector = NDArray[np.float64]


def log_probs(program: ir.Program, tokens: Sequence[int]) -> NDArray[np.float64]:
    """Compute the natural-log probabilities of the next token at every position, [pos, d_vocab]."""
    return run(program, tokens)[program.vote.name]


def run(program: ir.Program, tokens: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    """Compute every variable of a program at every position.

    Returns:
        variable name -> values, [pos, size of its space].

    Raises:
        ConfigError: there are more tokens than positions, or a token that the program does not know.
    """
    check_tokens(program, tokens)
    variables: dict[str, NDArray[np.float64]] = {}
    for block in program.blocks:
        variables[block.name] = np.array([_value(block, variables, tokens, here) for here in range(len(tokens))])
    return variables


def check_tokens(program: ir.Program, tokens: ArrayLike, already: int = 0) -> None:
    """Refuse tokens, [pos] or [text, pos], that do not fit the program's vocabulary, or its context after others."""
    tokens = np.asarray(tokens)
    if (total := already + tokens.shape[-1]) > program.n_ctx:
        raise ConfigError(f"{total} tokens do not fit the context of {program.n_ctx}; shorten the prompt or the text")
    for token in tokens[(tokens < 0) | (tokens >= program.d_vocab)]:
        raise ConfigError(f"token {token} is outside the vocabulary, expected 0..{program.d_vocab - 1}")


def _value(block: ir.Block, variables: dict[str, NDArray[np.float64]], tokens: Sequence[int], here: int) -> Vector:
    """Compute one block's variable at position ``here``."""

    def x(name: str) -> Vector:
        return variables[name][here]

    match block:
        case ir.Lookup():
            return _dense(block.table)[tokens[here] if block.index == "token" else here]
        case ir.Linear():
            weight = _dense(block.weight)
            y = x(block.reads) @ (weight.T if block.transposed else weight)
            return y if block.bias is None else y + _dense(block.bias)
        case ir.Sum():
            return np.sum([x(name) for name in block.reads], axis=0)
        case ir.Join():
            return np.concatenate([x(name) for name in block.reads])
        case ir.Product():
            first, second = block.reads
            return x(first) * x(second)
        case ir.Normalise():
            return _normalise(block, x(block.reads))
        case ir.Activate():
            return np.array([activate(block.function, float(value)) for value in x(block.reads)])
        case ir.Select():
            return _select(block, x(block.reads))
        case ir.Rotate():
            return _rotate(block, x(block.reads), here)
        case ir.Attend():
            return _attend(block, variables, here)
        case ir.Match():
            return _match(block, variables, here)
        case ir.Rules():
            return _apply_rules(block, x(block.reads))
        case ir.Looks():
            return _look(block, variables, here)
        case ir.Fire():
            return _above(block, _dense(block.conditions) @ np.concatenate([x(name) for name in block.reads]))
        case ir.Conditions():
            marks = marks_in(block.marks)
            on = [holds(condition, tokens, here, marks) for condition in block.conditions]
            return np.where(on, _dense(block.values), 0.0)
        case ir.Votes():
            y = np.concatenate([x(name) for name in block.reads]) @ _dense(block.weights)
            return y if block.bias is None else y + _dense(block.bias)
        case ir.Unexplained():
            return x(block.exact) - x(block.explained)
        case ir.Vote():
            logits = np.sum([x(name) for name in block.reads], axis=0)
            shifted = logits - logits.max()
            return shifted - math.log(np.exp(shifted).sum())
        case _:
            assert_never(block)


def _dense(table: ir.AnyTable) -> NDArray[np.float64]:
    return table.values.astype(np.float64) if isinstance(table, ir.Table) else table.dense()


def activate(function: ir.Function, x: float) -> float:
    """Apply a pointwise function. ``gelu_new`` is the tanh approximation, ``gelu`` the exact one."""
    match function:
        case "gelu_new":
            return 0.5 * x * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
        case "gelu":
            return 0.5 * x * (1.0 + math.erf(x / math.sqrt(2.0)))
        case "relu":
            return max(x, 0.0)
        case "silu":
            return x / (1.0 + math.exp(-x)) if x >= 0 else x * math.exp(x) / (1.0 + math.exp(x))


def _normalise(block: ir.Normalise, x: Vector) -> Vector:
    centred = x - x.mean() if block.centred else x
    square = np.mean(centred**2) if block.form is None else max(x @ _dense(block.form) @ x, 0.0)
    y = centred / math.sqrt(square + block.eps)
    if block.gain is not None:
        y = y * _dense(block.gain)
    return y if block.bias is None else y + _dense(block.bias)


def _select(block: ir.Select, x: Vector) -> Vector:
    kept = np.ones(len(x), dtype=bool)
    if block.thresholds is not None:
        kept = x > _dense(block.thresholds)
    if block.k is not None:
        order = sorted(np.flatnonzero(kept), key=lambda i: (-x[i], i))
        kept = np.zeros(len(x), dtype=bool)
        kept[order[: block.k]] = True
    return np.where(kept, x, 0.0)


def _apply_rules(block: ir.Rules, x: Vector) -> Vector:
    strength = _dense(block.conditions) @ x
    if block.biases is not None:
        strength = strength + _dense(block.biases)
    thresholds = _dense(block.thresholds)
    passed = strength - thresholds if block.passes == "excess" else strength
    firing = [int(rule) for rule in np.flatnonzero(strength > thresholds)]
    if block.k is not None:
        firing = sorted(firing, key=lambda rule: (-passed[rule], rule))[: block.k]
    y = passed[firing] @ _dense(block.effects)[firing]
    return y if block.offset is None else y + _dense(block.offset)


def _rotate(block: ir.Rotate, x: Vector, here: int) -> Vector:
    turned = []
    for head in np.split(x, block.n_heads):
        half = len(head) // 2
        first, second = head[:half], head[half:]
        angle = here * block.theta ** (-np.arange(half) / half)
        turned += [first * np.cos(angle) - second * np.sin(angle), second * np.cos(angle) + first * np.sin(angle)]
    return np.concatenate(turned)


def _softmax(scores: Sequence[float]) -> Vector:
    weights = np.exp(np.array(scores) - max(scores))
    return weights / weights.sum()


def _seen(here: int, window: int | None) -> range:
    """List the positions that ``here`` may look at, itself included."""
    return range(0 if window is None else max(0, here - window + 1), here + 1)


def _attend(block: ir.Attend, variables: dict[str, NDArray[np.float64]], here: int) -> Vector:
    seen = _seen(here, block.window)
    queries = np.split(variables[block.queries][here], block.n_heads)
    mixes = []
    for head, query in enumerate(queries):
        shared = head // (block.n_heads // block.n_kv_heads)
        keys = [np.split(variables[block.keys][there], block.n_kv_heads)[shared] for there in seen]
        values = [np.split(variables[block.values][there], block.n_kv_heads)[shared] for there in seen]
        weights = _softmax([block.scale * float(query @ key) for key in keys])
        mixes.append(np.sum([w * v for w, v in zip(weights, values, strict=True)], axis=0))
    return np.concatenate(mixes)


def _match(block: ir.Match, variables: dict[str, NDArray[np.float64]], here: int) -> Vector:
    seen = _seen(here, block.window)
    query = variables[block.queries][here]
    bucket = [bisect.bisect_right(block.buckets, here - there) - 1 for there in seen]
    mixes = []
    for head, tables in enumerate(block.scores):
        pairs = [_dense(table) for table in tables]
        scores = [float(query @ pairs[b] @ variables[block.keys][t]) for b, t in zip(bucket, seen, strict=True)]
        if block.distance is not None:
            by_distance = _dense(block.distance)[head]
            scores = [s + by_distance[min(here - t, len(by_distance) - 1)] for s, t in zip(scores, seen, strict=True)]
        weights = _softmax(scores)
        mixes.append(np.sum([w * variables[block.values][t] for w, t in zip(weights, seen, strict=True)], axis=0))
    if block.moves is None:
        return np.concatenate(mixes)
    return np.sum([mix @ _dense(move) for mix, move in zip(mixes, block.moves, strict=True)], axis=0)


def _look(block: ir.Looks, variables: dict[str, NDArray[np.float64]], here: int) -> Vector:
    seen = _seen(here, block.window)
    x = {there: np.concatenate([variables[name][there] for name in block.reads]) for there in seen}
    queries = np.maximum(_dense(block.queries) @ x[here] + _dense(block.query_biases), 0.0)
    keys = {j: np.maximum(_dense(block.keys) @ x[j] + _dense(block.key_biases), 0.0) for j in seen}
    conditions, sums = _dense(block.conditions), []
    first_match, first_moved = 0, 0
    for look, (n_matches, n_moved) in enumerate(zip(block.matches, block.moved, strict=True)):
        by_distance, lone_key = _dense(block.distance)[look], _dense(block.lone_keys)[look]
        scores = []
        for j in seen:
            matched = sum(queries[m] * keys[j][m] for m in range(first_match, first_match + n_matches))
            scores.append(by_distance[min(here - j, len(by_distance) - 1)] + lone_key @ x[j] + matched)
        weights = _softmax(scores)
        for feature in range(first_moved, first_moved + n_moved):
            sums.append(sum(weight * (conditions[feature] @ x[j]) for weight, j in zip(weights, seen, strict=True)))
        first_match, first_moved = first_match + n_matches, first_moved + n_moved
    return _above(block, np.array(sums))


def _above(block: ir.Looks | ir.Fire, sums: Vector) -> Vector:
    """Keep the sums that exceed their thresholds, their biases added; the other features are 0."""
    sums = sums + _dense(block.biases)
    return np.where(sums > _dense(block.thresholds), sums, 0.0)
