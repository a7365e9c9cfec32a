"""A sketch that is growing, on disk, so that a run that was killed goes on where it was."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from englishroom.data.corpus import replace_file
from englishroom.sketch.model import Votes

_PARTS = ("always", "keys", "outputs", "weights", "copies")


@dataclass(frozen=True)
class Growth:
    """A sketch after some rounds of growing.

    Attributes:
        n_new: votes to add in the next round.
        best, best_share: the sketch that kept most of the choosing text so far, and how much.
        in_vain: rounds since then.
    """

    votes: Votes
    n_new: int
    best: Votes
    best_share: float = -np.inf
    in_vain: int = 0


def save(path: Path, mark: str, growth: Growth) -> None:
    """Keep how far a sketch has grown.

    Args:
        mark: of all that it depends on; another run does not take it up.
    """
    file = io.BytesIO()
    arrays = {f"{name}_{part}": getattr(getattr(growth, name), part) for name in ("votes", "best") for part in _PARTS}
    numbers = np.array([growth.n_new, growth.best_share, growth.in_vain])
    np.savez_compressed(file, mark=np.array(mark), numbers=numbers, **arrays)
    replace_file(path, file.getvalue())


def load(path: Path, mark: str, start: Votes) -> Growth | None:
    """Return what was kept by a run of the same mark, or ``None``; a damaged file counts as none.

    Args:
        start: the sketch that the run began from.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["mark"]) != mark:
                return None
            n_new, best_share, in_vain = stored["numbers"].tolist()
            found = (
                replace(start, **{part: stored[f"{name}_{part}"] for part in _PARTS}) for name in ("votes", "best")
            )
            votes, best = found
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    return Growth(votes, int(n_new), best, best_share, int(in_vain))
