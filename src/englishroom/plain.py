"""Plain data as JSON: numbers, texts, lists and objects, with a form of their own for infinities and nan.

JSON has no infinity and no nan. A text "nan" in their place could be mistaken for a text, and cannot be formatted as
a number; so they are written as ``{"float": "nan"}``, ``{"float": "inf"}`` and ``{"float": "-inf"}``, and read back
as the numbers they are.
"""

from __future__ import annotations

import json
import math
from typing import Any

KEY = "float"
_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_json(value: Any, indent: int | None = 1) -> bytes:
    """Write plain data, the same bytes for the same data."""
    return (json.dumps(storable(value), indent=indent, ensure_ascii=False, allow_nan=False) + "\n").encode()


def from_json(data: bytes | str) -> Any:
    """Read what :func:`to_json` wrote.

    Raises:
        ValueError: it is not JSON.
    """
    return restored(json.loads(data))


def storable(value: Any) -> Any:
    """Give infinities and nan their form; tuples become lists, as in JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return {KEY: str(float(value))}
    if isinstance(value, dict):
        return {key: storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return value


def restored(value: Any) -> Any:
    """Turn the form of infinities and nan back into numbers."""
    if isinstance(value, dict):
        if value.keys() == {KEY} and isinstance(value[KEY], str) and value[KEY] in _NUMBERS:
            return _NUMBERS[value[KEY]]
        return {key: restored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [restored(item) for item in value]
    return value
