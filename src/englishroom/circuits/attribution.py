"""Attribution between active features of one text: predicted by linearity, then verified by intervening.

1. Run a featured model on a text; freeze attention patterns, the scales of norms, and errors if any are added.
2. What is left between two features is linear: a residual stream that each writes to, and readers that see it through a
   fixed map. An edge is what a source feature adds to the pre-activation of a target latent (or to a logit), at the
   value that it has: ``value * direction . sensitivity``. Edges into a target, and its constant, add up to it.
3. Clamp the source to zero in the model itself and look at the target: with everything else held, the change is the
   edge taken away, exactly. With nothing held, patterns shift, norms move and other features answer: the honest test.

Freezing as in circuit-tracer's attribution graphs (Ameisen et al. 2025); there attention moves nothing that is a
feature, here the latents of attention outputs are nodes like any others. Step 3 is :mod:`clamping`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from englishroom.circuits.basis import Activity, Basis, block_outputs, observe
from englishroom.circuits.folded_norm import FoldedNorm, reading
from englishroom.circuits.ov import constant_preactivations
from englishroom.circuits.qk import head_weights
from englishroom.dictionaries.replacement import Replacement
from englishroom.errors import ConfigError
from englishroom.models.forward import unembedding


@dataclass(frozen=True)
class Node:
    """A feature at a position."""

    feature: int
    position: int


@dataclass(frozen=True)
class Logit:
    """A token's logit at a position, relative to the mean over the vocabulary."""

    token: int
    position: int


@dataclass(frozen=True)
class Frozen:
    """A featured model on one text, with everything that edges take as given.

    Attributes:
        activity: of a batch of this one text.
        patterns: by layer, [head, query, key].
        scales: by norm, [pos].
        readings: by norm.
        errors: as given to :func:`freeze`.
    """

    basis: Basis
    replacement: Replacement
    tokens: Int[Tensor, " pos"]
    activity: Activity
    patterns: Mapping[int, Tensor]
    scales: Mapping[str, Tensor]
    readings: Mapping[str, FoldedNorm]
    errors: Mapping[str, Tensor] | None

    def latent(self, node: Node) -> tuple[int, int]:
        """Return the place of the dictionary that a feature is of, and the number of its latent there.

        Raises:
            ConfigError: the feature is a token or a position, or the position is not of the text.
        """
        group = self.basis.group_of(node.feature)
        if group.dictionary is None:
            raise ConfigError(f"{group.name}.{node.feature - group.start}: nothing is read by a {group.kind} feature")
        self.check_position(node.position)
        return group.dictionary, node.feature - group.start

    def check_position(self, position: int) -> None:
        """Refuse a position that is not of the text."""
        if not 0 <= position < len(self.tokens):
            raise ConfigError(f"position {position}: this text has positions 0 to {len(self.tokens) - 1}")


def freeze(
    basis: Basis, replacement: Replacement, tokens: Int[Tensor, " pos"], errors: Mapping[str, Tensor] | None = None
) -> Frozen:
    """Run a featured model on one text and keep what edges take as given.

    Args:
        errors: added at the sites written, [1, pos, d_model] each; held whatever is changed.

    Raises:
        ConfigError: a block has no dictionary that stands for it, or a dictionary reads what attribution cannot follow.
    """
    spec, weights = replacement.spec, replacement.weights
    if missing := [site for site in block_outputs(spec) if site not in replacement.written]:
        raise ConfigError(f"attribution: no dictionary writes {', '.join(missing)}; give one for each of them")
    for dictionary in replacement.dictionaries:
        if not dictionary.spec.reads.endswith((".hook_attn_out", ".hook_normalized")):
            raise ConfigError(
                f"attribution: {dictionary.spec.name} reads {dictionary.spec.reads}; expected attention or norm outputs"
            )
    layers = range(spec.n_layers)
    norms = [*(f"blocks.{layer}.{norm}" for layer in layers for norm in ("ln1", "ln2")), "ln_final"]
    readings = {norm: reading(spec, weights, norm) for norm in norms}
    patterns = {layer: f"blocks.{layer}.attn.hook_pattern" for layer in layers}
    sites = [*patterns.values(), *(reader.site for reader in readings.values())]
    activity, values = observe(basis, replacement, tokens[None], sites, errors)
    return Frozen(
        basis,
        replacement,
        tokens,
        activity,
        {layer: values[site][0] for layer, site in patterns.items()},
        {norm: reader.scale(values[reader.site][0]) for norm, reader in readings.items()},
        readings,
        errors,
    )


