"""How the parts of a readable program are run for explanations: read, voted, and read again without a feature.

Parts are a dict: ``blocks``, those that turn features on, in order; ``votes``, tables of votes with what leads from
lists to words, if anything; ``words``; ``means`` of features over a text; and their ``conditions``.
"""

from bisect import bisect_left
from collections import defaultdict

from englishroom.emit.prelude.arithmetic import log_softmax
from englishroom.emit.prelude.readable import fire, the_word, vote, votes_for_lists, what_is_there, where_to_look


def prepared(parts):
    """Add to parts what is asked of them again and again.

    ``ballots``: voter -> its votes for words at strength 1. ``makers``: feature -> its block, and of a moved feature
    the number of its look. ``largest``: rule or moved feature -> its largest weight. ``remembered``: the features that
    matter at later positions.
    """
    ballots, makers, largest = {}, {}, {}
    for kind, table, through in parts["votes"]:
        for name in table if kind == "on" else ():
            add_votes({name: 1.0}, table, through, ballots.setdefault(name, defaultdict(float)))
    for block in parts["blocks"]:
        for look, (reads, biases, _) in enumerate(sums_of(block)):
            makers |= dict.fromkeys(biases, (block, look))
            for pairs in reads.values():
                for name, weight in pairs:
                    largest[name] = max(largest.get(name, 0.0), abs(weight))
        if block["kind"] in ("token", "position"):
            makers |= {name: (block, 0) for row in block["table"].values() for name, _ in row}
    more = {"ballots": ballots, "makers": makers, "largest": largest, "remembered": remembered(parts["blocks"])}
    return parts | more


def sums_of(block):
    """Return the rules of a block, or the moved features of each of its looks: reads, biases and thresholds."""
    if block["kind"] == "looks":
        return [moved for *_, moved in block["table"]]
    return [block["table"]] if block["kind"] == "rules" else []


def remembered(blocks):
    """Name the features that looks read where they look, or that turn on features which they read there."""
    found = set()
    for block in reversed(blocks):
        for reads, _, _ in sums_of(block):
            if block["kind"] == "rules":
                found |= {name for name, pairs in reads.items() if any(rule in found for rule, _ in pairs)}
            else:
                found |= set(reads)
        for _, lone, matches, (_, biases, _) in block["table"] if block["kind"] == "looks" else ():
            found |= {*lone, *(name for _, _, offering, _ in matches for name in offering)}
            if not found.isdisjoint(biases):
                found |= {name for asking, *_ in matches for name in asking}
    return found


def read(parts, token, position, memory, out=None):
    """Read one token; return what is on, name -> strength, and of each block of looks where its looks look.

    Args:
        memory: what each block of looks remembers of the positions before; grows.
        out: a feature that is never on.
    """
    on, seen = {the_word(parts["words"][token]): 1.0}, {}
    for block in parts["blocks"]:
        kind, table = block["kind"], block["table"]
        if kind == "looks":
            past = memory.setdefault(block["name"], [])
            seen[block["name"]] = weights = where_to_look(on, table, past, block["window"])
            found = what_is_there(on, weights, table, past)
        elif kind == "rules":
            found = fire(on, table)
        else:
            found = dict(table.get(token if kind == "token" else position, ()))
        on |= {name: strength for name, strength in found.items() if name != out}
    return on, seen


def said(parts, on, token, position):
    """Return the log-probabilities of the next word, by the votes of all that is on and of what always votes."""
    scores = [0.0] * len(parts["words"])
    rows = {"token": {token: 1.0}, "position": {position: 1.0}, "always": {"always": 1.0}, "on": on}
    for kind, table, through in parts["votes"]:
        add_votes(rows[kind], table, through, scores)
    return log_softmax(scores)


def add_votes(on, table, through, scores):
    """Add to the scores of words what a table votes for, through the words of lists where its votes are for lists."""
    if through is None:
        vote(on, table, scores)
    else:
        vote(votes_for_lists(on, table), through, scores)


def said_without(parts, text, name):
    """Return what would be said after a text if a feature were never on: all that depends on it is worked out anew.

    Args:
        text: what was read: ``tokens``, ``past``, what was on at each position, and ``memory``.
    """
    tokens, past = text["tokens"], text["past"]
    last = len(tokens) - 1
    earlier = range(last) if name in parts["remembered"] else ()
    first = next((at for at in earlier if name in past[at]), last)
    memory = as_it_was(text["memory"], first)
    for position in range(first, last + 1):
        on, _ = read(parts, tokens[position], position, memory, name)
    return said(parts, on, tokens[-1], last)


def as_it_was(memory, n):
    """Return what looks remembered when so many positions were read."""

    def before(places, values):
        count = bisect_left(places, n)
        return places[:count], values[:count]

    return {
        block: [
            (
                lone[:n],
                [[key for key in keys if key[0] < n] for keys in past_keys],
                {name: before(*there) for name, there in past.items()},
            )
            for lone, past_keys, past in looks
        ]
        for block, looks in memory.items()
    }
