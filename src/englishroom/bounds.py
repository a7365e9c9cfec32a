"""Bounds of settings, declared with the setting.

A config is a frozen dataclass of :class:`Settings`. What each field may be stands in its type, its default behind it,
and its help in the string under it; the flags of the command line are made of these, and so is the check::

    @dataclass(frozen=True)
    class FitConfig(Settings):
        batch: Count = 2
        \"\"\"Rows of text in one step.\"\"\"

The flag of a field is its name, with dashes, or the name that ``tyro.conf.arg`` gives it.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, GroupedMetadata, Gt, Interval, Le, Lt

from englishroom.errors import ConfigError

_BOUNDS: tuple[tuple[type, str, Callable[[Any, Any], bool]], ...] = (
    (Ge, "{} or more", operator.ge),
    (Gt, "above {}", operator.gt),
    (Le, "at most {}", operator.le),
    (Lt, "below {}", operator.lt),
)
Count = Annotated[int, Ge(1)]
Amount = Annotated[int, Ge(0)]
Weight = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]
Share = Annotated[float, Interval(ge=0, le=1)]


@dataclass(frozen=True)
class Settings:
    """Base of configs: frozen dataclasses whose fields say what they may be."""

    def validate(self) -> None:
        """Refuse what is out of its bounds, here and in the settings within.

        Raises:
            ConfigError: a value is out of its bounds; the message names its flag.
        """
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            value = getattr(self, name)
            if isinstance(value, Settings):
                value.validate()
            elif (expected := _refused(hint, value)) is not None:
                raise ConfigError(f"{flag_of(type(self), name)} is {_shown(value)}, expected {expected}")

    def flags(self) -> dict[str, Any]:
        """Return the value behind every flag, of this config and of those within."""
        found: dict[str, Any] = {}
        for name in get_type_hints(type(self)):
            value = getattr(self, name)
            found |= value.flags() if isinstance(value, Settings) else {flag_of(type(self), name): value}
        return found

    def changed(self, **by_flag: Any) -> Self:
        """Return a copy with other values behind some flags, which are named without their dashes in front.

        Raises:
            ConfigError: there is no such flag.
        """
        unknown = {"--" + name.replace("_", "-") for name in by_flag} - self.flags().keys()
        if unknown:
            raise ConfigError(f"{', '.join(sorted(unknown))}: no such setting")
        return self._changed({"--" + name.replace("_", "-"): value for name, value in by_flag.items()})

    def _changed(self, by_flag: Mapping[str, Any]) -> Self:
        changes: dict[str, Any] = {}
        for name in get_type_hints(type(self)):
            value, flag = getattr(self, name), flag_of(type(self), name)
            changes[name] = value._changed(by_flag) if isinstance(value, Settings) else by_flag.get(flag, value)
        return replace(self, **changes)

    def plain(self) -> dict[str, Any]:
        """Return the settings as plain data, for a manifest."""
        return json.loads(json.dumps(asdict(self), default=str))


def flag_of(config: type[Settings], field: str) -> str:
    """Return the flag of a field of a config."""
    hint = get_type_hints(config, include_extras=True)[field]
    named = [found for item in get_args(hint)[1:] if isinstance(found := getattr(item, "name", None), str)]
    return "--" + (named or [field])[0].replace("_", "-")


def _refused(hint: Any, value: Any) -> str | None:
    """Return what was expected, where a value is something else."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _refused(args[0], value) or _out_of_bounds(args[1:], value)
    if origin in (Union, UnionType):
        expected = [_refused(arg, value) for arg in args]
        return None if None in expected else " or ".join(word for word in expected if word)
    if origin is Literal:
        return None if value in args else ", ".join(map(str, args))
    if origin is tuple and value is not None:
        items = [args[0]] * len(value) if args[-1] is Ellipsis else args
        return next(filter(None, map(_refused, items, value)), None)
    if hint is NoneType:
        return None if value is None else ""
    if hint is int:
        return None if isinstance(value, int) and not isinstance(value, bool) else "a whole number"
    if hint is float:
        return None if isinstance(value, int | float) and math.isfinite(value) else "a finite number"
    return None


def _out_of_bounds(metadata: tuple[Any, ...], value: Any) -> str | None:
    """Return the bounds in words, where a number is not within them."""
    bounds = [bound for item in metadata for bound in (item if isinstance(item, GroupedMetadata) else [item])]
    words: list[str] = []
    refused = False
    for bound in bounds:
        for kind, word, holds in _BOUNDS:
            if isinstance(bound, kind):
                limit = getattr(bound, kind.__name__.lower())
                words.append(word.format(limit))
                refused = refused or not holds(value, limit)
    return " and ".join(words).replace(" or more and at most ", " to ") if refused else None


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_shown, value)) or "empty"
    return f"{value:g}" if isinstance(value, float) else str(value)
