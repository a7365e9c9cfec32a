"""How much of a target a set of dictionaries keeps, by three protocols.

- ``alone``: one dictionary at a time, everything else the target's own, errors of that one propagating.
- ``clean``: all dictionaries at once, each reading what stands at its site in a clean run of the target.
- ``running``: all at once, errors propagating. Only this one is a program that runs.

Besides, for every site that is written: the share of its variance that is not explained (``fvu``) when clean values
are read and in the running program, and the active latents. The share leaves out the positions of the start token and
of other special tokens, whose values are often so large that they alone make up most of the variance; beside it stands
the share at every position (``_with_specials``). Divergences and active latents are those of every position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from englishroom.dictionaries.code import Codes
from englishroom.dictionaries.dictionary import Dictionary
from englishroom.dictionaries.losses import kl_nats
from englishroom.dictionaries.replacement import Replacement, clean_run
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.models.forward import Tap, unembedding
from englishroom.steps import StepProgress, silent


@dataclass
class Sums:
    """Sums over positions; those of parts of a text add up."""

    kl: float = 0.0
    agreed: int = 0
    nats: float = 0.0
    target_nats: float = 0.0
    positions: int = 0
    followed: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))

    def row(self, protocol: str, what: str) -> dict[str, Any]:
        """Return the means, with their units."""
        n, m = max(1, self.positions), max(1, self.followed)
        return {
            "protocol": protocol,
            "what": what,
            "kl_target_program_nats": self.kl / n,
            "top1_agreement": self.agreed / n,
            "ce_nats": self.nats / m,
            "ce_increase_nats": (self.nats - self.target_nats) / m,
            "positions": self.positions,
        }


@dataclass
class SiteSums:
    """Sums about one site that is written, over positions."""

    squares: float = 0.0
    total: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    wrong: dict[str, float] = field(default_factory=dict)
    positions: int = 0

    def see(self, value: Tensor) -> None:
        """Take in clean values, [position, d]."""
        value = value.double()
        self.squares += float(value.pow(2).sum())
        self.total = value.sum(0) if not len(self.total) else self.total + value.sum(0)
        self.positions += len(value)

    def compare(self, how: str, value: Tensor, clean: Tensor) -> None:
        """Take in how far values are from clean ones."""
        self.wrong[how] = self.wrong.get(how, 0.0) + float((value - clean).double().pow(2).sum())

    def fvu(self, how: str) -> float:
        """Return the fraction of variance unexplained."""
        variance = self.squares - float(self.total.pow(2).sum()) / max(1, self.positions)
        return self.wrong.get(how, 0.0) / max(variance, 1e-12)


@dataclass(frozen=True)
class Fidelity:
    """What was measured of a set of dictionaries.

    Attributes:
        protocols: one row a protocol, and under ``alone`` one a dictionary.
        sites: one row for every site written.
        dictionaries: one row a dictionary: ``l0``, ``frac_alive``.
    """

    protocols: list[dict[str, Any]]
    sites: list[dict[str, Any]]
    dictionaries: list[dict[str, Any]]


def measure_fidelity(
    replacement: Replacement,
    target_weights: Mapping[str, Tensor],
    rows: TokenRows,
    batch: int = 8,
    limit: int | None = None,
    progress: StepProgress = silent,
    alone: bool = True,
) -> Fidelity:
    """Measure a set of dictionaries on the rows of a text, by all three protocols.

    Args:
        target_weights: the target's own; those of the replacement may have been fitted.
        limit: read only so many rows.
        alone: measure every dictionary by itself too, which costs a run of the target for each.
    """
    meter = _Meter(replacement, target_weights, alone)
    total = rows.n_rows if limit is None else min(limit, rows.n_rows)
    done = 0
    with torch.no_grad():
        for tokens, mask in rows.parts(batch, limit):
            meter.read(torch.from_numpy(tokens), torch.from_numpy(mask), torch.from_numpy(mask & rows.ordinary(tokens)))
            done += len(tokens)
            progress(done, total)
    return meter.result()


def one_of(replacement: Replacement, dictionary: Dictionary, target_weights: Mapping[str, Tensor]) -> Replacement:
    """Return the target with one dictionary only, and the tables that go with it."""
    tables = {site: table for site, table in replacement.tables.items() if site in dictionary.spec.writes}
    return Replacement(replacement.spec, target_weights, (dictionary,), tables)


class _Meter:
    def __init__(self, replacement: Replacement, target_weights: Mapping[str, Tensor], alone: bool) -> None:
        self.all = replacement
        self.spec, self.weights = replacement.spec, target_weights
        self.alone: Sequence[Replacement] = []
        if alone:
            self.alone = [one_of(replacement, d, target_weights) for d in replacement.dictionaries]
        written = sorted(replacement.written)
        self.kept = sorted({*written, *(d.spec.reads for d in replacement.dictionaries)} | set(self._stream()))
        self.sites = {site: SiteSums() for site in [*written, *self._stream()]}
        self.every = {site: SiteSums() for site in self.sites}
        self.sums: dict[tuple[str, str], Sums] = {}
        self.active = [0] * len(replacement.dictionaries)
        self.fired = [torch.zeros(d.spec.n_latents, dtype=torch.float64) for d in replacement.dictionaries]

    def _stream(self) -> list[str]:
        return [f"blocks.{layer}.hook_resid_post" for layer in range(self.spec.n_layers)]

    def read(self, tokens: Tensor, mask: Tensor, ordinary: Tensor) -> None:
        """Take in rows of tokens, [row, pos].

        Args:
            mask: positions of the rows' own documents.
            ordinary: those of them without a special token.
        """
        final, clean = clean_run(self.spec, self.weights, tokens, self.kept)
        expected = final @ unembedding(self.spec, self.weights)
        places = ((self.sites, ordinary), (self.every, mask))
        for sums, where in places:
            for site in sums:
                sums[site].see(clean[site][where])
        for protocol, read in (("running", None), ("clean", clean)):
            final = self.all.run(tokens, self._comparing(protocol, clean, places), self._counting(protocol, mask), read)
            self._add(protocol, "all", expected, self.all.logits(final), tokens, mask)
        for one in self.alone:
            final = one.run(tokens)
            self._add("alone", one.dictionaries[0].spec.name, expected, one.logits(final), tokens, mask)

    def _comparing(
        self, protocol: str, clean: dict[str, Tensor], places: Sequence[tuple[dict[str, SiteSums], Tensor]]
    ) -> Tap:
        def tap(site: str, value: Tensor) -> Tensor:
            if site in self.sites:
                for sums, where in places:
                    sums[site].compare(protocol, value[where], clean[site][where])
            return value

        return tap

    def _counting(self, protocol: str, mask: Tensor):
        flat = mask.flatten()

        def code_tap(dictionary: Dictionary, codes: Codes) -> Codes:
            if protocol == "running":
                index = next(i for i, d in enumerate(self.all.dictionaries) if d is dictionary)
                inside = Codes(codes.indices[flat], codes.values[flat], codes.counts[flat])
                self.active[index] += int(inside.counts.sum())
                self.fired[index] += inside.firing(dictionary.spec.n_latents)
            return codes

        return code_tap

    def _add(self, protocol: str, what: str, expected: Tensor, found: Tensor, tokens: Tensor, mask: Tensor) -> None:
        kl, p, q = kl_nats(expected[mask], found[mask])
        inner = mask.clone()
        inner[:, -1] = False
        inner[:, :-1] &= mask[:, 1:]  # positions whose next token belongs to the document
        nexts = tokens.roll(-1, 1)[inner][:, None]
        pick = inner[mask]
        sums = Sums(
            float(kl.sum()),
            int((p.argmax(-1) == q.argmax(-1)).sum()),
            -float(q[pick].gather(1, nexts).sum()),
            -float(p[pick].gather(1, nexts).sum()),
            len(kl),
            len(nexts),
        )
        self.sums[protocol, what] = self.sums.get((protocol, what), Sums()) + sums

    def result(self) -> Fidelity:
        positions = max(1, self.sums["running", "all"].positions)
        order = {"alone": 0, "clean": 1, "running": 2}
        protocols = [sums.row(*key) for key, sums in sorted(self.sums.items(), key=lambda item: order[item[0][0]])]
        sites = [
            {"site": site}
            | {f"fvu_{how}": sums.fvu(how) for how in ("clean", "running")}
            | {f"fvu_{how}_with_specials": self.every[site].fvu(how) for how in ("clean", "running")}
            for site, sums in self.sites.items()
        ]
        dictionaries = [
            {
                "dictionary": d.spec.name,
                "activation": d.spec.activation,
                "n_latents": d.spec.n_latents,
                "l0": active / positions,
                "frac_alive": float((fired > 0).double().mean()),
            }
            for d, active, fired in zip(self.all.dictionaries, self.active, self.fired, strict=True)
        ]
        return Fidelity(protocols, sites, dictionaries)
