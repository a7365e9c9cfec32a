"""englishroom decompile"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from englishroom.cli.opening import Opening
from englishroom.cli.output import command, progress_bar, say, show
from englishroom.names import PROGRAM
from englishroom.talkers.shipped import DEFAULT

CHANGES = (
    "moved",
    "moved_active",
    "moved_from",
    "rules",
    "rules_active",
    "skip",
    "local_tokens",
    "joint_tokens",
    "batch",
    "rate",
    "align",
    "count_specials",
    "ablate",
    "tables",
    "kinds",
    "kinds_active",
    "edges",
    "reads",
    "fan_in",
    "numbers",
    "first_reads",
    "sparse_tokens",
    "sparse_rate",
    "report_documents",
)


@dataclass(frozen=True)
class Command:
    """Turn a model into a room: a program in plain Python, with the evidence of how faithful it is."""

    model: tyro.conf.Positional[str] = DEFAULT
    """A shipped model, a Hugging Face folder or hub name (gpt2, gpt_neo, llama), or a llama2.c .bin file."""
    out: Path = Path("room")
    """Folder to write; a room that stands there is replaced when the new one is complete."""
    level: Literal["exact", "featured", "sparse"] = "sparse"
    """How far to go: exact lifts the weights one to one; featured puts dictionaries in, fitted to work together; sparse
    leaves out most edges between features and refits the rest."""
    preset: Literal["fast", "standard", "full"] = "fast"
    """How long to fit and how much to measure: minutes, half an hour, or hours (levels after exact)."""
    fit: tuple[str, ...] = ()
    """Texts to fit on; documents sampled from the model itself where none is given."""
    choose: str | None = None
    """Text to choose settings on, with no document of the others."""
    report: str | None = None
    """Text that every number is reported on, with no document of the others."""
    blank_lines: Literal["auto", "keep", "collapse"] = "auto"
    """Keep white space around line ends of texts, or collapse it to one newline; auto keeps it for models that say
    blank lines."""
    dictionaries: Path | None = None
    """Dictionaries to go on from (SAELens, sparsify, circuit-tracer ...); new ones are trained where none are given."""
    report_documents: int | None = None
    """Documents of that text to report on, in place of the preset's."""
    moved: int | None = None
    """Latents for the output of each attention, in place of the preset's."""
    moved_active: int | None = None
    """How many of them may be active at a position."""
    moved_from: int | None = None
    """First layer whose attention output has a dictionary; those before it move features as they are."""
    rules: int | None = None
    """Latents for each MLP."""
    rules_active: int | None = None
    """How many of them may be active at a position."""
    skip: bool | None = None
    """Whether transcoders also pass on what they read, through a matrix."""
    local_tokens: int | None = None
    """Tokens to read while every dictionary is fitted by itself."""
    joint_tokens: int | None = None
    """Tokens to read while all are fitted together, errors propagating."""
    batch: int | None = None
    """Rows of text a step."""
    rate: float | None = None
    """Peak learning rate of the fit."""
    align: float | None = None
    """Weight of the distance from the model's own values inside, beside the divergence of what is said."""
    count_specials: bool | None = None
    """Whether the start token and other special tokens count in that distance, as they do in every preset."""
    ablate: float | None = None
    """Share of steps in which one head or MLP is switched off in model and program alike, from 0 to 1."""
    tables: bool | None = None
    """Whether every MLP's output is also given a table with a row for each token."""
    kinds: int | None = None
    """Kinds of words of a sparse program."""
    kinds_active: int | None = None
    """How many of them a token may be of."""
    edges: int | None = None
    """Edges of a sparse program in the end, those that lead to rules aside."""
    reads: int | None = None
    """Features that half of the rules of a sparse program read at most."""
    fan_in: int | None = None
    """Features that 95 of 100 rules read at most."""
    numbers: int | None = None
    """Features that a number is a sum of at most that a head asks for, offers or carries."""
    first_reads: int | None = None
    """Features that a rule reads at the start: 64 in the fast preset, in others all that the model implies, or 64 where
    these are too many."""
    sparse_tokens: int | None = None
    """Tokens to read while edges are left out and the rest is refitted."""
    sparse_rate: float | None = None
    """Peak learning rate then, as a share of the size of a table's weights."""
    opening: Opening = Opening()
    seed: int = 0
    """Seed of whatever is random, kept in the manifest; at the exact level nothing is."""

    def run(self) -> None:
        from englishroom.pipeline import DecompileConfig, decompile

        config = DecompileConfig(
            self.model,
            self.level,
            self.opening.tokenizer,
            self.opening.check,
            self.seed,
            self.preset,
            self.fit,
            self.choose,
            self.report,
            self.dictionaries,
            tuple((name, getattr(self, name)) for name in CHANGES if getattr(self, name) is not None),
            self.opening.context,
            self.blank_lines,
        )
        with progress_bar() as progress:
            manifest = decompile(config, self.out, say, progress)
        size = (self.out / PROGRAM).stat().st_size
        emitted, positions = (manifest.evidence[f"emitted_{key}"] for key in ("vs_program_nats", "positions"))
        say(
            f"program.py: {size:,} bytes; run by itself on {positions} positions it is within {emitted:.2g} nats "
            "of the interpreter"
        )
        show(f'wrote {self.out}; next: {command("python", self.out / PROGRAM)} "Once upon a time"')
