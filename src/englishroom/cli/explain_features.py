"""englishroom explain-features"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from englishroom.cli.output import print_table, progress_bar, show
from englishroom.disk import replace_file
from englishroom.pipeline.commands import ExplainFeaturesConfig
from englishroom.plain import to_json

if TYPE_CHECKING:
    from englishroom.inside.explanations import Explained, Explanations

EXAMPLES = 6
"""Explanations of each variable that are printed, the most important features' ones."""


@dataclass(frozen=True)
class Command:
    """Say when each feature of a sparse program is on, as a short condition over the text that runs, and how well it
    does on held-out text; the conditions are written into the room."""

    config: Annotated[ExplainFeaturesConfig, arg(name="")]
    out: Path | None = None
    """File to write the explanations to, as JSON."""

    def run(self) -> None:
        from dataclasses import asdict

        from englishroom.pipeline.explaining import explain_features

        with progress_bar() as progress:
            found = explain_features(self.config, progress)
        print_explanations(found)
        if self.out is not None:
            replace_file(self.out, to_json(asdict(found)))


def print_explanations(found: Explanations) -> None:
    """Print how well conditions do, by variable and by group, and some of them."""
    show(
        f"conditions searched on {found.positions:,} positions, measured on {found.held_out_positions:,} others; "
        "Matthews correlation: 1 says always when a feature is on, 0 is chance"
    )
    _print_means("variable", found.features, lambda feature: feature.variable)
    _print_means("group", found.features, lambda feature: feature.group)
    if found.mcc_shifted:
        mean = sum(found.mcc_shifted) / len(found.mcc_shifted)
        show(f"null: the same search for {len(found.mcc_shifted)} features shifted against the text: {mean:.3f}")
    for variable in dict.fromkeys(feature.variable for feature in found.features):
        of = [feature for feature in found.features if feature.variable == variable]
        for feature in sorted(of, key=lambda feature: -feature.importance)[:EXAMPLES]:
            one = feature.explanation
            show(f"{variable}[{feature.index}], MCC {one.mcc:.2f}, on at {feature.frequency:.1%}: {one.condition}")


def _print_means(name: str, features: Sequence[Explained], key: Callable[[Explained], str]) -> None:
    from englishroom.inside.explanations import weighted_mean

    rows = []
    for part in (*dict.fromkeys(map(key, features)), "all"):
        of = [feature for feature in features if part == "all" or key(feature) == part]
        weights = [feature.importance for feature in of]
        columns = (
            [feature.explanation.precision for feature in of],
            [feature.explanation.recall for feature in of],
            [feature.mcc_fitted for feature in of],
            [feature.explanation.mcc for feature in of],
            [feature.mcc_shuffled for feature in of],
        )
        plain = sum(columns[3]) / max(1, len(of))
        weighted = (f"{weighted_mean(column, weights):.3f}" for column in columns)
        rows.append((part, f"{len(of):,}", f"{plain:.3f}", *weighted))
    heading = (name, "features", "MCC, plain mean", "precision", "recall", "MCC fitted", "MCC", "shuffled")
    print_table(f"explanations by {name}; means weighted by importance, on held-out text", heading, rows)
