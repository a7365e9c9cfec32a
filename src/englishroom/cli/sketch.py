"""englishroom sketch"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from englishroom.cli.output import blank_lines_of, print_table, progress_bar, say, show, talk_command
from englishroom.pipeline.commands import SketchConfig

if TYPE_CHECKING:
    from englishroom.sketch.folder import SketchRecord


@dataclass(frozen=True)
class Command:
    """Write the shortest readable program that keeps a share of what a talker does, its most important parts first."""

    config: Annotated[SketchConfig, arg(name="")] = SketchConfig()
    out: Path = Path("sketch")
    """Folder to write sketch.py, sketch.json and tokenizer.json to."""

    def run(self) -> None:
        from englishroom.pipeline.sketching import sketch
        from englishroom.sketch.folder import SOURCE

        with progress_bar() as progress:
            record = sketch(self.config, self.out, say, progress)
        print_sketch(record)
        show(f"wrote {self.out}; next: {talk_command(self.out / SOURCE)}")


def print_sketch(record: SketchRecord) -> None:
    """Print the gears of a sketch, and what it keeps."""
    about = record.texts["report"]
    report = about["name"]
    print_table(
        f"gears of the sketch of {record.talker}, nats per token on {report}",
        ["gear", "votes", "adds", "left out alone"],
        [
            [
                row["gear"],
                f"{row['entries']:,}",
                f"{row['adds_nats']:.4f}",
                "" if row["left_out_nats"] is None else f"{row['left_out_nats']:.4f}",
            ]
            for row in record.gears
        ],
    )
    show(
        f"{record.lines} lines, {record.entries:,} votes; KL(talker‖sketch) {record.kl_talker_sketch:.4f} nats, "
        f"KL(talker‖unigram) {record.kl_talker_unigram:.4f}; {record.cross_entropy:.4f} nats per token, "
        f"the talker {record.talker_cross_entropy:.4f}; {blank_lines_of(about)}"
    )
    show(f"share kept: {record.share:.3f} of {report}, {record.share_of_choosing_text:.3f} of the choosing text; it is")
    show(f"  {record.share_is}")
    if not record.kept:
        show(
            f"share {record.asked_share:g} cannot be kept in {record.asked_lines} lines: "
            f"{record.share_of_choosing_text:.3f} was reached; give more --lines or a smaller --share"
        )
