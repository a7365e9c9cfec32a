"""englishroom explained"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from englishroom.cli.output import command, progress_bar, say, show
from englishroom.names import PROGRAM
from englishroom.pipeline.commands import ExplainedConfig


@dataclass(frozen=True)
class Command:
    """Write the program of the explanations of a readable room alone: every moved feature and rule is replaced by its
    condition. It talks and is scored like any other; what each explanation costs is listed."""

    config: Annotated[ExplainedConfig, arg(name="")]
    out: Path = Path("explained")
    """Folder to write the explanations to, a room like any other."""

    def run(self) -> None:
        from englishroom.pipeline.explained_level import write_explained

        with progress_bar() as progress:
            write_explained(self.config, self.out, say, progress)
        run = command("python", self.out / PROGRAM)
        show(f"wrote {self.out}; explained.json says what each explanation costs; next: {run}")
