"""A target with some of its parts replaced by dictionaries: what runs when a program is fitted, judged and probed.

At a site that a dictionary reads, its active latents are found; at a site that dictionaries write, the sum of what
they write takes the place of the target's value. MLPs whose output nobody needs are not computed at all, so nothing of
them can leak through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from englishroom.dictionaries.code import Codes
from englishroom.dictionaries.dictionary import Dictionary
from englishroom.errors import ConfigError
from englishroom.models.forward import Attend, Tap, final_normalized, fused_attend, unembedding
from englishroom.models.spec import ModelSpec, site_sizes

CodeTap = Callable[[Dictionary, Codes], Codes]
"""Called with a dictionary and the latents that it found active; what it returns is decoded in their place."""
Coder = Callable[[Dictionary, Tensor], Tensor]
"""Runs a dictionary on what it reads, [*rows, d_in], and returns all that it writes, [*rows, width]."""


@dataclass(frozen=True)
class Replacement:
    """A target, and dictionaries in place of some of its parts.

    Attributes:
        weights: of the target, or fitted in their place.
        dictionaries: in any order; each site may be written by several.
        tables: by site that dictionaries write, a row for every token, [d_vocab, d]; that of the token read is added
            to what they write. (A token is a sparse basis by itself; its latents would only spell the table out.)
    """

    spec: ModelSpec
    weights: Mapping[str, Tensor]
    dictionaries: tuple[Dictionary, ...]
    tables: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes, order = site_sizes(self.spec), list(site_sizes(self.spec))
        for dictionary in self.dictionaries:
            spec = dictionary.spec
            for site, size in [(spec.reads, spec.d_in), *((site, spec.d_out) for site in spec.writes)]:
                if site not in sizes:
                    raise ConfigError(f"{spec.name}: the model has no site {site}; it has, for example, {order[2]}")
                if sizes[site] != size:
                    raise ConfigError(f"{spec.name}: {site} has size {sizes[site]} in this model, not {size}")
            if any(order.index(site) < order.index(spec.reads) for site in spec.writes):
                raise ConfigError(f"{spec.name}: writes a site that comes before {spec.reads}, which it reads")

        for site, table in self.tables.items():
            if site not in self.written:
                raise ConfigError(f"{site}: has a table of tokens, but no dictionary writes it")
            if table.shape != (self.spec.d_vocab, sizes[site]):
                raise ConfigError(f"{site}: table of {tuple(table.shape)}, expected {(self.spec.d_vocab, sizes[site])}")

    @cached_property
    def written(self) -> frozenset[str]:
        """The sites whose value dictionaries make."""
        return frozenset(site for d in self.dictionaries for site in d.spec.writes)

    @cached_property
    def skipped(self) -> tuple[str, ...]:
        """The MLPs that take no part."""
        read = {d.spec.reads for d in self.dictionaries}
        outs = {f"blocks.{layer}.mlp": f"blocks.{layer}.hook_mlp_out" for layer in range(self.spec.n_layers)}
        return tuple(mlp for mlp, out in outs.items() if out in self.written and out not in read)

    def run(
        self,
        tokens: Int[Tensor, "batch pos"],
        tap: Tap | None = None,
        code_tap: CodeTap | None = None,
        clean: Mapping[str, Tensor] | None = None,
        errors: Mapping[str, Tensor] | None = None,
        attend: Attend | None = fused_attend,
        coder: Coder | None = None,
    ) -> Float[Tensor, "batch pos d_model"]:
        """Compute the final normalised residual, errors of one part propagating into the next.

        Args:
            tap: sees, and may replace, the value at every site, after the dictionaries had their say.
            code_tap: sees, and may replace, the active latents of every dictionary.
            clean: values that dictionaries read in place of what stands at their site in this run.
            errors: added at the sites written, the part of the target's value that the dictionaries do not explain.
            attend: ``None`` forms patterns explicitly, so that a tap can see them.
            coder: runs the dictionaries, in training; ``code_tap`` is then not called.
        """

        def encode_and_decode(dictionary: Dictionary, x: Tensor) -> Tensor:
            codes = dictionary.encode(x)
            return dictionary.run(x, codes if code_tap is None else code_tap(dictionary, codes))[0]

        coder = coder or encode_and_decode
        pending: dict[str, Tensor] = {}
        readers: dict[str, list[Dictionary]] = {}
        for dictionary in self.dictionaries:
            readers.setdefault(dictionary.spec.reads, []).append(dictionary)

        def at(site: str, value: Tensor) -> Tensor:
            for dictionary in readers.get(site, ()):
                out = coder(dictionary, value if clean is None else clean[site])
                for target, part in dictionary.written(out).items():
                    pending[target] = pending[target] + part if target in pending else part
            if site in self.written:
                value = pending.pop(site)
                if site in self.tables:
                    value = value + F.embedding(tokens, self.tables[site])
                if errors is not None:
                    value = value + errors[site]
            return value if tap is None else tap(site, value)

        return final_normalized(self.spec, self.weights, tokens, at, attend=attend, skipped=self.skipped)

    def logits(self, final: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_vocab"]:
        """Turn what :meth:`run` returns into the logits of the next token."""
        return final @ unembedding(self.spec, self.weights)


def clean_run(
    spec: ModelSpec,
    weights: Mapping[str, Tensor],
    tokens: Int[Tensor, "batch pos"],
    sites: Sequence[str],
    attend: Attend | None = fused_attend,
    tap: Tap | None = None,
) -> tuple[Float[Tensor, "batch pos d_model"], dict[str, Tensor]]:
    """Run the target itself, without gradients, and keep the values at some sites (after ``tap``, if any)."""
    kept: dict[str, Tensor] = {}
    wanted = frozenset(sites)

    def keep(site: str, value: Tensor) -> Tensor:
        if tap is not None:
            value = tap(site, value)
        if site in wanted:
            kept[site] = value
        return value

    with torch.no_grad():
        final = final_normalized(spec, weights, tokens, keep, attend=attend)
    if missing := wanted - kept.keys():
        raise ConfigError(f"the model has no site {', '.join(sorted(missing))} that can be read")
    return final, kept
