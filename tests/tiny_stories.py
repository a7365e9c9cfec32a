"""Made-up stories of a few words, for models that are trained or fitted in a test."""

from __future__ import annotations

import numpy as np

NAMES = ("Lily", "Tom", "Ben", "Mia", "Max")
THINGS = ("a red ball", "the big dog", "an old boat", "her mom", "a cake", "the rain")


def story(seed: int) -> str:
    """Make a short story out of a few words; different seeds tell different ones."""
    rng = np.random.default_rng(seed)
    lines = [f"{rng.choice(NAMES)} saw {rng.choice(THINGS)}. {rng.choice(NAMES)} liked it." for _ in range(4)]
    return f"Once upon a time there was {rng.choice(NAMES)}, number {seed}.\n" + "\n".join(lines)
