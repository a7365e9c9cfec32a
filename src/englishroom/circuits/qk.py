"""Attention scores as a table over pairs of features.

1. Fold the norm, the query and the key maps of one head: a row of ``queries`` and of ``keys`` for every feature that
   can be active before the layer, and for the two constants of :meth:`Basis.fold`.
2. The head's score from a query position to a key position is then exactly

       score = scale / (norm_q * norm_k) * sum over f active at the query, g active at the key of
               value_f * value_g * T[f, g],    T[f, g] = queries[f] . keys[g].

3. Rotary positions turn queries and keys before the product, which leaves ``queries[f] . R(-distance) keys[g]``: one
   table a distance. Averaged over a bucket of distances the rotation is still one linear map.

Tables are formed for the features asked for; the two sides stay factored (Elhage et al. 2021, who name the QK circuit).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from englishroom.circuits.basis import Activity, Basis
from englishroom.circuits.folded_norm import FoldedNorm, reading
from englishroom.dictionaries.replacement import Replacement
from englishroom.errors import ConfigError
from englishroom.models.forward import rotary_angles

QUERIES_AT_ONCE = 512
"""Rows of a table formed at once while the strongest pairs are sought."""


@dataclass(frozen=True)
class QKCircuit:
    """One head's scores, factored.

    Attributes:
        reader: the norm in front of the layer.
        queries, keys: what every feature, then ``offset`` and ``bias``, adds to query and key, times the norm's scale.
        query_map, key_map: from the residual stream itself, for parts of it that no feature accounts for.
        scale: factor on every score.
        cos, sin: rotary angles by distance, or ``None`` where positions are learned.
        window: how many positions back a query may look, itself included; ``None`` is all of them.
    """

    basis: Basis
    reader: FoldedNorm
    layer: int
    head: int
    queries: Float[Tensor, "node d_head"]
    keys: Float[Tensor, "node d_head"]
    query_map: Float[Tensor, "d_model d_head"]
    key_map: Float[Tensor, "d_model d_head"]
    scale: float
    rotation: tuple[Float[Tensor, "distance d_head"], Float[Tensor, "distance d_head"]] | None
    window: int | None

    def turned(self, keys: Float[Tensor, "*rows d_head"], distances: Sequence[int] | None) -> Tensor:
        """Turn keys back by a distance; by the mean of the rotations where several are given.

        Raises:
            ConfigError: scores of this head depend on distance, and none is given; or it is none of the model's.
        """
        if self.rotation is None:
            return keys
        where = f"blocks.{self.layer} head {self.head}"
        if not distances:
            raise ConfigError(f"{where}: scores depend on distance (rotary positions); give the distances to tabulate")
        cos, sin = self.rotation
        if min(distances) < 0 or max(distances) >= len(cos):
            raise ConfigError(f"{where}: distances {min(distances)} to {max(distances)}, expected 0 to {len(cos) - 1}")
        at = list(distances)
        first, second = keys.chunk(2, -1)
        return keys * cos[at].mean(0) + torch.cat([second, -first], -1) * sin[at].mean(0)

    def table(
        self,
        queries: Int[Tensor, " query"] | Sequence[int],
        keys: Int[Tensor, " key"] | Sequence[int],
        distances: Sequence[int] | None = None,
    ) -> Float[Tensor, "query key"]:
        """Form the table over some nodes: what each pair adds to the score, times both norms' scales.

        Args:
            distances: between query and key, for rotary positions; the table is their mean.
        """
        asking, asked = self.queries[torch.as_tensor(queries)], self.keys[torch.as_tensor(keys)]
        return self.scale * asking @ self.turned(asked, distances).T


def qk_circuit(basis: Basis, replacement: Replacement, layer: int, head: int) -> QKCircuit:
    """Factor the scores of one head in the feature basis."""
    spec, weights = replacement.spec, replacement.weights
    part = head_part(replacement, layer, head)
    reader = reading(spec, weights, f"blocks.{layer}.ln1")
    sides = {letter: head_weights(replacement, layer, head, letter) for letter in "QK"}
    rotation = None if spec.rotary_theta is None else rotary_angles(spec, 0, spec.n_ctx, weights[f"{part}.W_Q"])
    return QKCircuit(
        basis=basis,
        reader=reader,
        layer=layer,
        head=head,
        queries=basis.fold(reader, *sides["Q"]),
        keys=basis.fold(reader, *sides["K"]),
        query_map=reader.fold(*sides["Q"])[0],
        key_map=reader.fold(*sides["K"])[0],
        scale=spec.attn_scale,
        rotation=rotation,
        window=spec.windows[layer],
    )


def head_part(replacement: Replacement, layer: int, head: int) -> str:
    """Name the attention that a head belongs to.

    Raises:
        ConfigError: the model has no such head.
    """
    spec = replacement.spec
    if not (0 <= layer < spec.n_layers and 0 <= head < spec.n_heads):
        raise ConfigError(
            f"no head {head} in layer {layer}: layers are 0 to {spec.n_layers - 1}, heads 0 to {spec.n_heads - 1}"
        )
    return f"blocks.{layer}.attn"


def head_weights(
    replacement: Replacement, layer: int, head: int, letter: str
) -> tuple[Float[Tensor, "d_model d_head"], Float[Tensor, " d_head"] | None]:
    """Cut a head's map to queries (Q), keys (K) or values (V), and its bias, out of the layer's.

    Heads that share keys and values share them here too.
    """
    spec, part = replacement.spec, head_part(replacement, layer, head)
    own = head if letter == "Q" else head * spec.n_kv_heads // spec.n_heads
    columns = slice(own * spec.d_head, (own + 1) * spec.d_head)
    bias = replacement.weights.get(f"{part}.b_{letter}")
    return replacement.weights[f"{part}.W_{letter}"][:, columns], None if bias is None else bias[columns]


@dataclass(frozen=True)
class PairTerms:
    """One score, pair by pair.

    Attributes:
        terms: what each pair of active nodes adds to the score; they and ``rest`` add up to it.
        rest: what comes from parts of the residual stream that no feature accounts for.
    """

    queries: Int[Tensor, " query"]
    keys: Int[Tensor, " key"]
    terms: Float[Tensor, "query key"]
    rest: float


def score_terms(qk: QKCircuit, activity: Activity, row: int, query: int, key: int) -> PairTerms:
    """Say which pairs of features make one head's score from position ``query`` to position ``key``."""
    scales = qk.reader.scale(activity.total(qk.reader.site))
    nodes, values = activity.nodes(qk.reader.site, scales)
    norms = scales[row, query] * scales[row, key]
    (query_nodes, key_nodes), (query_values, key_values) = (t[row, [query, key]] for t in (nodes, values))
    distance = [query - key]
    table = qk.table(query_nodes, key_nodes, distance)
    terms = query_values[:, None] * table * key_values / norms
    rests = activity.rest_before(qk.reader.site)[row, [query, key]]
    q = query_values @ qk.queries[query_nodes], rests[0] @ qk.query_map
    k = [qk.turned(side, distance) for side in (key_values @ qk.keys[key_nodes], rests[1] @ qk.key_map)]
    rest = qk.scale * ((q[0] + q[1]) @ (k[0] + k[1]) - q[0] @ k[0]) / norms
    used = [values != 0 for values in (query_values, key_values)]
    return PairTerms(query_nodes[used[0]], key_nodes[used[1]], terms[used[0]][:, used[1]], float(rest))


