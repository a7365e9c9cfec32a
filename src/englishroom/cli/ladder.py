"""englishroom ladder"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from englishroom.cli.output import command, progress_bar, say, show
from englishroom.errors import ConfigError

if TYPE_CHECKING:
    from englishroom.evaluate.compute_recovered.ladder import LadderFit


@dataclass(frozen=True)
class Rebuild:
    """Train the models of the ladder that are not finished yet; run again to go on after a kill."""

    texts: tyro.conf.Positional[tuple[str, ...]]
    """Text files or tables, folders of them, or hub datasets; one given twice is seen twice as often."""
    out: Path
    """Folder for the models, each in a folder of its own."""

    def run(self) -> None:
        from englishroom.evaluate.compute_recovered.rungs import rebuild_ladder
        from englishroom.talkers.ladder import LADDER

        with progress_bar() as progress:
            rebuild_ladder(self.texts, self.out, LADDER, say, progress)
        measure = command("englishroom", "ladder", "measure", self.out, "--text", "FILE")
        show(f"wrote {len(LADDER)} models to {self.out}; next: {measure}")


@dataclass(frozen=True)
class Measure:
    """Score the final weights of a ladder's models on texts; run again to go on after a kill, or to add texts."""

    ladder: tyro.conf.Positional[Path]
    """Folder that englishroom ladder rebuild has written."""
    text: tuple[str, ...] = ("sampled",)
    """Text files or tables, folders of them, hub datasets, or "sampled", the ready corpus."""
    runs: Path = Path("ladder_runs.json")
    """File to write what the models score to, or to add it to."""
    max_documents: int | None = None
    """Score the first documents of each text only."""

    def run(self) -> None:
        from englishroom.data.texts import open_text
        from englishroom.evaluate.compute_recovered.rungs import measure_ladder
        from englishroom.talkers.ladder import LADDER
        from englishroom.talkers.record import label

        with progress_bar() as progress:
            opened = [(name, open_text(name, progress, self.max_documents)) for name in self.text]
            texts = {label(name, text.name): text.documents for name, text in opened}
            if len(texts) != len(self.text) or not texts:
                raise ConfigError("--text needs texts, each of another name; give one or more")
            runs = measure_ladder(self.ladder, texts, self.runs, LADDER, say, progress)
        table = command("englishroom", "ladder", "show", "--runs", self.runs)
        show(f"wrote the scores of {len(runs)} models to {self.runs}; next: {table}")


@dataclass(frozen=True)
class Show:
    """Print the models of a ladder, and the scaling curve fitted to them, for every text they were scored on."""

    runs: Path | None = None
    """File that englishroom ladder measure has written; by default the ladder of the shipped models."""

    def run(self) -> None:
        from englishroom.evaluate.compute_recovered.ladder import fit_ladder, rungs_on
        from englishroom.talkers.ladder import read_runs, shipped_runs_path

        runs = read_runs(self.runs)
        if not runs:
            where = self.runs or shipped_runs_path()
            raise ConfigError(f"{where}: no runs of a ladder; write it with englishroom ladder measure")
        for sha256 in sorted({sha256 for run in runs for sha256 in run.scores}):
            scores = next(run.scores[sha256] for run in runs if sha256 in run.scores)
            show(f"{scores.text}: {scores.documents:,} documents, {scores.tokens:,} tokens, sha256 {sha256[:16]}")
            show("  model       parameters     FLOPs    nats  bits per byte")
            for run in runs:
                if sha256 in run.scores:
                    nats, bits = run.scores[sha256].nats_per_token, run.scores[sha256].bits_per_byte
                    show(f"  {run.name:10} {run.parameters:11,} {run.flops:9.2e} {nats:7.4f} {bits:14.4f}")
            try:
                _show_fit(fit_ladder(rungs_on(runs, sha256)))
            except ConfigError as error:
                say(str(error))


def _show_fit(fit: LadderFit) -> None:
    residuals = ", ".join(f"{rung.nats - fit.nats_at(rung.flops):+.4f}" for rung in fit.rungs)
    show(f"  L(C) = E + A (C / {fit.pivot_flops:.3e})^-alpha, nats per token")
    for name, value, (low, high) in zip(("E", "A", "alpha"), fit.parameters, fit.intervals, strict=True):
        show(f"  {name:5} = {value:.4f} ({low:.4f} to {high:.4f})")
    show(f"  residuals {residuals} nats; one standard deviation is {fit.noise:.2%} of L")


@dataclass(frozen=True)
class Command:
    """Train, measure and show the ladder: models that differ in size alone, which compute recovered is read off."""

    action: (
        Annotated[Rebuild, tyro.conf.subcommand("rebuild", prefix_name=False)]
        | Annotated[Measure, tyro.conf.subcommand("measure", prefix_name=False)]
        | Annotated[Show, tyro.conf.subcommand("show", prefix_name=False)]
    )

    def run(self) -> None:
        self.action.run()
