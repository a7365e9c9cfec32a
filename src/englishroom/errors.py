"""Everything englishroom raises on purpose.

EnglishRoomError
├── UnsupportedModelError   the model is of a kind that is not supported
├── ConfigError             a setting or a command-line value makes no sense (also a ValueError)
├── InvalidTalkerError      a talker's answers are no probabilities, or depend on what is yet to come
├── ArtifactError           a file on disk is damaged, missing or not what it should be
└── InvalidProgramError     a program breaks a rule of its level; carries every fault found

A message says where, what was found, what was expected and what to do. The command line prints it as one line and
exits with status 1; any other exception is a bug and shows its traceback. Whatever a message quotes, it stays one line
of bounded length: the base class escapes what does not print and leaves out the middle of what is too long.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_MESSAGE = 1200
"""Characters of the longest message."""


def one_line(text: str) -> str:
    """Escape what does not print, so that a message that quotes a file or a name stays one line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def bounded(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """Leave out the middle of a text that is too long to read, keeping where it is and what to do about it."""
    if len(text) <= longest:
        return text
    head, tail = longest * 2 // 3, longest // 4
    return f"{text[:head]} [... {len(text) - head - tail:,} characters ...] {text[-tail:]}"


class EnglishRoomError(Exception):
    """Base of every error that englishroom raises on purpose."""

    def __init__(self, message: str = "") -> None:
        super().__init__(bounded(one_line(bounded(message))))


class UnsupportedModelError(EnglishRoomError):
    """The model is of a kind, or uses a feature, that englishroom does not support."""


class ConfigError(EnglishRoomError, ValueError):
    """A setting or a command-line value makes no sense."""


class InvalidTalkerError(EnglishRoomError):
    """A talker's answers are no probabilities, or depend on what is yet to come."""


class ArtifactError(EnglishRoomError):
    """A file on disk is damaged, missing, or not what it should be."""


class InvalidProgramError(EnglishRoomError):
    """A program breaks the rules of its level.

    Attributes:
        faults: every fault found, one line each.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults: tuple[str, ...] = tuple(faults)
        plural = "fault" if len(self.faults) == 1 else "faults"
        super().__init__(f"invalid program, {len(self.faults)} {plural}: " + "; ".join(self.faults))
