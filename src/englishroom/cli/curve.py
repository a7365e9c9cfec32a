"""englishroom curve"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from englishroom.bounds import Count, Settings
from englishroom.cli.output import progress_bar, say, show


@dataclass(frozen=True)
class Command(Settings):
    """Show how well a model predicts a text at each step of its training that was kept (its learning curve).

    The curve is stored with the model. A stopped run goes on where it was when the same command is given again.
    """

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """Folder that "englishroom train" has written. Its subfolder "work" must still be there."""
    text: str = "sampled"
    """Text to measure on: a text file, a table, a folder of them, a hub dataset, or "sampled", a text that comes with
    englishroom."""
    max_documents: Count | None = None
    """Number of documents to measure on, from the beginning of the text; by default all. "englishroom score" uses the
    curve only for the same documents."""

    def run(self) -> None:
        from englishroom.data.texts import open_text
        from englishroom.evaluate.compute_recovered.curve import measure_curve
        from englishroom.evaluate.compute_recovered.training import MIN_POINTS, smooth
        from englishroom.talkers.record import label, trained_blank_lines

        self.validate()
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
