"""What all fits of readable programs have in common: what they read, how many steps they take, and at what rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Generic, TypeVar

from englishroom.dictionaries.checkpoint import Resumable
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.models.load import Target
from englishroom.readable.config import StreamConfig, WiringConfig

Config = TypeVar("Config", StreamConfig, WiringConfig)


class ReadableFit(Resumable, Generic[Config]):
    """A fit to a target, on rows of text.

    Args:
        tokens: how many tokens it reads.
        identity: whatever else must be the same for a checkpoint to belong to this fit.
    """

    warm_steps: int
    """Steps over which the rate rises."""
    decay: float
    """Share of the steps over which it falls to 0 at the end."""

    def __init__(
        self, target: Target, rows: TokenRows, config: Config, tokens: int, identity: Mapping[str, Any], seed: int
    ) -> None:
        whole = {**identity, "config": asdict(config), "seed": seed, "length": rows.length}
        super().__init__(whole, math.ceil(tokens / (config.batch * rows.length)))
        self.target, self.rows, self.config, self.seed = target, rows, config, seed

    def rate_factor(self) -> float:
        """Return the rate of this step, as a share of the peak rate."""
        left = self.n_steps - self.step
        return min(1.0, (self.step + 1) / self.warm_steps, left / max(1.0, self.decay * self.n_steps))
