"""What a sparse program computes, on features that are on, as pairs (feature, value), and how it reads its lists."""

import heapq
import math
from array import array
from operator import add, itemgetter, mul


def add_up(alone, edges, *variables):
    """Return sums: what stands alone, and for every feature that is on its value times its edges.

    Args:
        alone: what the sums are when nothing is on.
        edges: for each variable, by feature, its edges as pairs (sum, weight).
        variables: features that are on, as pairs (feature, value).
    """
    sums = list(alone)
    for features, by_feature in zip(variables, edges):
        for feature, value in features:
            for at, weight in by_feature[feature]:
                sums[at] += value * weight
    return sums


def divide(sums, eps):
    """Divide sums by how loud it is here, which is the last of them: by sqrt(loudness ** 2 + eps)."""
    scale = 1.0 / math.sqrt(sums[-1] * sums[-1] + eps)
    return [value * scale for value in sums]


def every(values):
    """Return a list of values as features that are all on."""
    return enumerate(values)


def fire(sums, biases, thresholds, k=None, passes="value"):
    """Return the rules that fire, as features: those whose sum and bias exceed their threshold.

    Of these, only the k strongest. A rule passes on its strength, or the excess of that over its threshold.
    """
    strengths = map(add, sums, biases)
    firing = [(rule, s) for rule, (s, low) in enumerate(zip(strengths, thresholds)) if s > low]
    if passes == "excess":
        firing = [(rule, strength - thresholds[rule]) for rule, strength in firing]
    if k is not None and len(firing) > k:
        firing = sorted(heapq.nsmallest(k, firing, key=lambda pair: (-pair[1], pair[0])))
    return firing


def look_back(asks, offers, carries, memory, heads, size, distances=None, window=None):
    """Let each head look back, and bring along a mix of what it finds.

    A head scores a position by what it asks for here times what is offered there, and by distance, and mixes what may
    be carried away from the positions in proportion to exp(score).

    Args:
        asks, offers, carries: numbers asked for here, offered and carried away.
        memory: for each head, what was offered at every position, and number by number what could be carried.
        heads: for each head, what it asks for: (number, what it is compared with, weight); what is offered: numbers;
            what it carries: numbers, and where each goes as pairs (number brought, weight).
    """
    if not memory:
        memory += [([], [[] for _ in carried]) for _, _, carried, _ in heads]
    brought = [0.0] * size
    for head, ((asked, offered, carried, goes), (past_offers, past_carries)) in enumerate(zip(heads, memory)):
        past_offers.append([offers[at] for at in offered])
        for past, at in zip(past_carries, carried):
            past.append(carries[at])
        wanted = [0.0] * len(offered)
        for at, place, weight in asked:
            wanted[place] += asks[at] * weight
        first = 0 if window is None else max(0, len(past_offers) - window)
        scores = [sumprod(wanted, offer) for offer in past_offers[first:]]
        if distances is not None:
            by_distance = distances[head]
            near = list(by_distance[: len(scores)])
            far = [by_distance[-1]] * (len(scores) - len(near))
            scores = list(map(add, scores, far + near[::-1]))
        weights = softmax(scores)
        for past, pairs in zip(past_carries, goes):
            found = sumprod(weights, past[first:])
            for at, weight in pairs:
                brought[at] += found * weight
    return brought


def vote_for(values, rows):
    """Return the sum of votes for every word: rows of (what picks the values that vote, their weights)."""
    return [sum(map(mul, pick(values), weights)) for pick, weights in rows]


def edges(name, loudness, variables):
    """Read the edges of a stage: for each variable that it reads, by feature, pairs (sum, weight); loudness comes last.

    Args:
        variables: names of the features of each variable.
    """
    rows = sparse_rows(name)
    if loudness is not None:
        last = TABLES[f"{name}:shape"][0][1]
        rows = [row + [(last, weight) for _, weight in loud] for row, loud in zip(rows, sparse_rows(loudness))]
    return parted(rows, map(len, variables))