@dataclass(frozen=True)
class Usage:
    """How often and how strongly every feature is on; usages of parts of a text add up to that of the whole.

    Attributes:
        counts: positions at which it is on.
        totals: sum of its values.
        positions: positions seen.
    """

    counts: Float[Tensor, " feature"]
    totals: Float[Tensor, " feature"]
    positions: int

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.counts + other.counts, self.totals + other.totals, self.positions + other.positions)

    @property
    def means(self) -> Float[Tensor, " feature"]:
        """Mean value over all positions, those where the feature is off included."""
        return self.totals / max(1, self.positions)


def usage(activity: Activity) -> Usage:
    """Count how often and how strongly every feature is on."""
    n = activity.basis.n_features
    counts = torch.zeros(n, dtype=torch.float64)
    totals = torch.zeros(n, dtype=torch.float64)
    for group in activity.basis.groups:
        features, values = (t.flatten().cpu() for t in activity.of(group))
        counts.index_add_(0, features, (values != 0).double())
        totals.index_add_(0, features, values.double())
    return Usage(counts, totals, activity.tokens.numel())


@dataclass(frozen=True)
class Pair:
    """A query feature and a key feature.

    Attributes:
        value: what they add to a score where both are on with value 1, times both norms' scales.
        weight: that, times the mean value of either feature: what they add on average.
    """

    query: int
    key: int
    value: float
    weight: float


def top_pairs(qk: QKCircuit, used: Usage, n: int, distances: Sequence[int] | None = None) -> list[Pair]:
    """Find the pairs of features that add most to a head's scores, up or down, by how often either is on.

    Constants are left out. The weight takes the two features as independent, so a pair that never meets counts too.
    """
    count = qk.basis.count_before(qk.reader.site)
    means = used.means[:count].to(qk.queries)
    (on,) = means.nonzero(as_tuple=True)
    keys = qk.scale * qk.turned(qk.keys[on], distances) * means[on, None]
    best = qk.queries.new_zeros(0)
    places = torch.zeros(0, dtype=torch.long, device=best.device)
    for start in range(0, len(on), QUERIES_AT_ONCE):
        rows = on[start : start + QUERIES_AT_ONCE]
        weights = ((qk.queries[rows] * means[rows, None]) @ keys.T).flatten()
        found = weights.abs().topk(min(n, len(weights))).indices
        best, places = torch.cat([best, weights[found]]), torch.cat([places, found + start * len(on)])
        kept = best.abs().topk(min(n, len(best))).indices
        best, places = best[kept], places[kept]
    pairs: list[Pair] = []
    for weight, place in zip(best.tolist(), places.tolist(), strict=True):
        f, g = int(on[place // len(on)]), int(on[place % len(on)])
        pairs.append(Pair(f, g, weight / float(means[f] * means[g]), weight))
    return pairs


def distance_buckets(starts: Sequence[int], n_ctx: int) -> tuple[range, ...]:
    """Turn the first distances of buckets into ranges of distances that cover a context.

    Raises:
        ConfigError: the starts do not begin at 0 and rise.
    """
    if not starts or starts[0] != 0 or list(starts) != sorted(set(starts)) or starts[-1] >= n_ctx:
        raise ConfigError(f"distance buckets start at {list(starts)}; expected 0 first, then rising ones below {n_ctx}")
    return tuple(range(low, high) for low, high in zip(starts, [*starts[1:], n_ctx], strict=True))


def bucket_loss(
    qk: QKCircuit, queries: Int[Tensor, " query"], keys: Int[Tensor, " key"], buckets: Sequence[range]
) -> list[float]:
    """Measure what one mean table a bucket loses: the share of the tables' sum of squares that it misses, a bucket."""
    shares: list[float] = []
    for bucket in buckets:
        mean = qk.table(queries, keys, bucket)
        lost = whole = 0.0
        for distance in bucket:
            table = qk.table(queries, keys, [distance])
            lost += float((table - mean).square().sum())
            whole += float(table.square().sum())
        shares.append(lost / whole if whole else 0.0)
    return shares
