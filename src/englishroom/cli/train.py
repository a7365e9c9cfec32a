"""englishroom train"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from englishroom.cli.output import command, progress_bar, say, show
from englishroom.talkers.config import TalkerConfig


@dataclass(frozen=True)
class Command:
    """Train a small language model, built like GPT-2, on your texts.

    A stopped training goes on where it was when the same command is given again.
    """

    config: Annotated[TalkerConfig, arg(name="")]
    out: Path
    """Folder to write the model to, as a Hugging Face model. If the command is stopped, the same command goes on
    there."""

    def run(self) -> None:
        from englishroom.evaluate.compute_recovered.curve import measure_run
        from englishroom.talkers.build import build_talker

        with progress_bar() as progress:
            run = build_talker(self.config, self.out, measure_run, say, progress)
        last = run.curve[-1]
        say(
            f"held-out text: {last['nats_per_token']:.4f} nats per token, {last['bits_per_byte']:.4f} bits per byte "
            f"after {last['tokens']:,} tokens"
        )
        show(f"wrote {self.out}; next: {command('englishroom', 'decompile', self.out)}")
