"""How a readable program says why it says a word: the few features needed, why each is on, and what is without it."""

import math
import textwrap

from englishroom.emit.prelude.arithmetic import difference
from englishroom.emit.prelude.deciding import few_voters, votes_moved
from englishroom.emit.prelude.holding import distance, place_of, quoted, read_text, why_true
from englishroom.emit.prelude.readable import the_word, units
from englishroom.emit.prelude.rereading import prepared, read, said, said_without

NEAR = 0.1  # nats within which few voters must say what all say
SAME = 1e-6  # nats by which what is explained may differ from what the program says
LONGEST_LINE = 120  # characters
MOST_LINES = 33  # lines about one word, those about what else is needed not counted
TERMS = 5  # terms listed
TERMS_THERE = 4  # terms listed of where a look looked, one less for each place
PLACES = 2  # places listed where a look looked
LIKELIEST = 3  # words listed that are likely
PRECISE = 0.5  # share of the places where a condition holds at which its feature must be on for it to be shown
EVEN = 9  # digits behind the point from which on numbers count as equal where they are ranked
SHOWN = 80  # characters of the text before
KEY = """\
Why each word is said, by the few features that are needed for the answer; below each, why it is on.
+1.23       nats that a feature adds here to the votes for the word, beside what it adds on average, and for one other
            word, if it matters. One nat more makes a word 2.7 times as likely beside the others.
without it  the chance of the word were the feature never on in this text, and the word that would come first instead.
when        a condition found by search, which holds here; behind it, how often the feature is on where it does.
adds up     what it reads that is on; it is on where that is more than it asks for. ... is less than a tenth, or less.
look        spreads a weight of 100% over the words so far; a moved feature is on because of what stands there.
~ing goes on with a word, or begins one without a space; \\n is a line end.
"""


def explain_readable(parts, tokens, chosen, says, n_ctx, tokenizer):
    """Yield why each token is said that follows others, as text.

    Args:
        parts: the parts of the program (see ``rereading``).
        tokens: those before; at least one.
        chosen: function of the position and the answer there: the token said next, or None at the end.
        says: function of (token, position): the answer of the program itself, which must be what is explained.
    """
    parts, text = prepared(parts), {"tokens": [], "past": [], "memory": {}}
    for token in tokens:
        answer = read_on(parts, text, token, says)
    yield KEY + "\n"
    while (token := chosen(len(text["tokens"]), answer)) is not None:
        yield "\n".join(reasons(parts, text, answer, token, tokenizer)) + "\n\n"
        if len(text["tokens"]) == n_ctx:
            return
        answer = read_on(parts, text, token, says)


def explain_here(tokens, chosen):
    """Explain tokens of this very file."""
    memory = new_memory()
    return explain_readable(parts_of_program(), tokens, chosen, lambda *read: step(*read, memory), N_CTX, TOKENIZER)


def read_on(parts, text, token, says):
    """Read a token, and see that what is explained is what the program says; return the answer."""
    position = len(text["tokens"])
    on, text["seen"] = read(parts, token, position, text["memory"])
    text["tokens"].append(token)
    text["past"].append(on)
    answer = said(parts, on, token, position)
    gap = max(map(abs, difference(answer, says(token, position))))
    if not gap <= SAME:
        raise ValueError(f"at position {position} the program differs by {gap:.2g} nats from what is explained")
    return answer


