"""How much work a decompilation does: sizes of the dictionaries, length of the fit, amount of text measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from englishroom.errors import ConfigError

if TYPE_CHECKING:  # torch loads only where something is fitted
    from englishroom.dictionaries.dictionary import DictionarySpec
    from englishroom.dictionaries.joint_fit import FitConfig
    from englishroom.models.spec import ModelSpec
    from englishroom.sparse.fit import SparseConfig
    from englishroom.sparse.start import StartConfig


@dataclass(frozen=True)
class Preset:
    """The settings of a decompilation to the featured or the sparse level.

    Attributes:
        moved, moved_active: latents of the dictionary of each attention output, and how many may be active.
        moved_from: first layer whose attention output has a dictionary.
        rules, rules_active: the same for each transcoder.
        skip: whether transcoders also pass on what they read, through a matrix.
        tables: whether every MLP's output is also given a table with a row for each token.
        local_tokens, joint_tokens: text read in the two stages of the fit.
        batch: rows of a step.
        rate: peak learning rate.
        align: weight of the distance from the target's values inside, beside the KL.
        count_specials: whether the start token and other special tokens count in that distance.
        ablate: share of joint steps in which one head or MLP is switched off in target and program alike.
        samples: documents sampled from the target where no text is given: to fit on, to choose on, to report on.
        report_documents: documents of the reporting text that are measured.
        evidence_rows: rows of the fitting text from which evidence for the latents is taken.
        greedy_prompts: beginnings of documents that target and program continue.
        probe_rows: rows of the reporting text on which parts are ablated, in target and program.
        kinds, kinds_active: kinds of words at the sparse level, and how many of them a token may be of.
        edges: edges of a sparse program in the end, those that lead to rules aside.
        reads, fan_in: features that a rule of a sparse program reads at most, for half and for 95 of 100 rules.
        numbers: features that a number reads at most that a head asks for, offers or carries.
        first_reads: features that a rule reads at the start, before any are left out; ``None`` for all, or 64 where
            these are too many.
        sparse_tokens: text read while edges are left out and the rest is refitted.
        sparse_rate: peak learning rate then, as a share of the size of a table's weights.
    """

    moved: int = 1024
    moved_active: int = 64
    moved_from: int = 0
    rules: int = 2048
    rules_active: int = 64
    skip: bool = False
    local_tokens: int = 60_000
    joint_tokens: int = 1_000_000
    batch: int = 4
    rate: float = 8e-3
    align: float = 0.5
    count_specials: bool = True
    ablate: float = 0.1
    tables: bool = True
    samples: tuple[int, int, int] = (2_000, 200, 200)
    report_documents: int = 400
    evidence_rows: int = 200
    greedy_prompts: int = 8
    probe_rows: int = 12
    kinds: int = 1024
    kinds_active: int = 32
    edges: int = 400_000
    reads: int = 8
    fan_in: int = 32
    numbers: int = 96
    first_reads: int | None = None
    sparse_tokens: int = 500_000
    sparse_rate: float = 0.015

    def specs(self, spec: ModelSpec) -> tuple[DictionarySpec, ...]:
        """Describe the dictionaries for a target."""
        from englishroom.dictionaries.joint_fit import featured_specs

        return featured_specs(
            spec,
            self.moved,
            self.moved_active,
            self.rules,
            self.rules_active,
            skip=self.skip,
            moved_from=self.moved_from,
        )

    def fit(self, seed: int) -> FitConfig:
        """Describe the fit."""
        from englishroom.dictionaries.joint_fit import FitConfig
        from englishroom.dictionaries.train import TrainerConfig

        return FitConfig(
            self.local_tokens,
            self.joint_tokens,
            self.batch,
            seed,
            align=self.align,
            ablate=self.ablate,
            tables=self.tables,
            count_specials=self.count_specials,
            trainer=TrainerConfig(rate=self.rate),
        )

    def sparse_start(self) -> StartConfig:
        """Describe how a sparse model is started."""
        from englishroom.sparse.start import StartConfig

        kinds = (self.kinds, self.kinds_active)
        return StartConfig(*kinds, *kinds, self.first_reads)

    def sparse_fit(self, seed: int) -> SparseConfig:
        """Describe how it is pruned and refitted."""
        from englishroom.sparse.fit import SparseConfig

        return SparseConfig(
            self.sparse_tokens,
            self.edges,
            max(self.edges, SparseConfig().first_edges),
            self.reads,
            self.fan_in,
            numbers=self.numbers,
            rate=self.sparse_rate,
            seed=seed,
            batch=self.batch,
        )


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "fast": Preset(),
        "standard": Preset(
            moved_active=128,
            moved_from=1,
            rules=4096,
            rules_active=128,
            local_tokens=100_000,
            joint_tokens=8_000_000,
            batch=2,
            rate=6e-3,
            ablate=0.3,
            samples=(10_000, 300, 400),
            evidence_rows=1_000,
            greedy_prompts=32,
            probe_rows=32,
        ),
        "full": Preset(
            moved_active=128,
            moved_from=1,
            rules=4096,
            rules_active=128,
            local_tokens=200_000,
            joint_tokens=40_000_000,
            batch=2,
            rate=6e-3,
            ablate=0.3,
            samples=(50_000, 300, 400),
            evidence_rows=4_000,
            greedy_prompts=32,
            probe_rows=64,
        ),
    }
)


_SHORT: Mapping[str, Any] = MappingProxyType(
    {"moved_from": 0, "local_tokens": 60_000, "batch": 2, "rate": 6e-3, "ablate": 0.0, "align": 0.1}
)
_SIZES: Mapping[str, Any] = MappingProxyType(
    {"moved": 512, "moved_active": 48, "rules": 2048, "rules_active": 72, **_SHORT}
)
SPARSE: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "fast": {
            **_SHORT,
            **{"moved": 512, "moved_active": 32, "rules": 1024, "rules_active": 48},
            **{"joint_tokens": 900_000, "edges": 300_000, "sparse_tokens": 600_000, "first_reads": 64},
        },
        "standard": {**_SIZES, "joint_tokens": 2_000_000, "edges": 400_000, "sparse_tokens": 1_500_000},
        "full": {**_SIZES, "joint_tokens": 6_000_000, "edges": 500_000, "sparse_tokens": 4_500_000},
    }
)
"""What presets have otherwise at the sparse level: fewer features, fewer of them on."""


def preset_of(name: str, changes: Mapping[str, Any], level: str = "featured") -> Preset:
    """Return a preset with some settings changed.

    Raises:
        ConfigError: there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"--preset is {name}, expected {', '.join(PRESETS)}")
    return replace(PRESETS[name], **{**(SPARSE[name] if level == "sparse" else {}), **changes})
