"""The ladder: models of the shipped family, from very small to small, each trained on more tokens than the last."""

from __future__ import annotations

from englishroom.talkers.config import TrainConfig

LADDER = {
    f"ladder-{d_model}": TrainConfig(n_layers=2, d_model=d_model, n_heads=n_heads, tokens=tokens, batch=batch)
    for d_model, n_heads, tokens, batch in (
        (16, 1, 800_000, 8),
        (24, 1, 1_600_000, 8),
        (32, 1, 2_800_000, 8),
        (48, 2, 4_800_000, 16),
        (64, 2, 7_500_000, 16),
        (96, 3, 13_000_000, 16),
        (128, 4, 20_000_000, 32),
        (160, 5, 36_000_000, 32),
    )
}
"""Name of a run -> how it is trained; the last is the shipped two-layer model."""
