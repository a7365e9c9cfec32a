"""Everything englishroom raises on purpose.

EnglishRoomError
├── UnsupportedModelError   the model is of a kind that is not supported
├── ConfigError             a setting or a command-line value makes no sense (also a ValueError)
├── InvalidTalkerError      a talker's answers are no probabilities, or depend on what is yet to come
├── ArtifactError           a file on disk is damaged, missing or not what it should be
└── InvalidProgramError     a program breaks a rule of its level; carries every fault found

A message says where, what was found, what was expected and what to do. The command line prints it as one line and
exits with status 1; any other exception is a bug and shows its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence


def one_line(text: str) -> str:
    """Escape what does not print, so that a message that quotes a file or a name stays one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class EnglishRoomError(Exception):
    """Base of every error that englishroom raises on purpose."""


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
