"""What an emitted program says a rule is worth: what would change if it were taken out."""

from englishroom.emit.prelude.arithmetic import features_on, log_softmax, rotate, spread, total, weigh
from englishroom.emit.prelude.explaining import mixed, scale_of


def without(blocks, seen, name, index, token):
    """Say by how much the log-probability of a token changes if a rule (or a looked-up feature) is taken out.

    What it adds is taken out at every position read, of all that adds it up later: of rules that fire, which go on
    firing, of what heads copy, which look where they looked, and of votes. Scales follow.
    """
    everywhere = copied_from(blocks)
    last = len(seen) - 1
    changes = [{} for _ in seen]
    for block in blocks:
        for position in range(len(seen)) if block["name"] in everywhere else (last,):
            if block["name"] == name:
                change = own(block, seen[position], index)
            else:
                change = changed(block, seen[: position + 1], changes)
            if change:
                changes[position][block["name"]] = change
    vote = blocks[-1]
    scores = list(total(*(seen[last]["variables"][read] for read in vote["reads"])))
    for at, change in changes[last].get(vote["name"], {}).items():
        scores[at] += change
    return log_softmax(scores)[token] - seen[last]["variables"][vote["name"]][token]


def own(block, seen, index):
    """Return what a variable loses at a position with one rule, or one coordinate: {coordinate: change}."""
    if block["kind"] == "rules":
        passed = seen["fired"][block["name"]].get(index)
        return {at: -passed * weight for at, weight in block["effects"][index]} if passed else {}
    value = seen["variables"][block["name"]][index]
    return {index: -value} if value else {}


def copied_from(blocks):
    """Name the variables that something at a later position is made of."""
    found = set()
    for block in reversed(blocks):
        if block["kind"] == "match":
            found.add(block["reads"][2])
        if block["name"] in found:
            found.update(block["reads"])
    return found


def changed(block, seen, changes):
    """Return what changes of a variable at the last of the positions seen when what it reads changes: {at: change}."""
    kind, reads, here = block["kind"], block["reads"], seen[-1]
    if kind == "match":
        return mixed(block, here["weights"][block["name"]], changes)
    before = [changes[len(seen) - 1].get(read, {}) for read in reads]
    change, y = before[0] if before else {}, {}
    if not any(before):
        return y
    if kind in ("sum", "vote"):
        for part in before:
            for at, value in part.items():
                y[at] = y.get(at, 0.0) + value
    elif kind == "join":
        first = 0
        for read, part in zip(reads, before):
            y |= {first + at: value for at, value in part.items()}
            first += len(here["variables"][read])
    elif kind == "product":
        for other, part in zip(reversed(reads), before):
            for at, value in part.items():
                y[at] = y.get(at, 0.0) + value * here["variables"][other][at]
    elif kind == "select":
        y = {at: value for at, value in change.items() if here["variables"][block["name"]][at]}
    elif kind == "rotate":
        x = spread(change.items(), block["size"])
        y = dict(features_on(rotate(x, block["n_heads"], block["theta"], here["position"])))
    elif kind == "normalise":
        before = here["variables"][reads[0]]
        after = list(before)
        for at, value in change.items():
            after[at] += value
        old, new = here["scales"][block["name"]], scale_of(block, after)
        mean, shift = (sum(x) / len(x) if block["centred"] else 0.0 for x in (before, after))
        gain = block["gain"] or [1.0] * len(before)
        pairs = enumerate(zip(before, after, gain))
        y = {at: ((x - shift) * new - (was - mean) * old) * g for at, (was, x, g) in pairs if was or x or shift or mean}
    elif kind == "linear" and block["transposed"]:
        terms = ([w * change[at] for at, w in row if at in change] for row in block["weight"])
        y = {at: sum(products) for at, products in enumerate(terms) if products}
    elif kind == "linear":
        y = weigh(change.items(), block["weight"])
    elif kind == "rules":
        for rule in here["fired"][block["name"]]:
            strength = sum([w * change[at] for at, w in block["conditions"][rule] if at in change])
            for at, weight in block["effects"][rule] if strength else ():
                y[at] = y.get(at, 0.0) + strength * weight
    return y
