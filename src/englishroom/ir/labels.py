"""What the features of a program are called, and the evidence that they are called so by.

A label is the human text of one coordinate of a variable: ``word:she/her/he``. Labels stand beside a program and change
nothing about what it says. They come from text (``inside/labelling.py``) and lie in the room as ``labels.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ConfigDict, TypeAdapter, with_config

from englishroom.errors import ArtifactError, bounded
from englishroom.ir.condition import Condition
from englishroom.ir.program import Program
from englishroom.names import LABELS
from englishroom.store import read_manifest, read_room
from englishroom.untrusted import parse_json

Scores = tuple[tuple[str, float], ...]
"""Texts with their values, the strongest first."""


@with_config(ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
@dataclass(frozen=True)
class Explanation:
    """A condition that says when a feature is on, and how well it says so on held-out text.

    Attributes:
        strength: mean value of the feature where the condition holds, on the text that it was searched on.
        precision: share of the positions where the condition holds at which the feature is on; 0 where it never holds.
        recall: share of the positions where the feature is on at which the condition holds; 0 where it is never on.
        mcc: Matthews correlation of both; 0 where one of them is always or never.
    """

    condition: Condition
    strength: float
    precision: float
    recall: float
    mcc: float


@with_config(ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
@dataclass(frozen=True)
class Feature:
    """The label of one feature and what it was made of. All texts are on one line and print as they stand.

    Attributes:
        label: unique within its variable.
        group: the kind of work it does, for listing it with its like; empty where nothing was found.
        importance: about what would be lost without it, in the unit that ``Labels.about["importance"]`` states.
        frequency: share of the positions read at which it is on.
        mean: its mean value where it is on.
        tokens: tokens on which it is on, or that weigh most in it, with the share of its activation or their value.
        contexts: features that excite it beside those tokens, with the mean of what each adds to it.
        votes: tokens that it votes for, with its weight for each.
        explanation: when it is on, where that was searched.
        example: the end of a text, with the word at which it is on in square brackets; empty where there is none.
        back: of a moved feature, how far back what it finds stands: quartiles; empty where that was not measured.
        of_all: for each of ``tokens``, the share of all its positions at which the feature is on, where counted.
        follows: tokens that most often follow where it is on, each with its share there, and where the same tokens
            stand and it is off; ``None`` where there are no such positions.
        examples: ends of texts like ``example``, each with what follows; what is found stands in braces.
        near_miss: an example of a position with the same token at hand at which it is off.
    """

    label: str
    group: str = ""
    importance: float = 0.0
    frequency: float = 0.0
    mean: float = 0.0
    tokens: Scores = ()
    contexts: Scores = ()
    votes: Scores = ()
    explanation: Explanation | None = None
    example: str = ""
    back: tuple[int, ...] = ()
    of_all: tuple[float, ...] = ()
    follows: tuple[tuple[str, float, float | None], ...] = ()
    examples: tuple[str, ...] = ()
    near_miss: str = ""


def texts_of(feature: Feature) -> Iterator[str]:
    """Yield every text of a label."""
    yield from (feature.label, feature.group, feature.example, *feature.examples, feature.near_miss)
    yield from (text for text, *_ in feature.follows)
    for scores in (feature.tokens, feature.contexts, feature.votes):
        yield from (text for text, _ in scores)


@dataclass(frozen=True)
class Labels:
    """Labels of the features of a program: variable -> one for each of its coordinates.

    Attributes:
        features: not every variable has them; what has none is called by its number.
        about: what the evidence comes from (``text``, ``positions``) and what its numbers mean.
    """

    features: Mapping[str, tuple[Feature, ...]] = field(default_factory=dict)
    about: Mapping[str, str | int | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part in ("features", "about"):
            object.__setattr__(self, part, MappingProxyType(dict(getattr(self, part))))

    def of(self, variable: str, index: int) -> str:
        """Name a coordinate of a variable: its label, or ``variable[index]`` where it has none."""
        found = self.feature(variable, index)
        return f"{variable}[{index}]" if found is None else found.label

    def feature(self, variable: str, index: int) -> Feature | None:
        """Return the label of a coordinate with its evidence, or ``None`` where it has none."""
        of_variable = self.features.get(variable, ())
        return of_variable[index] if 0 <= index < len(of_variable) else None

    def silent_nats(self, variable: str, group: str = "") -> float | None:
        """Return by how much answers change where a variable, or a group of its features, is silent, if measured."""
        nats = self.about.get(silent_key(variable, group))
        return None if nats is None or isinstance(nats, str) else float(nats)

    @property
    def explanations(self) -> dict[tuple[str, int], Explanation]:
        """The explanations of features that have one, by variable and index."""
        return {
            (name, at): feature.explanation
            for name, features in self.features.items()
            for at, feature in enumerate(features)
            if feature.explanation is not None
        }

    def explained(self, by: Mapping[tuple[str, int], Explanation], about: Mapping[str, str | int | float]) -> Labels:
        """Return the labels with these explanations in place of any that were there.

        Args:
            by: variable and index -> explanation.
            about: what is to be said of them.
        """
        features = {
            name: tuple(replace(feature, explanation=by.get((name, at))) for at, feature in enumerate(features))
            for name, features in self.features.items()
        }
        return Labels(features, {**self.about, **about})

    def to_json(self) -> bytes:
        """Write the labels as the bytes of ``labels.json``; one line a feature."""
        parts = [f'{{"about": {json.dumps(dict(self.about), allow_nan=False)}, "features": {{']
        for number, (variable, features) in enumerate(self.features.items()):
            parts.append(f"{',' if number else ''}{json.dumps(variable)}: [")
            parts.append(",\n".join(json.dumps(_plain(feature), allow_nan=False) for feature in features))
            parts.append("]")
        return "\n".join([*parts, "}}\n"]).encode()


def silent_key(variable: str, group: str = "") -> str:
    """Return under which name ``Labels.about`` says by how much answers change where features are silent."""
    return f"{SILENT}{variable}: {group}" if group else f"{SILENT}{variable}"


_LEFT_OUT = ("explanation", "example", "back", "of_all", "follows", "examples", "near_miss")
"""Fields that are not written where they are empty."""


def _plain(feature: Feature) -> dict[str, Any]:
    plain = asdict(feature)
    return {name: value for name, value in plain.items() if value or name not in _LEFT_OUT}


@with_config(ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
@dataclass(frozen=True)
class _LabelsFile:
    about: dict[str, str | int | float]
    features: dict[str, tuple[Feature, ...]]


_FORM = TypeAdapter(_LabelsFile)
_ADVICE = "make it again with englishroom label"
SILENT = "silent "
"""How keys of ``Labels.about`` begin that say by how much answers change where features are silent, in nats."""
EXPLAINED_ON, MEASURED_ON = "explained_on", "explanations_measured_on"
"""What ``Labels.about`` says of explanations: the texts that they were searched and measured on."""


def labels_from_json(data: bytes, where: str = LABELS) -> Labels:
    """Read what ``Labels.to_json`` wrote.

    Raises:
        ArtifactError: no JSON, a field is missing, unknown or of the wrong type, or a label stands twice in a variable.
    """
    file = parse_json(data, _FORM, where, _ADVICE)
    for text in (*file.about, *map(str, file.about.values()), *file.features):
        _check_prints(text, where)
    for variable, features in file.features.items():
        seen: set[str] = set()
        for index, feature in enumerate(features):
            for text in texts_of(feature):
                _check_prints(text, f"{where}: {variable}[{index}]")
            if not feature.label or feature.label in seen:
                found = f"is {feature.label!r}, which stands there before" if feature.label else "is empty"
                raise ArtifactError(f"{where}: {variable}[{index}]: label {found}, expected one of its own; {_ADVICE}")
            seen.add(feature.label)
    return Labels(file.features, file.about)


def _check_prints(text: str, where: str) -> None:
    if not text.isprintable():
        raise ArtifactError(f"{where}: {bounded(text, 60)!r} does not print, expected one line, escaped; {_ADVICE}")


def check_labels(labels: Labels, program: Program, where: str = LABELS) -> Labels:
    """Return the labels, or refuse them where they are of another program.

    Raises:
        ArtifactError: a variable is unknown or has another size, or a condition has a token that the program lacks.
    """
    sizes = {block.name: program.space(block.space).size for block in program.blocks}
    for variable, features in labels.features.items():
        if sizes.get(variable) != len(features):
            expected = f"{sizes[variable]}" if variable in sizes else "a variable of the program"
            raise ArtifactError(f"{where}: {len(features)} labels for {variable}, expected {expected}; {_ADVICE}")
        for index, feature in enumerate(features):
            words = () if feature.explanation is None else feature.explanation.condition.words
            if beyond := [word.token for word in words if word.token >= program.d_vocab]:
                raise ArtifactError(
                    f"{where}: {variable}[{index}]: its condition has the token {beyond[0]}, expected less than "
                    f"{program.d_vocab}; {_ADVICE}"
                )
    return labels


def load_labels(path: Path, program: Program) -> Labels:
    """Read the labels of a room, none where it has no ``labels.json``.

    Raises:
        ArtifactError: there is no room, or its labels are changed, damaged or of another program.
    """
    if LABELS not in read_manifest(path).files:
        return Labels()
    data = read_room(path, (LABELS,)).contents[LABELS]
    return check_labels(labels_from_json(data, str(path / LABELS)), program, str(path / LABELS))
