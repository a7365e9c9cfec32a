"""How an emitted program explains what it says: what its rules read, where its heads looked, how its features voted.

The log-probability of a token is split in two. The *baseline* is what the program would say if its constants alone
voted. The rest is the sum of the *shares* of the features that vote, by Aumann and Shapley: as their votes are turned
up together from nothing, each is credited with what it adds on the way. All else a feature is made of is split the
same way and exactly, since between two features a program only adds and scales: a rule's strength into its parts, and
what a head brought into what it copied from where. Scales and where heads look are taken as they are.
"""

import heapq
import math
from bisect import bisect_right
from functools import lru_cache

from englishroom.emit.prelude.arithmetic import (
    difference,
    features_on,
    log_softmax,
    product,
    rotate,
    select,
    softmax,
    sparse_linear,
    sparse_products,
    spread,
    sumprod,
    total,
    weigh,
)

CLOSE = 1e-9  # nats by which shares may fail to add up
MOST_NODES = 512


def read_on(blocks, past, token):
    """Return what is read at the next position: its variables, the rules that fire, where heads look, the scales.

    Args:
        blocks: the blocks of the program, as dicts.
        past: what was read at the positions before.
    """
    here = {"token": token, "position": len(past), "variables": {}, "fired": {}, "weights": {}, "scales": {}}
    seen = [*past, here]
    for block in blocks:
        work_out(block, seen)
    return here


def work_out(block, seen, out=None):
    """Work out the variable of a block at the last of the positions seen, and note what else is to be told of it.

    Args:
        out: a rule of the block, or a feature that it looks up or makes of two, that is taken out.
    """
    here = seen[-1]
    name, kind, position = block["name"], block["kind"], here["position"]
    reads = [here["variables"][read] for read in block["reads"]]
    if kind == "lookup":
        row = block["table"][here["token"] if block["index"] == "token" else position]
        y = spread([(at, value) for at, value in row if at != out], block["size"])
    elif kind == "linear":
        y = sums(block, reads[0])
    elif kind == "join":
        y = [value for read in reads for value in read]
    elif kind == "product":
        y = [0.0 if at == out else value for at, value in enumerate(product(*reads))]
    elif kind == "normalise":
        here["scales"][name] = scale_of(block, reads[0])
        y = scaled(block, reads[0], here["scales"][name])
    elif kind == "select":
        y = select(reads[0], block["thresholds"], block["k"])
    elif kind == "rotate":
        y = rotate(reads[0], block["n_heads"], block["theta"], position)
    elif kind == "match":
        here["weights"][name] = looked(block, seen)
        y = [0.0] * block["size"]
        for at, value in mixed(block, here["weights"][name], [there["variables"] for there in seen]).items():
            y[at] += value
    elif kind == "rules":
        here["fired"][name] = fired(block, reads[0], out)
        y = [0.0] * block["size"] if block["offset"] is None else list(block["offset"])
        for rule, passed in here["fired"][name].items():
            for at, weight in block["effects"][rule]:
                y[at] += passed * weight
    else:
        y = total(*reads) if kind == "sum" else log_softmax(total(*reads))
    here["variables"][name] = y


def sums(block, x):
    """Return the sums of a linear block."""
    rows = block["weight"]
    y = sparse_products(x, rows) if block["transposed"] else sparse_linear(x, rows, block["size"])
    return y if block["bias"] is None else total(y, block["bias"])


def scaled(block, x, scale):
    """Return the variable of a norm, at a scale."""
    mean = sum(x) / len(x) if block["centred"] else 0.0
    y = [(value - mean) * scale for value in x]
    y = y if block["gain"] is None else product(y, block["gain"])
    return y if block["bias"] is None else total(y, block["bias"])


