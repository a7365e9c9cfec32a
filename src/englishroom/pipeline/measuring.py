"""What is measured of a fitted set of dictionaries and of the program made of them: files for its room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from englishroom.circuits.intervene import sum_effects, tabulate_effects
from englishroom.circuits.parts import block_interventions
from englishroom.data.texts import Text
from englishroom.dictionaries.evidence.harvest import harvest
from englishroom.dictionaries.evidence.masked_rows import rows_of
from englishroom.dictionaries.evidence.tabulate import tabulate as tabulate_latents
from englishroom.dictionaries.fidelity import measure_fidelity
from englishroom.dictionaries.replacement import Replacement
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.evaluate.tabulate import ScoredTalker, tabulate
from englishroom.evaluate.talkers.program import ProgramTalker
from englishroom.evaluate.talkers.target import TargetTalker
from englishroom.ir.program import Program
from englishroom.ir.tokenizer import Tokenizer
from englishroom.models.load import Target
from englishroom.names import FIDELITY, PROBES, SCORES
from englishroom.number import number
from englishroom.pipeline.circuits import describe_circuits
from englishroom.pipeline.config import DecompileConfig
from englishroom.pipeline.evidence import FeaturedSummary
from englishroom.pipeline.scoring import known_of
from englishroom.report.sections import PROTOCOLS
from englishroom.steps import Progress

EVIDENCE_ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class Texts:
    """What is fitted on, chosen on and reported on.

    Attributes:
        warnings: what these texts cannot stand for.
    """

    fit: Text
    choose: Text
    report: Text
    warnings: tuple[str, ...] = ()

    def about(self) -> dict[str, Any]:
        """Name the texts in an artefact."""
        return {"fit": self.fit.about(), "choose": self.choose.about(), "report": self.report.about()}


@dataclass(frozen=True)
class Measuring:
    """A set of dictionaries and all that it takes to measure them."""

    replacement: Replacement
    target: Target
    tokenizer: Tokenizer
    texts: Texts
    config: DecompileConfig
    progress: Progress

    def rows(self, text: Text, limit: int) -> torch.Tensor:
        """Return the first rows of a text, [row, pos]."""
        rows = TokenRows.of(self.tokenizer, text.documents[:limit], self.target.spec.n_ctx)
        return torch.from_numpy(rows.rows(range(rows.n_rows)))

    def fidelity(self) -> dict[str, Any]:
        """Measure the three protocols on the reporting text."""
        report = self.texts.report
        rows = TokenRows.of(self.tokenizer, report.documents, self.target.spec.n_ctx)
        found = measure_fidelity(
            self.replacement, self.target.weights, rows, progress=partial(self.progress, "three protocols")
        )
        return {"text": report.name, "text_sha256": report.sha256, **asdict(found)}

    def probes(self) -> dict[str, Any]:
        """Switch off every head and every MLP, in target and program, and compare what that changes."""
        report, choose = self.texts.report, self.texts.choose
        rows, means = (self.rows(text, self.config.measure.probe_rows) for text in (report, choose))
        effects = sum_effects(
            self.target.spec,
            self.target.weights,
            self.replacement,
            rows,
            means,
            block_interventions(self.target.spec, ("zero", "mean")),
            progress=self.progress,
        )
        about = {"text": report.name, "text_sha256": report.sha256, "means_from": choose.name, "rows": len(rows)}
        return about | {"interventions": [asdict(row) for row in tabulate_effects(effects)]}

    def circuits(self) -> dict[str, Any]:
        """Describe heads, tables, edges and rules, on the choosing text."""
        rows = self.rows(self.texts.choose, self.config.measure.probe_rows)
        found = describe_circuits(self.replacement, self.target, self.tokenizer, rows, self.config.seed, self.progress)
        return {"text": self.texts.choose.name} | found

    def scores(self, program: Program) -> dict[str, Any]:
        """Judge the program beside the target, on the reporting text, by all that is measured of any talker."""
        report, lead = self.texts.report, TargetTalker(self.target, self.tokenizer)
        talker = ProgramTalker(f"{self.target.name}, {program.level}", program, self.tokenizer)
        entries = [ScoredTalker.of(lead, "target"), ScoredTalker.of(talker)]
        known, prompts = known_of(lead, report), self.config.measure.greedy_prompts
        return tabulate(entries, lead, report, known, prompts, self.config.seed, self.progress).as_dict()

    def evidence(self) -> dict[str, bytes]:
        """Read the beginning of the fitting text once more, and keep what every latent fires on: Parquet files."""
        fit, tokenizer = self.texts.fit, self.tokenizer
        documents = fit.documents[: self.config.measure.evidence_rows]
        tokens = [[tokenizer.start_id, *tokenizer.encode(document)] for document in documents]

        def counted(batches: Any) -> Any:
            done = 0
            for batch in batches:
                yield batch
                done += len(batch.tokens)
                self.progress("collecting evidence", done, len(tokens))

        rows = rows_of(tokens, self.target.spec.n_ctx, EVIDENCE_ROWS_AT_ONCE, specials=tokenizer.specials)
        found = harvest(self.replacement, counted(rows))
        about = {"name": fit.name, "sha256": fit.sha256, "documents": len(documents)}
        return tabulate_latents(self.replacement, found, tokenizer, about).files()


def summary_lines_of(fidelity: dict[str, Any], probes: dict[str, Any]) -> list[str]:
    """Say in a few lines what the three protocols and the interventions found."""
    lines = []
    for row in fidelity["protocols"]:
        what = f" ({row['what']})" if row["protocol"] == "alone" else ""
        lines.append(
            f"{PROTOCOLS[row['protocol']]}{what}: KL(target‖program) "
            f"{number(row['kl_target_program_nats'], '.4f')} nats, "
            f"CE {number(row['ce_increase_nats'], '+.4f')}, same top-1 {number(row['top1_agreement'], '.3f')}"
        )
    for row in probes["interventions"]:
        if row["part"] == "all" and row["measure"] == "centred":
            lines.append(
                f"{row['kind']} set to {row['how']}: effects in program and target correlate "
                f"{number(row['pearson'], '.3f')}, slope {number(row['slope'], '.2f')} "
                f"(another part of the kind: {number(row['other_part_pearson'], '.3f')})"
            )
    return lines


def scored(scores: dict[str, Any], texts: Texts) -> dict[str, Any]:
    """Pick what the summary of a program of rules says of its scores, and of the texts."""
    program, target = (next(row for row in scores["rows"] if row["role"] == role) for role in ("talker", "target"))
    return {
        "kl_target_program_nats": program["kl_target_talker"],
        "ce_increase_nats": program["ce_increase"],
        "top1_agreement": program["top1_agreement"],
        "training_compute_recovered": program.get("training_compute_recovered"),
        "description_bits": program["description_bits"],
        "target_description_bits": target["description_bits"],
        "texts": texts.about(),
        "warnings": list(texts.warnings),
    }


def summary_of(measured: dict[str, Any], texts: Texts) -> FeaturedSummary:
    """Pick what the manifest and the header of the emitted file say."""
    program = next(row for row in measured[SCORES]["rows"] if row["role"] == "talker")
    running = next(row for row in measured[FIDELITY]["protocols"] if row["protocol"] == "running")
    return FeaturedSummary(
        kl_target_program_nats=running["kl_target_program_nats"],
        ce_increase_nats=running["ce_increase_nats"],
        top1_agreement=running["top1_agreement"],
        training_compute_recovered=program.get("training_compute_recovered"),
        description_bits=program["description_bits"],
        correlation_of_effects=correlations_of(measured[PROBES]["interventions"]),
        texts=texts.about(),
        warnings=list(texts.warnings),
    )


def correlations_of(interventions: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return how effects of switching parts off correlate in program and target, by kind and way."""
    return {
        f"{row['kind']}_{row['how']}": row["pearson"]
        for row in interventions
        if row["part"] == "all" and row["measure"] == "centred"
    }
