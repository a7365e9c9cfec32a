"""Kinds of words: a dictionary over the tokens' own vectors, so that a token is a few kinds, each shared by many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from englishroom.dictionaries.config import TrainerConfig
from englishroom.dictionaries.dictionary import Dictionary, DictionarySpec
from englishroom.dictionaries.train import Trainer, start_from, variances
from englishroom.sparse.edges import Edges

ROWS = 2048
"""Tokens of a step, drawn by the square root of their frequency."""
START_ROWS = 8192


@dataclass(frozen=True)
class Kinds:
    """Kinds of words, and what they stand for.

    Attributes:
        edges: how strongly each token is of each kind, from tokens to kinds; none below 0.
        directions: what each kind adds to a token's vector, [kind, d].
        mean: what every token has in common, [d].
        fvu: variance of the vectors that kinds do not explain, as a share, tokens weighted as they were drawn.
    """

    edges: Edges
    directions: Float[Tensor, "kind d"]
    mean: Float[Tensor, " d"]
    fvu: float


def learn_kinds(
    vectors: Float[Tensor, "token d"],
    frequencies: Float[Tensor, " token"],
    n_kinds: int,
    active: int,
    seed: int,
    steps: int = 400,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Kinds:
    """Find kinds of words such that every token's vector is about a sum of at most ``active`` of them.

    Where there may be as many kinds as tokens, every token is a kind of its own.
    """
    if n_kinds >= len(vectors):
        mean = (frequencies[:, None] * vectors).sum(0) / frequencies.sum()
        return Kinds(Edges.of(torch.eye(len(vectors))), vectors - mean, mean, 0.0)
    generator = torch.Generator().manual_seed(seed)
    chance = frequencies.clamp(min=frequencies[frequencies > 0].min()).sqrt()

    def draw(n: int) -> dict[str, Tensor]:
        return {"token": vectors[torch.multinomial(chance, n, replacement=True, generator=generator)]}

    spec = DictionarySpec(
        "token", ("token",), vectors.shape[1], vectors.shape[1], n_kinds, "topk", min(active, n_kinds)
    )
    sample = draw(START_ROWS)
    first = start_from(Dictionary.random(spec, generator), sample, generator)
    trainer = Trainer([first], TrainerConfig(dead_after=30_000), variances(sample))
    for step in range(steps):
        loss, _ = trainer.local_losses(draw(ROWS))
        trainer.step(loss, min(1.0, (step + 1) / 20, (steps - step) / (0.7 * steps)))
        progress(step + 1, steps)
    (found,) = trainer.trained()
    codes = found.encode(vectors)
    wrong = (vectors - found.decode(codes)).square().sum(1)
    mean = (chance[:, None] * vectors).sum(0) / chance.sum()
    fvu = (chance * wrong).sum() / (chance * (vectors - mean).square().sum(1)).sum()
    return Kinds(Edges.of(codes.dense(n_kinds)), found.weights["W_dec"], found.weights["b_dec"], float(fvu))
