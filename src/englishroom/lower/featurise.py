"""Write a target and a set of dictionaries as a featured program.

Everything that writes to the residual stream is a feature: the token, the position, what a head moved here (a latent
of the dictionary of an attention's output), what a rule concluded (a latent of a transcoder). The stream is the sum of
what they write and nothing else, so whatever reads it - a head's queries, keys and values, a rule, the votes - reads
features. The score of a head is then, exactly, a sum over pairs of features, one here and one there, and what it moves
a sum over features there (``circuits.qk``, ``circuits.ov``); the program keeps those tables factored, as the features'
directions and the heads' own matrices.

Where error blocks are kept, what a dictionary leaves out is computed from the target's own part and added back, and the
program equals the exact one. Without them it is a claim, and the parts that only the errors needed are not in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from englishroom.dictionaries.dictionary import Dictionary, DictionarySpec
from englishroom.dictionaries.replacement import Replacement
from englishroom.errors import ConfigError
from englishroom.ir.program import Activate, Linear, Lookup, Origin, Program, Select, Sum, Table, Unexplained
from englishroom.ir.verify import require_valid
from englishroom.lower.lift import Lifter, rewrites_of
from englishroom.models.load import Target
from englishroom.passes.base import Record

MADE_BY = "featurise"
SITES = (
    "hook_resid_pre",
    "ln1.hook_normalized",
    "hook_attn_out",
    "hook_resid_mid",
    "ln2.hook_normalized",
    "hook_mlp_out",
    "hook_resid_post",
)
"""Sites of a layer that a dictionary of a program may read or write."""
FINAL = "ln_final.hook_normalized"
"""The one such site after the layers."""


def featurise(target: Target, replacement: Replacement, errors: bool = False) -> tuple[Program, Record]:
    """Write a target with dictionaries in place of some of its parts as a program at the featured level.

    1. Walk the forward pass as for the exact program.
    2. At a site that a dictionary reads, find its latents; at a site that dictionaries write, add up what they write.
    3. With ``errors``, keep the target's own part too, and add back what the dictionaries leave out.

    Args:
        replacement: its weights stand in for the target's (they may have been fitted along).

    Raises:
        ConfigError: a dictionary reads or writes a site that programs do not have.
    """
    began = time.perf_counter()
    for spec in (d.spec for d in replacement.dictionaries):
        for site in (spec.reads, *spec.writes):
            if site != FINAL and not site.endswith(SITES):
                raise ConfigError(f"{spec.name}: programs have no variable for {site}; they have {', '.join(SITES)}")
    featuriser = _Featuriser(replace(target, weights=replacement.weights), replacement, errors)
    program = require_valid(replace(featuriser.program(), level="featured"))
    rewrites = (*rewrites_of(target), *featuriser.rewrites)
    options = {"target": target.name, "errors": errors, "dictionaries": len(replacement.dictionaries)}
    return program, Record(MADE_BY, options, rewrites, time.perf_counter() - began)


def variable_of(spec: DictionarySpec) -> str:
    """Name the variable that holds a dictionary's latents in a program.

    ``blocks.0.moved`` for one that stands for an attention's output, ``blocks.0.rules`` for one that stands for an MLP,
    else the site that it reads with ``.features``.
    """
    block, _, part = spec.writes[0].rpartition(".")
    if part == "hook_attn_out" and spec.reads == spec.writes[0]:
        return f"{block}.moved"
    if part == "hook_mlp_out":
        return f"{spec.reads.rpartition('.ln2.')[0] or block}.rules"
    return f"{spec.reads}.features"


class _Featuriser(Lifter):
    def __init__(self, target: Target, replacement: Replacement, errors: bool) -> None:
        super().__init__(target)
        dictionaries = replacement.dictionaries
        self.tables = replacement.tables
        self.errors = errors
        self.rewrites: list[str] = []
        self._names = _distinct([variable_of(d.spec) for d in dictionaries])
        self._left = list(zip(self._names, dictionaries, strict=True))
        self._written = {site for d in dictionaries for site in d.spec.writes}
        self._read = {d.spec.reads for d in dictionaries}
        self._pending: dict[str, list[str]] = {}

    def site(self, name: str, make: Callable[[str], str]) -> str:
        if name not in self._written:
            made = make(name)
            self._run_readers(name, made)
            return made
        before = None
        if name in self._read or self.errors:
            before = make(f"{name}.before")
            self._run_readers(name, before)
        parts = self._pending.pop(name)
        if name in self.tables:
            parts.append(self._lookup(name))
        if before is None or not self.errors:
            return self._total(name, parts)
        explained = self._total(f"{name}.explained", parts)
        error = self._add(
            Unexplained(
                name=f"{name}.error", space="resid", exact=before, explained=explained, origin=Origin(MADE_BY, (name,))
            )
        )
        return self._total(name, [explained, error])

    def _lookup(self, site: str) -> str:
        """Add what the token read here writes at a site by itself."""
        name = f"{site}.token"
        table = Table(name, self.tables[site].detach().numpy())
        self.rewrites.append(f"{site} also from a table of tokens")
        return self._add(Lookup(name=name, space="resid", index="token", table=table, origin=Origin(MADE_BY, (site,))))

    def _total(self, name: str, parts: Sequence[str]) -> str:
        return self._add(Sum(name=name, space="resid", reads=tuple(parts), origin=Origin(MADE_BY)))

    def _run_readers(self, site: str, variable: str) -> None:
        here = [(name, d) for name, d in self._left if d.spec.reads == site]
        self._left = [(name, d) for name, d in self._left if d.spec.reads != site]
        for name, dictionary in here:
            self._run_dictionary(name, dictionary, variable)

    def _run_dictionary(self, name: str, dictionary: Dictionary, reads: str) -> None:
        spec, weights = dictionary.spec, dictionary.weights
        origin = Origin(MADE_BY, (f"dictionary {spec.name}",))

        def table(key: str) -> Table:
            return Table(f"{name}.{key}", weights[key].detach().numpy())

        space = self._space(name, spec.n_latents)
        pre = self._add(
            Linear(
                name=f"{name}.pre", space=space, reads=reads, weight=table("W_enc"), bias=table("b_enc"), origin=origin
            )
        )
        if spec.activation == "topk":
            pre = self._add(Activate(name=f"{name}.positive", space=space, reads=pre, function="relu", origin=origin))
            select = Select(name=name, space=space, reads=pre, k=spec.k, origin=origin)
        else:
            select = Select(name=name, space=space, reads=pre, thresholds=table("threshold"), origin=origin)
        latents = self._add(select)
        for number, site in enumerate(spec.writes):
            part = slice(number * spec.d_out, (number + 1) * spec.d_out)
            suffix = "" if len(spec.writes) == 1 else f".{number}"
            written = self._add(
                Linear(
                    name=f"{name}.out{suffix}",
                    space="resid",
                    reads=latents,
                    weight=Table(f"{name}.W_dec{suffix}", weights["W_dec"].detach()[:, part].numpy()),
                    bias=Table(f"{name}.b_dec{suffix}", weights["b_dec"].detach()[part].numpy()),
                    origin=origin,
                )
            )
            self._pending.setdefault(site, []).append(written)
            if spec.skip:
                skip = Table(f"{name}.W_skip{suffix}", weights["W_skip"].detach()[:, part].numpy())
                passed = Linear(name=f"{name}.skip{suffix}", space="resid", reads=reads, weight=skip, origin=origin)
                self._pending[site].append(self._add(passed))
        slots = f"{spec.k} of {spec.n_latents}" if spec.activation == "topk" else f"of {spec.n_latents}"
        self.rewrites.append(f"{', '.join(spec.writes)} from features {name} ({slots} latents)")


def _distinct(names: Sequence[str]) -> list[str]:
    """Number names that occur more than once."""
    return [name if names.count(name) == 1 else f"{name}.{names[:i].count(name)}" for i, name in enumerate(names)]
