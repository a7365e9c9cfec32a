"""englishroom compare"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import tyro

from englishroom.cli.output import print_table, progress_bar, say, show
from englishroom.disk import replace_file
from englishroom.errors import ConfigError
from englishroom.pipeline.commands import PROMPTS
from englishroom.pipeline.config import TalkerOpening
from englishroom.plain import to_json

NEW_TOKENS = 120


@dataclass(frozen=True)
class Command:
    """Show where two talkers differ: by category, token by token, and in what they tell."""

    first: tyro.conf.Positional[str]
    """A room, a shipped model, a model folder or .bin file, or a hub name."""
    second: tyro.conf.Positional[str]
    """Another one, of the same vocabulary."""
    text: str = "sampled"
    """A text file or a table, a folder of them, a hub dataset, or "sampled", the ready corpus."""
    max_documents: int | None = None
    """Compare on the first documents only."""
    blank_lines: Literal["auto", "keep", "collapse"] = "auto"
    """Keep white space around line ends of the text, or collapse it to one newline; auto keeps it where the first
    talker says blank lines."""
    prompt: tuple[str, ...] = PROMPTS
    """Prompts that both tell on; an empty one begins a story."""
    seed: int = 0
    """Seed of the stories and of the intervals."""
    top: int = 8
    """Tokens to show in each direction."""
    out: Path | None = None
    """Write everything as JSON to this file, too."""
    opening: TalkerOpening = TalkerOpening()

    def run(self) -> None:
        from englishroom.data.texts import check_name
        from englishroom.evaluate.compare import compare
        from englishroom.evaluate.talk import TalkOptions, readable_prompts
        from englishroom.pipeline import open_talker
        from englishroom.pipeline.texts import TalkerTexts

        if self.top < 0:
            raise ConfigError(f"--top is {self.top}, expected 0 or more")
        if self.out is not None and not self.out.parent.is_dir():
            raise ConfigError(f"{self.out.parent}: no such folder; create it first, or choose another --out")
        check_name(self.text)
        first, second = (open_talker(name, say=say, **asdict(self.opening)) for name in (self.first, self.second))
        with progress_bar() as progress:
            text = TalkerTexts([first, second], self.blank_lines, say, progress).open(
                self.text, max_documents=self.max_documents
            )
            found = compare(
                first,
                second,
                text.documents,
                readable_prompts(first, PROMPTS) if self.prompt == PROMPTS else self.prompt,
                self.seed,
                self.top,
                TalkOptions(max_tokens=NEW_TOKENS),
                lambda done, total: progress("comparing", done, total),
            )
        one, two = found.names
        show(f"A = {one}, B = {two}, on {text.name}: {found.documents:,} documents, {found.tokens:,} tokens")
        show(f"  nats per token  A {found.nats_per_token[0]:.4f}  B {found.nats_per_token[1]:.4f}")
        show(f"  bits per byte   A {found.bits_per_byte[0]:.4f}  B {found.bits_per_byte[1]:.4f}")
        show(f"  B gains {found.gain:.4f} nats per token (95 %: {found.interval[0]:.4f} to {found.interval[1]:.4f})")
        show(f"  KL(A‖B) {found.kl_nats[0]:.4f} nats, KL(B‖A) {found.kl_nats[1]:.4f} nats")
        show(f"  same likeliest token {found.top1_agreement:.1%}")
        print_table(
            "Where B is better (nats per token), by category",
            ("category", "tokens", "A", "B", "B gains", "95 %", "share of the whole"),
            [
                (
                    row.category,
                    f"{row.tokens:,}",
                    *(f"{value:.3f}" for value in row.nats),
                    f"{row.gain:+.3f}",
                    f"{row.interval[0]:+.3f} to {row.interval[1]:+.3f}",
                    f"{row.share:.0%}",
                )
                for row in found.categories
            ],
        )
        for title, rows in (("B much better", found.second_better), ("A much better", found.first_better)):
            print_table(
                f"Tokens on which {title}",
                ("text before", "token", "A nats", "B nats", "A expects", "B expects"),
                [
                    (
                        "…" + _short(row.before),
                        repr(row.token),
                        *(f"{value:.2f}" for value in row.nats),
                        *map(repr, row.expected),
                    )
                    for row in rows
                ],
            )
        for story in found.stories:
            show(f"\nFrom {story.prompt!r}, seed {story.seed}; alike for {story.alike} characters")
            show(f"A: {story.prompt}{story.first}")
            show(f"B: {story.prompt}{story.second}")
        if self.out is not None:
            about = {"text": text.name, "sha256": text.sha256, "blank_lines": text.blank_lines}
            replace_file(self.out, to_json(about | found.as_dict()))
            say(f"wrote {self.out}")


def _short(text: str) -> str:
    return text[-48:].replace("\n", "⏎")
