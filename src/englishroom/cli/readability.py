"""englishroom readability"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from englishroom.cli.output import print_table, progress_bar, show
from englishroom.disk import replace_file
from englishroom.pipeline.commands import ReadabilityConfig
from englishroom.plain import to_json

if TYPE_CHECKING:
    from englishroom.inside.readability import Readability

MEANINGS = {
    "entries_used_mean": "table entries that carry something at a position, mean",
    "voters_needed_median": "voters needed within 0.1 nats, median",
    "voters_needed_p90": "voters needed within 0.1 nats, 90th percentile",
    "kl_best_8_voters": "KL(program‖kept) with the 8 best voters alone, nats, median",
    "kl_no_voters": "KL(program‖kept) with all voters at their means, nats, median",
    "entries_needed_median": "table entries needed within 0.1 nats, votes and all upstream, median",
    "kl_no_entries": "KL(program‖kept) with all entries at their means, nats, median",
    "often_on_share": "share of features on at more than a fifth of the positions",
    "reads_per_rule_median": "features that a rule reads, median",
    "reads_per_rule_p95": "features that a rule reads, 95th percentile",
    "reads_per_rule_most": "features that a rule reads, most",
    "explanation_mcc": "Matthews correlation of explanations (from explain-features)",
}


@dataclass(frozen=True)
class Command:
    """Measure how readable a readable program is: how much works at one position, and how little of it is needed.

    Beside each measure stands its null, what a program that knows nothing has. The room's manifest gets all of them.
    """

    config: Annotated[ReadabilityConfig, arg(name="")]
    out: Path | None = None
    """File to write the measures to, with what was counted at each position, as JSON."""

    def run(self) -> None:
        from englishroom.pipeline.readability import readability_of_room

        with progress_bar() as progress:
            found = readability_of_room(self.config, progress)
        print_readability(str(self.config.room), found)
        if self.out is not None:
            replace_file(self.out, to_json(asdict(found)))


def print_readability(room: str, found: Readability) -> None:
    """Print measures beside their nulls."""
    rows = [
        (MEANINGS[one.name], _number(one.value), "" if one.null is None else _number(one.null))
        for one in found.measures
    ]
    title = (
        f"{room}: {found.positions_read:,} positions read, {len(found.places)} of them chosen to count what is needed"
    )
    print_table(title, ("measure", "value", "null"), rows)
    show("null: the same of a program with votes permuted among voters (voters, KL) or with numbers shuffled in tables")


def _number(value: float) -> str:
    """Write counts in whole numbers, and shares and nats with three places."""
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"
