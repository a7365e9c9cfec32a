"""englishroom explain-check"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from englishroom.cli.output import blank_lines_of, print_table, progress_bar, say, show
from englishroom.disk import replace_file
from englishroom.errors import ArtifactError
from englishroom.pipeline.commands import ExplainCheckConfig
from englishroom.plain import to_json

if TYPE_CHECKING:
    from englishroom.inside.explain_check import ExplainCheck


@dataclass(frozen=True)
class Command:
    """Check whether the explanations of englishroom talk --explain are true.

    Such an explanation says by how much a token's log-probability would change without a rule. Here rules are really
    taken out of the program, and what then changes is compared with what was explained. The exit status is 1 where
    they differ.
    """

    config: Annotated[ExplainCheckConfig, arg(name="")]
    out: Path | None = None
    """Write the result to this file, as JSON."""

    def run(self) -> None:
        import numpy as np

        from englishroom.evaluate.talkers.program import ProgramTalker
        from englishroom.inside.explain_check import check_explanations
        from englishroom.ir.room import load_program
        from englishroom.pipeline.texts import TalkerTexts

        config = self.config
        config.validate()
        program, tokenizer = load_program(config.room)
        with progress_bar() as progress:
            talker = ProgramTalker(str(config.room), program, tokenizer)
            reader = TalkerTexts([talker], config.blank_lines, say, progress)
            text = reader.open(config.text, max_documents=config.check.tokens)
            encoded = ([tokenizer.start_id, *tokenizer.encode(document)] for document in text.documents)
            texts = [np.array(tokens[: program.n_ctx + 1]) for tokens in encoded]
            found = check_explanations(program, texts, config.check, progress)
        show(f"{text.name}, {blank_lines_of(text.about())}")
        print_check(found)
        if self.out is not None:
            replace_file(self.out, to_json({"text": text.about()} | found.as_dict()))
        if not found.passed:
            raise ArtifactError(f"{config.room}: explanations do not hold: {'; '.join(found.faults)}")


def print_check(found: ExplainCheck) -> None:
    """Print what a check found."""
    config = found.config
    show(
        f"{found.tokens:,} tokens of {found.documents} documents, of each of which a rule that carries one of its "
        f"largest shares was taken out; {found.rules:,} different rules"
    )
    show(f"shares add up to the log-probability within {found.largest_sum_error_nats:.1e} nats")
    show(f"the effect of a rule's own vote is as said within {found.largest_direct_error_nats:.1e} nats")
    show(f"shares that --explain prints are those checked, within {found.largest_printed_difference_nats:.1e} nats")
    show(
        f"{found.total.effects:,} effects, {found.total.mean_effect_nats:.3f} nats in the mean: without the rule the "
        f"log-probability is as said within {found.total.largest_error_nats:.1e} nats (allowed: {config.within_nats:g})"
    )
    print_table(
        "the same effects if only followed, other rules and heads going on as they did, against found; near: within "
        f"{config.near_nats:g} nats + {config.near_share:g} of the effect (no part of the verdict)",
        ("rules of", "effects", "mean effect", "correlation", "slope", "median error", "p95 error", "near"),
        [
            (
                name,
                f"{row.effects:,}",
                *(f"{value:.3f}" for value in (row.mean_effect_nats, row.correlation, row.slope)),
                *(f"{value:.4f}" for value in (row.median_error_nats, row.p95_error_nats)),
                f"{row.within:.1%}",
            )
            for name, row in (("all", found.followed), *found.followed_by_block.items())
        ],
    )
    show("pass" if found.passed else "FAIL: " + "; ".join(found.faults))