def reasons(parts, text, answer, token, tokenizer):
    """Return the lines that say why a token is said."""
    words, means, tokens, on = parts["words"], parts["means"], text["tokens"], text["past"][-1]
    ballots = parts["ballots"]
    apart = {name: on.get(name, 0.0) - means.get(name, 0.0) for name in ballots}
    usual, needed, kept = few_voters(answer, apart, ballots, NEAR)
    moved = {name: votes_moved(ballots[name], apart[name]) for name in needed}
    before = printable("".join(tokenizer.pieces[at].decode("utf-8", "replace") for at in tokens[1:]))
    follows = [pair for kind, table, _ in parts["votes"] if kind == "token" for pair in table.get(tokens[-1], ())]
    row = sum([nats for word, nats in follows if word == token])
    before = before if len(before) <= SHOWN else f"... {before[-SHOWN:]}"
    lines = [f"{quoted(words[token])} {f'after: {before}' if before else 'begins the text'}"]
    lines += folded(f"Its chance is {share(answer[token])}. {likeliest_of(answer, words, token)}", 2)
    lines += folded(
        f"With all features as on average it is {share(usual[token])}, {row:+.2f} nats of that by what follows "
        f"{quoted(words[tokens[-1]])} anywhere. {likeliest_of(usual, words, token)}",
        2,
    )
    lines += folded(about_needed(sum(name in on for name in ballots), len(needed), share(kept[token])), 2)
    facts = read_text(tokens, tokenizer, words)
    left = sorted(needed, key=lambda name: (-round(moved[name].get(token, 0.0), EVEN), name))
    while left:
        found = about_voter(parts, text, facts, left[0], token, votes_said(moved[left[0]], token, words, answer, usual))
        if len(lines) + len(found) > MOST_LINES:
            break
        lines += found
        left.pop(0)
    rest = ", ".join(f"{name} {moved[name].get(token, 0.0):+.2f}" for name in left)
    return lines + (folded(f"and {len(left)} more: {rest}", 2) if left else [])


def about_needed(n_on, n_needed, chance):
    """Say how many features are on, and how many of those that vote are needed."""
    if not n_needed:
        return f"Voting features on here: {n_on}. None is needed: the whole answer is the same within {NEAR} nats."
    return (
        f"Voting features on here: {n_on}. With the {n_needed} below as they are, and all others as on average, it is "
        f"{chance}, and the whole answer the same within {NEAR} nats:"
    )


def votes_said(moved, token, words, answer, usual):
    """Say how a voter moves the votes for a token, and for that other word for which it matters most."""
    own = moved.get(token, 0.0)
    others = [word for word in moved if word != token]
    most = max(
        others, key=lambda word: (abs(moved[word]) * math.exp(max(answer[word], usual[word])), -word), default=None
    )
    if most is None or abs(moved[most]) < NEAR:
        return f"{own:+.2f}"
    return f"{own:+.2f}, {quoted(words[most])} {moved[most]:+.2f}"


def about_voter(parts, text, facts, name, token, votes):
    """Say what a voter votes for, what would be said without it, and why it is on or off."""
    words, strength = parts["words"], text["past"][-1].get(name)
    answer = said_without(parts, text, name)
    top = max(range(len(answer)), key=lambda at: (round(answer[at], EVEN), -at))
    first = "" if top == token else f", and {quoted(words[top])} first with {share(answer[top])}"
    state = f"off, on average {parts['means'].get(name):.3g}" if strength is None else f"on with {strength:.3g}"
    head = f"{votes}  by {name}, {state}; without it {share(answer[token])}{first}"
    return [*folded(head, 2), *folded(why_on(parts, text, facts, name), 8)]


def why_on(parts, text, facts, name):
    """Say why a feature is on, or off: by its condition where that holds, else by the terms of its sum."""
    words, tokens, past = parts["words"], text["tokens"], text["past"]
    block, look = parts["makers"][name]
    if block["kind"] in ("token", "position"):
        here = f"{quoted(words[tokens[-1]])} is" if block["kind"] == "token" else f"position {len(tokens) - 1} is"
        return f"{here} {'' if name in past[-1] else 'not '}in this list"
    rules, weights = block["table"], {len(tokens) - 1: 1.0}
    if block["kind"] == "looks":
        rules, weights = block["table"][look][3], dict(enumerate(text["seen"][block["name"]][look]))
    found = {at: terms_of(rules[0], name, past[at], weight) for at, weight in weights.items() if weight}
    unit, asked = units(rules[1][name], rules[2][name], parts["largest"].get(name, 0.0))
    total = sum([value for terms in found.values() for _, value in terms])
    when = condition_shown(parts, facts, name) if name in past[-1] else ""
    if block["kind"] == "rules":
        told = f"adds up {listed(found[len(tokens) - 1], unit)}"
        if when:
            return when
    else:
        told = f"look {block['name'].removeprefix('moved.')}.{look} looks at "
        told += " and ".join(looked_at(words, tokens, weights, found, None if when else unit))
        if when:
            return f"{when}; {told}"
    than = f"{'more' if total + rules[1][name] > rules[2][name] else 'not more'} than {asked}"
    return f"{told} = {total / unit:.2f}, {than}"


