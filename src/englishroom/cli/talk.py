"""englishroom talk"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from englishroom.cli.output import say, show
from englishroom.evaluate.talk import TalkOptions, talk
from englishroom.pipeline.config import TalkerOpening


@dataclass(frozen=True)
class Command:
    """Let a room or a model tell a story."""

    talker: tyro.conf.Positional[str] = ""
    """A room, a shipped model, a model folder or .bin file, or a hub name; the room that ships where none is given."""
    prompt: tyro.conf.Positional[str] = ""
    """Text to go on from; none starts a new story."""
    choice: TalkOptions = TalkOptions()
    """How tokens are chosen."""
    opening: TalkerOpening = TalkerOpening()
    explain: bool = False
    """Say why each token is said: features on, rules that fired, what was copied from where, and the votes. For rooms
    of sparse programs."""
    told: str | None = None
    """Explain the tokens of this text, not new ones."""

    def run(self) -> None:
        from englishroom.pipeline import open_talker

        self.choice.check()
        if self.explain or self.told is not None:
            self._explain()
            return
        talker = open_talker(self._name(), say=say, dtype="float64", **asdict(self.opening))
        if not self.prompt:
            say("the prompt is empty; starting a new story")
        told = talk(talker, self.prompt, self.choice)
        show(self.prompt, end="")
        for text in told:
            show(text, end="")
        show("")

    def _name(self) -> str:
        from englishroom.talkers.shipped import shipped_room

        return self.talker or str(shipped_room())

    def _explain(self) -> None:
        from englishroom.inside.explain import explain
        from englishroom.ir.labels import load_labels
        from englishroom.ir.room import load_program

        room = Path(self._name())
        program, tokenizer = load_program(room)
        for text in explain(program, tokenizer, load_labels(room, program), self.prompt, self.choice, self.told):
            show(text, end="")
