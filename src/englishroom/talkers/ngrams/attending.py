"""How an emitted skip-trigram program answers; copied into it verbatim.

A table is for a range of distances, nearest to farthest. It has pairs (earlier token times the size of the vocabulary,
plus the last token), sorted; where the row of each pair begins (and the last one ends); the rows, each token with how
often it came; how often each pair came; the kind of each pair; what is taken off every count; and the scores by kind.
"""

from bisect import bisect_left


def rows_for(tables, memory, d_vocab):
    """Yield (score, tokens, shares) of every pair of the last token and one before it that a table has."""
    for nearest, farthest, pairs, starts, tokens, counts, totals, kinds, discount, scores in tables:
        for distance in range(nearest, min(farthest, len(memory) - 1) + 1):
            pair = memory[-1 - distance] * d_vocab + memory[-1]
            place = bisect_left(pairs, pair)
            if place < len(pairs) and pairs[place] == pair:
                row = slice(starts[place], starts[place + 1])
                yield scores[kinds[place]], tokens[row], [(count - discount) / totals[place] for count in counts[row]]


def attend(chances, tables, memory):
    """Return the mean of the given chances, whose score is 1, and the rows of all pairs found, weighted by score.

    What the shares of a row leave goes to the given chances.
    """
    found = list(rows_for(tables, memory, len(chances)))
    total = 1 + sum([score for score, _, _ in found])
    rest = 1 + sum([score * (1 - sum(shares)) for score, _, shares in found])
    mixed = [chance * (rest / total) for chance in chances]
    for score, tokens, shares in found:
        for token, share in zip(tokens, shares, strict=True):
            mixed[token] += score / total * share
    return mixed
