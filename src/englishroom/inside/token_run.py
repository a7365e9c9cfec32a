"""A readable program run for one token with only some entries of its tables; the others add what they add in the mean.

An entry that carries nothing on the way to the token, as what it leads from is off, is 0 as it was. An entry of a
lookup that is left out stands at the mean of what is looked up there; where a row has no entry, it is 0 as ever. Only
what kept entries read is worked out, and only at positions that reach the token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from englishroom.inside.wires import Array, Readable, Wires, above
from englishroom.interp.looking import positions_seen, slices
from englishroom.interp.pointwise import log_softmax, softmax
from englishroom.ir.program import Fire, Looks, Lookup, SparseTable

Masks = Mapping[str, NDArray[np.bool_]]


@dataclass
class State:
    """What a run made: features that kept entries read, sums that have kept entries, where looks looked."""

    at: Array  # of each feature, its row in ``values``, or -1
    values: Array  # less their means, [feature, pos]
    sums: dict[str, tuple[Array, Array]] = field(default_factory=dict)  # by table: which, and their values
    looks: dict[str, dict[int, tuple[Array, Array, Array]]] = field(default_factory=dict)
    logits: Array = field(default_factory=lambda: np.zeros(0))


class TokenRun:
    """What a readable program says after one text, with only some entries kept.

    Args:
        tokens: the text up to the token in question, the start token first.
    """

    def __init__(self, readable: Readable, tokens: NDArray[np.integer]) -> None:
        self.readable, self.tokens = readable, tokens
        self.looked_up = {
            name: self._looked_up(block) for name, block in readable.blocks.items() if isinstance(block, Lookup)
        }
        variables = readable.interpreter.variables(tokens)
        self.wires = readable.wires(variables)
        self._back: dict[int | None, tuple[Array, Array]] = {}
        nothing = {name: np.zeros(table.n_entries, bool) for name, table in readable.tables.items()}
        self.everything = {name: mask.copy() for name, mask in nothing.items()}
        for table, entries, *_ in self.looked_up.values():
            self.everything[table][entries] = True
        for wires in (wires for parts in self.wires.values() for wires in parts.values()):
            self.everything[wires.table][wires.order] = True
        self.alone = self.run(nothing).logits
        self.log_probs = variables[readable.program.vote.name][-1]

    def _looked_up(self, block: Lookup) -> tuple[str, Array, Array, Array, Array]:
        """List the entries that a lookup reads where that is needed: table, entries, features, positions, values."""
        table = block.table
        assert isinstance(table, SparseTable), "at the sparse level lookups have sparse tables"
        rows = self.tokens if block.index == "token" else np.arange(len(self.tokens))
        counts = np.diff(table.starts)[rows]
        counts[: self.readable.columns(block.name, len(rows)).start or 0] = 0
        positions = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(positions)) - np.repeat(np.cumsum(counts) - counts, counts)
        entries = table.starts[rows][positions] + within
        features = self.readable.first[block.name] + table.columns[entries].astype(np.int64)
        return table.name, entries, features, positions, table.values[entries].astype(np.float64)

    def kl_nats(self, masks: Masks) -> float:
        """Return KL(program‖kept) after the text."""
        found = log_softmax(self.run(masks).logits)
        return max(0.0, float(np.exp(self.log_probs) @ (self.log_probs - found)))

    def run(self, masks: Masks) -> State:
        """Run with the entries of some masks."""
        readable, n = self.readable, len(self.tokens)
        picked = {
            wires.key: np.flatnonzero(masks[wires.table][wires.order])
            for parts in self.wires.values()
            for wires in parts.values()
        }
        used = np.zeros(readable.n, bool)
        for parts in self.wires.values():
            for wires in parts.values():
                used[wires.sources[picked[wires.key]]] = True
        which = np.flatnonzero(used)
        at = np.full(readable.n, -1)
        at[which] = np.arange(len(which))
        state = State(at, np.zeros((len(which), n)))
        logits = np.zeros(readable.program.d_vocab)
        for block in readable.program.blocks:
            name, own = block.name, readable.own(block.name)
            rows = at[own]
            read = np.flatnonzero(rows >= 0)
            columns = readable.columns(name, n)
            voted = name in readable.program.vote.reads
            if isinstance(block, Lookup):
                last = self._look_up(block, masks, state, read, voted)
            elif name == readable.program.vote.name:
                continue
            else:
                values = self._value_alone(name)
                state.values[rows[read]] = (values - readable.means[own])[read, None]
                new = self._new(block, state, picked, columns)
                if new is not None:
                    sums, found = new
                    kept = rows[sums] >= 0
                    state.values[rows[sums[kept]], columns] = found[kept] - readable.means[own][sums[kept], None]
                last = values
                if voted and new is not None:
                    last = values.copy()
                    last[new[0]] = new[1][:, -1]
            if voted:
                logits += last
        state.logits = logits
        return state

    def _value_alone(self, name: str) -> Array:
        """Return what features are with nothing kept, [size]."""
        block, wires = self.readable.blocks[name], self.wires[name]
        constants = wires.get("sums", wires.get("conditions"))
        assert constants is not None, "a readable program has no other blocks that lookups do not make"
        return above(block, constants.constants) if isinstance(block, Looks | Fire) else constants.constants

    def _look_up(self, block: Lookup, masks: Masks, state: State, read: Array, voted: bool) -> Array:
        """Fill in what is looked up, and return it at the last position."""
        readable = self.readable
        table, entries, features, positions, values = self.looked_up[block.name]
        own, kept = readable.own(block.name), masks[table][entries]
        state.values[state.at[own][read]] = -readable.means[own][read, None]
        rows = state.at[features]
        some = rows >= 0
        apart = np.where(kept, values - readable.means[features], 0.0)
        state.values[rows[some], positions[some]] = apart[some]
        last = np.zeros(readable.sizes[block.name])
        if voted:
            here = positions == len(self.tokens) - 1
            last[features[here] - own.start] = (apart + readable.means[features])[here]
        return last

    def _sums(self, wires: Wires, state: State, picked: Mapping[str, Array], columns: slice) -> Any:
        """Work out the sums that have kept entries: which, and their values."""
        entries = picked[wires.key]
        sums, starts = np.unique(wires.targets[entries], return_index=True)
        shape = (len(sums), len(state.values))
        matrix = scipy.sparse.csr_array(
            (wires.weights[entries], state.at[wires.sources[entries]], np.append(starts, len(entries))), shape=shape
        )
        found = wires.constants[sums, None] + matrix @ state.values[:, columns]
        state.sums[wires.key] = sums, found
        return sums, found

    def _new(self, block: Any, state: State, picked: Mapping[str, Array], columns: slice) -> tuple[Array, Array] | None:
        """Work out the features of a block that have kept entries; ``None`` where none has."""
        wires = self.wires[block.name]
        if not isinstance(block, Looks):
            (own,) = wires.values()
            if not len(picked[own.key]):
                return None
            sums, found = self._sums(own, state, picked, columns)
            return sums, above(block, found, sums) if isinstance(block, Fire) else found
        if not len(picked[wires["conditions"].key]):
            return None
        moved, there = self._sums(wires["conditions"], state, picked, slice(None))
        parts = {part: self._whole(wires[part], state, picked) for part in ("queries", "keys", "lone_keys")}
        found = np.empty((len(moved), len(range(*columns.indices(len(self.tokens))))))
        state.looks[block.name] = {}
        for look, (match, own) in enumerate(zip(slices(block.matches), slices(block.moved), strict=True)):
            mine = (moved >= own.start) & (moved < own.stop)
            if not mine.any():
                continue
            queries, keys = np.maximum(parts["queries"][match, columns], 0.0), np.maximum(parts["keys"][match], 0.0)
            added = queries.T @ keys + parts["lone_keys"][look]
            weights = softmax(self.plain(block, look, columns) + added)
            found[mine] = there[mine] @ weights.T
            state.looks[block.name][look] = mine, weights, added
        return moved, above(block, found, moved)

    def _whole(self, wires: Wires, state: State, picked: Mapping[str, Array]) -> Array:
        """Return all sums of a table at every position, those without kept entries too."""
        whole = np.repeat(wires.constants[:, None], len(self.tokens), axis=1)
        if len(picked[wires.key]):
            sums, found = self._sums(wires, state, picked, slice(None))
            whole[sums] = found
        return whole

    def plain(self, block: Looks, look: int, columns: slice) -> Array:
        """Return the scores of a look by distance, minus infinity where it may not look, [here, there]."""
        if block.window not in self._back:
            self._back[block.window] = positions_seen(len(self.tokens), block.window)
        back, visible = (found[columns] for found in self._back[block.window])
        curve = block.distance.values[look].astype(np.float64)
        return np.where(visible, curve[np.clip(back, 0, len(curve) - 1)], -np.inf)
