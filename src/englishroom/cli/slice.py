"""englishroom slice"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from englishroom.cli.output import command, progress_bar, say, show
from englishroom.names import PROGRAM
from englishroom.pipeline.commands import SliceConfig


@dataclass(frozen=True)
class Command:
    """Cut out the part of a sparse program that one text needs: a smaller program that says the same on that text."""

    config: Annotated[SliceConfig, arg(name="")]
    out: Path = Path("slice")
    """Folder to write the slice to, a room like any other."""

    def run(self) -> None:
        from englishroom.pipeline.slicing import slice_room

        with progress_bar() as progress:
            slice_room(self.config, self.out, say, progress)
        run = command("python", self.out / PROGRAM)
        show(f"wrote {self.out}; slice.json says what was kept; next: {run}")
