"""englishroom talk"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from englishroom.cli.output import say, show
from englishroom.evaluate.talk import TalkOptions, talk


@dataclass(frozen=True)
class Command:
    """Let a room or a model tell a story."""

    talker: tyro.conf.Positional[str]
    """A room, a shipped model, a model folder or .bin file, or a hub name."""
    prompt: tyro.conf.Positional[str] = ""
    """Text to go on from; none starts a new story."""
    choice: TalkOptions = TalkOptions()
    """How tokens are chosen."""
    tokenizer: Path | None = None
    """Tokenizer of a model, where it does not stand beside it."""
    check: bool = True
    """Do not compare a model's forward pass with transformers first."""

    def run(self) -> None:
        from englishroom.pipeline import open_talker

        self.choice.check()
        talker = open_talker(self.talker, self.tokenizer, self.check, say, dtype="float64")
        if not self.prompt:
            say("the prompt is empty; starting a new story")
        told = talk(talker, self.prompt, self.choice)
        show(self.prompt, end="")
        for text in told:
            show(text, end="")
        show("")
