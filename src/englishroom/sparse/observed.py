"""What features do together on a text: their sums and products, and how loud every norm is beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from englishroom.circuits.folded_norm import reading
from englishroom.dictionaries.code import Codes
from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.replacement import Replacement
from englishroom.sparse.kinds import Kinds
from englishroom.sparse.model import PLACES, WORDS

RIDGE = 3.0
"""Weight of the ridge in the fit of the loudness, in positions."""
ROWS_AT_ONCE = 8
NORMS = ((0, "ln1"), (2, "ln2"))
"""Norms of a layer, by the stage of the layer that reads through them."""


@dataclass(frozen=True)
class Observed:
    """Sums over the positions of a text.

    Attributes:
        sizes: how many features each source has, in the order in which they come to be.
        stages: the stages that read through a norm.
        count: of positions.
        sums: of every feature, [feature], and ``products`` of every two, [feature, feature].
        scales: of every norm, [norm], and ``beside`` each times every feature, [feature, norm].
    """

    sizes: Mapping[str, int]
    stages: tuple[int, ...]
    count: int
    sums: Float[Tensor, " feature"]
    products: Float[Tensor, "feature feature"]
    scales: Float[Tensor, " norm"]
    beside: Float[Tensor, "feature norm"]

    def covariance(self, n: int) -> Float[Tensor, "n n"]:
        """Return how the first ``n`` features vary together."""
        means = self.sums[:n] / self.count
        return self.products[:n, :n] / self.count - torch.outer(means, means)

    def loudness(self) -> dict[int, tuple[Tensor, dict[str, Tensor]]]:
        """Fit the scale of every norm as a sum over features: by stage its mean, and by source what each adds."""
        found = {}
        for number, stage in enumerate(self.stages):
            names = list(self.sizes)[: 2 + number]
            parts = [self.sizes[name] for name in names]
            n = sum(parts)
            mean = self.scales[number] / self.count
            against = self.beside[:n, number] - mean * self.sums[:n]
            solved = torch.linalg.solve(self.products[:n, :n] + RIDGE * torch.eye(n, dtype=torch.float64), against)
            found[stage] = (mean, dict(zip(names, solved.split(parts), strict=True)))
        return found


def observe(
    replacement: Replacement,
    moved: list[Dictionary],
    rules: list[Dictionary],
    learnt: Kinds,
    stations: Float[Tensor, "pos station"],
    rows: Int[Tensor, "row pos"],
    progress: Callable[[str, int, int], None],
) -> Observed:
    """Run a target with its dictionaries over rows of text, errors propagating, and add up what features do."""
    spec = replacement.spec
    norms = {3 * layer + at: f"blocks.{layer}.{norm}" for layer in range(spec.n_layers) for at, norm in NORMS}
    norms[3 * spec.n_layers] = "ln_final"
    readings = [reading(spec, replacement.weights, norm) for norm in norms.values()]
    at = {r.site for r in readings}
    kinds = learnt.edges.matrix()
    sizes = {WORDS: learnt.edges.n_columns, PLACES: stations.shape[1]}
    for layer, pair in enumerate(zip(moved, rules, strict=True)):
        sizes |= {f"{name}.{layer}": d.spec.n_latents for name, d in zip(("moved", "rules"), pair, strict=True)}
    n, count = sum(sizes.values()), 0
    sums, products = torch.zeros(n, dtype=torch.float64), torch.zeros(n, n, dtype=torch.float64)
    scales, beside = torch.zeros(len(norms), dtype=torch.float64), torch.zeros(n, len(norms), dtype=torch.float64)
    for first in range(0, len(rows), ROWS_AT_ONCE):
        tokens = rows[first : first + ROWS_AT_ONCE]
        seen: dict[str, Tensor] = {}

        def tap(site: str, value: Tensor, seen: dict[str, Tensor] = seen) -> Tensor:
            if site in at:
                seen[site] = value
            return value

        def see(d: Dictionary, codes: Codes, seen: dict[str, Tensor] = seen) -> Codes:
            seen[d.spec.name] = codes.dense(d.spec.n_latents)
            return codes

        with torch.no_grad():
            replacement.run(tokens, tap, see)
        parts = [kinds[tokens.reshape(-1)], stations[: tokens.shape[1]].float().repeat(len(tokens), 1)]
        for pair in zip(moved, rules, strict=True):
            parts += [seen[d.spec.name] for d in pair]
        x, y = torch.cat(parts, 1), torch.stack([r.scale(seen[r.site]).reshape(-1) for r in readings], 1)
        count += len(x)
        sums += x.sum(0)
        products += x.T @ x
        scales += y.sum(0)
        beside += x.T @ y
        progress("observing features", min(len(rows), first + ROWS_AT_ONCE), len(rows))
    return Observed(sizes, tuple(norms), count, sums, products, scales, beside)
