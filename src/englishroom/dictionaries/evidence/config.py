"""Settings of the evidence, and the bins that activations are counted in."""

from __future__ import annotations

from dataclasses import dataclass

from englishroom.errors import ConfigError

EDGES: tuple[float, ...] = tuple(2.0 ** (half / 2) for half in range(-20, 21))
"""Edges of the histogram's bins, two an octave from 1/1024 to 1024. Bin ``i`` holds activations from edge ``i - 1``
on and below edge ``i``; the first bin holds all below the first edge, the last all from the last edge on."""


@dataclass(frozen=True)
class EvidenceConfig:
    """How much evidence is kept of every latent.

    Attributes:
        strongest: examples of highest activation.
        drawn: examples drawn evenly from all positions where the latent is active.
        bands: equal parts that the drawn examples are cut into by their activation.
        before: tokens of context before an example.
        after: tokens of context after it.
        listed_tokens: tokens listed of every kind (fired on, promoted, demoted).
        neighbours: nearest latents listed.
        seed: which examples are drawn.
    """

    strongest: int = 10
    drawn: int = 16
    bands: int = 4
    before: int = 20
    after: int = 7
    listed_tokens: int = 10
    neighbours: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("strongest", "drawn", "bands", "listed_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"evidence: {name} is {getattr(self, name)}, expected 1 or more")
        for name in ("before", "after", "neighbours", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"evidence: {name} is {getattr(self, name)}, expected 0 or more")

    @property
    def window(self) -> int:
        """Tokens of an example, the one that fired included."""
        return self.before + 1 + self.after
