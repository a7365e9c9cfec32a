"""englishroom export"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from englishroom.cli.output import show


@dataclass(frozen=True)
class Command:
    """Write the dictionaries of a featured room for other tools: SAELens, sparsify, circuit-tracer and so on."""

    room: tyro.conf.Positional[Path]
    """A room at the featured level."""
    out: Path
    """Folder to write; it must not be there yet."""
    format: str = "saelens"
    """englishroom, saelens, sparsify, dictionary_learning, circuit_tracer. What a format cannot hold is refused."""

    def run(self) -> None:
        from englishroom.pipeline.exporting import export

        for line in export(self.room, self.out, self.format):
            show(line)
