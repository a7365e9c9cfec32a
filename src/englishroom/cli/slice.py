"""englishroom slice"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from englishroom.cli.output import command, progress_bar, say, show
from englishroom.names import PROGRAM


@dataclass(frozen=True)
class Command:
    """Cut the part out of a sparse program that one text needs: a smaller program that says the same on it."""

    room: tyro.conf.Positional[Path]
    """A room of a sparse program."""
    text: str
    """The text, from its beginning."""
    out: Path = Path("slice")
    """The room to write."""
    tolerance: float = 0.05
    """Nats by which the slice may differ from the program at any position of the text; 0 keeps what it says exactly."""
    same: Literal["tokens", "distributions"] = "tokens"
    """What must stay the same: the log-probability of each token of the text, or the whole distribution (KL)."""
    evaluations: int = 1000
    """Programs tried at most; more find smaller slices."""
    fold: bool = True
    """Do not let biases take over what is left out on average."""
    seed: int = 0
    """Seed of the draws by which entries are weighed."""

    def run(self) -> None:
        from englishroom.pipeline.slicing import SliceConfig, slice_room

        config = SliceConfig(
            room=str(self.room),
            text=self.text,
            tolerance=self.tolerance,
            same=self.same,
            evaluations=self.evaluations,
            fold=self.fold,
            seed=self.seed,
        )
        with progress_bar() as progress:
            slice_room(config, self.out, say, progress)
        run = command("python", self.out / PROGRAM)
        show(f"wrote {self.out}; slice.json says what was kept; next: {run}")
