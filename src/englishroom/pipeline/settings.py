"""The settings of a decompilation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from englishroom.talkers.shipped import DEFAULT

OWN_SAMPLES = "samples of"
"""How the names of texts begin that a model told for its own decompilation."""
LEVELS = ("exact", "featured", "sparse")


@dataclass(frozen=True)
class DecompileConfig:
    """What to decompile, and how far.

    Attributes:
        preset: how much work is spent on fitting and measuring (levels after exact).
        fit, choose, report: texts; where empty, documents sampled from the target itself.
        dictionaries: folder of dictionaries to start from, in any format that is read; new ones where ``None``.
        context: tokens that the target reads at once at most, where its configuration says more.
        changes: settings of the preset that are to be others, by their names.
        blank_lines: whether texts keep white space around line ends; by default where the target says blank lines.
    """

    model: str = DEFAULT
    level: str = "exact"
    tokenizer: str | Path | None = None
    check: bool = True
    seed: int = 0
    preset: str = "fast"
    fit: tuple[str, ...] = ()
    choose: str | None = None
    report: str | None = None
    dictionaries: Path | None = None
    changes: tuple[tuple[str, Any], ...] = ()
    context: int | None = None
    blank_lines: Literal["auto", "keep", "collapse"] = "auto"
