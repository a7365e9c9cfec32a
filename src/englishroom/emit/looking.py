"""Where a look looks, in words, where what decides it is exact: a distance, or a word that stands here too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from englishroom.emit.lines import TermSum, curve_text

EXACT_NATS = 15.0
"""A curve under which every other distance lies by this much leaves the others less than a millionth of the weight."""
Found = Mapping[str, tuple[int, str]]
"""Of features that find one word at one distance, which: how far back, and the word."""


def look_text(
    curve: NDArray[np.floating],
    reach: int,
    matches: Sequence[tuple[TermSum, TermSum]] = (),
    lone: TermSum | None = None,
    found: Found | None = None,
) -> str:
    """Say where a look looks.

    Args:
        curve: over distance.
        reach: positions that it sees, the one at hand included.
        matches: pairs of a query and a key.
        lone: its lone keys.
        found: of features that its keys may read.
    """
    lone_terms = lone is not None and lone.largest > 0
    if not matches and not lone_terms:
        if (back := exact_back(curve)) is not None:
            return f"It looks at the word {f'{back} back' if back else 'here'}, whatever stands there."
        if np.ptp(curve) == 0:
            return "It looks at all words so far, the one here among them, alike."
    kinds = Counter(kind for query, key in matches if (kind := _same_word(query, key, found or {})))
    sentence = ""
    if kinds and kinds.most_common(1)[0][1] * 2 > len(matches) > 1:
        kind, count = kinds.most_common(1)[0]
        sentence = f" By {count} of its {len(matches)} matches it looks where {kind}."
    return curve_text(curve, reach) + sentence


def exact_back(curve: NDArray[np.floating]) -> int | None:
    """Return how far back the only distance lies that a curve leaves any weight, or ``None`` where it leaves more."""
    best = int(np.argmax(curve))
    others = np.delete(curve, best)
    last = best == len(curve) - 1  # stands for anything farther, too
    return None if last or others.max(initial=-np.inf) > curve[best] - EXACT_NATS else best


def _same_word(query: TermSum, key: TermSum, found: Found) -> str | None:
    """Say in what way a match looks for the word here, if its query is one word."""
    asked, offered = _strong(query), _strong(key)
    if len(asked) != 1 or len(offered) != 1 or asked[0] not in dict(query.words):
        return None
    if offered[0] in dict(key.words):
        return "the word here stands" if offered[0] == asked[0] else None
    back, word = found.get(offered[0], (0, ""))
    if word != asked[0]:
        return None
    return f"the word {back} before is the word here" if back else "the word here stands"


def _strong(terms: TermSum) -> list[str]:
    """Return the names of a sum's terms above 0 that are no less than a tenth of the largest."""
    return [name for name, value in (*terms.words, *terms.features) if value * 10 >= terms.largest]


def finders(looks: Sequence[tuple[int | None, Sequence[str], Sequence[TermSum]]]) -> Found:
    """Return, of the moved features that find one word at one distance, that distance and word.

    Args:
        looks: of each the one distance that it looks at, if it is one, the names of its moved features, and their sums.
    """
    return {
        name: (back, terms.words[0][0])
        for back, names, sums in looks
        for name, terms in zip(names, sums, strict=True)
        if back is not None and len(terms.words) == 1 and not terms.features and terms.words[0][1] > 0
    }
