"""Moved features: what a head moves from a source position into the latents of an attention-output dictionary.

With patterns ``A`` taken from a run, the pre-activation of latent ``j`` of a dictionary that reads the attention output
is exactly

    pre_j(q) = sum over heads h, sources p, f active at p of A_h[q, p] / norm_p * value_f * M_h[f, j]
               + b_O @ enc_j + b_enc_j,    M_h[f, j] = values_h[f] @ W_O_h @ enc_j.

Attention weights add up to 1, so a constant of the sources (the ``bias`` node, its value the norm) arrives whole.
Direct votes replace the encoder by the last norm's map and the unembedding (the OV circuit of Elhage et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from englishroom.circuits.basis import Activity, Basis
from englishroom.circuits.folded_norm import FoldedNorm, reading, votes
from englishroom.circuits.qk import head_part, head_weights
from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.replacement import Replacement
from englishroom.errors import ConfigError


@dataclass(frozen=True)
class OVCircuit:
    """What one head moves, factored.

    Attributes:
        reader: the norm in front of the layer.
        values: what every feature, then ``offset`` and ``bias``, adds to the head's value, times the norm's scale.
        value_map: from the residual stream itself, for parts of it that no feature accounts for.
        out: from the head's value to the attention output.
    """

    basis: Basis
    reader: FoldedNorm
    layer: int
    head: int
    values: Float[Tensor, "node d_head"]
    value_map: Float[Tensor, "d_model d_head"]
    out: Float[Tensor, "d_head d_model"]

    def moved(self, sources: Int[Tensor, " source"] | Sequence[int]) -> Float[Tensor, "source d_model"]:
        """Return what some nodes add to the attention output where they are attended to, times the norm's scale."""
        return self.values[torch.as_tensor(sources)] @ self.out

    def to_latents(
        self,
        dictionary: Dictionary,
        sources: Int[Tensor, " source"] | Sequence[int],
        latents: Int[Tensor, " latent"] | Sequence[int],
    ) -> Float[Tensor, "source latent"]:
        """Form the table from source nodes to latents of the layer's attention-output dictionary.

        Raises:
            ConfigError: the dictionary reads something else than this layer's attention output.
        """
        check_reads_attention(dictionary, self.layer)
        return self.moved(sources) @ dictionary.weights["W_enc"][:, torch.as_tensor(latents)]


def ov_circuit(basis: Basis, replacement: Replacement, layer: int, head: int) -> OVCircuit:
    """Factor what one head moves in the feature basis."""
    spec, weights = replacement.spec, replacement.weights
    part = head_part(replacement, layer, head)
    reader = reading(spec, weights, f"blocks.{layer}.ln1")
    value = head_weights(replacement, layer, head, "V")
    out = weights[f"{part}.W_O"][head * spec.d_head : (head + 1) * spec.d_head]
    return OVCircuit(basis, reader, layer, head, basis.fold(reader, *value), reader.fold(*value)[0], out)


def to_tokens(
    ov: OVCircuit, replacement: Replacement, sources: Int[Tensor, " source"] | Sequence[int]
) -> Float[Tensor, "source d_vocab"]:
    """Form the table from source nodes to tokens: a head's direct votes, times the layer's and the last norm's scale.

    Each row's mean over the vocabulary is taken off. What dictionaries leave out of the attention output is in it.
    """
    return votes(replacement.spec, replacement.weights, ov.moved(sources))


def check_reads_attention(dictionary: Dictionary, layer: int) -> None:
    """Refuse a dictionary that does not read a layer's attention output."""
    site = f"blocks.{layer}.hook_attn_out"
    if dictionary.spec.reads != site:
        raise ConfigError(
            f"{dictionary.spec.name}: reads {dictionary.spec.reads}, but heads of layer {layer} write {site}; "
            "give the dictionary that reads it"
        )


def constant_preactivations(replacement: Replacement, dictionary: Dictionary, layer: int) -> Float[Tensor, " latent"]:
    """Return the part of an attention-output dictionary's pre-activations that comes from no head."""
    check_reads_attention(dictionary, layer)
    w = dictionary.weights
    b_out = replacement.weights.get(f"blocks.{layer}.attn.b_O")
    return w["b_enc"] if b_out is None else w["b_enc"] + b_out @ w["W_enc"]


@dataclass(frozen=True)
class MovedTerms:
    """One pre-activation of an attention-output latent, term by term.

    Attributes:
        nodes: active nodes of every source position.
        terms: what each adds through each head; they, ``constant`` and ``rest`` add up to the pre-activation.
        constant: the part that comes from no head.
        rest: what comes from parts of the residual stream that no feature accounts for.
    """

    nodes: Int[Tensor, "source slot"]
    terms: Float[Tensor, "head source slot"]
    constant: float
    rest: float


def moved_terms(
    circuits: Sequence[OVCircuit],
    replacement: Replacement,
    dictionary: Dictionary,
    activity: Activity,
    patterns: Float[Tensor, "batch head query key"],
    row: int,
    query: int,
    latent: int,
) -> MovedTerms:
    """Say which features, from where and through which head, make a latent's pre-activation at one position.

    Args:
        circuits: of the layer's heads, all of them, in order.
        patterns: of the same run, at the layer's ``hook_pattern``.
    """
    first = circuits[0]
    if [ov.head for ov in circuits] != list(range(replacement.spec.n_heads)):
        raise ConfigError(
            f"blocks.{first.layer}: circuits of heads {[ov.head for ov in circuits]}, expected all of "
            f"0 to {replacement.spec.n_heads - 1} in order"
        )
    site = first.reader.site
    scales = first.reader.scale(activity.total(site))
    nodes, values = (t[row, : query + 1] for t in activity.nodes(site, scales))
    weights = patterns[row, :, query, : query + 1] / scales[row, : query + 1]  # [head, source]
    rests = activity.rest_before(site)[row, : query + 1]
    encoder = dictionary.weights["W_enc"][:, latent]
    terms: list[Tensor] = []
    rest = 0.0
    for ov, weight in zip(circuits, weights, strict=True):
        table = ov.to_latents(dictionary, nodes.flatten(), [latent]).view(nodes.shape)
        terms.append(weight[:, None] * values * table)
        rest += float(weight @ (rests @ ov.value_map @ ov.out @ encoder))
    constant = float(constant_preactivations(replacement, dictionary, first.layer)[latent])
    return MovedTerms(nodes, torch.stack(terms), constant, rest)
