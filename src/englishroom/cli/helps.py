"""Helps that flow: what a field's docstring says is one paragraph, wherever its lines break in the source."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Annotated, Any, get_type_hints

import docstring_parser
import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo


def flowing_helps() -> ConstructorRegistry:
    """Return the rule by which tyro reads configs; its own one keeps line breaks before lines that are indented."""
    registry = ConstructorRegistry()
    registry.struct_rule(_of_dataclass)
    return registry


def _of_dataclass(info: StructTypeInfo) -> StructConstructorSpec | None:
    if not dataclasses.is_dataclass(info.type):
        return None
    given = info.default if isinstance(info.default, info.type) else None
    hints = get_type_hints(info.type, include_extras=True)
    fields = []
    for field in dataclasses.fields(info.type):
        default = tyro.MISSING if field.default is dataclasses.MISSING else field.default
        default = default if given is None else getattr(given, field.name)
        hint: Any = hints[field.name]
        if default is True or default == ():  # tyro would print "--no-check ... (default: True)" and "(default: )"
            hint = Annotated[hint, tyro.conf.arg(help_behavior_hint="(done by default)" if default else "")]
        fields.append(StructFieldSpec(field.name, hint, default, partial(_help, info.type, field.name)))
    return StructConstructorSpec(info.type, tuple(fields))


def _help(config: type, name: str) -> str | None:
    for kind in config.__mro__[:-1]:
        for doc in docstring_parser.parse_from_object(kind).params:
            if doc.arg_name == name and doc.description:
                return " ".join(doc.description.split())
    return None
