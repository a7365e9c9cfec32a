"""Every measure of how readable a program is, declared once: its key, its name, what it means, what stands beside it.

Manifests hold the values by their keys. The tables of ``readability``, of a report and of a frontier follow
:data:`READABILITY_METRICS`; to add a measure, declare it there, and return it from ``inside/readability.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from englishroom.number import NONE, number, usable


@dataclass(frozen=True)
class ReadabilityMetric:
    """One measure.

    Attributes:
        key: its name in manifests.
        name: its name where people read it.
        meaning: what it says, in a sentence.
        heading: its column among the points of a frontier; "" where they do not have it.
        nulls: keys of the same of programs that know nothing; by default ``KEY_null``. The largest one counts.
    """

    key: str
    name: str
    meaning: str
    heading: str = ""
    nulls: tuple[str, ...] = ()

    def value(self, evidence: Mapping[str, Any]) -> str:
        """Write its value; a dash where there is none."""
        return _written(evidence.get(self.key))

    def null(self, evidence: Mapping[str, Any]) -> str:
        """Write the largest of its nulls; nothing where it has none."""
        found = [evidence[key] for key in self.nulls or (f"{self.key}_null",) if usable(evidence.get(key))]
        return _written(max(found)) if found else ""


def known(evidence: Mapping[str, Any]) -> list[ReadabilityMetric]:
    """List the measures that an evidence holds."""
    return [metric for metric in READABILITY_METRICS if metric.value(evidence) != NONE]


def _written(value: Any) -> str:
    """Write counts with one place, and shares and nats with three digits."""
    return number(value, ",.1f" if usable(value) and abs(value) >= 10 else ".3g")


READABILITY_METRICS: Sequence[ReadabilityMetric] = (
    ReadabilityMetric(
        "entries_used_mean",
        "table entries used, mean",
        "Entries of the program's tables that carry something at a position.",
        heading="entries used",
    ),
    ReadabilityMetric(
        "voters_needed_median",
        "voters needed within 0.1 nats, median",
        "The fewest features with votes that must be kept for nearly the same answer, all others at their means.",
        heading="voters needed",
    ),
    ReadabilityMetric(
        "voters_needed_p90",
        "voters needed within 0.1 nats, 90th percentile",
        "At 9 of 10 positions so many voters are enough.",
    ),
    ReadabilityMetric(
        "kl_best_8_voters",
        "KL(program‖kept) with the 8 best voters alone, nats, median",
        "How far the answer moves where only 8 voters are kept.",
    ),
    ReadabilityMetric(
        "kl_no_voters",
        "KL(program‖kept) with all voters at their means, nats, median",
        "How much the voters say at all: few are needed where this is small.",
    ),
    ReadabilityMetric(
        "entries_needed_median",
        "table entries needed within 0.1 nats, median",
        "The fewest table entries that must be kept for nearly the same answer, votes and all that leads to them.",
        heading="entries needed",
    ),
    ReadabilityMetric(
        "kl_no_entries",
        "KL(program‖kept) with all entries at their means, nats, median",
        "How much the entries say at all: few are needed where this is small.",
    ),
    ReadabilityMetric(
        "often_on_share",
        "share of features that are often on",
        "Features that are on at more than a fifth of the positions say little by being on.",
    ),
    ReadabilityMetric("reads_per_rule_median", "reads of a rule, median", "Half of the rules read no more than this."),
    ReadabilityMetric(
        "reads_per_rule_p95", "reads of a rule, 95th percentile", "Of 100 rules, 95 read no more than this."
    ),
    ReadabilityMetric(
        "reads_per_rule_most", "reads of a rule, most", "No rule reads more than this.", heading="most reads"
    ),
    ReadabilityMetric(
        "explanation_mcc",
        "Matthews correlation of explanations",
        "How well conditions over the text say when features are on: 1 is always, 0 is chance.",
        heading="explanations, MCC",
        nulls=("explanation_mcc_shifted", "explanation_mcc_shuffled"),
    ),
)
"""Every measure, in the order in which tables show them."""
