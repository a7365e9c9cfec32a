"""englishroom score"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from englishroom.cli.output import blank_lines_of, print_table, progress_bar, say, show
from englishroom.disk import locked
from englishroom.errors import ConfigError
from englishroom.number import number, signed
from englishroom.pipeline.commands import ScoreConfig

if TYPE_CHECKING:
    from englishroom.evaluate.score_table import ScoreRow, ScoreTable


@dataclass(frozen=True)
class Command:
    """Measure rooms and models on a text, side by side: one table, and the same as JSON and Parquet."""

    config: Annotated[ScoreConfig, arg(name="")]
    categories: bool = False
    """Print nats per token for each category of tokens too: of the first talker, and by how much others are worse."""
    out: Path | None = None
    """Write the table to OUT.json and OUT.parquet, and that of categories to OUT.categories.parquet."""

    def run(self) -> None:
        from englishroom.pipeline import score_table

        if self.out is not None and not self.out.parent.is_dir():
            raise ConfigError(f"{self.out.parent}: no such folder; create it first, or choose another --out")
        with nullcontext() if self.out is None else locked(self.out):
            with progress_bar() as progress:
                table = score_table(self.config, say, progress)
            written = [] if self.out is None else table.write(self.out)
        print_scores(table)
        if self.categories:
            print_categories(table)
        for path in written:
            say(f"wrote {path}")


def print_scores(table: ScoreTable) -> None:
    """Print the rows, a table for every target."""
    from englishroom.evaluate.score_table import headed

    text = table.text
    show(
        f"{text['name']}: {text['documents']:,} documents, {text['bytes']:,} bytes, {blank_lines_of(text)}, "
        f"sha256 {text['sha256'][:16]}; "
        "± and (a to b) hold 95 % of resamplings of documents"
    )
    for target, rows in _by_target(table.rows).items():
        columns = headed(rows)
        cells = [list(row) for row in zip(*columns.values(), strict=True)]
        print_table(f"compared with {target}" if len(rows) > 1 else target, list(columns), cells)
    for note in table.settings.get("notes", ()):
        show(note)


def _by_target(rows: Sequence[ScoreRow]) -> dict[str, list[ScoreRow]]:
    groups: dict[str, list[ScoreRow]] = {}
    for row in rows:
        groups.setdefault(row.target or row.talker, []).append(row)
    return groups


def print_categories(table: ScoreTable) -> None:
    """Print nats per token by category: the target's own, and every other talker's above it."""
    for target, rows in _by_target(table.rows).items():
        names = [row.talker for row in rows]
        found = {(row.talker, row.category): row for row in table.categories if row.talker in names}
        categories = list(dict.fromkeys(category for _, category in found))

        def cell(talker: str, category: str, found: dict = found, target: str = target) -> str:
            row = found[talker, category]
            alone = talker == target or row["ce_increase"] is None
            return number(row["nats_per_token"]) if alone else signed(row["ce_increase"])

        print_table(
            f"nats per token of {target}" + (", and of others above it" if len(names) > 1 else ""),
            ["category", "tokens", *names],
            [
                [category, f"{found[names[0], category].tokens:,}", *(cell(name, category) for name in names)]
                for category in categories
            ],
        )
