"""What blocks compute, on plain lists of floats. One function a block kind."""

import heapq
import math
from bisect import bisect_right
from functools import lru_cache
from operator import add, mul, sub

try:
    from math import sumprod  # Python 3.12 and later
except ImportError:

    def sumprod(p, q):
        """Sum the products of two lists."""
        return sum(map(mul, p, q))


def linear(x, columns, bias=None):
    """Return x @ W + bias, W given by its columns."""
    y = [sumprod(x, column) for column in columns]
    return y if bias is None else list(map(add, y, bias))


def write_rows(x, rows, bias):
    """Return x @ W + bias, W given by its rows; only the features that are on cost time."""
    y = bias
    for value, row in zip(x, rows):
        if value:
            y = [summed + value * weight for summed, weight in zip(y, row)]
    return y


def sparse_linear(x, rows, size, bias=None):
    """Return x @ W + bias, W given by rows of (column, value); only the features that are on cost time."""
    y = [0.0] * size if bias is None else list(bias)
    for value, row in zip(x, rows):
        if value:
            for column, weight in row:
                y[column] += value * weight
    return y


def sparse_products(x, rows):
    """Return W @ x, W given by rows of (column, value)."""
    return [sum([x[column] * weight for column, weight in row]) for row in rows]


def spread(row, size):
    """Return a sparse row of (column, value) as a list of size numbers."""
    y = [0.0] * size
    for column, value in row:
        y[column] = value
    return y


def total(*vectors):
    """Return the sum of vectors."""
    y = vectors[0]
    for vector in vectors[1:]:
        y = list(map(add, y, vector))
    return y


def difference(x, y):
    """Return x - y."""
    return list(map(sub, x, y))


def product(x, y):
    """Return the elementwise product."""
    return list(map(mul, x, y))


def normalise(x, eps, gain=None, bias=None, centred=False, form=None):
    """Scale x to mean square 1 (after centring, where asked), then apply gain and bias.

    With a form, given by rows of (column, value), the mean square is max(x @ form @ x, 0).
    """
    if centred:
        mean = sum(x) / len(x)
        x = [value - mean for value in x]
    square = sumprod(x, x) / len(x) if form is None else max(sumprod(x, sparse_products(x, form)), 0.0)
    scale = 1.0 / math.sqrt(square + eps)
    y = [value * scale for value in x]
    if gain is not None:
        y = list(map(mul, y, gain))
    return y if bias is None else list(map(add, y, bias))


def gelu_new(x):
    """Gaussian error linear unit, tanh form."""
    return 0.5 * x * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


def gelu(x):
    """Gaussian error linear unit."""
    return 0.5 * x * (1.0 + math.erf(x / math.sqrt(2.0)))


def relu(x):
    """The positive part of x."""
    return x if x > 0.0 else 0.0


def silu(x):
    """Return x times its logistic function."""
    return 0.5 * x * (1.0 + math.tanh(0.5 * x))


def select(x, thresholds=None, k=None):
    """Keep what exceeds its threshold, and of that the k largest (ties to the first); zero the rest."""
    kept = range(len(x)) if thresholds is None else [i for i, value in enumerate(x) if value > thresholds[i]]
    if k is not None:
        kept = heapq.nsmallest(k, kept, key=lambda i: (-x[i], i))
    y = [0.0] * len(x)
    for i in kept:
        y[i] = x[i]
    return y


def rotate(x, n_heads, theta, position):
    """Turn each head's coordinate pairs (i, i + half) by position * theta ** (-i / half)."""
    half = len(x) // n_heads // 2
    cosines, sines = turns(position, theta, half)
    y = []
    for start in range(0, len(x), 2 * half):
        first, second = x[start : start + half], x[start + half : start + 2 * half]
        y += [a * c - b * s for a, b, c, s in zip(first, second, cosines, sines)]
        y += [b * c + a * s for a, b, c, s in zip(first, second, cosines, sines)]
    return y


@lru_cache(maxsize=8)
def turns(position, theta, half):
    """Return cosines and sines of a position's rotary angles."""
    angles = [position * theta ** (-i / half) for i in range(half)]
    return [math.cos(angle) for angle in angles], [math.sin(angle) for angle in angles]


def softmax(scores):
    """Return weights that sum to 1, in proportion to exp(score)."""
    top = max(scores)
    weights = [math.exp(score - top) for score in scores]
    scale = 1.0 / sum(weights)
    return [weight * scale for weight in weights]


def log_softmax(scores):
    """Return scores shifted so that their exponentials sum to 1."""
    top = max(scores)
    shift = top + math.log(sum([math.exp(score - top) for score in scores]))
    return [score - shift for score in scores]