def condition_shown(parts, facts, name):
    """Say what makes the condition of a feature true; nothing where it does not hold, or mostly errs."""
    precision, alternatives = parts["conditions"].get(place_of(name), (0.0, ()))
    holds = why_true(alternatives, facts) if precision >= PRECISE else ""
    return f"when {holds} (on at {precision * 100:.0f} of 100 such places)" if holds else ""


def looked_at(words, tokens, weights, found, unit):
    """Yield where a look looked that made a moved feature what it is, with the terms there; two places at most.

    Args:
        found: position -> terms.
        unit: of the terms, which are left out where this is None.
    """
    sizes = {at: sum([value for _, value in terms]) for at, terms in found.items()}
    ranked = sorted(sizes, key=lambda at: (-round(abs(sizes[at]), EVEN), -round(weights[at], EVEN), -at))
    best = [at for at in ranked[:PLACES] if abs(sizes[at]) * 10 >= abs(sizes[ranked[0]])]
    for at in best if sizes[ranked[0]] else ranked[:1]:
        there = "" if unit is None else f": {listed(found[at], unit, 'the word', TERMS_THERE - len(best))}"
        yield f"{quoted(words[tokens[at]])} {distance(len(tokens) - 1 - at)} ({weights[at]:.0%} of its weight{there})"
    others = [at for at in ranked if at not in best and sizes[at]]
    if others and unit is not None:
        yield f"{len(others)} more ({sum(map(sizes.get, others)) / unit:.2f})"


def terms_of(reads, name, on, weight=1.0):
    """Return the terms of one sum, as pairs (what it reads that is on, what that adds)."""
    return [
        (read, factor * strength * weight)
        for read, strength in on.items()
        for rule, factor in reads.get(read, ())
        if rule == name
    ]


def listed(terms, unit, word=None, most=TERMS):
    """List terms, the largest first, those below a tenth of it folded.

    Args:
        word: what the word there is called; by default it is named.
        most: so many terms are listed.
    """
    ranked = sorted(terms, key=lambda term: (-round(abs(term[1]), EVEN), term[0]))
    strong = [term for term in ranked[:most] if abs(term[1]) * 10 >= abs(ranked[0][1])]
    told = []
    for name, value in strong:
        is_word = name.startswith(the_word(""))
        called = (word or f"{quoted(name.removeprefix(the_word('')))} here") if is_word else name
        told.append(f"{called} {value / unit:.2f}")
    if rest := ranked[len(strong) :]:
        told.append(f"... {len(rest)} more {sum([value for _, value in rest]) / unit:.2f}")
    return ", ".join(told) or "nothing"


def likeliest_of(answer, words, token):
    """Name the likeliest words beside a token."""
    best = sorted((at for at in range(len(answer)) if at != token), key=lambda at: (-round(answer[at], EVEN), at))
    return "Others: " + ", ".join(f"{quoted(words[at])} {share(answer[at])}" for at in best[:LIKELIEST]) + "."


def share(log_prob):
    """Spell a chance."""
    return f"{math.exp(log_prob):.1%}" if log_prob > math.log(0.0005) else "<0.1%"


def printable(text):
    """Escape what does not print."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def folded(text, indent):
    """Break a text into lines, two at most."""
    first, more = " " * indent, " " * (indent + 4)
    return textwrap.wrap(
        text, LONGEST_LINE, initial_indent=first, subsequent_indent=more, max_lines=2, placeholder=" ..."
    )
