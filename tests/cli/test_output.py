"""What commands print reaches a terminal escaped, and ends quietly where nobody reads it."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from englishroom.cli import main, output


def run(line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell, in which ``englishroom`` is the command."""
    command = line.replace("englishroom", f"{sys.executable} -m englishroom.cli", 1)
    return subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)


def test_a_reader_that_stops_reading_ends_the_story_quietly(tiny_room: Path) -> None:
    done = run(f"englishroom talk {tiny_room} Tom --seed 1 | head -c 1")
    assert (done.stdout, done.stderr) == ("T", "")


@pytest.mark.parametrize("arguments", [["--help"], ["talk", "--help"], ["show", "ROOM"], ["talk", "ROOM", "Tom"]])
def test_an_output_that_nobody_reads_is_no_fault(arguments: list[str], tiny_room: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [str(tiny_room) if word == "ROOM" else word for word in arguments]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "englishroom.cli", *command], stdout=writing, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(writing)
    assert done.stderr == ""
    assert done.returncode in (0, 1)  # help may be flushed by the parser itself


@pytest.mark.parametrize("arguments", ["--version", "--help", "talk --help", "show ROOM", "talk ROOM Tom"])
def test_a_closed_output_is_no_fault(arguments: str, tiny_room: Path) -> None:
    done = run(f"englishroom {arguments.replace('ROOM', str(tiny_room))} >&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_where_errors_cannot_be_printed_the_status_tells() -> None:
    done = run("englishroom show nowhere 2>&-")
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("arguments", [["fly\x1b[2J\x07"], ["talk", "room", "--wings\x1b[2J\x07"]])
def test_arguments_that_are_refused_are_escaped(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    printed = capsys.readouterr()
    assert not {"\x1b", "\x07"} & set(printed.out + printed.err)
    assert r"\x1b[2J\x07" in printed.err


def test_names_on_progress_bars_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.progress import Progress

    names: list[str] = []
    add_task = Progress.add_task

    def noted(bar: Progress, description: str, **options: Any) -> Any:
        names.append(description)
        return add_task(bar, description, **options)

    monkeypatch.setattr(Progress, "add_task", noted)
    with output.progress_bar() as progress:
        progress("fetching evil\x1b[2J/data", 1, 2)
        progress("fetching evil\x1b[2J/data", 2, 2)
    assert names == [r"fetching evil\x1b[2J/data"]


def test_warnings_of_libraries_are_remarks_of_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(_line: str, _arguments: object) -> int:
        warnings.warn("the tensor\nevil\x1b[2J is slow", UserWarning, stacklevel=1)
        return 0

    monkeypatch.setattr("englishroom.cli._run", warn)
    before = warnings.showwarning
    assert main(["show"]) == 0
    assert capsys.readouterr() == ("", "warning: the tensor evil\\x1b[2J is slow\n")
    assert warnings.showwarning is before