def attend(queries, keys, values, memory, n_heads, n_kv_heads, scale, window=None):
    """Remember this position's keys and values; return each head's softmax-weighted mix of the values it sees.

    The memory holds, for each key-value head, the keys of every position and, coordinate by coordinate, its values.
    """
    d_key, d_value = len(keys) // n_kv_heads, len(values) // n_kv_heads
    if not memory:
        memory += [([], [[] for _ in range(d_value)]) for _ in range(n_kv_heads)]
    for head, (past_keys, past_values) in enumerate(memory):
        past_keys.append(keys[head * d_key : (head + 1) * d_key])
        for coordinate, past in enumerate(past_values, head * d_value):
            past.append(values[coordinate])
    mixes = []
    for head in range(n_heads):
        query = [value * scale for value in queries[head * d_key : (head + 1) * d_key]]
        past_keys, past_values = memory[head // (n_heads // n_kv_heads)]
        start = 0 if window is None else max(0, len(past_keys) - window)
        weights = softmax([sumprod(query, key) for key in past_keys[start:]])
        mixes += [sumprod(weights, past[start:]) for past in past_values]
    return mixes


def features_on(x):
    """List the features of x that are on, as (feature, value)."""
    return [(feature, value) for feature, value in enumerate(x) if value]


def weigh(pairs, rows):
    """Return x @ W as {column: value}, x given by pairs (feature, value) and W by rows of (column, value)."""
    y = {}
    for feature, value in pairs:
        for column, weight in rows[feature]:
            y[column] = y.get(column, 0.0) + value * weight
    return y


def match(queries, keys, values, memory, scores, buckets=(0,), distances=None, moves=None, size=None, window=None):
    """Remember the features that are on here; return each head's mix of the values where its tables find matches.

    A head has a table for each bucket of distances: rows, by query feature, of (key feature, score). With moves, what
    the heads mix is moved by tables, rows of (feature, weight), to a sum of that size. Only features that are on cost
    time.
    """
    memory.append((features_on(keys), features_on(values)))
    seen = memory if window is None else memory[-window:]
    backs = range(len(seen) - 1, -1, -1)
    asked = features_on(queries)
    y = [] if moves is None else [0.0] * size
    for head, tables in enumerate(scores):
        wanted = [weigh(asked, table) for table in tables]
        found = []
        for back, (past_keys, _) in zip(backs, seen):
            want = wanted[bisect_right(buckets, back) - 1]
            found.append(sum([value * want[feature] for feature, value in past_keys if feature in want]))
        if distances is not None:
            by_distance = distances[head]
            found = [score + by_distance[min(back, len(by_distance) - 1)] for back, score in zip(backs, found)]
        mix = {}
        for weight, (_, past_values) in zip(softmax(found), seen):
            for feature, value in past_values:
                mix[feature] = mix.get(feature, 0.0) + weight * value
        if moves is None:
            y += spread(mix.items(), len(values))
        else:
            for feature, value in weigh(mix.items(), moves[head]).items():
                y[feature] += value
    return y


def apply_rules(x, conditions, thresholds, effects, size, biases=None, passes="excess", k=None, offset=None):
    """Fire the rules whose condition exceeds its threshold; each adds its effects times what it passes on.

    That is its strength, or the excess over its threshold. With k, only the k rules that pass most fire.
    """
    strengths = sparse_products(x, conditions)
    if biases is not None:
        strengths = list(map(add, strengths, biases))
    firing = [rule for rule, strength in enumerate(strengths) if strength > thresholds[rule]]
    passed = difference(strengths, thresholds) if passes == "excess" else strengths
    if k is not None:
        firing = heapq.nsmallest(k, firing, key=lambda rule: (-passed[rule], rule))
    y = [0.0] * size if offset is None else list(offset)
    for rule in firing:
        for column, weight in effects[rule]:
            y[column] += passed[rule] * weight
    return y


def above(sums, biases, thresholds):
    """Add biases to sums, and keep those that exceed their thresholds; zero the rest."""
    return [value if value > low else 0.0 for value, low in zip(map(add, sums, biases), thresholds)]


def look(x, memory, queries, keys, lone_keys, distances, conditions, matches, moved, window=None):
    """Remember this position; return what stands where each look looks, summed up for each of its moved features.

    Args:
        x: the features here.
        memory: for each position, its keys, its lone keys, and its sums: what the moved features would be there.
        queries, keys: their rows of (feature, weight) and their biases; those of a match are multiplied where above 0.
        lone_keys: rows by look, which count whatever is asked for.
        distances: by look, what is added for looking so far back; the last for anything farther.
        conditions: rows by moved feature.
        matches, moved: how many of the matches, and of the moved features, are each look's own.
    """
    memory.append((positive(x, *keys), sparse_products(x, lone_keys), sparse_products(x, conditions)))
    seen = memory if window is None else memory[-window:]
    backs = range(len(seen) - 1, -1, -1)
    wanted, match, y = positive(x, *queries), 0, []
    for at, (by_distance, n_matches, n_moved) in enumerate(zip(distances, matches, moved)):
        own, far = slice(match, match + n_matches), len(by_distance) - 1
        asked = wanted[own]
        scores = [
            by_distance[min(back, far)] + past_lone[at] + sumprod(asked, past_keys[own])
            for back, (past_keys, past_lone, _) in zip(backs, seen)
        ]
        weights = softmax(scores)
        y += [sumprod(weights, [sums[feature] for _, _, sums in seen]) for feature in range(len(y), len(y) + n_moved)]
        match += n_matches
    return y


def positive(x, rows, biases):
    """Return W @ x + bias where above 0, W given by rows of (column, value)."""
    return [max(value, 0.0) for value in map(add, sparse_products(x, rows), biases)]
