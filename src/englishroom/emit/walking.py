"""One line of a readable program in words: what its header walks through."""

from __future__ import annotations

from englishroom.emit.lines import Terms, TermSum

NAMED = 4
"""Terms of a kind that are named."""


def walked(called: str, terms: TermSum, unit: float, asked: str) -> str:
    """Say what a rule adds up, what it asks for, and what is enough; the text ends before what is added to the sum.

    Args:
        called: its number and name.
        unit, asked: what its weights are in units of, and what it asks for in that unit.
    """
    for_it, against = ([term for term in terms.words if term[1] * sign > 0] for sign in (1, -1))
    parts = []
    if for_it:
        parts.append(f"the word here if it is {_listed(for_it, unit)}, which count for it")
    if against:
        parts.append(f"the word here if it is {_listed(against, unit)}, which count against it")
    if terms.features:
        listed = [f"{value / unit:.3g} times {name}" for name, value in _largest(terms.features)]
        more = f" and {len(terms.features) - NAMED} more" if len(terms.features) > NAMED else ""
        parts.append(f"{', '.join(listed)}{more}, each as strong as it is on")
    text = f"This is {called}. It adds up {'; '.join(parts)}. It is on where the sum is above {asked}. "
    return (
        text + _enough(for_it, terms.features, unit, asked) + f"It is then on as strongly as {unit:.3g} times the sum, "
    )


def _enough(words: Terms, features: Terms, unit: float, asked: str) -> str:
    """Say what is enough for it to be on, where a few terms are."""
    reached, enough = 0.0, []
    for name, value in _largest(words)[:1]:
        reached += value / unit
        enough.append(f"the word {name} here")
    for name, value in _largest(features):
        if value > 0 and reached <= float(asked):
            reached += value / unit
            enough.append(f"{name} on at strength 1")
    if reached <= float(asked):
        return ""
    return f"With {' and '.join(enough)} the sum is {reached:.3g}, so it is on. "


def _largest(terms: Terms) -> Terms:
    return sorted(terms, key=lambda term: -abs(term[1]))[:NAMED]


def _listed(words: Terms, unit: float) -> str:
    listed = ", ".join(f"{name} ({abs(value) / unit:.3g})" for name, value in _largest(words))
    return listed + (f" or {len(words) - NAMED} more" if len(words) > NAMED else "")
