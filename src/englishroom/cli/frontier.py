"""englishroom frontier"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from englishroom.cli.output import blank_lines_of, print_table, progress_bar, say, show
from englishroom.pipeline.commands import FrontierConfig


@dataclass(frozen=True)
class Command:
    """Make a sparse program smaller step by step, and draw how faithful it stays against its size and rules fired."""

    config: Annotated[FrontierConfig, arg(name="")]
    out: Path = Path("frontier")
    """Folder to write frontier.json, its pictures and the programs to; what was measured there before is kept."""

    def run(self) -> None:
        from englishroom.names import FRONTIER
        from englishroom.pipeline.frontier import PICTURES, frontier
        from englishroom.report.frontier import COLUMNS, in_order

        with progress_bar() as progress:
            found = frontier(self.config, self.out, say, progress)
        text = found["text"]
        print_table(
            f"{found['target']['name']} on {text['name']}, {text['documents']:,} documents, {blank_lines_of(text)}",
            ("point", *(name for name, _ in COLUMNS), "open"),
            [
                (point["name"], *(write(point) for _, write in COLUMNS), point["open"])
                for point in in_order(found["points"])
            ],
        )
        for name in (FRONTIER, *PICTURES):
            show(f"wrote {self.out / name}")
