"""What a readable program computes, on features that are on, {name: strength}, and how it reads its own lines."""

from array import array
from bisect import bisect_left
from collections import defaultdict
from functools import cache
from operator import add, mul

from englishroom.emit.prelude.arithmetic import softmax

ENOUGH = 30  # a weight that makes so many times what its rule asks for leaves it no unit


def where_to_look(on, looks, memory, window=None):
    """Remember what this position offers to each look; return where each looks: for every position, its weight.

    A look scores a position by how far back it lies, by what counts there whatever is asked for, and by the product of
    both sides of each of its matches, where both are above 0. The weights of a look go as exp(score), and sum to 1.
    """
    if not memory:
        memory += [([], [[] for _ in matches], {}) for _, _, matches, _ in looks]
    seen = []
    for (curve, lone, matches, _), (lone_keys, past_keys, _) in zip(looks, memory):
        here = len(lone_keys)
        lone_keys.append(weigh(on, lone))
        near = curve[: here + 1]
        scores = list(map(add, [*[curve[-1]] * (here + 1 - len(near)), *near[::-1]], lone_keys))
        for (asking, asked, offering, offered), keys in zip(matches, past_keys):
            key = offered + weigh(on, offering)
            if key > 0.0:
                keys.append((here, key))
            query = asked + weigh(on, asking)
            if query > 0.0:
                for at, key in keys:
                    scores[at] += query * key
        first = 0 if window is None else max(0, here + 1 - window)
        seen.append([0.0] * first + softmax(scores[first:]))
    return seen


def what_is_there(on, seen, looks, memory):
    """Remember what this position holds for each look; return the moved features that are on.

    A moved feature sums up its terms at every position, by the weight with which its look looks there.
    """
    found = {}
    for weights, (_, _, _, moved), (_, _, past) in zip(seen, looks, memory):
        reads, biases, _ = moved
        for feature, value in sums(on, reads, {}).items():
            places, values = past.setdefault(feature, ([], []))
            places.append(len(weights) - 1)
            values.append(value)
        summed = dict(biases)
        for feature, (places, values) in past.items():
            summed[feature] += sum(map(mul, map(weights.__getitem__, places), values))
        found.update(those_above(summed, moved))
    return found


def fire(on, rules):
    """Return the rules that are on: those whose bias and terms exceed their threshold."""
    reads, biases, _ = rules
    return those_above(sums(on, reads, dict(biases)), rules)


def sums(on, reads, summed):
    """Add, for every feature that is on, its weight in each rule that reads it times its strength."""
    for feature, strength in on.items():
        for rule, weight in reads.get(feature, ()):
            summed[rule] = summed.get(rule, 0.0) + weight * strength
    return summed


def those_above(summed, rules):
    """Keep the sums that exceed their thresholds."""
    thresholds = rules[2]
    return {rule: value for rule, value in summed.items() if value > thresholds[rule]}


def weigh(on, terms):
    """Return the sum of terms {feature: weight} times the strengths of the features that are on."""
    return sum([strength * terms[feature] for feature, strength in on.items() if feature in terms])


def vote(on, votes, scores):
    """Add to the scores what each feature that is on votes for, times its strength."""
    for feature, strength in on.items():
        for at, weight in votes.get(feature, ()):
            scores[at] += weight * strength
    return scores


def votes_for_lists(on, votes):
    """Return what the features that are on vote for, where that is lists of words: list -> its votes."""
    return vote(on, votes, defaultdict(float))


def exact(few, single):
    """Return the reader of the numbers of a table, which may be abbreviated.

    A number times its unit stands for the nearest of those that the table has, where these are few; else for the
    nearest that fits in 32 bits, where numbers are single.
    """

    @cache
    def number(word, unit=1.0):
        value = float(word) * unit
        if few:
            at = bisect_left(few, value)
            return min(few[max(0, at - 1) : at + 1], key=lambda near: abs(near - value))
        return array("f", [value])[0] if single else value

    return number


def lines_of(text):
    """Split a text into its lines, and these into words.

    Lines that begin with # say something of the line behind them, and are left out; one that begins with a space goes
    on with the line before it.
    """
    lines = []
    for line in text.splitlines():
        if line[:1] == " ":
            lines[-1] += line.split()
        elif line and line[0] != "#":
            lines.append(line.split())
    return lines


def terms_in(words, number, unit=1.0):
    """Read words that are names with a number behind each; marks before small terms are left out."""
    words = [word for word in words if word != "..."]
    return [(name, number(word, unit)) for name, word in zip(words[::2], words[1::2])]


def sum_in(words, of_words, of_features, unit=1.0):
    """Read a sum in parts: behind "for" are words that count for it, behind "against" against it, others are features.

    Args:
        of_words, of_features: readers of numbers.
    """
    terms, part = [], []
    for word in [*words, "|"]:
        if word not in ("|", "..."):
            part.append(word)
            continue
        if len(part) % 2:
            sign = 1.0 if part[0] == "for" else -1.0
            terms += [(the_word(name), sign * weight) for name, weight in terms_in(part[1:], of_words, unit)]
        else:
            terms += terms_in(part, of_features, unit)
        part = []
    return terms


def the_word(name):
    """Return by what name a word is on, where it stands."""
    return f"word {name}"


def tables_in(text, few=(), single=True):
    """Read lines of a number, a name, and terms; return them as pairs (name, terms)."""
    number = exact(few, single)
    return [(line[1][:-1], terms_in(line[2:], number)) for line in lines_of(text)]


def means_in(text):
    """Read names with a number behind each."""
    words = text.split()
    return dict(zip(words[::2], map(float, words[1::2])))


