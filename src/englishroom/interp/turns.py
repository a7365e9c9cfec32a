"""The cosines and sines by which RoPE turns heads, for as many positions as were read so far."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Turns:
    """Rows of cosines and signed sines for all heads at once; they grow by doubling, whatever a context may hold."""

    def __init__(self, theta: float, size: int, n_heads: int, dtype: DTypeLike) -> None:
        half = size // n_heads // 2
        self._frequency, self._n_heads, self._dtype = theta ** (-np.arange(half) / half), n_heads, dtype
        self._rows = self._made(0)

    def first(self, n: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return cosines and sines of the first n positions, or of more, [pos, size] each."""
        rows = self._rows
        if len(rows[0]) < n:
            rows = self._rows = self._made(2 * n)
        return rows

    def _made(self, n: int) -> tuple[NDArray[Any], NDArray[Any]]:
        angle = np.outer(np.arange(n), self._frequency)
        cos, sin = (turn(angle).astype(self._dtype) for turn in (np.cos, np.sin))
        rows = np.concatenate([cos, cos], axis=1), np.concatenate([np.negative(sin), sin], axis=1)
        return np.tile(rows[0], (1, self._n_heads)), np.tile(rows[1], (1, self._n_heads))
