"""englishroom export"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from englishroom.cli.output import show


@dataclass(frozen=True)
class Command:
    """Write the dictionaries (sparse autoencoders and transcoders) of a room as files that other tools can read."""

    room: Annotated[Positional[Path], arg(metavar="ROOM")]
    """Folder of a room that "englishroom decompile --level featured" has written."""
    out: Path
    """Folder to write. It must not exist yet."""
    format: str = "saelens"
    """Form of the files: englishroom, saelens, sparsify, dictionary_learning, circuit_tracer. Not every form can hold
    every dictionary; if one cannot, nothing is written."""

    def run(self) -> None:
        from englishroom.pipeline.exporting import export

        for line in export(self.room, self.out, self.format):
            show(line)
