"""englishroom memory"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from englishroom.cli.output import print_table, progress_bar, show
from englishroom.pipeline.commands import MemoryConfig
from englishroom.plain import storable


@dataclass(frozen=True)
class Command:
    """Measure how much of a sparse program is memory, and how much is computed from the text.

    Memory is what follows from the last token alone; position is what also depends on the place in the text; algorithm
    is what depends on earlier tokens. For each, the size in bits is given, and by how much the loss (in nats per token)
    rises without it.
    """

    config: Annotated[MemoryConfig, arg(name="")]
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> None:
        from json import dumps

        from englishroom.inside.memory import summary_lines
        from englishroom.pipeline.labelling import memory_of_room

        with progress_bar() as progress:
            measured = memory_of_room(self.config, progress)
        if self.json:
            show(dumps(storable(measured), indent=1))
            return
        rows = [
            (row["name"], f"{row['ce_nats']:.3f}", f"{row['kl_whole_part_nats']:.3f}") for row in measured["programs"]
        ]
        title = f"{self.config.room} on {measured['text']}"
        print_table(title, ("what is left", "CE (nats)", "KL(whole‖part) (nats)"), rows)
        for line in summary_lines(measured):
            show(line)
