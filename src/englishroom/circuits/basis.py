"""The feature basis: everything that writes to the residual stream of a featured model, and what of it is active.

With the output of every block made by dictionaries, the residual stream at any site is

    resid = sum over active features of value * direction + offset,

where the features are the token (its row of ``W_E``), the position (its row of ``W_pos``, where positions are learned),
the latents of every dictionary that writes before the site, and the token again wherever a table of tokens writes; the
offset adds up the dictionaries' decoder biases. Blocks that no dictionary stands for, and errors that are added, are
kept beside as a rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from englishroom.circuits.folded_norm import FoldedNorm
from englishroom.dictionaries.code import Codes
from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.replacement import Replacement
from englishroom.errors import ConfigError
from englishroom.models.forward import fused_attend
from englishroom.models.spec import ModelSpec

Kind = Literal["token", "position", "moved", "rule", "table"]
_SITE = re.compile(r"blocks\.(\d+)\.(.+)")
_PATTERNS = ("hook_pattern", "hook_attn_scores")


@dataclass(frozen=True)
class Group:
    """Features of one kind that are written at one site.

    Attributes:
        name: what their ids begin with, for example ``token``, ``moved.0``, ``rule.1``, ``table.rule.1``.
        site: where they are written.
        dictionary: place of their dictionary in :attr:`Replacement.dictionaries`; ``None`` for tokens and positions.
        start: number of the first of them in the basis.
        offset: what is written whatever is active.
    """

    name: str
    kind: Kind
    site: str
    dictionary: int | None
    start: int
    directions: Float[Tensor, "feature d_model"]
    offset: Float[Tensor, " d_model"]

    @property
    def stop(self) -> int:
        return self.start + len(self.directions)


@dataclass(frozen=True)
class Basis:
    """The features of a featured model, in the order in which they are written.

    Features are numbered through from 0, so those that are written before a site are the first ones.
    """

    spec: ModelSpec
    groups: tuple[Group, ...]

    @property
    def n_features(self) -> int:
        return self.groups[-1].stop

    def group(self, name: str) -> Group:
        """Find a group by its name.

        Raises:
            ConfigError: there is none of this name.
        """
        for group in self.groups:
            if group.name == name:
                return group
        known = ", ".join(group.name for group in self.groups)
        raise ConfigError(f"no features named {name!r}; this basis has {known}")

    def group_of(self, feature: int) -> Group:
        """Find the group that a feature belongs to."""
        for group in self.groups:
            if group.start <= feature < group.stop:
                return group
        raise ConfigError(f"feature {feature}: this basis has features 0 to {self.n_features - 1}")

    def id(self, feature: int) -> str:
        """Return the stable id of a feature or constant: its group and its number there, as in ``moved.0.17``."""
        if feature >= self.n_features:
            raise ConfigError(f"feature {feature}: this basis has features 0 to {self.n_features - 1}")
        group = self.group_of(feature)
        return f"{group.name}.{feature - group.start}"

    def name(self, feature: int, pieces: Sequence[bytes] | None = None) -> str:
        """Name a feature for a reader: a token by its text where that is known, else by the id."""
        group = self.group_of(feature)
        if group.kind not in ("token", "table") or pieces is None:
            return self.id(feature)
        piece = pieces[feature - group.start]
        text = json.dumps(piece.decode("utf-8", "backslashreplace"), ensure_ascii=False)
        name = f"{group.name} {text}"
        return name if pieces.count(piece) == 1 else f"{name} ({feature - group.start})"

    def find(self, id_: str) -> int:
        """Return the number of the feature with an id.

        Raises:
            ConfigError: there is none.
        """
        name, _, place = id_.rpartition(".")
        group = self.group(name)
        if not place.isdecimal() or int(place) >= len(group.directions):
            raise ConfigError(f"{id_}: {name} has features {name}.0 to {name}.{len(group.directions) - 1}")
        return group.start + int(place)

    def before(self, site: str) -> tuple[Group, ...]:
        """List the groups that are written before a site of the residual stream."""
        depth = _read_depth(site)
        return tuple(group for group in self.groups if _write_depth(group.site) <= depth)

    def count_before(self, site: str) -> int:
        """Count the features that are written before a site of the residual stream."""
        return self.before(site)[-1].stop

    def directions(self, site: str) -> Float[Tensor, "feature d_model"]:
        """Return the directions of all features that are written before a site."""
        return torch.cat([group.directions for group in self.before(site)])

    def offset(self, site: str) -> Float[Tensor, " d_model"]:
        """Add up the offsets of all groups that are written before a site."""
        return torch.stack([group.offset for group in self.before(site)]).sum(0)

    def fold(
        self, reader: FoldedNorm, w: Float[Tensor, "d_model out"], b: Float[Tensor, " out"] | None = None
    ) -> Float[Tensor, "node out"]:
        """Return what every feature adds to a linear reader behind a norm, times the norm's scale.

        After the features stand two constants: ``offset``, the decoder biases, always active with value 1; and
        ``bias``, the reader's own constant, always active with the scale as its value. So for the nodes active at a
        position, ``(normalized @ w + b) * scale = sum of value * row``.
        """
        folded, constant = reader.fold(w, b)
        parts = [group.directions @ folded for group in self.before(reader.site)]
        return torch.cat([*parts, (self.offset(reader.site) @ folded)[None], constant[None]])


@dataclass(frozen=True)
class Activity:
    """What is active while a featured model reads some texts.

    Attributes:
        codes: active latents of every dictionary, by its place; rows are [batch * pos].
        rest: by site written, what features do not account for, [batch, pos, d_model]; empty where dictionaries stand
            for every block and no errors are added.
    """

    basis: Basis
    tokens: Int[Tensor, "batch pos"]
    codes: Mapping[int, Codes]
    rest: Mapping[str, Tensor]

    def of(self, group: Group) -> tuple[Int[Tensor, "batch pos slot"], Float[Tensor, "batch pos slot"]]:
        """Return the active features of a group, by their numbers in the basis, and their values.

        Slots without a feature hold the group's first with value 0.
        """
        shape = (*self.tokens.shape, -1)
        if group.dictionary is None:
            index = self.tokens
            if group.kind == "position":
                index = torch.arange(shape[1], device=index.device).expand(shape[:2])
            return group.start + index[..., None], torch.ones_like(index[..., None], dtype=group.directions.dtype)
        codes = self.codes[group.dictionary]
        shape = (*self.tokens.shape, codes.indices.shape[1])
        return group.start + codes.indices.long().view(shape), codes.values.view(shape)

    def before(self, site: str) -> tuple[Int[Tensor, "batch pos slot"], Float[Tensor, "batch pos slot"]]:
        """Return the active features that are written before a site, as :meth:`of` does."""
        parts = [self.of(group) for group in self.basis.before(site)]
        return torch.cat([i for i, _ in parts], -1), torch.cat([v for _, v in parts], -1)

    def nodes(
        self, site: str, scale: Float[Tensor, "batch pos"]
    ) -> tuple[Int[Tensor, "batch pos slot"], Float[Tensor, "batch pos slot"]]:
        """Return the active features before a site and the two constants of :meth:`Basis.fold`, with their values."""
        features, values = self.before(site)
        n = self.basis.count_before(site)
        constants = torch.tensor([n, n + 1], device=features.device).expand(*features.shape[:2], 2)
        held = torch.stack([torch.ones_like(scale), scale], -1)
        return torch.cat([features, constants], -1), torch.cat([values, held], -1)

    def total(self, site: str) -> Float[Tensor, "batch pos d_model"]:
        """Add up features, offsets and rest: the residual stream at a site."""
        out = self.basis.offset(site) + self.rest_before(site)
        for group in self.basis.before(site):
            features, values = self.of(group)
            out = out + torch.einsum("bps,bpsd->bpd", values, group.directions[features - group.start])
        return out

    def rest_before(self, site: str) -> Float[Tensor, "batch pos d_model"]:
        """Add up what features do not account for before a site."""
        depth, first = _read_depth(site), self.basis.groups[0].directions
        out = first.new_zeros(*self.tokens.shape, first.shape[1])
        for written, part in self.rest.items():
            if _write_depth(written) <= depth:
                out = out + part
        return out


def feature_basis(replacement: Replacement) -> Basis:
    """List every feature that writes to the residual stream of a featured model.

    Attention-output latents are ``moved`` features, those that write an MLP's output ``rule``; both by the layer that
    their dictionary reads, and where it writes several sites (a cross-layer transcoder) also by the layer written.
    What a table of tokens writes beside dictionaries is a ``table`` feature.

    Raises:
        ConfigError: a dictionary writes something else than a block's output, or passes its input on unencoded.
    """
    weights, spec = replacement.weights, replacement.spec
    like = weights["embed.W_E"]
    zero = like.new_zeros(spec.d_model)
    found: list[tuple[str, Kind, str, int | None, Tensor, Tensor]] = [
        ("token", "token", "hook_embed", None, like, zero)
    ]
    if spec.rotary_theta is None:
        found.append(("position", "position", "hook_pos_embed", None, weights["pos_embed.W_pos"], zero))
    later: list[tuple[str, Kind, str, int | None, Tensor, Tensor]] = []
    for place, dictionary in enumerate(replacement.dictionaries):
        w_dec = dictionary.written(dictionary.weights["W_dec"].detach())
        b_dec = dictionary.written(dictionary.weights["b_dec"].detach())
        for site in dictionary.spec.writes:
            kind, layer = _checked(dictionary, site)
            read = _SITE.match(dictionary.spec.reads)
            source = read[1] if read else "0"
            name = f"{kind}.{source}" if source == layer else f"{kind}.{source}to{layer}"
            later.append((name, kind, site, place, w_dec[site], b_dec[site]))
    for site, table in replacement.tables.items():
        kind, layer = _kind(site)
        later.append((f"table.{kind}.{layer}", "table", site, None, table.detach(), zero))
    later.sort(key=lambda entry: _write_depth(entry[2]))
    groups: list[Group] = []
    for name, kind, site, place, directions, offset in found + later:
        taken = sum(group.name.partition("#")[0] == name for group in groups)
        unique = f"{name}#{taken + 1}" if taken else name
        groups.append(Group(unique, kind, site, place, groups[-1].stop if groups else 0, directions, offset))
    return Basis(spec, tuple(groups))


def observe(
    basis: Basis,
    replacement: Replacement,
    tokens: Int[Tensor, "batch pos"],
    sites: Collection[str] = (),
    errors: Mapping[str, Tensor] | None = None,
) -> tuple[Activity, dict[str, Tensor]]:
    """Run a featured model, and return what is active and the values at some sites.

    Args:
        sites: any sites; attention scores and patterns among them are formed explicitly.
        errors: added at the sites written, see :meth:`Replacement.run`.
    """
    codes: dict[int, Codes] = {}
    kept: dict[str, Tensor] = {}
    places = {id(dictionary): place for place, dictionary in enumerate(replacement.dictionaries)}
    outputs = block_outputs(replacement.spec)
    rest: dict[str, Tensor] = {}

    def see(dictionary: Dictionary, found: Codes) -> Codes:
        codes[places[id(dictionary)]] = found
        return found

    def keep(site: str, value: Tensor) -> Tensor:
        if site in sites:
            kept[site] = value
        if site in outputs and site not in replacement.written:
            rest[site] = value
        return value

    spelt = any(site.endswith(_PATTERNS) for site in sites)
    with torch.no_grad():
        replacement.run(tokens, keep, see, errors=errors, attend=None if spelt else fused_attend)
    if missing := set(sites) - kept.keys():
        raise ConfigError(f"the model has no site {', '.join(sorted(missing))} that can be read")
    for site, error in (errors or {}).items():
        if site in replacement.written:
            rest[site] = error.expand(*tokens.shape, -1)
    return Activity(basis, tokens, codes, rest), kept


def block_outputs(spec: ModelSpec) -> tuple[str, ...]:
    """List the outputs of all attention and MLP blocks, in the order of the forward pass."""
    parts = ("hook_attn_out", "hook_mlp_out")
    return tuple(f"blocks.{layer}.{part}" for layer in range(spec.n_layers) for part in parts)


def _checked(dictionary: Dictionary, site: str) -> tuple[Kind, str]:
    kind, layer = _kind(site)
    if kind is None:
        raise ConfigError(
            f"{dictionary.spec.name}: writes {site}; features of the residual stream are written at hook_attn_out or "
            "hook_mlp_out of a block; leave this dictionary out"
        )
    if dictionary.spec.skip:
        raise ConfigError(
            f"{dictionary.spec.name}: passes its input on through W_skip, which is no sum of features; expected a "
            "dictionary without skip; train one"
        )
    return kind, layer


def _kind(site: str) -> tuple[Kind | None, str]:
    """Say what a site written is made of, and its layer."""
    found = _SITE.fullmatch(site)
    kinds: dict[str, Kind] = {"hook_attn_out": "moved", "hook_mlp_out": "rule"}
    return (kinds.get(found[2]), found[1]) if found else (None, "")


def _write_depth(site: str) -> int:
    found = _SITE.fullmatch(site)
    return 0 if found is None else 2 * int(found[1]) + (1 if found[2] == "hook_attn_out" else 2)


def _read_depth(site: str) -> int:
    found = _SITE.fullmatch(site)
    after = {"hook_resid_pre": 0, "hook_resid_mid": 1, "hook_resid_post": 2}
    if found is None or found[2] not in after:
        raise ConfigError(f"{site}: not in the residual stream; expected blocks.<layer>.hook_resid_pre, _mid or _post")
    return 2 * int(found[1]) + after[found[2]]
