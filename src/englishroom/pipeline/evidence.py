"""What the making of a room measures: values that are returned, and what its manifest and its program say of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class CheckedText:
    """A text that what must agree is run on.

    Attributes:
        tokens: start token first.
        n_random: how many of them, at the end, were drawn at random, since nobody said more.
    """

    tokens: list[int]
    n_random: int = 0

    def first(self, n_positions: int) -> CheckedText:
        """Return the beginning of the text."""
        n_told = len(self.tokens) - self.n_random
        return CheckedText(self.tokens[:n_positions], max(0, min(n_positions, len(self.tokens)) - n_told))


@dataclass(frozen=True)
class Agreement:
    """How a program agrees with what it is made of, on a story of its target.

    Attributes:
        text: what was read.
        same_as: what the program must agree with to rounding: target, dictionaries or sparse model.
        gap_nats: largest difference of log-probabilities from that.
        greedy_tokens_equal: after how many positions the likeliest token is the target's.
    """

    text: CheckedText
    same_as: str
    gap_nats: float
    greedy_tokens_equal: int

    def evidence(self) -> dict[str, Any]:
        """Return the entries of a manifest."""
        return {
            "measured_positions": len(self.text.tokens),
            "measured_random_positions": self.text.n_random,
            f"program_vs_{self.same_as.replace(' ', '_')}_nats": self.gap_nats,
            "greedy_tokens_equal": self.greedy_tokens_equal,
        }

    def summary_lines(self) -> tuple[str, ...]:
        """Say in a few lines how faithful an exact program is."""
        n, n_random = len(self.text.tokens), self.text.n_random
        further = f" and {n_random} random ones" if n_random else ""
        return (
            f"Faithful: on a greedy story of {n - n_random} tokens{further} its log-probabilities are within "
            f"{self.gap_nats:.1e} nats of the target's,",
            f"        and {self.greedy_tokens_equal} of {n} next tokens are the "
            "same. Nothing is approximated at the exact level.",
        )


@dataclass(frozen=True)
class EmittedAgreement:
    """How far the emitted file is from the interpreter, on the beginning of a text."""

    text: CheckedText
    gap_nats: float

    def evidence(self) -> dict[str, Any]:
        """Return the entries of a manifest."""
        return {
            "emitted_positions": len(self.text.tokens),
            "emitted_random_positions": self.text.n_random,
            "emitted_vs_program_nats": self.gap_nats,
        }


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How good a program is that is not exact; every name is an entry of the manifest.

    Attributes:
        texts: what was fitted, chosen and reported on.
        warnings: what these texts cannot stand for.
    """

    kl_target_program_nats: float
    ce_increase_nats: float
    top1_agreement: float
    training_compute_recovered: str | None
    description_bits: float
    texts: dict[str, Any]
    warnings: list[str]

    def evidence(self) -> dict[str, Any]:
        """Return the entries of a manifest."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class FeaturedSummary(Summary):
    """How good a featured program is.

    Attributes:
        correlation_of_effects: of switching parts off in program and target, by kind and way; an entry for each.
    """

    correlation_of_effects: dict[str, float]

    def evidence(self) -> dict[str, Any]:
        """Return the entries of a manifest."""
        entries = super().evidence()
        effects = entries.pop("correlation_of_effects")
        return entries | {f"correlation_of_effects_{name}": value for name, value in effects.items()}

    def summary_lines(self) -> tuple[str, ...]:
        """Say in a few lines how good the program is."""
        return (
            f"Held: on {self.texts['report']['name']} KL(target‖program) is {self.kl_target_program_nats:.4f} nats per "
            f"token, the cross-entropy {self.ce_increase_nats:+.4f},",
            f"        and {self.top1_agreement:.1%} of likeliest tokens are the same. There are no error "
            "blocks: what no feature explains is lost.",
        )


@dataclass(frozen=True, kw_only=True)
class RulesSummary(Summary):
    """How good and how large a program of rules is."""

    target_description_bits: float
    rules: int

    def _lines(self, *about_rules: str) -> tuple[str, ...]:
        compute = self.training_compute_recovered
        return (
            f"Held, on {self.texts['report']['name']}:",
            f"KL(target‖program) {self.kl_target_program_nats:.4f} nats, CE {self.ce_increase_nats:+.4f}, "
            f"same top-1 {self.top1_agreement:.3f}" + (f", training compute recovered {compute}" if compute else ""),
            *about_rules,
            f"{self.description_bits / 1e6:.2f} Mbit, the target {self.target_description_bits / 1e6:.2f}",
        )


@dataclass(frozen=True, kw_only=True)
class SparseSummary(RulesSummary):
    """How good and how large a sparse program is."""

    rules_fired_mean: float
    entries_used_mean: float
    reads_per_rule_median: float
    reads_per_rule_p95: float
    reads_per_rule_most: float
    rules_that_fired: int
    reads_per_rule_that_fired_median: float
    reads_per_rule_that_fired_p95: float
    reads_per_number_median: float
    reads_per_number_p95: float

    def summary_lines(self) -> tuple[str, ...]:
        """Say in a few lines how good and how large the program is."""
        return self._lines(
            f"{self.rules:,} rules, reading {self.reads_per_rule_median:.0f} features each in the median and "
            f"{self.reads_per_rule_p95:.0f} at the 95th percentile; {self.rules_fired_mean:.0f} fire at a position",
            f"of these rules {self.rules_that_fired:,} fired on that text, and read "
            f"{self.reads_per_rule_that_fired_median:.0f} and {self.reads_per_rule_that_fired_p95:.0f}; "
            f"numbers of heads read {self.reads_per_number_median:.0f} and {self.reads_per_number_p95:.0f}",
        )


@dataclass(frozen=True, kw_only=True)
class ReadableSummary(RulesSummary):
    """How good, how large and how readable a readable program is.

    Attributes:
        readability: the measures and nulls of ``inside/readability.py``, by their keys; an entry for each.
    """

    moved_features: int
    readability: dict[str, float]

    def evidence(self) -> dict[str, Any]:
        """Return the entries of a manifest."""
        entries = super().evidence()
        return entries | entries.pop("readability")

    def summary_lines(self) -> tuple[str, ...]:
        """Say in a few lines how good and how large the program is."""
        found = self.readability
        median, p95, most = (found[f"reads_per_rule_{at}"] for at in ("median", "p95", "most"))
        return self._lines(
            f"{self.rules:,} rules and {self.moved_features:,} moved features, which read {median:.0f} features each "
            f"in the median, {p95:.0f} at the 95th percentile, {most:.0f} at most",
            f"a token uses {found['entries_used_mean']:,.0f} table entries; {found['entries_needed_median']:,.0f} "
            f"entries and {found['voters_needed_median']:.0f} voters are needed for nearly the same answer (medians)",
        )
