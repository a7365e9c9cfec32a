"""englishroom compare"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from englishroom.cli.output import print_table, progress_bar, say, show
from englishroom.disk import replace_file
from englishroom.errors import ConfigError
from englishroom.pipeline.commands import PROMPTS, CompareConfig
from englishroom.plain import to_json

NEW_TOKENS = 120


@dataclass(frozen=True)
class Command:
    """Show where two rooms or models differ: on which kinds of tokens, on which single tokens, and in their stories."""

    config: Annotated[CompareConfig, arg(name="")]
    out: Path | None = None
    """Write everything that is printed, and more, to this file, as JSON."""

    def run(self) -> None:
        from englishroom.data.texts import check_name
        from englishroom.evaluate.compare import compare
        from englishroom.evaluate.talk import TalkOptions, readable_prompts
        from englishroom.pipeline import open_talker
        from englishroom.pipeline.texts import TalkerTexts

        config = self.config
        config.validate()
        if self.out is not None and not self.out.parent.is_dir():
            raise ConfigError(f"{self.out.parent}: no such folder; create it first, or choose another --out")
        check_name(config.text)
        first, second = (open_talker(name, say=say, **asdict(config.opening)) for name in (config.first, config.second))
        with progress_bar() as progress:
            reader = TalkerTexts([first, second], config.blank_lines, say, progress)
            text = reader.open(config.text, max_documents=config.max_documents)
            found = compare(
                first,
                second,
                text.documents,
                readable_prompts(first, PROMPTS) if config.prompts == PROMPTS else config.prompts,
                config.seed,
                config.top,
                TalkOptions(max_tokens=NEW_TOKENS),
                partial(progress, "comparing"),
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
