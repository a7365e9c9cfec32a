"""englishroom curve"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from englishroom.cli.output import progress_bar, say, show


@dataclass(frozen=True)
class Command:
    """Measure every kept checkpoint of a training run on a text; run again to go on after a kill."""

    model: tyro.conf.Positional[Path]
    """Folder that englishroom train has written, with the checkpoints in its work folder."""
    text: str = "sampled"
    """A text file or a table, a folder of them, a hub dataset, or "sampled", the ready corpus."""
    max_documents: int | None = None
    """Measure on the first documents only; the curve then serves for scores of just those."""

    def run(self) -> None:
        from englishroom.data.texts import open_text
        from englishroom.evaluate.compute_recovered.curve import measure_curve
        from englishroom.evaluate.compute_recovered.training import MIN_POINTS, smooth
        from englishroom.talkers.record import label, trained_blank_lines

        with progress_bar() as progress:
            text = open_text(self.text, progress, self.max_documents, trained_blank_lines(self.model))
            curve = measure_curve(self.model, label(self.text, text.name), text.documents, progress)
        show(f"{self.model} on {curve.text}: {curve.documents:,} documents, {len(curve.nats)} checkpoints")
        show("      tokens  nats per token")
        for tokens, nats in zip(curve.tokens, curve.nats, strict=True):
            show(f"  {tokens:10,.0f}  {nats:14.4f}")
        if len(curve.nats) >= MIN_POINTS:
            noise = smooth(curve).noise_nats
            say(f"the checkpoints lie {noise:.4f} nats (one standard deviation) about the smoothed curve")
