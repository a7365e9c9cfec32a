"""What is said above the line of a rule or a moved feature: comments, which decide nothing."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from englishroom.emit.prelude.holding import quoted
from englishroom.ir.labels import Feature
from englishroom.ir.wording import comment

SAID = 6
"""Votes that are named."""
NOISE_NATS = 0.1
"""A vote is named where it comes to this much at the strength that its feature usually has; less changes the chance of
its word by less than a tenth."""
WEAK = 0.3
"""Matthews correlation below which a condition is said not to tell when its feature is on."""
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


def remarks(name: str, feature: Feature, votes: Sequence[tuple[str, float]]) -> list[str]:
    """Say of a feature when it is on, what follows there, what it votes for, examples, and its condition.

    Args:
        name: what it is called.
        votes: what the program has it vote for at strength 1, the strongest first; used where its label names none.
    """
    parts = [f"on at {feature.frequency:.2%} of places"] if feature.frequency else []
    parts += _when(feature)
    if feature.follows:
        parts.append(f"next: {', '.join(_followed(*follow) for follow in feature.follows)}")
    said = feature.votes or strongest(votes, feature.mean or 1.0)
    parts += [f"says {spelt(said)}"] if said else []
    found = _wrapped(" | ".join(parts)) if parts else []
    for example in feature.examples or (feature.example,):
        found += _wrapped(f"e.g. {example}") if example else []
    found += _wrapped(f"off: {feature.near_miss}") if feature.near_miss else []
    if feature.explanation is not None:
        told = feature.explanation
        lead = "when" if told.mcc >= WEAK else "no short condition says when; the best:"
        found += _wrapped(
            f"{lead} {told.condition} (held out: precision {told.precision:.2f}, recall {told.recall:.2f}, "
            f"MCC {told.mcc:.2f})"
        )
    return [comment(name), *found] if found else []


def _when(feature: Feature) -> list[str]:
    """Say at which words a rule is on, or which words a moved feature finds, and how far back."""
    stand = ", ".join(f"{quoted(word)} {_share(share)}" for word, share in feature.tokens)
    if feature.back:
        low, median, high = feature.back
        where = (f"{median} back" if median else "here") + (f" ({low} to {high})" if low != high else "")
        return [f"on when {where} stands{f': {stand}' if stand else ' what it finds'}"]
    if not feature.of_all or not stand:
        return []
    of_all = ", ".join(
        f"{_share(share)} of all {quoted(word)}"
        for (word, _), share in zip(feature.tokens, feature.of_all, strict=False)
    )
    return [f"on when the word is: {stand}", f"on at {of_all}"]


def _followed(word: str, share: float, elsewhere: float | None) -> str:
    return f"{quoted(word)} {_share(share)}" + ("" if elsewhere is None else f" (else {_share(elsewhere)})")


def _share(share: float) -> str:
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def strongest(votes: Sequence[tuple[str, float]], usual: float) -> list[tuple[str, float]]:
    """Return the strongest votes that are no noise."""
    least = max([NOISE_NATS / usual, *(abs(vote) / 3 for _, vote in votes[:1])])
    return [(word, vote) for word, vote in votes[:SAID] if abs(vote) >= least]


def spelt(votes: Sequence[tuple[str, float]]) -> str:
    """Name votes, those for words first."""
    ranked = sorted(votes, key=lambda vote: (vote[1] < 0, -abs(vote[1])))
    return ", ".join(f"{quoted(word)} {vote:+.2g}" for word, vote in ranked)


def about_group(group: str, n_members: int, importance: float, nats: float | None) -> list[str]:
    """Say what the members of a group have in common, and how much hangs on them."""
    text = f"{group}: {n_members}" + (f", {importance:.3g} nats together." if importance else ".")
    if group in GROUPS:
        text += f" {GROUPS[group]}"
    if nats is not None:
        text += f" With all of them silent the answers change by {nats:.3g} nats."
    return [comment(line) for line in textwrap.wrap(text, LONGEST - 2, break_long_words=False)]


def _wrapped(text: str) -> list[str]:
    return [
        INDENT + comment(line).removeprefix("# ")
        for line in textwrap.wrap(text, LONGEST - len(INDENT), break_long_words=False, break_on_hyphens=False)
    ]
