"""How an emitted infini-gram program finds the longest match; copied into it verbatim.

``tokens`` is the text, every document after the start token; ``places`` are 1, 2 ... to its end (place 5 is after five
tokens), sorted by the token before each, then by the one before that, and so on.
"""

from bisect import bisect_left, bisect_right
from collections import Counter


def longest(tokens, places, memory):
    """Return how many of the last tokens of memory occur together in the text, and the span of places after them."""
    wanted = memory[::-1]

    def before(place):
        """Return as many tokens before a place as are wanted, the nearest first."""
        return list(tokens[max(0, place - len(wanted)) : place])[::-1]

    at = bisect_left(places, wanted, key=before)
    length = 0
    for place in places[max(0, at - 1) : at + 1]:  # the two that the memory would stand between
        there = before(place)
        while length < len(there) and there[: length + 1] == wanted[: length + 1]:
            length += 1
    del wanted[length:]
    low = bisect_left(places, wanted, key=before)
    return length, low, bisect_right(places, wanted, lo=low, key=before)


def mix_matches(chances, tokens, places, low, high, weight, limit):
    """Return the given chances mixed with the shares of the tokens that follow a span of places.

    Of more places than the limit, so many are asked at equal distances.
    """
    seen = min(high - low, limit)
    asked = [places[low + i * (high - low) // seen] for i in range(seen)]
    mixed = [chance * (1 - weight) for chance in chances]
    for token, times in Counter([tokens[place] if place < len(tokens) else tokens[0] for place in asked]).items():
        mixed[token] += weight * (times / seen)
    return mixed
