"""The command line: one file per command, loaded only when it is called."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import englishroom

T = TypeVar("T")
COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "decompile": "turn a model into a room: a program in plain Python, with the evidence",
        "talk": "let a room or a model tell a story",
        "sample": "write a text: documents that a room or a model says",
        "explain-check": "check what a sparse program explains, by taking rules out of it",
        "explain-features": "say when each feature of a sparse program is on, as a condition that runs",
        "readability": "measure how readable a readable program is, beside programs that know nothing",
        "explained": "write the program of the explanations of a readable room alone",
        "sketch": "write the shortest readable program that keeps a share of what a talker does",
        "slice": "cut out the part of a sparse program that one text needs",
        "score": "measure rooms and models on a text, beside baselines",
        "compare": "show where two talkers differ, with paired stories",
        "export": "write the dictionaries of a room for other tools",
        "show": "print what is in a room",
        "report": "write a report of a room: one page with tables, plots and stories",
        "frontier": "make a sparse program smaller step by step, and draw what that costs",
        "label": "name the features of a sparse program by what they do on a text",
        "memory": "divide a sparse program into what it stores and what it computes",
        "features": "list the features of a room, or look at one of them",
        "train": "train a small talker from plain text",
        "curve": "measure the checkpoints of a training run on a text",
        "ladder": "train, measure and show models of growing size, for compute recovered",
    }
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    width = max(map(len, COMMANDS))
    parser = argparse.ArgumentParser(
        prog="englishroom",
        description="A decompiler for small language models. A room is the folder with a program "
        "that decompile writes. A talker is whatever can tell a story: a room, a model or a sketch.",
        epilog="commands:\n"
        + "\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())
        + "\n\nenglishroom COMMAND --help lists the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"englishroom {englishroom.__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="what to do, see below")
    if sys.platform == "win32":
        print("error: englishroom runs on Linux and macOS; on Windows, run it inside WSL", file=sys.stderr)
        return 1
    with _standard_streams(), _warnings_in_our_form():
        try:
            status = _run(_escaping(lambda: parser.parse_args(given[:1])).command, given[1:])
            sys.stdout.flush()
        except SystemExit:  # --help, --version, and what cannot be parsed
            try:
                sys.stdout.flush()
            except OSError:
                _drop_output()
            raise
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            status = 130
        except BrokenPipeError:
            _drop_output()
            status = 1
    return status


def _run(command: str, arguments: Sequence[str]) -> int:
    import tyro

    from englishroom.cli.helps import flowing_helps
    from englishroom.cli.output import say
    from englishroom.errors import EnglishRoomError

    try:
        importlib.import_module("englishroom.disk")
    except ImportError as error:  # the system is none of those that it is made for
        say(f"error: {error}")
        return 1
    module = importlib.import_module(f"englishroom.cli.{command.replace('-', '_')}")
    try:
        defaults = getattr(module.Command, "defaults", None)
        options = _escaping(
            lambda: tyro.cli(
                module.Command,
                default=None if defaults is None else defaults(arguments),
                prog=f"englishroom {command}",
                args=list(arguments),
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
                registry=flowing_helps(),
            )
        )
        options.run()
    except EnglishRoomError as error:
        say(f"error: {error}")
        return 1
    except BrokenPipeError:
        raise
    except OSError as error:  # what the system refuses, wherever it does
        _drop_output()
        what = f"{error.filename}: " if error.filename is not None else ""
        say(f"error: {what}{error.strerror or error}")
        return 1
    return 0


def _escaping(parse: Callable[[], T]) -> T:
    """Parse, and escape what does not print in what a parser says of arguments that it refuses."""
    from englishroom.emit.prelude.talking import shown

    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return parse()
    finally:
        print(shown(told.getvalue()), end="", file=sys.stderr)


@contextlib.contextmanager
def _standard_streams() -> Iterator[None]:
    """Write UTF-8 to the standard streams, and to nowhere where one is closed from the start."""
    with contextlib.ExitStack() as stack:
        for name, redirect in (("stdout", contextlib.redirect_stdout), ("stderr", contextlib.redirect_stderr)):
            stream = getattr(sys, name)
            if stream is None:
                stack.enter_context(redirect(stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))))
            elif isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(encoding="utf-8", errors="replace")
        yield


@contextlib.contextmanager
def _warnings_in_our_form() -> Iterator[None]:
    """Print what libraries warn of as remarks of one line."""
    from englishroom.cli.output import say

    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_about, **_more: say(f"warning: {message}")
        yield


def _drop_output() -> None:
    """Let nothing more be written to standard output, which may be closed or full."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
