"""englishroom memory"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from englishroom.cli.output import print_table, progress_bar, show
from englishroom.plain import storable


@dataclass(frozen=True)
class Command:
    """Tell what a sparse program stores from what it works out: bits of each, and nats lost without it."""

    room: tyro.conf.Positional[Path]
    """A room at the sparse level."""
    text: str = "sampled"
    """Held-out text to measure on: a file, a folder, a hub dataset, or "sampled", the ready corpus."""
    fit: str | None = None
    """Text on which features that are taken out are averaged; by default the one that the room was fitted on."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        from json import dumps

        from englishroom.inside.memory import summary_lines
        from englishroom.pipeline.labelling import memory_of_room

        with progress_bar() as progress:
            measured = memory_of_room(self.room, self.fit, self.text, progress)
        if self.json:
            show(dumps(storable(measured), indent=1))
            return
        rows = [
            (row["name"], f"{row['ce_nats']:.3f}", f"{row['kl_whole_part_nats']:.3f}") for row in measured["programs"]
        ]
        print_table(f"{self.room} on {measured['text']}", ("what is left", "CE (nats)", "KL(whole‖part) (nats)"), rows)
        for line in summary_lines(measured):
            show(line)
