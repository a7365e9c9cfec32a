"""englishroom readability"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from englishroom.cli.output import print_table, progress_bar, show
from englishroom.disk import replace_file
from englishroom.pipeline.commands import ReadabilityConfig
from englishroom.plain import to_json


@dataclass(frozen=True)
class Command:
    """Measure how readable a readable program is: how much works at one position, and how little of it is needed.

    Beside each measure stands its null, what a program that knows nothing has. The room's manifest and its
    readability.json get all of them.
    """

    config: Annotated[ReadabilityConfig, arg(name="")]
    out: Path | None = None
    """File to write the measures to, with what was counted at each position, as JSON."""

    def run(self) -> None:
        from englishroom.pipeline.readability import readability_of_room

        with progress_bar() as progress:
            found = readability_of_room(self.config, progress)
        print_readability(str(self.config.room), found)
        if self.out is not None:
            replace_file(self.out, to_json(found))


def print_readability(room: str, found: Mapping[str, Any]) -> None:
    """Print measures beside their nulls."""
    from englishroom.evaluate.readability_metrics import known

    measures = found["measures"]
    title = (
        f"{room}: {found['positions_read']:,} positions read, {len(found['places'])} of them chosen to count what is "
    )
    rows = [(metric.name, metric.value(measures), metric.null(measures)) for metric in known(measures)]
    print_table(title + "needed", ("measure", "value", "null"), rows)
    show("null: the same of a program with votes permuted among voters (voters, KL) or with numbers shuffled in tables")
