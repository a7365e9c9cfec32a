"""The votes that one token needs, chosen entry by entry, with all that leads to the features that cast them kept.

All other votes stand at their means. Adding a vote of d for word w to logits whose softmax is q changes KL(p‖q) by
``log(1 + q_w (exp(d) - 1)) - p_w d``. A feature that casts its first vote has to be worked out, which takes entries
too: it counts as so many entries more, and comes with as many of its votes as make it worth most for each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.inside.token_run import TokenRun
from englishroom.inside.voters import LEAST_CHANGE, kl_nats
from englishroom.interp.pointwise import log_softmax
from englishroom.ir.program import Lookup

OPENING = 8
"""Entries that a feature counts for besides its votes."""
NEAR = 0.8
"""Of votes for other words, those that are worth this share of the best one are chosen with it."""


def votes_needed(run: TokenRun, tolerance: float) -> dict[str, NDArray[np.bool_]]:
    """Return which votes to keep, by table, the fewest that a greedy search finds."""
    table, entry, word, moved, caster = _votes(run)
    order = np.lexsort((entry, caster))
    table, entry, word, moved, caster = (of[order] for of in (table, entry, word, moved, caster))
    logits = run.log_probs - np.bincount(word, moved, minlength=len(run.log_probs))
    chances, changes = np.exp(run.log_probs), np.expm1(moved)
    left, opened = np.ones(len(word), bool), caster < 0
    _, starts = np.unique(caster, return_index=True)
    chosen: list[NDArray[np.intp]] = []
    while left.any() and kl_nats(run.log_probs, log_kept := log_softmax(logits)) > tolerance:
        gains = chances[word] * moved - np.log1p(np.maximum(np.exp(log_kept)[word] * changes, LEAST_CHANGE))
        gains = np.where(left, gains, -np.inf)
        now = _best_opened(gains, opened, word)
        worth = gains[now[0]] if len(now) else -np.inf
        if not opened.all():
            first = _best_feature(np.where(opened, -np.inf, gains), caster, starts)
            if first[0] > worth:
                now = first[1]
        if not len(now) or gains[now].sum() <= 0:
            now = _whole_word(left, word, moved, run.log_probs, log_kept)
        left[now] = False
        opened |= np.isin(caster, caster[now])
        logits += np.bincount(word[now], moved[now], minlength=len(logits))
        chosen.append(now)
    masks = {name: np.zeros(len(mask), bool) for name, mask in run.everything.items()}
    for at in np.concatenate([np.zeros(0, np.intp), *chosen]):
        masks[str(table[at])][entry[at]] = True
    return masks


def _whole_word(
    left: NDArray[np.bool_], word: NDArray[Any], moved: NDArray[Any], log_probs: NDArray[Any], log_kept: NDArray[Any]
) -> NDArray[np.intp]:
    """Return all votes left for the word that these bring nearest, where no single vote helps; else all votes left."""
    sums = np.bincount(word[left], moved[left], minlength=len(log_probs))
    gains = np.exp(log_probs) * sums - np.log1p(np.maximum(np.exp(log_kept) * np.expm1(sums), LEAST_CHANGE))
    best = int(np.argmax(gains))
    return np.flatnonzero(left & (word == best) if gains[best] > 0 else left)


def _votes(run: TokenRun) -> tuple[NDArray[Any], ...]:
    """List all votes for words: table, entry, word, how far from the mean, and the feature that casts it (or -1)."""
    readable = run.readable
    state = run.run(run.everything)
    found: list[tuple[Any, ...]] = [(np.zeros(0, object), *(np.zeros(0, int),) * 2, np.zeros(0), np.zeros(0, int))]
    for name in readable.program.vote.reads:
        block = readable.blocks[name]
        if isinstance(block, Lookup):
            table, entries, features, positions, values = run.looked_up[name]
            here = positions == len(run.tokens) - 1
            entries, features, apart = entries[here], features[here], (values - readable.means[features])[here]
            found.append(
                (
                    np.full(len(entries), table, object),
                    entries,
                    features - readable.first[name],
                    apart,
                    -1 + 0 * entries,
                )
            )
            continue
        wires = run.wires[name]["sums"]
        apart = wires.weights * state.values[state.at[wires.sources], -1]
        found.append((np.full(len(apart), wires.table, object), wires.order, wires.targets, apart, wires.sources))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def _best_opened(gains: NDArray[Any], opened: NDArray[np.bool_], word: NDArray[Any]) -> NDArray[np.intp]:
    """Return the votes of features that are worked out already that bring most, for different words; the best first."""
    own = np.flatnonzero(opened & (gains > 0))
    if not len(own):
        return own
    own = own[np.argsort(-gains[own], kind="stable")]
    own = own[gains[own] >= NEAR * gains[own[0]]]
    return own[np.sort(np.unique(word[own], return_index=True)[1])]


def _best_feature(gains: NDArray[Any], caster: NDArray[Any], starts: NDArray[Any]) -> tuple[float, NDArray[np.intp]]:
    """Return the feature, not worked out yet, that is worth most for each entry: that worth, and which of its votes."""
    order = np.lexsort((-gains, caster))
    sums = np.cumsum(np.maximum(gains[order], 0.0))
    before = np.repeat(np.append(0.0, sums)[starts], np.diff(np.append(starts, len(order))))
    within = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    worth = np.where(gains[order] > 0, (sums - before) / (within + 1 + OPENING), -np.inf)
    best = int(np.argmax(worth))
    return float(worth[best]), order[best - within[best] : best + 1]
