"""From a target to a featured program: texts, fit, measures, program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from englishroom.dictionaries.replacement import Replacement
from englishroom.ir.tokenizer import Tokenizer
from englishroom.lower.featurise import featurise
from englishroom.models.load import Target
from englishroom.names import CIRCUITS, FIDELITY, PROBES, SCORES
from englishroom.pipeline.config import DecompileConfig
from englishroom.pipeline.fitting import Fitting
from englishroom.pipeline.measuring import Measuring, summary_lines_of, summary_of
from englishroom.pipeline.writing import Decompilation
from englishroom.plain import to_json
from englishroom.steps import Progress, Say
from englishroom.work import Work


def featured(
    config: DecompileConfig, target: Target, tokenizer: Tokenizer, work: Work, say: Say, progress: Progress
) -> Decompilation:
    """Fit dictionaries to a target and write it, with them, as a featured program.

    1. Read the texts, or let the target tell them: one to fit on, one to choose on, one to report on.
    2. Fit the dictionaries, first each by itself, then all together with errors propagating.
    3. Measure them by the three protocols, on the reporting text.
    4. Switch parts off, in target and program, and see whether the same happens.
    5. Describe the circuits, and collect evidence of what every latent stands for.
    6. Write the program, without error blocks, and score it beside the target.

    Raises:
        EnglishRoomError: a setting, a text or the work folder will not do.
    """
    fitting = Fitting(config, target, tokenizer, work, say, progress)
    texts = fitting.texts()
    replacement, kept = fitting.fitted(texts), fitting.measured_on(texts)
    measuring = Measuring(replacement, target, tokenizer, texts, config, progress)
    measured = {
        FIDELITY: kept.once(FIDELITY, measuring.fidelity),
        PROBES: kept.once(PROBES, measuring.probes),
        CIRCUITS: kept.once(CIRCUITS, measuring.circuits),
    }
    for line in summary_lines_of(measured[FIDELITY], measured[PROBES]):
        say(line)
    program, record = featurise(target, replacement)
    say(f"featured: {len(program.blocks)} blocks, {program.n_entries:,} numbers")
    measured[SCORES] = kept.once(SCORES, lambda: measuring.scores(program))
    files = {name: to_json(value) for name, value in measured.items()} | measuring.evidence()
    summary = summary_of(measured, texts)
    return Decompilation(program, [record], ("dictionaries", _runner(replacement)), summary, files)


def _runner(replacement: Replacement) -> Callable[[Any], Any]:
    """Run fitted dictionaries in float64, by torch."""

    def log_probs(tokens: Any) -> Any:
        exact = replace(
            replacement,
            weights={k: t.double() for k, t in replacement.weights.items()},
            dictionaries=tuple(d.double() for d in replacement.dictionaries),
        )
        with torch.no_grad():
            return exact.logits(exact.run(torch.from_numpy(np.asarray(tokens, np.int64)))).log_softmax(-1).numpy()

    return log_probs