def mixed(block, heads, variables):
    """Return what heads bring that looked with these weights, as {coordinate: value}.

    Args:
        variables: at each position, variable -> its values, a list or {coordinate: value}.
    """
    values, y = block["reads"][2], {}
    for head, places in enumerate(heads):
        mix = {}
        for position, weight in places.items():
            value = variables[position].get(values, {})
            for at, number in value.items() if isinstance(value, dict) else features_on(value):
                mix[at] = mix.get(at, 0.0) + weight * number
        if block["moves"] is None:
            first = head * (block["size"] // len(heads))
            moved = {first + at: number for at, number in mix.items()}
        else:
            moved = weigh(mix.items(), block["moves"][head])
        for at, number in moved.items():
            y[at] = y.get(at, 0.0) + number
    return y


def fired(block, x, out=None):
    """Return the rules that fire, as {rule: what it passes on}; one that is out may not."""
    strengths = sparse_products(x, block["conditions"])
    if block["biases"] is not None:
        strengths = total(strengths, block["biases"])
    lows = block["thresholds"]
    firing = [rule for rule, strength in enumerate(strengths) if strength > lows[rule] and rule != out]
    passed = difference(strengths, block["thresholds"]) if block["passes"] == "excess" else strengths
    if block["k"] is not None:
        firing = heapq.nsmallest(block["k"], firing, key=lambda rule: (-passed[rule], rule))
    return {rule: passed[rule] for rule in firing}


def looked(block, seen):
    """Return for each head where it looked from the last position: {position: weight}."""
    queries, keys, _ = block["reads"]
    asked, window = features_on(seen[-1]["variables"][queries]), block["window"]
    positions = range(0 if window is None else max(0, len(seen) - window), len(seen))
    found = []
    for head, tables in enumerate(block["scores"]):
        wanted = [weigh(asked, table) for table in tables]
        scores = []
        for position in positions:
            back = len(seen) - 1 - position
            key, want = seen[position]["variables"][keys], wanted[bisect_right(block["buckets"], back) - 1]
            score = sum([key[feature] * weight for feature, weight in want.items()])
            if block["distances"] is not None:
                score += block["distances"][head][min(back, len(block["distances"][head]) - 1)]
            scores.append(score)
        found.append(dict(zip(positions, softmax(scores))))
    return found


def scale_of(block, x):
    """Return what a norm multiplies by."""
    if block["centred"]:
        mean = sum(x) / len(x)
        x = [value - mean for value in x]
    if block["form"] is None:
        square = sumprod(x, x) / len(x)
    else:
        square = max(sum([x[row] * x[column] * weight for row, column, weight in form_of(block)]), 0.0)
    return 1.0 / math.sqrt(square + block["eps"])


def form_of(block):
    """Return the form of a norm as a list of (row, column, weight), made once."""
    if "terms" not in block:
        block["terms"] = [(at, column, weight) for at, row in enumerate(block["form"]) for column, weight in row]
    return block["terms"]


def unmixed(blocks, seen, directions):
    """Split a weighted sum of variables at one position into the features that it is made of.

    Args:
        seen: what was read at that position.
        directions: variable -> {coordinate: weight}.

    Returns:
        Parts: (variable, rule or coordinate) -> part of the sum; the directions in which what heads brought counts:
        variable -> {coordinate: weight}; and the constant part.
    """
    directions = {name: dict(weights) for name, weights in directions.items()}
    parts, brought, constant = {}, {}, 0.0
    for block in reversed(blocks):
        name, kind = block["name"], block["kind"]
        weights = directions.pop(name, None)
        if not weights:
            continue
        value = seen["variables"][name]
        if kind in ("lookup", "product"):
            parts |= {(name, at): weight * value[at] for at, weight in weights.items() if value[at]}
        elif kind == "rules":
            for rule, passed in seen["fired"][name].items():
                weight = sum([w * weights.get(at, 0.0) for at, w in block["effects"][rule]])
                if weight:
                    parts[name, rule] = passed * weight
            if block["offset"] is not None:
                constant += sum([weight * block["offset"][at] for at, weight in weights.items()])
        elif kind == "match":
            brought[name] = weights
        else:
            if block.get("bias") is not None:
                constant += sum([weight * block["bias"][at] for at, weight in weights.items()])
            for read, back in passed_back(block, seen, weights):
                found = directions.setdefault(read, {})
                for at, weight in back.items():
                    found[at] = found.get(at, 0.0) + weight
    return parts, brought, constant


def passed_back(block, seen, weights):
    """Yield what weights on a variable are on the variables that it is added up from."""
    kind, reads, variables = block["kind"], block["reads"], seen["variables"]
    x = variables[reads[0]]
    if kind in ("sum", "vote"):
        yield from ((read, weights) for read in reads)
    elif kind == "join":
        first = 0
        for read in reads:
            size = len(variables[read])
            yield read, {at - first: weight for at, weight in weights.items() if first <= at < first + size}
            first += size
    elif kind == "select":
        yield reads[0], {at: weight for at, weight in weights.items() if variables[block["name"]][at]}
    elif kind == "rotate":
        turned = rotate(spread(weights.items(), len(x)), block["n_heads"], block["theta"], -seen["position"])
        yield reads[0], dict(features_on(turned))
    elif kind == "normalise":
        scale, gain = seen["scales"][block["name"]], block["gain"]
        back = {at: weight * scale * (1.0 if gain is None else gain[at]) for at, weight in weights.items()}
        if block["centred"]:
            mean = sum(back.values()) / len(x)
            back = {at: back.get(at, 0.0) - mean for at in range(len(x))}
        yield reads[0], back
    elif block["transposed"]:
        yield reads[0], weigh(weights.items(), block["weight"])
    else:
        rows = block["weight"]
        found = ((at, [w * weights[column] for column, w in rows[at] if column in weights]) for at, _ in features_on(x))
        yield reads[0], {at: sum(products) for at, products in found if products}


def copied(block, seen, weights):
    """Split what heads brought, weighed, into (head, position) -> (part, direction of the values there).

    Args:
        seen: what was read at every position up to the one at hand.
    """
    values = block["reads"][2]
    found = {}
    for head, places in enumerate(seen[-1]["weights"][block["name"]]):
        if block["moves"] is None:
            size = len(seen[-1]["variables"][values])
            back = {at - head * size: w for at, w in weights.items() if head * size <= at < (head + 1) * size}
        else:
            rows = enumerate(block["moves"][head])
            products = ((at, [w * weights[column] for column, w in row if column in weights]) for at, row in rows)
            back = {at: sum(terms) for at, terms in products if terms}
        for position, weight in places.items():
            value = seen[position]["variables"][values]
            direction = {at: weight * w for at, w in back.items() if value[at]}
            found[head, position] = sum([w * value[at] for at, w in direction.items()]), direction
    return found


def strength_of(blocks, seen, name, rule):
    """Split the strength of a rule into parts, what heads brought, and a constant, as ``unmixed`` does."""
    block = next(block for block in blocks if block["name"] == name)
    parts, brought, constant = unmixed(blocks, seen, {block["reads"][0]: dict(block["conditions"][rule])})
    if block["biases"] is not None:
        constant += block["biases"][rule]
    if block["passes"] == "excess":
        constant -= block["thresholds"][rule]
    return parts, brought, constant


def votes_alone(blocks, seen):
    """Return the votes of the constants alone, at the loudness at hand."""
    made = {}
    for block in blocks:
        name, kind, reads = block["name"], block["kind"], [made[read] for read in block["reads"]]
        if kind in ("lookup", "match", "product", "rules"):
            y = list(block["offset"]) if block.get("offset") is not None else [0.0] * block["size"]
        elif kind == "join":
            y = [value for read in reads for value in read]
        elif kind == "select":
            y = [value if on else 0.0 for value, on in zip(reads[0], seen["variables"][name])]
        elif kind == "rotate":
            y = rotate(reads[0], block["n_heads"], block["theta"], seen["position"])
        elif kind == "normalise":
            y = scaled(block, reads[0], seen["scales"][name])
        elif kind == "linear":
            y = sums(block, reads[0])
        else:
            y = total(*reads)
        made[name] = y
    return made[blocks[-1]["name"]]


def shares(blocks, seen, token):
    """Split the log-probability of a token into the shares of the features that vote.

    Returns:
        Shares, what heads brought, as ``unmixed``; and the baseline. Shares of what heads brought are not yet split.
    """
    vote = blocks[-1]
    scores, alone = total(*(seen["variables"][read] for read in vote["reads"])), votes_alone(blocks, seen)
    turned, baseline = difference(scores, alone), log_softmax(alone)[token]
    wanted, nodes = seen["variables"][vote["name"]][token] - baseline, 16
    while True:
        mean = [0.0] * len(scores)
        for node, weight in legendre(nodes):
            chances = softmax([start + node * change for start, change in zip(alone, turned)])
            mean = [summed + weight * chance for summed, chance in zip(mean, chances)]
        against = [-chance for chance in mean]
        against[token] += 1.0
        if nodes >= MOST_NODES or abs(sumprod(against, turned) - wanted) < CLOSE:
            break
        nodes *= 2
    parts, brought, _ = unmixed(blocks, seen, {vote["name"]: dict(enumerate(against))})
    return parts, brought, baseline


@lru_cache(maxsize=8)
def legendre(n):
    """Return the nodes and weights of Gauss and Legendre on 0..1, from the roots of the polynomial by Newton."""
    found = []
    for i in range(n):
        x = math.cos(math.pi * (i + 0.75) / (n + 0.5))
        for _ in range(100):
            value, before = x, 1.0
            for degree in range(2, n + 1):
                value, before = ((2 * degree - 1) * x * value - (degree - 1) * before) / degree, value
            slope = n * (x * value - before) / (x * x - 1.0)
            x -= value / slope
            if abs(value / slope) < 1e-15:
                break
        found.append(((1.0 + x) / 2.0, 1.0 / ((1.0 - x * x) * slope * slope)))
    return found
