"""The forms of the JSON files that a report reads out of a room: what its sections rely on, and no more.

Every number may be an infinity or nan (in older files a text, "nan"), or missing; what writes numbers on the page
shows a sign or a dash then. What a file holds beyond its form is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NotRequired

from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict

from englishroom.names import FIDELITY, FRONTIER, MEMORY, SCORES, TRACE


class Special(TypedDict):
    """An infinity or nan, as ``plain`` writes it."""

    float: Literal["nan", "inf", "-inf"]


Number = int | float | str | Special | None
_OPEN = ConfigDict(extra="allow", strict=True)
"""Holds for the forms inside a form, too."""


class _Text(TypedDict):
    name: str
    documents: Number


class _Settings(TypedDict):
    notes: NotRequired[list[str]]


class _Score(TypedDict):
    talker: str
    role: str
    nats_per_token: Number
    ce_increase: NotRequired[Number]
    description_bits: NotRequired[Number]
    training_compute_recovered: NotRequired[str | None]
    ladder_compute_recovered: NotRequired[str | None]
    equivalent_parameters: NotRequired[str | None]


class _Category(TypedDict):
    talker: str
    category: str
    tokens: Number
    nats_per_token: Number
    ce_increase: NotRequired[Number]
    ce_increase_interval: NotRequired[list[Number] | None]


@with_config(_OPEN)
class ScoresFile(TypedDict):
    """``scores.json``."""

    text: _Text
    settings: NotRequired[_Settings]
    rows: list[_Score]
    categories: NotRequired[list[_Category] | None]


@with_config(_OPEN)
class TraceFile(TypedDict):
    """``trace.json``."""

    rules_fired: NotRequired[dict[str, Any]]
    edges_used: NotRequired[dict[str, Any]]
    reads_per_rule: NotRequired[dict[str, Any]]


class _Protocol(TypedDict):
    protocol: Literal["alone", "clean", "running"]
    what: str


@with_config(_OPEN)
class FidelityFile(TypedDict):
    """``fidelity.json``."""

    protocols: NotRequired[list[_Protocol]]


class _Point(TypedDict):
    name: str
    kind: str
    label: NotRequired[str | None]
    open: NotRequired[str | None]
    description_bits: NotRequired[Number]
    training_compute_recovered: NotRequired[str | None]


@with_config(_OPEN)
class FrontierFile(TypedDict):
    """``frontier.json``."""

    text: _Text
    points: list[_Point]


class _Worse(TypedDict):
    before: str
    token: str
    nats: list[Number]
    expected: list[str]


class _Story(TypedDict):
    prompt: str
    seed: int
    alike: int
    first: str
    second: str


class _Compared(TypedDict):
    text: str
    documents: Number
    first_better: list[_Worse]
    second_better: list[_Worse]
    stories: list[_Story]


class _Share(TypedDict):
    name: str
    nats: Number


class _Followed(TypedDict):
    token: str
    target_nats: Number
    program_nats: Number
    expected: str
    rules_fired: Number
    baseline: Number
    parts: list[_Share]


class _Sentence(TypedDict):
    tokens: list[_Followed]


class MeasuredPart(TypedDict):
    """What a report measured anew, in ``report.json``."""

    compared: _Compared
    sentences: NotRequired[list[_Sentence]]
    scores: NotRequired[ScoresFile]
    trace: NotRequired[TraceFile]


@with_config(_OPEN)
class ReportFile(TypedDict):
    """What a later report asks of ``report.json``."""

    identity: dict[str, Any]
    measured: MeasuredPart


FORMS: Mapping[str, TypeAdapter[Any]] = MappingProxyType(
    {
        SCORES: TypeAdapter(ScoresFile),
        TRACE: TypeAdapter(TraceFile),
        FIDELITY: TypeAdapter(FidelityFile),
        FRONTIER: TypeAdapter(FrontierFile),
        MEMORY: TypeAdapter(dict[str, Any]),
    }
)
"""Form of each file of a room that a report reads."""
REPORTED = TypeAdapter(ReportFile)
