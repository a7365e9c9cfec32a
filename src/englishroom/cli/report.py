"""englishroom report"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from englishroom.cli.output import progress_bar, say, show


@dataclass(frozen=True)
class Command:
    """Write a report of a room: how good its program is, what is in it, and how to make it again; one page."""

    room: Annotated[Path | None, tyro.conf.Positional] = None
    """The room; by default the one that ships."""
    out: Path = Path("report")
    """Folder to write report.html and report.json to; what was measured before is taken from the latter."""
    report: str | None = None
    """Text to measure on anew; by default the text that the room was measured on, and only what the room lacks."""
    max_documents: int | None = None
    """Measure on the first documents only."""
    frontier: Path | None = None
    """Result of englishroom frontier (frontier.json or its folder); by default the one that lies in the room."""
    model: str | None = None
    """The model that the room was made of, where it is not to be found under the name it had then."""
    prompt: tuple[str, ...] = ("Once upon a time", "Lily and Tom", "")
    """Prompts that target and program both tell on; an empty one begins a story."""
    seed: int = 0
    """Seed of the stories and of the intervals."""

    def run(self) -> None:
        from englishroom.pipeline.reporting import HTML, ReportConfig, report
        from englishroom.talkers.shipped import shipped_room

        room = shipped_room() if self.room is None else self.room
        config = ReportConfig(room, self.report, self.max_documents, self.frontier, self.model, self.prompt, self.seed)
        with progress_bar() as progress:
            report(config, self.out, say, progress)
        show(f"wrote {self.out / HTML}; open it in a browser")
