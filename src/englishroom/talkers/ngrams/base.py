"""What counting talkers share: what they need of a talker that they build on, and how they read on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from englishroom.talker import Talker


class Base(Talker, Protocol):
    """A talker that gives every token some probability, and can be written down."""

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return everything that it answers by, by name."""
        ...


@dataclass
class LastTokens:
    """Texts being read, a batch in step, of which only the last tokens are kept.

    Attributes:
        answer: computes log-probabilities, given the tokens kept with the new ones behind them, and how many are new.
        n_kept: as many earlier tokens as the talker looks back at.
    """

    answer: Callable[[NDArray[np.integer], int], NDArray[Any]]
    n_kept: int
    read: NDArray[np.integer] | None = None

    def extend(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        whole = tokens if self.read is None else np.concatenate([self.read, tokens], axis=1)
        answers = self.answer(whole, tokens.shape[1])
        self.read = whole[:, max(0, whole.shape[1] - self.n_kept) :].copy()
        return answers
