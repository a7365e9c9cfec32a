"""What a sketch's gears see in texts: every position's keys, named by the very code that runs in the sketch."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from englishroom.emit.prelude import sketching
from englishroom.ir.tokenizer import Tokenizer
from englishroom.sketch.sampling import Heard
from englishroom.steps import StepProgress, silent

GEARS: Mapping[str, Callable[[sketching.Story], Iterable[str]]] = {
    gear.__name__: gear
    for gear in (
        sketching.last,
        sketching.two_back,
        sketching.three_back,
        sketching.pair,
        sketching.phrase,
        sketching.earlier,
        sketching.latest,
        sketching.clause,
        sketching.opening,
        sketching.state,
        sketching.speech,
    )
}
COPYING = sketching.copying.__name__


@dataclass(frozen=True)
class Spelling:
    """How the tables of a sketch spell the tokens of a talker.

    Attributes:
        words: of every token; no two alike.
        writable: which of them may stand in a table.
        end: the token that ends a story.
    """

    words: tuple[str, ...]
    writable: NDArray[np.bool_]
    end: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Spelling:
        """Spell every token; those of the same spelling, which no table names, are told apart by their numbers."""
        texts = [piece.decode("utf-8", "surrogateescape") for piece in tokenizer.pieces]
        words = [sketching.spelled(text) or "<empty>" for text in texts]
        end = tokenizer.stop_ids[0]
        for token in tokenizer.specials:
            words[token] = f"<{token}>"
        words[end] = sketching.END
        count = Counter(words)
        writable = np.array(
            [
                count[word] == 1
                and fits_table(word)
                and not word.lstrip("-")[:1].isdigit()
                and not set(word) & set("@|<> ")
                for word in words
            ]
        )
        writable &= np.array([sketching.written(word) == text for word, text in zip(words, texts, strict=True)])
        writable[list(tokenizer.specials)] = False
        writable[end] = True
        unique = [word if count[word] == 1 else f"<{token} {word}>" for token, word in enumerate(words)]
        return cls(tuple(unique), writable, end)

    def read_as(self, tokenizer: Tokenizer) -> tuple[str, ...]:
        """Return what a sketch reads for every token: its spelling, but the end of a story for the start of one."""
        return tuple(sketching.END if i == tokenizer.start_id else word for i, word in enumerate(self.words))


def fits_table(name: str) -> bool:
    """Say whether a key can begin a row of a table, or stand in one among others."""
    return (
        name.isprintable()
        and " ".join(name.split()) == name
        and not any(taken in f" {name} " for taken in (": ", " | ", "\\", '"""'))
    )


@dataclass(frozen=True)
class Readings:
    """What the gears see at every position of some texts.

    Attributes:
        keys: names of keys, gear and key.
        starts, seen: keys seen at position i are ``seen[starts[i] : starts[i + 1]]``.
        copy_keys: names of the rows of copying.
        copy_starts, copy_words, copy_rows: the same for words that may be said again, each with its row.
    """

    keys: tuple[tuple[str, str], ...]
    starts: NDArray[np.int64]
    seen: NDArray[np.int32]
    copy_keys: tuple[str, ...]
    copy_starts: NDArray[np.int64]
    copy_words: NDArray[np.int32]
    copy_rows: NDArray[np.int32]

    @property
    def n_positions(self) -> int:
        return len(self.starts) - 1

    def under(self, other: Readings) -> Readings:
        """Number keys and rows as in other readings, those unknown there left out."""
        numbers = {key: i for i, key in enumerate(other.keys)}
        row_numbers = {row: i for i, row in enumerate(other.copy_keys)}
        keys = np.array([numbers.get(key, -1) for key in self.keys], np.int64)
        rows = np.array([row_numbers.get(row, -1) for row in self.copy_keys], np.int64)
        seen, copy_rows = keys[self.seen].astype(np.int32), rows[self.copy_rows].astype(np.int32)
        known, copied = seen >= 0, copy_rows >= 0
        return Readings(
            other.keys,
            np.append(0, np.cumsum(known))[self.starts],
            seen[known],
            other.copy_keys,
            np.append(0, np.cumsum(copied))[self.copy_starts],
            self.copy_words[copied],
            copy_rows[copied],
        )


def read(
    heard: Heard,
    read_as: Sequence[str],
    tokens_of: Mapping[str, int],
    kinds: Mapping[str, str],
    gears: Sequence[str],
    progress: StepProgress = silent,
) -> Readings:
    """Read texts token by token, and list what every gear sees at the positions that count.

    Args:
        read_as: spelling of every token.
        tokens_of: the token of every spelling.
        kinds: the kind of words that have one.
        gears: which of them look.
    """
    key_ids: dict[tuple[str, str], int] = {}
    row_ids: dict[str, int] = {}
    starts, seen = array("q", [0]), array("i")
    copy_starts, copy_words, copy_rows = array("q", [0]), array("i"), array("i")
    looking = [(name, GEARS[name]) for name in gears if name != COPYING]
    for number, (window, counted) in enumerate(zip(heard.windows, heard.counted, strict=True)):
        story = sketching.Story(kinds)
        for position, token in enumerate(window):
            story.read(read_as[token])
            if position < counted:
                continue
            for name, gear in looking:
                seen.extend([key_ids.setdefault((name, key), len(key_ids)) for key in gear(story)])
            starts.append(len(seen))
            if COPYING in gears:
                for row, words in sketching.copying(story):
                    found = [tokens_of[word] for word in words]
                    copy_words.extend(found)
                    copy_rows.extend([row_ids.setdefault(row, len(row_ids))] * len(found))
            copy_starts.append(len(copy_words))
        progress(number + 1, len(heard.windows))
    return Readings(
        tuple(key_ids),
        np.array(starts, np.int64),
        np.array(seen, np.int32),
        tuple(row_ids),
        np.array(copy_starts, np.int64),
        np.array(copy_words, np.int32),
        np.array(copy_rows, np.int32),
    )
