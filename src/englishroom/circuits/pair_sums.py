"""How well one number predicts another: sums that add up under any sharding, and what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import TypeVar

from torch import Tensor

Key = TypeVar("Key")


@dataclass(frozen=True)
class PairSums:
    """Sums over pairs (x, y); those of parts add up to those of the whole.

    Attributes:
        n: pairs.
        x, y, xx, yy, xy: sums of the values and of their products.
    """

    n: int = 0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    yy: float = 0.0
    xy: float = 0.0

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> PairSums:
        """Sum over pairs of entries, in float64."""
        a, b = x.flatten().double(), y.flatten().double()
        return cls(len(a), *(float(part) for part in (a.sum(), b.sum(), a @ a, b @ b, a @ b)))

    def __add__(self, other: PairSums) -> PairSums:
        return PairSums(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def _centred(self) -> tuple[float, float, float]:
        n = max(1, self.n)
        spreads = ((self.xx - self.x**2 / n, self.xx), (self.yy - self.y**2 / n, self.yy))
        rounding = 1e-12  # of a sum of squares: less than this share of it is a constant, not a spread
        xx, yy = (spread if spread > rounding * squares else 0.0 for spread, squares in spreads)
        return xx, yy, self.xy - self.x * self.y / n

    @property
    def pearson(self) -> float:
        """Correlation, -1 to 1; nan where either does not vary."""
        xx, yy, xy = self._centred
        return xy / (xx * yy) ** 0.5 if xx and yy else float("nan")

    @property
    def slope(self) -> float:
        """Least-squares slope of y on x: 1 where x predicts y at its own size; nan where x does not vary."""
        xx, _, xy = self._centred
        return xy / xx if xx else float("nan")

    @property
    def rms_x(self) -> float:
        """Root mean square of x."""
        return (self.xx / max(1, self.n)) ** 0.5

    @property
    def rms_y(self) -> float:
        """Root mean square of y."""
        return (self.yy / max(1, self.n)) ** 0.5


def add_sums(a: Mapping[Key, PairSums], b: Mapping[Key, PairSums]) -> dict[Key, PairSums]:
    """Add the sums of two parts of a text, key by key."""
    return {key: a.get(key, PairSums()) + b.get(key, PairSums()) for key in dict.fromkeys([*a, *b])}
