"""The settings of sampled texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from englishroom.bounds import Amount, Count, Settings, Weight
from englishroom.data.corpus import BlankLines
from englishroom.errors import ConfigError


@dataclass(frozen=True)
class SampleOptions(Settings):
    """How the tokens of a document are drawn."""

    seed: Amount = 0
    """Starting number of the random generator. The same seed gives the same documents."""
    temperature: Weight = 1.0
    """How random the choice of each token is. 1: exactly as probable as the talker says. Below 1: probable tokens are
    taken more often. 0: always the most probable token."""
    max_tokens: Count | None = None
    """Longest document, in tokens; a longer one is cut. By default a document is cut only where the context of the
    talker is full."""
    precision: Literal["float64", "float32"] = "float64"
    """Number format in which a model computes. float32 is twice as fast, but other computers may then give other
    documents."""


@dataclass(frozen=True)
class SampleTextConfig(Settings):
    """How many documents are sampled, and how they are written."""

    documents: Count | None = None
    """Number of documents to sample, by default 1000. Documents without any text are not written."""
    parts: tuple[Count, Count, Count] | None = None
    """Write three texts that share no document, in place of one text: to fit on, to choose settings on, and to report
    on. Give the number of documents of each."""
    unfinished: Literal["keep", "drop"] = "keep"
    """Keep or drop documents that were cut. Without them the text has too many short documents."""
    blank_lines: BlankLines = "keep"
    """keep: write documents as the talker says them. collapse: replace each line break, with the spaces and empty lines
    around it, by one line break."""
    drawing: SampleOptions = SampleOptions()
    """How the tokens of a document are drawn."""

    def validate(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            ConfigError: a value is out of its bounds, or documents are counted twice.
        """
        super().validate()
        if self.parts is not None and self.documents is not None:
            raise ConfigError("--parts says how many documents each part has; leave --documents out")
