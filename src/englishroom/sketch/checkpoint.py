"""A sketch that is growing, on disk, so that a run that was killed goes on where it was."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, replace

import numpy as np

from englishroom.errors import ArtifactError
from englishroom.sketch.model import SketchVotes
from englishroom.work import Kept

_PARTS = ("always", "keys", "outputs", "weights", "copies")


@dataclass(frozen=True)
class SearchPoint:
    """A sketch that the search went through.

    Attributes:
        share: on the choosing text.
    """

    lines: int
    entries: int
    share: float


@dataclass(frozen=True)
class Growth:
    """A sketch after some rounds of growing, and all that decides how the search goes on from it.

    Attributes:
        n_new: votes to add in the next round.
        best, best_share: the sketch that kept most of the choosing text so far, and how much.
        in_vain: rounds since then.
        lines, share: of ``votes``; nothing before the first round.
        margin: how far to grow beyond the share that is asked for.
        path: the rounded sketches that were measured so far.
    """

    votes: SketchVotes
    n_new: int
    best: SketchVotes
    best_share: float = -np.inf
    in_vain: int = 0
    lines: int = 0
    share: float = -np.inf
    margin: float = 0.0
    path: tuple[SearchPoint, ...] = ()


def save(kept: Kept, growth: Growth) -> None:
    """Keep how far a sketch has grown."""
    file = io.BytesIO()
    arrays = {f"{name}_{part}": getattr(getattr(growth, name), part) for name in ("votes", "best") for part in _PARTS}
    numbers = (growth.n_new, growth.best_share, growth.in_vain, growth.lines, growth.share, growth.margin)
    path = np.array([(point.lines, point.entries, point.share) for point in growth.path]).reshape(-1, 3)
    np.savez_compressed(file, numbers=np.array(numbers), path=path, **arrays)
    kept.write(file.getvalue())


def load(kept: Kept, start: SketchVotes) -> Growth | None:
    """Return what was kept by a run of the same identity, or ``None``.

    Args:
        start: the sketch that the run began from.

    Raises:
        ArtifactError: the file is damaged.
    """
    data = kept.read()
    if data is None:
        return None
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            n_new, best_share, in_vain, lines, share, margin = stored["numbers"].tolist()
            path = tuple(SearchPoint(int(a), int(b), c) for a, b, c in stored["path"].tolist())
            found = (
                replace(start, **{part: stored[f"{name}_{part}"] for part in _PARTS}) for name in ("votes", "best")
            )
            votes, best = found
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{kept.path}: damaged ({error}); delete it to start over") from None
    return Growth(votes, int(n_new), best, best_share, int(in_vain), int(lines), share, margin, path)
