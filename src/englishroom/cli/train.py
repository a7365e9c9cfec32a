"""englishroom train"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from englishroom.cli.output import command, progress_bar, say, show
from englishroom.data.corpus import BlankLines
from englishroom.talkers.config import TrainConfig


@dataclass(frozen=True)
class Command:
    """Train a small GPT-2-style talker from plain text; run again to resume."""

    texts: tyro.conf.Positional[tuple[str, ...]]
    """Text files or tables, folders of them, hub datasets (streamed); one given twice is seen twice as often."""
    out: Path
    """Folder to write the model to, in the format of Hugging Face."""
    blank_lines: BlankLines = "collapse"
    """Collapse white space around line ends, blank lines included, to one newline, or keep it."""
    training: TrainConfig = TrainConfig()
    """Shape and schedule."""

    def run(self) -> None:
        from englishroom.evaluate.compute_recovered.curve import measure_run
        from englishroom.talkers.build import build_talker

        with progress_bar() as progress:
            run = build_talker(
                self.texts, self.out, self.training, measure_run, say, progress, blank_lines=self.blank_lines
            )
        last = run.curve[-1]
        say(
            f"held-out text: {last['nats_per_token']:.4f} nats per token, {last['bits_per_byte']:.4f} bits per byte "
            f"after {last['tokens']:,} tokens"
        )
        show(f"wrote {self.out}; next: {command('englishroom', 'decompile', self.out)}")
