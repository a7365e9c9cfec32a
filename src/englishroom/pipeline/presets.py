"""How much work a decompilation does: a preset is a copy of the one for its level, with some settings replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from englishroom.dictionaries.config import DictionariesConfig, FitConfig, TrainerConfig
from englishroom.errors import ArtifactError, ConfigError
from englishroom.manifest import Manifest
from englishroom.names import MANIFEST
from englishroom.pipeline.config import DecompileConfig, MeasureConfig, MeasureReadableConfig, TextsConfig
from englishroom.untrusted import first_fault

Preset = Literal["fast", "standard", "full"]


def _featured() -> dict[str, DecompileConfig]:
    """Return the presets of the featured level."""
    wide = DictionariesConfig(moved=1024, moved_active=128, moved_from=1, rules=4096, rules_active=128)
    fast = DecompileConfig(
        level="featured",
        dictionaries=DictionariesConfig(moved=1024, moved_active=64, rules=2048, rules_active=64),
        fit=FitConfig(joint_tokens=1_000_000, batch=4, align=0.5, ablate=0.1, trainer=TrainerConfig(rate=8e-3)),
    )
    long = replace(fast.fit, batch=2, ablate=0.3, trainer=TrainerConfig(rate=6e-3))
    standard = replace(long, local_tokens=100_000, joint_tokens=8_000_000)
    return _sizes(fast, wide, standard, full=replace(long, local_tokens=200_000, joint_tokens=40_000_000))


def _sparse() -> dict[str, DecompileConfig]:
    """Return the presets of the sparse level: fewer features than at the featured level, and fewer of them active."""
    fast = DecompileConfig()
    wide = DictionariesConfig(moved=512, moved_active=48, rules=2048, rules_active=72)
    found = _sizes(fast, wide, replace(fast.fit, joint_tokens=2_000_000), replace(fast.fit, joint_tokens=6_000_000))
    for name, tokens, edges in (("standard", 1_500_000, 400_000), ("full", 4_500_000, 500_000)):
        sparse = replace(fast.sparse, tokens=tokens, edges=edges)
        found[name] = replace(found[name], start=replace(fast.start, reads=None), sparse=sparse)
    return found


def _readable() -> dict[str, DecompileConfig]:
    """Return the presets of the readable level: larger ones have more features, fitted and measured on more."""
    fast = DecompileConfig(level="readable")

    def longer(stream: int, short: int, texts: TextsConfig, measure: MeasureConfig) -> DecompileConfig:
        own = fast.readable
        sizes = replace(own.stream, moved=192, rules=2560, apart_tokens=250_000, look_tokens=250_000, tokens=stream)
        readable = replace(own, stream=sizes, short=replace(own.short, tokens=short))
        return replace(fast, readable=readable, texts=texts, measure=measure)

    return {
        "fast": fast,
        "standard": longer(2_000_000, 2_000_000, STANDARD_TEXTS, STANDARD_MEASURE),
        "full": longer(7_000_000, 5_000_000, FULL_TEXTS, FULL_MEASURE),
    }


def _sizes(
    fast: DecompileConfig, wide: DictionariesConfig, standard: FitConfig, full: FitConfig
) -> dict[str, DecompileConfig]:
    """Return the presets of a level: larger ones have wider dictionaries, fitted and measured on more."""
    larger = replace(fast, dictionaries=wide)
    return {
        "fast": fast,
        "standard": replace(larger, fit=standard, texts=STANDARD_TEXTS, measure=STANDARD_MEASURE),
        "full": replace(larger, fit=full, texts=FULL_TEXTS, measure=FULL_MEASURE),
    }


STANDARD_TEXTS, FULL_TEXTS = TextsConfig(samples=(10_000, 300, 400)), TextsConfig(samples=(50_000, 300, 400))
STANDARD_MEASURE = MeasureConfig(1_000, 32, 32, MeasureReadableConfig(100, 40))
FULL_MEASURE = MeasureConfig(4_000, 32, 64, MeasureReadableConfig(100, 80, explain=True))
PRESETS: Mapping[str, Mapping[str, DecompileConfig]] = MappingProxyType(
    {"exact": {name: DecompileConfig(level="exact") for name in ("fast", "standard", "full")}}
    | {"featured": _featured(), "sparse": _sparse(), "readable": _readable()}
)
"""Level -> preset -> its settings."""


def preset_of(name: str = "fast", level: str = "sparse") -> DecompileConfig:
    """Return the settings of a preset at a level; ``dataclasses.replace`` makes others of them.

    Raises:
        ConfigError: there is no such level or preset.
    """
    if level not in PRESETS:
        raise ConfigError(f"--level is {level}, expected {', '.join(PRESETS)}")
    if name not in PRESETS[level]:
        raise ConfigError(f"--preset is {name}, expected {', '.join(PRESETS[level])}")
    return PRESETS[level][name]


def settings_of(manifest: Manifest) -> DecompileConfig:
    """Read the settings that a manifest holds; those of rooms before 0.2.0 are a preset and changes of it.

    Raises:
        ArtifactError: they are something else.
    """
    stored = {"model": manifest.target["name"], "level": manifest.level} | manifest.config
    advice = "restore the file or decompile again"
    try:
        if "changes" in stored:
            changes = dict(stored.pop("changes"))
            stored = asdict(preset_of(stored.pop("preset"), stored["level"]).changed(**stored, **changes))
        return TypeAdapter(DecompileConfig).validate_python(stored)
    except ValidationError as error:
        raise ArtifactError(f"{MANIFEST}: config.{first_fault(error)}; {advice}") from None
    except (KeyError, TypeError, ValueError):
        raise ArtifactError(f"{MANIFEST}: config is not the settings of a decompilation; {advice}") from None


def command_of(config: DecompileConfig) -> list[str]:
    """Spell out the command of a decompilation, from the preset that is nearest to its settings; what has no effect is
    left out."""
    name, changes = _nearest(config)
    words = ["englishroom", "decompile", config.model, "--level", config.level]
    words += ["--preset", name] if config.level != "exact" else []
    for flag, value in changes.items():
        if flag in {"--model", "--level"} | config.without_effect():
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        else:
            words += [flag, *map(str, value if isinstance(value, tuple) else (value,))]
    return words


def nearest_preset(config: DecompileConfig) -> str:
    """Name the preset from which the fewest settings differ."""
    return _nearest(config)[0]


def _nearest(config: DecompileConfig) -> tuple[str, dict[str, Any]]:
    """Return the preset from which the fewest settings differ, and those that do, by their flags."""
    found = config.flags()
    differing = {
        name: {flag: found[flag] for flag, value in preset.flags().items() if found[flag] != value}
        for name, preset in PRESETS[config.level].items()
    }
    return min(differing.items(), key=lambda item: len(item[1]))
