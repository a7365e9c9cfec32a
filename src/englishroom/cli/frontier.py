"""englishroom frontier"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from englishroom.cli.output import print_table, progress_bar, say, show


@dataclass(frozen=True)
class Command:
    """Sweep sparsity and precision of a sparse room; draw fidelity against length and against rules fired."""

    rooms: tyro.conf.Positional[tuple[Path, ...]]
    """Rooms of one model; the first sparse one among them is quantised and pruned in steps."""
    out: Path = Path("frontier")
    """Folder to write frontier.json, its pictures and the programs to; what was measured before is kept there."""
    text: str = "sampled"
    """Text to measure on: a file, a folder, a hub dataset, or "sampled", the ready corpus."""
    max_documents: int | None = None
    """Measure on the first documents only."""
    bits: tuple[str, ...] = ("8", "6", "5", "4", "3", "2", "ternary")
    """Bits a number at which the program is quantised."""
    keep: tuple[float, ...] = (0.8, 0.6, 0.4, 0.2)
    """Shares of its edges to which it is pruned."""
    refit: int = 0
    """Tokens on which each of these programs is refitted to the model while it is made smaller; 0 refits none."""
    baselines: bool = True
    """Leave out the target quantised and pruned, and the n-grams."""
    fit: str = "sampled:fit"
    """Text that n-grams are counted on, averages taken, and programs refitted."""
    choose: str = "sampled:choose"
    """Text that settings of the baselines are chosen on."""
    model: str | None = None
    """The model that the rooms were made of, where it is not to be found under the name it had then."""
    seed: int = 0
    """Seed of the intervals and of the refits."""
    store: bool = False
    """Keep the result in the first sparse room (or the first room), too, for its report to show."""

    def run(self) -> None:
        from englishroom.names import FRONTIER
        from englishroom.pipeline.frontier import PICTURES, FrontierConfig, frontier
        from englishroom.report.frontier import COLUMNS, in_order

        config = FrontierConfig(
            self.rooms,
            self.text,
            self.max_documents,
            self.bits,
            self.keep,
            self.refit,
            self.baselines,
            self.fit,
            self.choose,
            self.model,
            self.seed,
            self.store,
        )
        with progress_bar() as progress:
            found = frontier(config, self.out, say, progress)
        text = found["text"]
        print_table(
            f"{found['target']['name']} on {text['name']}, {text['documents']:,} documents",
            ("point", *(name for name, _ in COLUMNS), "open"),
            [
                (point["name"], *(write(point) for _, write in COLUMNS), point["open"])
                for point in in_order(found["points"])
            ],
        )
        for name in (FRONTIER, *PICTURES):
            show(f"wrote {self.out / name}")
