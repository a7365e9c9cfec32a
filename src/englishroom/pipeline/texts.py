"""Open texts for talkers: blank lines as the talker says them, without documents that its vocabulary cannot spell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from englishroom.data.corpus import BlankLines
from englishroom.data.spelling import beyond_vocabulary, with_unknown
from englishroom.data.texts import READY, Text, open_text, parse_name
from englishroom.errors import ArtifactError, ConfigError
from englishroom.evaluate.blank_lines import SAYS_BLANK_LINES, blank_lines_for
from englishroom.ir.tokenizer import Tokenizer
from englishroom.pipeline.config import ReadBlankLines
from englishroom.steps import Progress, Say, silent
from englishroom.talker import Talker

DECIDING_DOCUMENTS = 64
"""Documents in which a line end is sought that tells whether a talker says blank lines."""


class TalkerTexts:
    """Opens texts for talkers, all of them alike.

    Args:
        talkers: the first is asked about blank lines; documents that one of them cannot spell are left out.
        blank_lines: ``auto`` asks, at the first text that has line ends.
    """

    def __init__(
        self,
        talkers: Sequence[Talker],
        blank_lines: ReadBlankLines = "auto",
        say: Say = silent,
        progress: Progress = silent,
    ) -> None:
        self.talkers, self.say, self.progress = talkers, say, progress
        self.decided: BlankLines | None = None if blank_lines == "auto" else blank_lines

    def open(self, name: str | Path, use: str = "--text", max_documents: int | None = None) -> Text:
        """Open a text; see :func:`~englishroom.data.texts.open_text`.

        Args:
            use: the setting that names it, for messages.

        Raises:
            EnglishRoomError: the text will not do, or none of its documents can be spelled.
        """
        try:
            text = open_text(name, self.progress, max_documents, self._blank_lines(name))
        except (ArtifactError, ConfigError) as error:
            raise type(error)(f"{use}: {error}") from None
        return self.spelled(text, use)

    def spelled(self, text: Text, use: str = "--text") -> Text:
        """Leave out the documents of a text that a talker's vocabulary cannot spell, and say how many.

        Raises:
            ConfigError: these are all.
        """
        for talker in self.talkers:
            text = self._spelled_by(talker, text, use)
        return text

    def _spelled_by(self, talker: Talker, text: Text, use: str) -> Text:
        lacking = beyond_vocabulary(talker.tokenizer, text.documents)
        if lacking:
            try:
                spelled = _without(text, lacking, talker.name)
            except ConfigError as error:
                raise ConfigError(f"{use}: {error}") from None
            first = _first(text, lacking)
            self.say(f"{use}: {spelled.name} (the first: {first})")
            return spelled
        if unknown := with_unknown(talker.tokenizer, text.documents):
            self.say(
                f"{use}: {text.name}: {unknown:,} of {len(text.documents):,} documents have characters that "
                f"{talker.name} reads as its unknown token"
            )
        return text

    def joined(self, names: Sequence[str], use: str) -> Text:
        """Open texts and lay them end to end."""
        return Text.joined([self.open(name, use) for name in names])

    def _blank_lines(self, name: str | Path) -> BlankLines:
        """Say how a text is read; the ready corpus was collapsed when it was made."""
        if self.decided is None and str(name).partition(":")[0] != READY:
            beginning = open_text(name, self.progress, DECIDING_DOCUMENTS, "keep")
            self.decided = blank_lines_for(self.talkers[0], beginning.documents)
            if self.decided == "keep":
                self.say(
                    f"blank lines of texts are kept: {self.talkers[0].name} says more than 1 in "
                    f"{1 / SAYS_BLANK_LINES:.0f} where a line of {name} ends"
                )
        return self.decided or "collapse"


def open_again(
    about: Mapping[str, Any], tokenizer: Tokenizer, progress: Progress, max_documents: int | None = None
) -> Text:
    """Open a text that an artefact names, as it was read then.

    Args:
        about: what :meth:`~englishroom.data.texts.Text.about` said of it.

    Raises:
        EnglishRoomError: it is not here any more, or samples of a model that were not kept; or none of its documents
            can be spelled.
    """
    name, limit, kept = parse_name(str(about.get("name", READY)))
    how: BlankLines = "keep" if "keep" in (kept, about.get("blank_lines")) else "collapse"
    text = open_text(name, progress, max_documents or limit, how)
    return _without(text, beyond_vocabulary(tokenizer, text.documents), "the room")


def _without(text: Text, lacking: Mapping[str, str], whose: str) -> Text:
    """Leave out documents that a vocabulary cannot spell, each with the first such character.

    Raises:
        ConfigError: these are all.
    """
    spelled = text.without(frozenset(lacking))
    if not spelled.documents:
        raise ConfigError(
            f"{text.name}: none of its {len(text.documents):,} documents can be spelled with the vocabulary of {whose} "
            f"({_first(text, lacking)}); give a text of other characters"
        )
    return spelled


def _first(text: Text, lacking: Mapping[str, str]) -> str:
    """Name the first document that cannot be spelled, and a character of it."""
    at, document = next((i, one) for i, one in enumerate(text.documents) if one in lacking)
    return f"document {at} has {lacking[document]!r}"
