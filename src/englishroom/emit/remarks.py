"""What is said below the line of a rule or a moved feature: comments, which decide nothing."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from englishroom.ir.labels import Feature
from englishroom.ir.wording import comment

SAID = 6
"""Votes that are named."""
NOISE_NATS = 0.1
"""A vote is named where it comes to this much at the strength that its feature usually has; less changes the chance of
its word by less than a tenth."""
LONGEST = 120
"""Characters of a line, from which on it goes on in lines that begin with spaces."""
INDENT = "#   "
GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "words": "Each votes for words of all kinds, and is on at many.",
        "after a word, words": "Each is on at a few words mostly, and votes for what follows these.",
        "names": "Each votes mostly for names of people.",
        "goes on with a word": "Each votes mostly for pieces that go on with a word that has begun.",
        "speech": "Each votes mostly for quotation marks.",
        "punctuation and ends of sentences": "Each votes mostly for marks that part sentences or end them.",
        "the opening of a text": "Each is on mostly at the first words of a text.",
        "read by other rules": "Each matters mostly by what reads it, not by its own votes.",
        "never on in the text": "None was on in the text that was read for these remarks.",
    }
)
"""What the rules of a group have in common."""


def remarks(feature: Feature, votes: Sequence[tuple[str, float]]) -> list[str]:
    """Say of a feature how often it is on, how far back it finds, what it votes for, an example, and its condition.

    Args:
        votes: what the program has it vote for at strength 1, the strongest first; used where its label names none.
    """
    parts = [f"on {feature.frequency:.2%}"] if feature.frequency else []
    if feature.back:
        low, median, high = feature.back
        parts.append(f"usually finds {_back(median)}" + (f" ({low} to {high})" if low != high else ""))
    said = feature.votes or strongest(votes, feature.mean or 1.0)
    parts += [f"says {spelt(said)}"] if said else []
    parts += [f"e.g. {feature.example}"] if feature.example else []
    found = _wrapped(" | ".join(parts)) if parts else []
    if feature.explanation is not None:
        told = feature.explanation
        found += _wrapped(
            f"when {told.condition} (held out: precision {told.precision:.2f}, recall {told.recall:.2f}, "
            f"MCC {told.mcc:.2f})"
        )
    return found


def strongest(votes: Sequence[tuple[str, float]], usual: float) -> list[tuple[str, float]]:
    """Return the strongest votes that are no noise."""
    least = max([NOISE_NATS / usual, *(abs(vote) / 3 for _, vote in votes[:1])])
    return [(word, vote) for word, vote in votes[:SAID] if abs(vote) >= least]


def spelt(votes: Sequence[tuple[str, float]]) -> str:
    """Name votes, those for words first."""
    ranked = sorted(votes, key=lambda vote: (vote[1] < 0, -abs(vote[1])))
    return " ".join(f"{word} {vote:+.2g}" for word, vote in ranked)


def about_group(group: str, n_members: int, importance: float, nats: float | None) -> list[str]:
    """Say what the members of a group have in common, and how much hangs on them."""
    text = f"{group}: {n_members}" + (f", {importance:.3g} nats together." if importance else ".")
    if group in GROUPS:
        text += f" {GROUPS[group]}"
    if nats is not None:
        text += f" With all of them silent the answers change by {nats:.3g} nats."
    return [comment(line) for line in textwrap.wrap(text, LONGEST - 2, break_long_words=False)]


def _back(places: int) -> str:
    return f"{places} back" if places else "the word here"


def _wrapped(text: str) -> list[str]:
    return [
        INDENT + comment(line).removeprefix("# ")
        for line in textwrap.wrap(text, LONGEST - len(INDENT), break_long_words=False, break_on_hyphens=False)
    ]
