"""What every pass is and what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from types import MappingProxyType
from typing import Any, Protocol

from englishroom.ir.program import Program
from englishroom.ir.verify import require_valid
from englishroom.steps import silent

GIVEN = MappingProxyType({"given": True})
"""Metadata of a field of a pass that is no option, since it follows from program and text."""


@dataclass(frozen=True)
class Record:
    """What one pass did.

    Attributes:
        made_by: name of the pass.
        options: its settings.
        rewrites: every rewrite, named, one line each.
        seconds: how long it took.
        cost_nats: mean KL from the program before to the program after, per token; ``None`` where nothing measured it.
    """

    made_by: str
    options: dict[str, Any] = field(default_factory=dict)
    rewrites: tuple[str, ...] = ()
    seconds: float = 0.0
    cost_nats: float | None = None


class Pass(Protocol):
    """A rewrite of a program: a frozen dataclass whose fields are its options."""

    @property
    def name(self) -> str: ...

    def __call__(self, program: Program) -> tuple[Program, tuple[str, ...]]:
        """Return the rewritten program and the rewrites done, one line each."""
        ...


def option_names(kind: type) -> list[str]:
    """Name the options of a kind of pass: its fields but for those that are given it."""
    return [item.name for item in fields(kind) if item.metadata != GIVEN] if is_dataclass(kind) else []


def options_of(step: object) -> dict[str, Any]:
    """Return the options of a pass, by name."""
    return {name: getattr(step, name) for name in option_names(type(step))}


def run_passes(
    program: Program, passes: Sequence[Pass], each: Callable[[Record], None] = silent
) -> tuple[Program, tuple[Record, ...]]:
    """Run passes in order, verifying after each.

    Raises:
        InvalidProgramError: a pass made an invalid program (a bug of that pass).
    """
    records: list[Record] = []
    for step in passes:
        began = time.perf_counter()
        program, rewrites = step(program)
        require_valid(program)
        records.append(Record(step.name, options_of(step), rewrites, time.perf_counter() - began))
        each(records[-1])
    return program, tuple(records)