@dataclass(frozen=True)
class AttributedEdges:
    """Everything that adds to one target.

    Attributes:
        features, positions: the sources.
        values: what each adds; they and ``constant`` add up to ``total``, the target's pre-activation or logit.
        constant: decoder and other biases, and errors.
    """

    target: Node | Logit
    features: Int[Tensor, " edge"]
    positions: Int[Tensor, " edge"]
    values: Float[Tensor, " edge"]
    constant: float

    @property
    def total(self) -> float:
        return float(self.values.sum()) + self.constant


def edges_into(frozen: Frozen, target: Node | Logit) -> AttributedEdges:
    """Find what every active feature adds to a latent's pre-activation or to a logit."""
    site, positions, sensitivity, constant = _sensitivity(frozen, target)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for group in frozen.basis.before(site):
        features, values = (t[0, positions] for t in frozen.activity.of(group))  # [source, slot]
        found = values * torch.einsum("psd,pd->ps", group.directions[features - group.start], sensitivity)
        used = values != 0
        parts.append((features[used], positions[:, None].expand_as(used)[used], found[used]))
    always = frozen.basis.offset(site) + frozen.activity.rest_before(site)[0, positions]
    constant += float((always * sensitivity).sum())
    features, sources, added = (torch.cat(part) for part in zip(*parts, strict=True))
    return AttributedEdges(target, features, sources, added, constant)


def _sensitivity(frozen: Frozen, target: Node | Logit) -> tuple[str, Tensor, Tensor, float]:
    """Say how a target depends on the residual stream.

    Returns:
        The site; positions there, [source]; the target's derivative by the residual at each, [source, d_model]; and the
        part of the target that does not depend on the residual.
    """
    model = frozen.replacement
    if isinstance(target, Logit):
        frozen.check_position(target.position)
        unembed = unembedding(model.spec, model.weights)
        column = unembed[:, target.token] - unembed.mean(1)
        return _behind_norm(frozen, "ln_final", target.position, column, 0.0)
    place, latent = frozen.latent(target)
    dictionary = model.dictionaries[place]
    w, reads = dictionary.weights, dictionary.spec.reads
    encoder = w["W_enc"][:, latent]
    if reads.endswith("hook_normalized"):
        return _behind_norm(frozen, reads.rpartition(".")[0], target.position, encoder, float(w["b_enc"][latent]))
    layer = int(reads.split(".")[1])
    norm, query = f"blocks.{layer}.ln1", target.position
    weight = frozen.patterns[layer][:, query, : query + 1] / frozen.scales[norm][: query + 1]  # [head, source]
    out = model.weights[f"blocks.{layer}.attn.W_O"].view(model.spec.n_heads, model.spec.d_head, -1)
    sensitivity = encoder.new_zeros(query + 1, model.spec.d_model)
    constant = constant_preactivations(model, dictionary, layer)[latent]
    for head in range(model.spec.n_heads):
        read, always = frozen.readings[norm].fold(*head_weights(model, layer, head, "V"))
        back = out[head] @ encoder
        sensitivity = sensitivity + torch.outer(weight[head], read @ back)
        constant = constant + always @ back
    return frozen.readings[norm].site, torch.arange(query + 1), sensitivity, float(constant)


def _behind_norm(
    frozen: Frozen, norm: str, position: int, column: Tensor, bias: float
) -> tuple[str, Tensor, Tensor, float]:
    reader = frozen.readings[norm]
    read, constant = reader.fold(column[:, None])
    sensitivity = read.T / frozen.scales[norm][position]
    return reader.site, torch.tensor([position]), sensitivity, float(constant) + bias


def active_nodes(frozen: Frozen, group_name: str) -> list[Node]:
    """List the active features of a group, position by position."""
    features, values = frozen.activity.of(frozen.basis.group(group_name))
    return [
        Node(int(feature), position)
        for position, (row, held) in enumerate(zip(features[0], values[0], strict=True))
        for feature in row[held != 0]
    ]


def same_latent(frozen: Frozen, edges: AttributedEdges, source: Node) -> float:
    """Add up the edges of one latent from one position: a cross-layer latent writes several features."""
    group = frozen.basis.group_of(source.feature)
    total = 0.0
    for other in frozen.basis.groups:
        alike = other is group or (group.dictionary is not None and other.dictionary == group.dictionary)
        if alike:
            feature = source.feature - group.start + other.start
            hit = (edges.features == feature) & (edges.positions == source.position)
            total += float(edges.values[hit].sum())
    return total