def parted(rows, sizes):
    """Part rows by the variables whose features they belong to."""
    parts, first = [], 0
    for size in sizes:
        parts.append(rows[first : first + size])
        first += size
    return parts


def head(scores, moves):
    """Prepare a head of its tables, rows of (column, weight): what it asks for, is offered, carries, and where to."""
    offered = sorted({column for row in scores for column, _ in row})
    place = {column: at for at, column in enumerate(offered)}
    asked = [(at, place[column], weight) for at, row in enumerate(scores) for column, weight in row]
    carried = [at for at, row in enumerate(moves) if row]
    return asked, offered, carried, [moves[at] for at in carried]


def listed(text, single):
    """Read lists, a line each: a number, a name, and pairs of a weight and what it goes to. Yield (number, pairs)."""
    lines = [line.split() for line in text.splitlines() if line and line[0] != "#"]
    weights = iter(rounded([weight for line in lines for weight in line[2::2]], single))
    for line in lines:
        yield int(line[0]), list(zip(line[3::2], weights))


def rounded(words, single):
    """Read numbers; where they are single, they abbreviate float32 values."""
    return array("f" if single else "d", map(float, words)).tolist()


def kinds(text, members, single=True):
    """Read kinds, a list each of its members; return their names, and for each member pairs (kind, weight), rising."""
    place = {name: at for at, name in enumerate(members)}
    rows = [[] for _ in members]
    for number, pairs in sorted(listed(text, single)):
        for name, weight in pairs:
            rows[place[name]].append((number, weight))
    return names_in(text), rows


def ballots(rows):
    """Prepare rows of (number, weight) for voting: what picks the numbers, and their weights."""
    found = []
    for row in rows:
        numbers, weights = zip(*row, *[(0, 0.0)] * (2 - len(row)))
        found.append((itemgetter(*numbers), weights))
    return found


def names_in(text):
    """Read the names of lists or rules, in the order of their numbers."""
    lines = [line.split(None, 2) for line in text.splitlines() if line and line[0] not in "#-"]
    return [line[1] for line in sorted(lines, key=lambda line: int(line[0]))]


def rules(text, variables, single=True):
    """Read rules, a line each: a number, a name, what it reads, ``|``, its bias, ``>`` and a threshold, remarks.

    What it reads are pairs of a weight and a feature's name. Lines that begin with # are headings. How loud it is has a
    line of its own, number -1, and becomes the last sum.

    Args:
        variables: names of the features of each variable that may be read.

    Returns:
        The names of the rules; what stands alone and the edges, as ``add_up`` takes them; biases and thresholds.
    """
    place = {name: at for at, name in enumerate([name for names in variables for name in names])}
    lines = [line.split() for line in text.splitlines() if line and line[0] != "#"]
    ends = [line.index("|") for line in lines]
    weights = iter(rounded([word for line, end in zip(lines, ends) for word in line[2:end:2]], single))
    biases = rounded([line[end + 1] for line, end in zip(lines, ends)], single)
    lows = rounded([line[end + 3] if line[end + 2 : end + 3] == [">"] else 0 for line, end in zip(lines, ends)], single)
    read = [[(place[name], weight) for name, weight in zip(line[3:end:2], weights)] for line, end in zip(lines, ends)]
    order = [int(line[0]) % len(lines) for line in lines]  # -1, the loudness, comes last
    rows = [[] for _ in place]
    for rule, pairs in sorted(zip(order, read)):
        for at, weight in pairs:
            rows[at].append((rule, weight))
    biases, lows = ([value for _, value in sorted(zip(order, values))] for values in (biases, lows))
    names = names_in(text)
    alone = [0.0] * len(names) + biases[len(names) :]
    return names, alone, parted(rows, map(len, variables)), biases[: len(names)], lows[: len(names)]
