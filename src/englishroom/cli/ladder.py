"""englishroom ladder"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg, subcommand

from englishroom.bounds import Count, Settings
from englishroom.cli.output import command, progress_bar, say, show
from englishroom.errors import ConfigError

if TYPE_CHECKING:
    from englishroom.evaluate.compute_recovered.ladder import LadderFit


@dataclass(frozen=True)
class Rebuild:
    """Train all models of the ladder that are not finished yet.

    A stopped run goes on where it was when the same command is given again.
    """

    texts: Annotated[Positional[tuple[str, ...]], arg(metavar="TEXT ...", help_behavior_hint="(required)")]
    """Texts to train on: text files, tables, folders of them, or names of datasets on the Hugging Face hub. A text that
    is named twice is read twice as often."""
    out: Path
    """Folder to write to. Each model gets a folder of its own in it."""

    def run(self) -> None:
        from englishroom.evaluate.compute_recovered.rungs import rebuild_ladder
        from englishroom.talkers.ladder import LADDER

        with progress_bar() as progress:
            rebuild_ladder(self.texts, self.out, LADDER, say, progress)
        measure = command("englishroom", "ladder", "measure", self.out, "--text", "FILE")
        show(f"wrote {len(LADDER)} models to {self.out}; next: {measure}")


@dataclass(frozen=True)
class Measure(Settings):
    """Measure how well each trained model of the ladder predicts some texts.

    A stopped run goes on where it was when the same command is given again.
    """

    ladder: Annotated[Positional[Path], arg(metavar="LADDER")]
    """Folder that "englishroom ladder rebuild" has written."""
    text: tuple[str, ...] = ("sampled",)
    """Texts to measure on: text files, tables, folders of them, hub datasets, or "sampled", a text that comes with
    englishroom."""
    runs: Path = Path("ladder_runs.json")
    """File to write the results to. Results that are in it for other texts stay."""
    max_documents: Count | None = None
    """Number of documents to measure on, from the beginning of each text; by default all."""

    def run(self) -> None:
        from englishroom.data.texts import open_text
        from englishroom.evaluate.compute_recovered.rungs import measure_ladder
        from englishroom.talkers.ladder import LADDER
        from englishroom.talkers.record import label

        self.validate()
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
    """Print, for each text, how well each model of the ladder predicts it, and how the loss falls with compute."""

    runs: Path | None = None
    """File that "englishroom ladder measure" has written; by default the results that come with englishroom."""

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
    """Train, measure and show the ladder: models of one kind, from very small to small.

    The larger ones are trained on more tokens. With the ladder, englishroom can say how much training compute (FLOPs) a
    model needs to be as good as a program.
    """

    action: (
        Annotated[Rebuild, subcommand("rebuild", prefix_name=False)]
        | Annotated[Measure, subcommand("measure", prefix_name=False)]
        | Annotated[Show, subcommand("show", prefix_name=False)]
    )

    def run(self) -> None:
        self.action.run()
