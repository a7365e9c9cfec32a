"""What a latent's directions say: the tokens it votes for, and the latents nearest to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from englishroom.dictionaries.dictionary import Dictionary
from englishroom.models.forward import unembedding
from englishroom.models.spec import ModelSpec

NUMBERS_AT_ONCE = 2**22
"""Entries of a product formed at once."""
RESIDUAL_WRITES = ("hook_embed", "hook_attn_out", "hook_mlp_out", "hook_resid_pre", "hook_resid_mid", "hook_resid_post")
"""Ends of the sites whose values stand in the residual stream as they are."""


@dataclass(frozen=True)
class Ranked:
    """The first few of many for every latent, best first."""

    indices: Int[NDArray, "latent rank"]
    values: Float[NDArray, "latent rank"]


def direct_votes(
    spec: ModelSpec, weights: Mapping[str, Tensor], dictionary: Dictionary, latents: slice
) -> Float[Tensor, "latent d_vocab"]:
    """Compute how much one unit of a latent adds to the logits by itself, before the final norm divides by its scale.

    What it writes to the residual goes through the final norm's centring and gain and the unembedding; nothing that
    later layers make of it is in it. The mean over the vocabulary, which changes no probability, is taken off.
    """
    w = dictionary.weights["W_dec"][latents].unflatten(1, (-1, dictionary.spec.d_out))  # [latent, site, d_out]
    kept = [at for at, site in enumerate(dictionary.spec.writes) if site.endswith(RESIDUAL_WRITES)]
    direction = w[:, kept].sum(1)
    if spec.norm == "layernorm":
        direction = direction - direction.mean(1, keepdim=True)
    logits = (direction * weights["ln_final.w"]) @ unembedding(spec, weights)
    return logits - logits.mean(1, keepdim=True)


def strongest_votes(
    spec: ModelSpec, weights: Mapping[str, Tensor], dictionary: Dictionary, n: int
) -> tuple[Ranked, Ranked] | None:
    """Find the tokens that each latent promotes and demotes most; none where it does not write to the residual."""
    if not any(site.endswith(RESIDUAL_WRITES) for site in dictionary.spec.writes):
        return None
    n, up, down = min(n, spec.d_vocab), [], []
    for part in _parts(dictionary.spec.n_latents, spec.d_vocab):
        votes = direct_votes(spec, weights, dictionary, part)
        up.append(votes.topk(n, dim=1))
        down.append(votes.topk(n, dim=1, largest=False))
    return _ranked(up), _ranked(down)


def nearest(vectors: Float[Tensor, "latent d"], n: int) -> Ranked:
    """Find the latents whose vectors have the largest cosine with each latent's; a zero vector's cosines are 0."""
    unit = vectors / vectors.norm(dim=1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)
    n, found = min(n, len(unit) - 1), []
    for part in _parts(len(unit), len(unit)):
        cosines = unit[part] @ unit.T
        own = torch.arange(part.start, part.stop, device=unit.device)
        cosines[own - part.start, own] = -torch.inf
        found.append(cosines.topk(n, dim=1))
    return _ranked(found)


def _parts(n_rows: int, width: int) -> list[slice]:
    step = max(1, NUMBERS_AT_ONCE // width)
    return [slice(start, min(n_rows, start + step)) for start in range(0, n_rows, step)]


def _ranked(parts: list) -> Ranked:
    values, indices = (torch.cat([part[at] for part in parts]).cpu().numpy() for at in (0, 1))
    return Ranked(indices, values)
