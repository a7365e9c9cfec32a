"""Random dictionaries for tests of formats, none of whose numbers is special."""

from __future__ import annotations

import torch
from torch import Tensor

from englishroom.dictionaries.dictionary import Activation, Dictionary, DictionarySpec

D, N, K = 12, 40, 5


def coder(
    reads: str = "blocks.0.hook_attn_out",
    *writes: str,
    activation: Activation = "topk",
    skip: bool = False,
    d_in: int = D,
    n: int = N,
    even: bool = False,
    seed: int = 0,
) -> Dictionary:
    """Draw a dictionary; without ``writes`` it is an autoencoder.

    Args:
        even: whether all its thresholds are one.
    """
    k = None if activation == "jumprelu" else K
    spec = DictionarySpec(reads, writes or (reads,), d_in, D, n, activation, k, skip)
    generator = torch.Generator().manual_seed(seed)
    weights = {name: torch.randn(shape, generator=generator) * 0.5 for name, shape in spec.shapes().items()}
    if "threshold" in weights:
        weights["threshold"] = torch.full_like(weights["threshold"], 0.6) if even else weights["threshold"].abs()
    return Dictionary.of(spec, weights)


def rows(d: int = D, n: int = 64) -> Tensor:
    """Draw inputs."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(99))


def transcoder(layer: int = 0, **options) -> Dictionary:
    """Draw a transcoder of a layer's MLP."""
    block = f"blocks.{layer}"
    return coder(f"{block}.ln2.hook_normalized", f"{block}.hook_mlp_out", **options)


def dense(dictionary: Dictionary, x: Tensor) -> Tensor:
    """Return all values of latents, [row, latent]."""
    return dictionary.encode(x).dense(dictionary.spec.n_latents)


def assert_alike(ours: Dictionary, read: Dictionary) -> None:
    """Check that two dictionaries stand at the same sites and compute the same, with something to compute."""
    assert (read.spec.reads, read.spec.writes) == (ours.spec.reads, ours.spec.writes)
    assert (read.spec.d_in, read.spec.d_out) == (ours.spec.d_in, ours.spec.d_out)
    x = rows(ours.spec.d_in)
    codes = dense(ours, x)
    assert 0.01 < float((codes > 0).float().mean()) < 0.6
    torch.testing.assert_close(dense(read, x), codes, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(read.run(x)[0], ours.run(x)[0], atol=1e-5, rtol=1e-5)
