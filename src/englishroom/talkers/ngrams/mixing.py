"""How an emitted n-gram program answers; copied into it verbatim.

The n-grams of one length are four things: where those that begin alike begin (and the end), the last token of each, how
often each counts, and the discounts for counts of 1, 2, and 3 or more.
"""

from bisect import bisect_left


def find(ngrams, context):
    """Return the place of a context among the n-grams of its length, None where the text never had it."""
    place = context[0]
    for (starts, tokens, _, _), token in zip(ngrams[1:], context[1:], strict=False):
        end = starts[place + 1]
        place = bisect_left(tokens, token, starts[place], end)
        if place == end or tokens[place] != token:
            return None
    return place


def mix(chances, level, place):
    """Return the chances of all tokens after a context, given those after the context without its first token.

    Every count is lowered by its discount; what that leaves over is shared out by the given chances.
    """
    starts, tokens, counts, discounts = level
    span = slice(starts[place], starts[place + 1])
    pairs = zip(tokens[span], counts[span], strict=True)
    seen = [(token, count, discounts[min(count, 3) - 1]) for token, count in pairs if count]
    if not seen:
        return chances
    scale = 1.0 / sum([count for _, count, _ in seen])
    rest = sum([discount for _, _, discount in seen]) * scale
    mixed = [chance * rest for chance in chances]
    for token, count, discount in seen:
        mixed[token] += (count - discount) * scale
    return mixed
