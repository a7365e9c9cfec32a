"""Rules: what each latent of a transcoder reads from earlier features, and what it adds.

A dictionary that reads behind a norm sees features through virtual weights ``V``: at a position with active nodes

    pre_j = (sum over nodes of value * V[node, j]) / norm,

where the nodes are the features written earlier and the two constants of :meth:`Basis.fold`. This is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from englishroom.circuits.basis import Basis
from englishroom.circuits.folded_norm import FoldedNorm, reading, votes
from englishroom.circuits.qk import Usage
from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.replacement import Replacement
from englishroom.errors import ConfigError


def reader_of(replacement: Replacement, dictionary: Dictionary) -> FoldedNorm:
    """Return the norm whose output a dictionary reads.

    Raises:
        ConfigError: it reads something else.
    """
    norm, _, hook = dictionary.spec.reads.rpartition(".")
    if hook != "hook_normalized":
        raise ConfigError(
            f"{dictionary.spec.name}: reads {dictionary.spec.reads}; virtual weights are of dictionaries that read "
            "behind a norm, for example blocks.0.ln2.hook_normalized"
        )
    return reading(replacement.spec, replacement.weights, norm)


def virtual_weights(
    basis: Basis, replacement: Replacement, dictionary: Dictionary, latents: Int[Tensor, " latent"] | Sequence[int]
) -> Float[Tensor, "node latent"]:
    """Return what every earlier feature, then ``offset`` and ``bias``, adds to latents, times the norm's scale."""
    at, w = torch.as_tensor(latents), dictionary.weights
    return basis.fold(reader_of(replacement, dictionary), w["W_enc"][:, at], w["b_enc"][at])


@dataclass(frozen=True)
class Term:
    """A feature that a rule reads.

    Attributes:
        feature: its number in the basis.
        weight: what it adds to the pre-activation with value 1, times the norm's scale.
        mean: that, times the feature's mean value over a text.
    """

    feature: int
    weight: float
    mean: float


@dataclass(frozen=True)
class TranscoderRule:
    """One latent of a transcoder, for a reader.

    Attributes:
        reads: the features that add or take most on average, strongest first.
        offset: what the decoder biases add to the pre-activation, times the norm's scale.
        bias: what is added whatever is active.
        promotes, demotes: tokens, and how much their logits gain with value 1, times the last norm's scale; relative
            to the mean over the vocabulary.
    """

    dictionary: str
    latent: int
    reads: tuple[Term, ...]
    offset: float
    bias: float
    promotes: tuple[tuple[int, float], ...]
    demotes: tuple[tuple[int, float], ...]


def describe_rules(
    basis: Basis, replacement: Replacement, dictionary: Dictionary, latents: Sequence[int], used: Usage, n: int = 10
) -> list[TranscoderRule]:
    """Say for latents of a transcoder what they read, by how often features are on, and what they vote for.

    A transcoder that writes several sites votes with the sum of what it writes.
    """
    table = virtual_weights(basis, replacement, dictionary, latents)
    count = len(table) - 2
    means = table[:count] * used.means[:count].to(table)[:, None]
    written = dictionary.written(dictionary.weights["W_dec"][list(latents)])
    voted = votes(replacement.spec, replacement.weights, torch.stack(list(written.values())).sum(0))
    rules: list[TranscoderRule] = []
    for at, latent in enumerate(latents):
        strongest = means[:, at].abs().topk(min(n, count)).indices.tolist()
        reads = tuple(
            Term(feature, float(table[feature, at]), float(means[feature, at]))
            for feature in strongest
            if means[feature, at] != 0
        )
        offset, bias = table[count:, at].tolist()
        up, down = (_strongest(sign * voted[at], n, sign) for sign in (1, -1))
        rules.append(TranscoderRule(dictionary.spec.name, latent, reads, offset, bias, up, down))
    return rules


def _strongest(voted: Tensor, n: int, sign: int) -> tuple[tuple[int, float], ...]:
    values, tokens = voted.topk(min(n, len(voted)))
    found = zip(tokens.tolist(), values.tolist(), strict=True)
    return tuple((token, sign * value) for token, value in found if value > 0)
