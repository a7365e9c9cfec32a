"""englishroom label"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from englishroom.cli.output import progress_bar, say, show


@dataclass(frozen=True)
class Command:
    """Name the features of a sparse room after what they do on a text, and write its program with these names."""

    room: tyro.conf.Positional[Path]
    """A room at the sparse level."""
    text: str | None = None
    """A text that was fitted or chosen on, never the one that the room is judged on; by default the one fitted on."""
    rows: int = 120
    """Documents of it to read."""

    def run(self) -> None:
        from englishroom.ir.labels import load_labels
        from englishroom.ir.room import load_program
        from englishroom.pipeline.labelling import relabel

        with progress_bar() as progress:
            relabel(self.room, self.text, self.rows, say, progress)
        labels = load_labels(self.room, load_program(self.room)[0])
        for variable, features in labels.features.items():
            groups: dict[str, int] = {}
            for feature in features:
                groups[feature.group] = groups.get(feature.group, 0) + 1
            listed = ", ".join(f"{n:,} {group}" for group, n in sorted(groups.items(), key=lambda item: -item[1]))
            show(f"{variable}: {len(features):,} features: {listed}")
