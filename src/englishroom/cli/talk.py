"""englishroom talk"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from englishroom.cli.output import say, show
from englishroom.pipeline.commands import TalkConfig


@dataclass(frozen=True)
class Command:
    """Let a room, a sketch or a model write a story, or explain why a sparse program writes what it writes."""

    config: Annotated[TalkConfig, arg(name="")] = TalkConfig()

    def run(self) -> None:
        self.config.validate()
        if self.config.explain or self.config.told is not None:
            self._explain()
        else:
            self._talk()

    def _talk(self) -> None:
        from englishroom.evaluate.talk import talk
        from englishroom.pipeline import open_talker

        config = self.config
        talker = open_talker(config.name, say=say, dtype="float64", **asdict(config.opening))
        if not config.prompt:
            say("the prompt is empty; starting a new story")
        told = talk(talker, config.prompt, config.choice)
        show(config.prompt, end="")
        for text in told:
            show(text, end="")
        show("")

    def _explain(self) -> None:
        from englishroom.inside.explain import explain
        from englishroom.ir.labels import load_labels
        from englishroom.ir.room import load_program

        config, room = self.config, Path(self.config.name)
        program, tokenizer = load_program(room)
        labels = load_labels(room, program)
        for text in explain(program, tokenizer, labels, config.prompt, config.choice, config.told):
            show(text, end="")
