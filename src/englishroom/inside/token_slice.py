"""The entries of a readable program that one token needs: votes and everything upstream.

1. Choose votes, within a part of the tolerance, while all that leads to them is kept (``token_votes``).
2. Weigh every entry upstream by its share of what these votes bring, and keep the heaviest, as few as will do.
3. Weigh again what is kept, and keep a part of it, as long as that stays within the tolerance.
4. Take out runs of the lightest entries that are left, votes too, then ever shorter ones.

After every step entries that lead to nothing that is read are left out too. Whatever is returned was run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.inside.token_run import Masks, TokenRun
from englishroom.inside.token_shares import shares_of
from englishroom.inside.token_votes import votes_needed
from englishroom.interp.looking import slices
from englishroom.ir.program import Looks, Lookup

PART = 0.75
"""Part of the tolerance that votes may use."""
FIRST = 64
"""Entries upstream that are tried first; then twice as many, and so on."""
SHARES = (0.5, 0.7, 0.85, 0.95)
"""Shares of the entries upstream that step 3 tries to keep."""
RUNS = (32, 128)
"""Into how many runs the entries left are cut in step 4, and again."""


def slice_of(run: TokenRun, tolerance: float) -> dict[str, NDArray[np.bool_]]:
    """Return which entries of each table to keep so that KL(program‖kept) at the token is within the tolerance."""
    votes = votes_needed(run, PART * tolerance)
    best = live(run, _with_votes(run, votes))
    best = live(run, _heaviest(run, best, votes, tolerance))
    while (n := count(best) - count(votes)) > 0:
        shares = _shares(run, best, votes)
        for share in SHARES:
            smaller = live(run, _top(best, shares, count(votes) + int(share * n)))
            if run.kl_nats(smaller) <= tolerance:
                best = smaller
                break
        else:
            break
    for n_runs in RUNS:
        best = _without_runs(run, best, tolerance, n_runs)
    return best


def _with_votes(run: TokenRun, votes: Masks) -> dict[str, NDArray[np.bool_]]:
    """Return some votes and everything upstream."""
    found = {name: mask.copy() for name, mask in run.everything.items()}
    for name in run.readable.program.vote.reads:
        tables = [wires.table for wires in run.wires[name].values()]
        for table in tables or [run.looked_up[name][0]]:
            found[table] = votes[table].copy()
    for name, (table, entries, *_) in run.looked_up.items():
        if name not in run.readable.program.vote.reads:
            found[table][entries] = True
    return found


def _shares(run: TokenRun, masks: Masks, votes: Masks) -> dict[str, NDArray[Any]]:
    """Weigh what is kept, votes as heavier than anything upstream."""
    return {name: np.where(votes[name], np.inf, shares) for name, shares in shares_of(run, masks).items()}


def count(masks: Masks) -> int:
    """Count entries that are kept."""
    return sum(int(mask.sum()) for mask in masks.values())


def live(run: TokenRun, masks: Masks) -> dict[str, NDArray[np.bool_]]:
    """Leave out entries that lead to nothing that is read on the way to the token."""
    readable = run.readable
    needed = np.zeros(readable.n, bool)
    found = {name: np.zeros(len(mask), bool) for name, mask in masks.items()}
    for name in readable.program.vote.reads:
        needed[readable.own(name)] = True

    def pick(part: str, name: str, targets: NDArray[np.bool_]) -> None:
        wires = run.wires[name][part]
        kept = masks[wires.table][wires.order] & targets[wires.targets]
        found[wires.table][wires.order[kept]] = True
        needed[wires.sources[kept]] = True

    for block in reversed(readable.program.blocks):
        own = needed[readable.own(block.name)]
        if isinstance(block, Lookup):
            table, entries, features, _, _ = run.looked_up[block.name]
            found[table][entries[masks[table][entries] & needed[features]]] = True
        elif isinstance(block, Looks):
            wires = run.wires[block.name]["conditions"]
            kept = masks[wires.table][wires.order] & own[wires.targets]
            moved = np.bincount(wires.targets[kept], minlength=len(own)) > 0
            looks = np.array([moved[part].any() for part in slices(block.moved)], bool)
            pick("conditions", block.name, own)
            pick("lone_keys", block.name, looks)
            for part in ("queries", "keys"):
                pick(part, block.name, np.repeat(looks, block.matches))
        elif run.wires[block.name]:
            (part,) = run.wires[block.name]
            pick(part, block.name, own)
    return found


def _heaviest(run: TokenRun, every: Masks, votes: Masks, tolerance: float) -> Masks:
    """Keep votes and the fewest of the heaviest entries, by their shares or by the size of these, whichever is less."""
    shares = _shares(run, every, votes)
    sizes = {name: np.abs(share) for name, share in shares.items()}
    return min((_fewest(run, every, by, count(votes), tolerance) for by in (shares, sizes)), key=count)


def _fewest(
    run: TokenRun, every: Masks, shares: Mapping[str, NDArray[Any]], n_votes: int, tolerance: float
) -> dict[str, NDArray[np.bool_]]:
    """Keep as few of the heaviest entries as a search by doubling and halving finds to do."""

    def fits(n: int) -> bool:
        return run.kl_nats(_top(every, shares, n)) <= tolerance

    low, high, n_all = n_votes - 1, n_votes, count(every)
    while high < n_all and not fits(high):
        low, high = high, min(n_votes + max(FIRST, 2 * (high - n_votes)), n_all)
    while high - low > max(1, (high - n_votes) // 8):
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return _top(every, shares, high)


def _top(masks: Masks, shares: Mapping[str, NDArray[Any]], n: int) -> dict[str, NDArray[np.bool_]]:
    """Keep the n heaviest of the entries that are kept."""
    return _split(masks, _ranked(masks, shares)[:n])


def _ranked(masks: Masks, shares: Mapping[str, NDArray[Any]]) -> NDArray[np.intp]:
    """Rank the entries that are kept, the heaviest first, by their places in all tables end to end."""
    kept = np.flatnonzero(np.concatenate(list(masks.values())))
    weights = np.concatenate([shares[name] for name in masks])[kept]
    return kept[np.argsort(-weights, kind="stable")]


def _split(masks: Masks, places: NDArray[np.intp]) -> dict[str, NDArray[np.bool_]]:
    """Turn places in all tables end to end into masks."""
    sizes = [len(mask) for mask in masks.values()]
    whole = np.zeros(sum(sizes), bool)
    whole[places] = True
    return dict(zip(masks, np.split(whole, np.cumsum(sizes)[:-1]), strict=True))


def _without_runs(run: TokenRun, best: dict[str, Any], tolerance: float, n_runs: int) -> dict[str, Any]:
    """Take out runs of entries, the lightest first, that can be spared one after the other."""
    order = _ranked(best, shares_of(run, best))[::-1]
    alive = np.concatenate(list(best.values()))
    for places in np.array_split(order, min(n_runs, len(order))) if len(order) else ():
        places = places[alive[places]]
        if not len(places):
            continue
        alive[places] = False
        smaller = live(run, _split(best, np.flatnonzero(alive)))
        if run.kl_nats(smaller) <= tolerance:
            best, alive = smaller, np.concatenate(list(smaller.values()))
        else:
            alive[places] = True
    return best
