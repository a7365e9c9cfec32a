"""englishroom label"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from englishroom.cli.output import progress_bar, say, show
from englishroom.pipeline.commands import LabelConfig


@dataclass(frozen=True)
class Command:
    """Give the features of a sparse room names that say what they do, as seen on a text.

    The names are written into program.py of the room. What the program computes does not change.
    """

    config: Annotated[LabelConfig, arg(name="")]

    def run(self) -> None:
        from englishroom.ir.labels import load_labels
        from englishroom.ir.room import load_program
        from englishroom.pipeline.labelling import relabel

        room = self.config.room
        with progress_bar() as progress:
            relabel(self.config, say, progress)
        for variable, features in load_labels(room, load_program(room)[0]).features.items():
            groups = Counter(feature.group for feature in features)
            listed = ", ".join(f"{n:,} {group}" for group, n in groups.most_common())
            show(f"{variable}: {len(features):,} features: {listed}")
