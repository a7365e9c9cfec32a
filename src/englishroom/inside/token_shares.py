"""Each kept entry's share of what all of them together bring nearer to what a readable program says after a token.

What is wanted is followed back from output to input, at the mean slope between the state in which nothing is kept and
the one at hand (the rescale rule of DeepLIFT, Shrikumar 2017), and along the straight line between both for logits and
for scores of looks (integrated gradients): so thresholds and looks that are sure of where they look count for what they
do, where a derivative would be 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from englishroom.inside.token_run import Masks, State, TokenRun
from englishroom.inside.wires import Array, Wires, above
from englishroom.interp.looking import slices
from englishroom.interp.pointwise import log_softmax, softmax
from englishroom.ir.program import Fire, Looks, Lookup

PLACES, WEIGHTS = np.polynomial.legendre.leggauss(6)
"""Nodes on a line from -1 to 1, and their weights, by which means along it are taken."""
CHUNK = 1 << 21
"""Products of entries and positions at hand at a time."""
LEAST_SHARE = 1e-3
"""Positions that get a smaller share of what is wanted than this, against the largest, are passed over."""
SCORES = ("queries", "keys", "lone_keys")


def shares_of(run: TokenRun, masks: Masks) -> dict[str, Array]:
    """Return the share of every entry, by table, 0 for those that are not kept."""
    return _Weighing(run, masks, run.run(masks)).shares()


@dataclass
class _Weighing:
    run: TokenRun
    masks: Masks
    state: State

    def __post_init__(self) -> None:
        self.readable, self.n = self.run.readable, len(self.run.tokens)
        self.found = {name: np.zeros(len(mask)) for name, mask in self.masks.items()}
        self.wanted = np.zeros_like(self.state.values)  # of features, [feature, pos]

    def shares(self) -> dict[str, Array]:
        """Go from the last block to the first."""
        moved = self.state.logits - self.run.alone
        wanted = np.exp(self.run.log_probs)
        for place, weight in zip(PLACES, WEIGHTS, strict=True):
            wanted -= weight / 2 * np.exp(log_softmax(self.run.alone + (1 + place) / 2 * moved))
        for block in reversed(self.readable.program.blocks):
            direct = wanted if block.name in self.readable.program.vote.reads else None
            wires = self.run.wires[block.name]
            own = wires.get("sums", wires.get("conditions"))
            if isinstance(block, Lookup):
                self._lookup(block, direct)
            elif own is not None and own.key in self.state.sums:
                sums, found = self.state.sums[own.key]
                columns = self.readable.columns(block.name, self.n)
                behind = self._at(self.state.at[self.readable.own(block.name)][sums])[:, columns]
                if direct is not None:
                    behind[:, -1] += direct[sums]
                if isinstance(block, Looks):
                    self._looks(block, behind)
                    continue
                if isinstance(block, Fire):
                    alone = own.constants[sums]
                    behind = behind * _slope(found, alone, lambda x, b=block, at=sums: above(b, x, at))
                self._wires(own, behind, columns)
        return self.found

    def _at(self, rows: Array) -> Array:
        """Return what is wanted of some features, nothing where nothing reads them."""
        found = np.zeros((len(rows), self.n))
        found[rows >= 0] = self.wanted[rows[rows >= 0]]
        return found

    def _lookup(self, block: Lookup, direct: Array | None) -> None:
        table, entries, features, positions, values = self.run.looked_up[block.name]
        rows = self.state.at[features]
        some, behind = rows >= 0, np.zeros(len(rows))
        behind[some] = self.wanted[rows[some], positions[some]]
        if direct is not None:
            here = positions == self.n - 1
            behind[here] += direct[features[here] - self.readable.first[block.name]]
        found = (values - self.readable.means[features]) * behind
        self.found[table] += np.bincount(entries, found, minlength=len(self.found[table])) * self.masks[table]

    def _looks(self, block: Looks, behind: Array) -> None:
        """Follow what is wanted of moved features back to what stands there, and to where looks look."""
        wires, columns = self.run.wires[block.name], self.readable.columns(block.name, self.n)
        own = wires["conditions"]
        moved, there = self.state.sums[own.key]
        of = {part: np.zeros((len(wires[part].constants), self.n)) for part in SCORES}
        of_there = np.zeros_like(there)
        for look, (mine, weights, added) in self.state.looks[block.name].items():
            at = moved[mine]
            slope = _slope(there[mine] @ weights.T, own.constants[at], lambda x, at=at: above(block, x, at))
            wanted = behind[mine] * slope
            of_there[mine] = wanted @ weights
            of_weights, plain = wanted.T @ there[mine], self.run.plain(block, look, columns)
            of_scores = np.zeros_like(weights)
            for place, weight in zip(PLACES, WEIGHTS, strict=True):
                between = softmax(plain + (1 + place) / 2 * added)
                of_scores += weight / 2 * between * (of_weights - (between * of_weights).sum(1, keepdims=True))
            match = slices(block.matches)[look]
            (queries, query_slope), (keys, key_slope) = (self._pair(wires[part], match) for part in SCORES[:2])
            of["queries"][match, columns] = keys @ of_scores.T * query_slope[:, columns]
            of["keys"][match] = queries[:, columns] @ of_scores * key_slope
            of["lone_keys"][look] = of_scores.sum(0)
        self._wires(own, of_there, slice(None))
        for part, found in of.items():
            if wires[part].key in self.state.sums:
                self._wires(wires[part], found[self.state.sums[wires[part].key][0]], slice(None))

    def _pair(self, wires: Wires, match: slice) -> tuple[Array, Array]:
        """Return the queries, or the keys, of some matches: halfway from those with nothing kept; and their slope.

        A product q k is ``q0 k0`` more than with nothing kept by ``(q - q0) (k + k0) / 2 + (k - k0) (q + q0) / 2``.
        """
        alone = wires.constants[match]
        sums = np.repeat(alone[:, None], self.n, axis=1)
        if wires.key in self.state.sums:
            which, found = self.state.sums[wires.key]
            own = (which >= match.start) & (which < match.stop)
            sums[which[own] - match.start] = found[own]
        slope = _slope(sums, alone, lambda x: np.maximum(x, 0.0))
        return (np.maximum(sums, 0.0) + np.maximum(alone, 0.0)[:, None]) / 2, slope

    def _wires(self, wires: Wires, behind: Array, columns: slice) -> None:
        """Follow what is wanted of sums back to their kept entries, and to the features that these lead from."""
        sums, _ = self.state.sums[wires.key]
        entries = np.flatnonzero(self.masks[wires.table][wires.order])
        at_sum = np.searchsorted(sums, wires.targets[entries])
        some = np.any(behind, axis=1, keepdims=True)[at_sum, 0]
        entries, at_sum = entries[some], at_sum[some]
        if not len(entries):
            return
        mass = np.abs(behind).sum(0)
        near = mass > LEAST_SHARE * mass.max()
        positions = np.arange(self.n)[columns][near]
        behind, rows = behind[:, near], self.state.at[wires.sources[entries]]
        weights, values = wires.weights[entries], self.state.values[:, positions]
        found = np.empty(len(entries))
        step = max(1, CHUNK // len(positions))
        for first in range(0, len(entries), step):
            part = slice(first, first + step)
            found[part] = np.vecdot(values[rows[part]], behind[at_sum[part]])
        self.found[wires.table][wires.order[entries]] += found * weights
        matrix = scipy.sparse.csr_array((weights, (rows, at_sum)), shape=(len(self.wanted), len(sums)))
        self.wanted[:, positions] += matrix @ behind


def _slope(found: Array, alone: Array, function: Callable[[Array], Array]) -> Array:
    """Return the mean slope of a function between two states, [sum, pos]."""
    alone = np.repeat(alone[:, None], found.shape[1], axis=1)
    apart, after = found - alone, function(found)
    near = np.abs(apart) < 1e-9
    return np.where(near, (after != 0).astype(np.float64), (after - function(alone)) / np.where(near, 1.0, apart))