def rule_in(line, of_words, of_features, plain):
    """Read the words of a rule's line: its name, its terms, its bias and its threshold.

    Weights are in units of what it asks for, threshold minus bias, where it says that it asks for 1 or -1. Small terms
    stand at the end.
    """
    first = 6 if line[2:4] == ["where", "look"] else 2
    asked = line.index(">", first)
    bias = plain(line[asked + 4])
    more = asked + 7 if line[asked + 5 : asked + 6] == ["threshold"] else asked + 5
    low = plain(line[more - 1]) if more > asked + 5 else 0.0
    unit = abs(low - bias) if line[asked + 1] in ("1", "-1") else 1.0
    terms = [*line[first:asked], "|", *line[more:]]
    return line[1][:-1], sum_in(terms, of_words, of_features, unit), bias, low


def rules_in(text, few=((), ()), single=True):
    """Read rules, a line each.

    Args:
        few: the numbers of words, and of features, where these are few.
    """
    readers = [exact(numbers, single) for numbers in (*few, ())]
    return by_feature([rule_in(line, *readers) for line in lines_of(text)])


def looks_in(text, few=((), (), (), (), ()), single=True):
    """Read looks: of each a curve, what counts whatever is asked for, its matches, and its moved features.

    Args:
        few: the numbers of words, of lone keys, of both sides of matches, and of moved features, where these are few.
    """
    of_words, lone, asking, offering, moving = (exact(numbers, single) for numbers in few)
    plain, looks, moved = exact((), single), [], []
    for line in lines_of(text):
        if line[0] == "curve":
            curve = [plain(word) for folded in line[1:] for word in unfolded(folded)]
            looks.append([curve, {}, []])
            moved.append([])
        elif line[0] == "lone":
            looks[-1][1] = summed_up(sum_in(line[1:], of_words, lone))
        elif line[0] == "match":
            middle = line.index("->")
            asks, offers = line[2 : middle - 3], line[middle + 2 : -3]
            sides = (sum_in(asks, of_words, asking), sum_in(offers, of_words, offering))
            asked, offered = map(summed_up, sides)
            looks[-1][2].append((asked, plain(line[middle - 1]), offered, plain(line[-1])))
        else:
            moved[-1].append(rule_in(line, of_words, moving, plain))
    return [(*look, by_feature(rules)) for look, rules in zip(looks, moved)]


def units(bias, low, largest):
    """Return the unit of a rule's weights, and what it asks for in that unit.

    That is what the rule asks for; where its largest weight alone makes more than ``ENOUGH`` times that, the rule asks
    for next to nothing, and its weights stand as they are.
    """
    asked = low - bias
    if not asked or largest > ENOUGH * abs(asked):
        return 1.0, repr(asked).removesuffix(".0") if asked else "0"
    return abs(asked), "1" if asked > 0 else "-1"


def summed_up(terms):
    """Return pairs (feature, weight) as a dict."""
    found = {}
    for feature, weight in terms:
        found[feature] = found.get(feature, 0.0) + weight
    return found


def unfolded(word):
    """Repeat a number behind which * and a count stand."""
    number, _, count = word.partition("*")
    return [number] * int(count or 1)


def by_feature(rules):
    """Arrange rules as (feature -> pairs (rule, weight), rule -> bias, rule -> threshold)."""
    reads = {}
    for rule, terms, _, _ in rules:
        for feature, weight in terms:
            reads.setdefault(feature, []).append((rule, weight))
    return reads, {rule: bias for rule, _, bias, _ in rules}, {rule: low for rule, _, _, low in rules}


def turned(pairs):
    """Turn pairs (name, terms) round: what stands in the terms becomes the name."""
    found = {}
    for name, terms in pairs:
        for member, weight in terms:
            found.setdefault(member, []).append((name, weight))
    return list(found.items())


def keyed(pairs, names=None):
    """Arrange pairs (name, terms) by name, or by the number of the name among others."""
    place = None if names is None else {name: at for at, name in enumerate(names)}
    found = {}
    for name, terms in pairs:
        found.setdefault(name if place is None else place[name], []).extend(terms)
    return found


def to_numbers(pairs, names):
    """Put the number of each name in terms in its place."""
    place = {name: at for at, name in enumerate(names)}
    return [(name, [(place[member], weight) for member, weight in terms]) for name, terms in pairs]


def table_beside(name, members, columns):
    """Read a table that lies beside the program, as pairs (name of a row, terms)."""
    return list(zip(members, named(sparse_rows(name), columns)))


def named(rows, columns):
    """Put the names of columns in the place of their numbers."""
    return [[(columns[at], weight) for at, weight in row] for row in rows]


def rules_beside(conditions, biases, thresholds, own, read):
    """Read rules that lie beside the program, whose names are given, as are those of the features that they read."""
    return by_feature(list(zip(own, named(sparse_rows(conditions), read), rows(biases), rows(thresholds))))


def looks_beside(tables, matches, moved, own, read):
    """Read looks that lie beside the program.

    Args:
        tables: names of the tables of curves, of lone keys, of queries, keys and their biases, and of moved features.
        matches, moved: how many of them are each look's own.
    """
    curves, lone, queries, asked, keys, offered, *rules = tables
    asking, offering, alone = (map(summed_up, named(sparse_rows(table), read)) for table in (queries, keys, lone))
    sides = (asking, rows(asked), offering, rows(offered))
    match = iter(list(zip(*sides)))
    rule = iter(list(zip(own, named(sparse_rows(rules[0]), read), *map(rows, rules[1:]))))
    return [
        (list(curve), terms, [next(match) for _ in range(n)], by_feature([next(rule) for _ in range(m)]))
        for curve, terms, n, m in zip(rows(curves), alone, matches, moved)
    ]
