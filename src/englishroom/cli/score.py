"""englishroom score"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from englishroom.cli.output import print_table, progress_bar, say, show
from englishroom.errors import ConfigError

if TYPE_CHECKING:
    from englishroom.evaluate.score_table import ScoreRow, ScoreTable


@dataclass(frozen=True)
class Command:
    """Measure rooms and models on a text, side by side: one table, and the same as JSON and Parquet."""

    talkers: tyro.conf.Positional[tuple[str, ...]]
    """Rooms, shipped models, model folders or .bin files, hub names; all are compared with the first."""
    text: str = "sampled"
    """A text file (plain or .xz), a folder of them, a hub dataset, or "sampled", the ready corpus. White space around
    line ends, blank lines included, counts as one newline."""
    baselines: bool = False
    """Add the sanity rows of every model named: replaced layers, n-grams, quantised and pruned weights."""
    fit: tuple[str, ...] = ("sampled:fit",)
    """Texts that the n-grams are fitted on; may share no document with --text."""
    choose: str = "sampled:choose"
    """Text that settings of the baselines are chosen on; may share no document with --text."""
    max_documents: int | None = None
    """Score the first documents only."""
    greedy_prompts: int = 32
    """Beginnings of documents from which greedy texts are compared; 0 leaves that out."""
    categories: bool = False
    """Print where each talker got worse, by category of token."""
    out: Path | None = None
    """Write OUT.json, OUT.parquet and OUT.categories.parquet."""
    seed: int = 0
    """Seed of the intervals and of the random replacement."""
    tokenizer: Path | None = None
    """Tokenizer of a model, where it does not stand beside it."""
    check: bool = True
    """Do not compare models' forward passes with transformers first."""

    def run(self) -> None:
        from englishroom.pipeline import ScoreConfig, score_table

        if not self.talkers:
            raise ConfigError("no talker to score; name at least one room or model")
        if self.out is not None and not self.out.parent.is_dir():
            raise ConfigError(f"{self.out.parent}: no such folder; create it first, or choose another --out")
        config = ScoreConfig(
            talkers=self.talkers,
            text=self.text,
            baselines=self.baselines,
            fit=self.fit,
            choose=self.choose,
            max_documents=self.max_documents,
            greedy_prompts=self.greedy_prompts,
            seed=self.seed,
            tokenizer=self.tokenizer,
            check=self.check,
        )
        with progress_bar() as progress:
            table = score_table(config, say, progress)
        print_scores(table)
        if self.categories:
            print_categories(table)
        if self.out is not None:
            for path in table.write(self.out):
                say(f"wrote {path}")


def print_scores(table: ScoreTable) -> None:
    """Print the rows, a table for every target."""
    text = table.text
    show(
        f"{text['name']}: {text['documents']:,} documents, {text['bytes']:,} bytes, sha256 {text['sha256'][:16]}; "
        "± and (a to b) hold 95 % of resamplings of documents"
    )
    for target, rows in _by_target(table.rows).items():
        columns, cells = _columns(rows)
        print_table(f"compared with {target}" if len(rows) > 1 else target, columns, cells)
    for note in table.settings.get("notes", ()):
        show(note)


def _by_target(rows: Sequence[ScoreRow]) -> dict[str, list[ScoreRow]]:
    groups: dict[str, list[ScoreRow]] = {}
    for row in rows:
        groups.setdefault(row.target or row.talker, []).append(row)
    return groups


def _columns(rows: Sequence[ScoreRow]) -> tuple[list[str], list[list[str]]]:
    """Lay out rows, leaving out columns that none of them fills."""

    def number(value: float | None, form: str = ".4f") -> str:
        return "" if value is None else format(value, form)

    def spread(row: ScoreRow) -> str:
        if row.nats_per_token_interval is None:
            return f"{row.nats_per_token:.4f}"
        low, high = row.nats_per_token_interval
        return f"{row.nats_per_token:.4f} ± {(high - low) / 2:.3f}"

    cells = {
        "talker": [row.talker + (" (hindsight)" if row.hindsight else "") for row in rows],
        "nats/token": [spread(row) for row in rows],
        "CE increase": [number(row.ce_increase, "+.4f") for row in rows],
        "KL(target‖talker)": [number(row.kl_target_talker) for row in rows],
        "KL(talker‖target)": [number(row.kl_talker_target) for row in rows],
        "bits/byte": [number(row.bits_per_byte) for row in rows],
        "top-1": [number(row.top1, ".3f") for row in rows],
        "same top-1": [number(row.top1_agreement, ".3f") for row in rows],
        "same greedy text": [number(row.greedy_agreement, ".3f") for row in rows],
        "calibration error": [number(row.calibration_error, ".3f") for row in rows],
        "description bits": [number(row.description_bits, ",.0f") for row in rows],
        "training compute recovered": [row.training_compute_recovered or "" for row in rows],
        "ladder compute recovered": [row.ladder_compute_recovered or "" for row in rows],
        "parameters of the ladder model as good": [row.equivalent_parameters or "" for row in rows],
    }
    for base in ("zero", "mean", "unigram"):
        cells[f"loss recovered from {base}"] = [number(row.loss_recovered.get(base), ".3f") for row in rows]
    kept = [name for name, column in cells.items() if any(column)]
    return kept, [[cells[name][at] for name in kept] for at in range(len(rows))]


def print_categories(table: ScoreTable) -> None:
    """Print nats per token by category: the target's own, and every other talker's above it."""
    for target, rows in _by_target(table.rows).items():
        names = [row.talker for row in rows]
        found = {(row.talker, row.category): row for row in table.categories if row.talker in names}
        categories = list(dict.fromkeys(category for _, category in found))

        def cell(talker: str, category: str, found: dict = found, target: str = target) -> str:
            row = found[talker, category]
            alone = talker == target or row.ce_increase is None
            return f"{row.nats_per_token:.3f}" if alone else f"{row.ce_increase:+.3f}"

        print_table(
            f"nats per token of {target}" + (", and of others above it" if len(names) > 1 else ""),
            ["category", "tokens", *names],
            [
                [category, f"{found[names[0], category].tokens:,}", *(cell(name, category) for name in names)]
                for category in categories
            ],
        )
