"""The command line: one file per command, loaded only when it is called."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import englishroom

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "decompile": "turn a model into a room: a program in plain Python, with the evidence",
        "talk": "let a room or a model tell a story",
        "sample": "write a text of documents sampled from a room or a model",
        "explain-check": "take rules out of a sparse program, and compare with what it explains",
        "sketch": "write the shortest readable program that keeps a share of what a talker does",
        "slice": "cut out the part of a sparse program that one text needs",
        "score": "measure rooms and models on a text, beside baselines",
        "compare": "show where two talkers differ, with paired stories",
        "export": "write the dictionaries of a room for other tools",
        "show": "say what is in a room",
        "report": "write a report of a room: one page with tables, plots and stories",
        "frontier": "sweep sparsity and precision of a room, and draw what they cost",
        "label": "name the features of a sparse room after what they do on a text",
        "memory": "tell what a sparse program stores from what it works out, in bits and nats",
        "features": "list the features of a room, or look at one of them",
        "train": "train a small talker from plain text",
        "curve": "measure the checkpoints of a training run on a text",
        "ladder": "train, measure and show the ladder of models that compute is read off",
    }
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    width = max(map(len, COMMANDS))
    parser = argparse.ArgumentParser(
        prog="englishroom",
        description="A decompiler for small language models.",
        epilog="commands:\n"
        + "\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())
        + "\n\nenglishroom COMMAND --help lists the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"englishroom {englishroom.__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="what to do, see below")
    parsed = parser.parse_args(given[:1])
    if sys.platform == "win32":
        print("error: englishroom runs on Linux and macOS; on Windows, run it inside WSL", file=sys.stderr)
        return 1
    try:
        return _run(parsed.command, given[1:])
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _run(command: str, arguments: Sequence[str]) -> int:
    import tyro

    from englishroom.cli.output import say
    from englishroom.errors import EnglishRoomError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    module = importlib.import_module(f"englishroom.cli.{command.replace('-', '_')}")
    try:
        options = tyro.cli(
            module.Command,
            prog=f"englishroom {command}",
            args=list(arguments),
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
        options.run()
        sys.stdout.flush()
    except EnglishRoomError as error:
        say(f"error: {error}")
        return 1
    except BrokenPipeError:
        _drop_output()
        return 1
    except OSError as error:  # what the system refuses, wherever it does
        _drop_output()
        what = f"{error.filename}: " if error.filename is not None else ""
        say(f"error: {what}{error.strerror or error}")
        return 1
    return 0


def _drop_output() -> None:
    """Let nothing more be written to standard output, which may be closed or full."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
