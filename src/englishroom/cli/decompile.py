"""englishroom decompile"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from englishroom.cli.output import progress_bar, say, show
from englishroom.talkers.shipped import DEFAULT


@dataclass(frozen=True)
class Command:
    """Turn a model into a room: a program in plain Python, with the evidence of how faithful it is."""

    model: tyro.conf.Positional[str] = DEFAULT
    """A shipped model, a Hugging Face folder or hub name (gpt2, gpt_neo, llama), or a llama2.c .bin file."""
    out: Path = Path("room")
    """Folder to write; a room that stands there is replaced when the new one is complete."""
    level: Literal["exact"] = "exact"
    """How far to go; exact lifts the weights one to one."""
    tokenizer: Path | None = None
    """Tokenizer file (llama2.c) or folder, where it does not stand beside the model."""
    check: bool = True
    """Do not compare the model's forward pass with transformers first."""
    seed: int = 0
    """Seed of whatever is random, kept in the manifest; at the exact level nothing is."""

    def run(self) -> None:
        from englishroom.pipeline import DecompileConfig, decompile

        config = DecompileConfig(self.model, self.level, self.tokenizer, self.check, self.seed)
        with progress_bar() as progress:
            manifest = decompile(config, self.out, say, progress)
        size = (self.out / "program.py").stat().st_size
        emitted, positions = (manifest.evidence[f"emitted_{key}"] for key in ("vs_program_nats", "positions"))
        say(
            f"program.py: {size:,} bytes; run by itself on {positions} positions it is within {emitted:.2g} nats "
            "of the interpreter"
        )
        show(f'wrote {self.out}; next: python {shlex.quote(str(self.out / "program.py"))} "Once upon a time"')
