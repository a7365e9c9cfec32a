"""englishroom report"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from englishroom.cli.output import progress_bar, say, show
from englishroom.pipeline.commands import ReportConfig


@dataclass(frozen=True)
class Command:
    """Write one page about a room: how good its program is, what is in it, and how to make it again."""

    config: Annotated[ReportConfig, arg(name="")] = ReportConfig()
    out: Path = Path("report")
    """Folder to write report.html and report.json to; what report.json holds is not measured again."""

    def run(self) -> None:
        from englishroom.pipeline.reporting import HTML, report

        with progress_bar() as progress:
            report(self.config, self.out, say, progress)
        show(f"wrote {self.out / HTML}; open it in a browser")
