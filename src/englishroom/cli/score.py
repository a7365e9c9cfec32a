"""englishroom score"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from englishroom.cli.output import progress_bar, say, show
from englishroom.errors import ConfigError


@dataclass(frozen=True)
class Command:
    """Measure a room or a model on a text."""

    talker: tyro.conf.Positional[str]
    """A room, a shipped model, a model folder or .bin file, or a hub name."""
    text: Path
    """UTF-8 text, plain or .xz; documents separated by <|endoftext|>; white space at line ends is dropped."""
    max_documents: int | None = None
    """Score the first documents only."""
    tokenizer: Path | None = None
    """Tokenizer of a model, where it does not stand beside it."""
    check: bool = True
    """Do not compare a model's forward pass with transformers first."""

    def run(self) -> None:
        from englishroom.data.corpus import read_documents
        from englishroom.evaluate.score import score
        from englishroom.pipeline import open_talker

        if self.max_documents is not None and self.max_documents < 1:
            raise ConfigError(f"--max-documents is {self.max_documents}, expected 1 or more")
        documents = read_documents(self.text)[: self.max_documents]
        talker = open_talker(self.talker, self.tokenizer, self.check, say)
        with progress_bar() as progress:
            result = score(talker, documents, lambda done, total: progress("scoring", done, total))
        show(
            f"{talker.name} on {self.text}: {result.documents:,} documents, {result.tokens:,} tokens, "
            f"{result.bytes:,} bytes"
        )
        show(f"  nats per token  {result.nats_per_token:.4f}")
        show(f"  bits per byte   {result.bits_per_byte:.4f}")
        show(f"  top-1           {result.top1:.4f}")
