"""Numbers as a reader wants them: with their unit, no more digits than they are worth, a dash where there is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

NONE = "–"


def usable(value: Any) -> bool:
    """Say whether a value of a JSON file is a finite number (in older ones infinities and nan are texts)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def positive(value: Any) -> bool:
    """Say whether a value is a number above 0 of a size that can be divided by and drawn."""
    return usable(value) and 1e-30 < value < 1e30


def number(value: Any, form: str = ".3f") -> str:
    """Write a number in a form of ``format``, an infinity as its sign, or a dash."""
    if isinstance(value, float) and math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return format(value, form).replace("-", "−") if usable(value) else NONE


def signed(value: Any) -> str:
    """Write a difference in nats, with its sign."""
    return number(value, "+.3f")


def count(value: Any) -> str:
    """Write a whole number with its thousands apart, or a dash."""
    return number(round(value), ",") if usable(value) else NONE


def bits(value: Any) -> str:
    """Write a length in bits, kilobits or megabits."""
    if not usable(value):
        return NONE
    for size, unit in ((1e6, "Mbit"), (1e3, "kbit")):
        if value >= size:
            return f"{value / size:.3g} {unit}" if value < 1000 * size else f"{value / size:,.0f} {unit}"
    return f"{value:.0f} bits"


def share(value: Any) -> str:
    """Write a share as a percentage."""
    if not usable(value):
        return NONE
    percent = 100 * value
    return f"{percent:.0f} %" if percent >= 99.95 or percent == 0 else f"{percent:.{1 if percent >= 1 else 2}f} %"


def between(pair: Any, write: Callable[[Any], str] = number) -> str:
    """Write an interval, or nothing."""
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(map(usable, pair)):
        return ""
    return f"{write(pair[0])} to {write(pair[1])}"


def plus_minus(pair: Any) -> str:
    """Write half the width of an interval, or nothing."""
    return f"± {(pair[1] - pair[0]) / 2:.3f}" if between(pair) else ""


def text(value: Any) -> str:
    """Write what is a text already, or a dash."""
    return str(value) if value else NONE


def short(name: str) -> str:
    """Name a text without the folders that it lies in; names on the hub stay whole."""
    return name.rpartition("/")[2] if name.startswith(("/", ".", "~")) else name
