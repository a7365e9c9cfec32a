"""What commands print: results on standard output, remarks and progress on standard error."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from englishroom.emit.prelude.talking import shown
from englishroom.names import TOKENIZER
from englishroom.steps import Progress

PROMPT = "Once upon a time"
"""What programs are given to go on from, in the commands that are printed as the next ones."""


def say(line: str) -> None:
    """Print one remark, with control characters escaped."""
    print(shown(line.replace("\n", " ")), file=sys.stderr, flush=True)


def show(text: str, end: str = "\n") -> None:
    """Print a result, with control characters escaped."""
    print(shown(text), end=end, flush=True)


def command(*words: object) -> str:
    """Spell a command so that a shell takes every word of it as it is."""
    return shlex.join(map(str, words))


def blank_lines_of(about: Mapping[str, Any]) -> str:
    """Say what became of the blank lines of a text, of which this is what an artefact says."""
    return f"blank lines {'kept' if about.get('blank_lines') == 'keep' else 'collapsed'}"


def talk_command(program: Path) -> str:
    """Spell the command that lets a program talk, with a prompt where the vocabulary beside it has its letters.

    Raises:
        ArtifactError: there is no vocabulary beside the program.
    """
    from englishroom.ir.tokenizer_json import tokenizer_from_json
    from englishroom.untrusted import read_bytes

    advice = "make it again"
    place = program.with_name(TOKENIZER)
    tokenizer = tokenizer_from_json(read_bytes(place, advice), str(place))
    try:
        known = tokenizer.decode(tokenizer.encode(PROMPT)) == PROMPT
    except ValueError:
        known = False
    return command("python", program, *([PROMPT] if known else []))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], first_left: int = 1) -> None:
    """Print a table on standard output, control characters escaped; wide ones are not cut when piped.

    Args:
        first_left: how many of the first columns are set left; the others are set right.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(shown(title)), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for at, column in enumerate(columns):
        table.add_column(Text(shown(column)), justify="left" if at < first_left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(cell)) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=400)
    console.print(table)


@contextlib.contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show a bar with an estimate of the time left; yields a function of (step, done, total)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def update(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(shown(step), total=total)
            bar.update(tasks[step], completed=done)

        yield update
