"""The command line: one file per command, loaded only when it is called."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import englishroom

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "decompile": "turn a model into a room: a program in plain Python, with the evidence",
        "talk": "let a room or a model tell a story",
        "score": "measure a room or a model on a text",
        "show": "say what is in a room",
        "train": "train a small talker from plain text",
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
    return _run(parsed.command, given[1:])


def _run(command: str, arguments: Sequence[str]) -> int:
    import tyro

    from englishroom.cli.output import say
    from englishroom.errors import EnglishRoomError

    module = importlib.import_module(f"englishroom.cli.{command}")
    options = tyro.cli(
        module.Command,
        prog=f"englishroom {command}",
        args=list(arguments),
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    try:
        options.run()
    except EnglishRoomError as error:
        say(f"error: {error}")
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    return 0
