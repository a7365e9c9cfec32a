"""Faithfulness in mechanism: change the same part in target and program, and compare what happens to the answers.

1. Pick a part: a head (``hook_z``), an MLP (``hook_mlp_out``), or a direction in the residual stream.
2. Change it at every position, in the target and in the target with parts replaced by dictionaries: to zero, to its
   mean over a text, or to its value in another text or at another position. Each model is given its own values.
3. The effect is the change of log-probabilities: of the token that came next (``next_token``), and of all tokens with
   the mean over the vocabulary taken off (``centred``), which is what logits mean.
4. Over many texts, see how well the program's effect predicts the target's: Pearson correlation, least-squares slope.

Effects of different parts resemble each other (rare tokens move most), so beside each correlation stands that of the
target's effect with the program's effect of *another* part of the same kind. A program is faithful where the former is
near 1 and well above the latter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from englishroom.circuits.pair_sums import PairSums, add_sums
from englishroom.circuits.parts import Direction, Head, How, Intervention, Mlp, Part
from englishroom.dictionaries.replacement import Replacement
from englishroom.errors import ConfigError
from englishroom.models.forward import Tap, final_normalized, fused_attend, unembedding
from englishroom.models.spec import ModelSpec, site_sizes
from englishroom.steps import Progress, silent

Measure = Literal["next_token", "centred"]
MEASURES: tuple[Measure, ...] = ("next_token", "centred")


@dataclass(frozen=True)
class InterventionRow:
    """How well the program's effects predict the target's.

    Attributes:
        kind: of part: ``head``, ``mlp`` or ``direction``.
        part: its name, or ``all`` of the kind.
        n: pairs of effects compared: positions, or positions times vocabulary.
        pearson: correlation of the two effects.
        other_part_pearson: the same with the program's effect of another part of the kind; nan where there is none.
        slope: of the target's effect on the program's, by least squares.
        rms_target_nats, rms_program_nats: size of the effects.
    """

    kind: str
    part: str
    how: How
    measure: Measure
    n: int
    pearson: float
    other_part_pearson: float
    slope: float
    rms_target_nats: float
    rms_program_nats: float


Key = tuple[str, str, How, Measure]
"""Kind of part, its name, what is done to it, what is measured."""


@dataclass(frozen=True)
class Effects:
    """Sums of effects, program as x and target as y; those of parts of a text add up to those of the whole.

    Attributes:
        same: of the same part in both.
        other: of the part in the target, and another of its kind in the program.
    """

    same: Mapping[Key, PairSums]
    other: Mapping[Key, PairSums]

    def __add__(self, others: Effects) -> Effects:
        return Effects(add_sums(self.same, others.same), add_sums(self.other, others.other))


def sum_effects(
    spec: ModelSpec,
    weights: Mapping[str, Tensor],
    replacement: Replacement,
    rows: Int[Tensor, "row pos"],
    mean_rows: Int[Tensor, "mean_row mean_pos"],
    interventions: Sequence[Intervention],
    rows_at_once: int = 2,
    progress: Progress = silent,
) -> Effects:
    """Change the same parts in a target and a program, and sum the effects, for :func:`tabulate_effects`.

    Args:
        spec, weights: of the target.
        replacement: the program: the target with parts replaced by dictionaries.
        rows: texts that effects are measured on.
        mean_rows: other texts, that means are taken over.
        rows_at_once: texts run side by side; every one holds some copies of [pos, d_vocab] numbers.

    Raises:
        ConfigError: there is nothing to measure, or an intervention does not fit the model.
    """
    _check(spec, replacement, rows, mean_rows, interventions)
    models = (_Model(replacement.spec, replacement.weights, replacement), _Model(spec, weights, None))
    parts = list(dict.fromkeys(i.part for i in interventions if i.how == "mean"))
    means = [model.means(parts, mean_rows, rows_at_once) for model in models]
    sites = frozenset(i.part.site for i in interventions if i.how == "other_text")
    total = Effects({}, {})
    with torch.no_grad():
        for start in range(0, len(rows), rows_at_once):
            at = torch.arange(start, min(start + rows_at_once, len(rows)))
            tokens, donors = rows[at], rows[(at + 1) % len(rows)]
            readings = [
                _Reading(model, tokens, mean, model.values(donors, sites))
                for model, mean in zip(models, means, strict=True)
            ]
            total = total + sum_over(readings, interventions)
            progress("interventions", int(at[-1]) + 1, len(rows))
    return total


def tabulate_effects(effects: Effects) -> list[InterventionRow]:
    """Say how well effects are predicted, for every part and for all of a kind together."""
    whole = Effects({}, {})
    for (kind, part, how, measure), moments in effects.same.items():
        key: Key = (kind, "all", how, measure)
        other = effects.other.get((kind, part, how, measure))
        whole = whole + Effects({key: moments}, {} if other is None else {key: other})
    rows: list[InterventionRow] = []
    for table in (whole, effects):
        for key, moments in table.same.items():
            other = table.other.get(key, PairSums())
            rows.append(
                InterventionRow(
                    *key, moments.n, moments.pearson, other.pearson, moments.slope, moments.rms_y, moments.rms_x
                )
            )
    return rows


@dataclass(frozen=True)
class _Model:
    """A target, or one with parts replaced, run alike."""

    spec: ModelSpec
    weights: Mapping[str, Tensor]
    replacement: Replacement | None

    def log_probs(self, tokens: Tensor, tap: Tap | None) -> Tensor:
        return (self.run(tokens, tap) @ unembedding(self.spec, self.weights)).log_softmax(-1)

    def run(self, tokens: Tensor, tap: Tap | None) -> Tensor:
        if self.replacement is not None:
            return self.replacement.run(tokens, tap)
        return final_normalized(self.spec, self.weights, tokens, tap, attend=fused_attend)

    def values(self, tokens: Tensor, sites: Collection[str]) -> dict[str, Tensor]:
        kept: dict[str, Tensor] = {}

        def keep(site: str, value: Tensor) -> Tensor:
            if site in sites:
                kept[site] = value
            return value

        if sites:
            self.run(tokens, keep)
        return kept

    def means(self, parts: Sequence[Part], rows: Tensor, rows_at_once: int) -> dict[Part, Tensor]:
        """Average parts over all positions of a text."""
        sums: dict[Part, Tensor] = {}
        with torch.no_grad():
            for tokens in rows.split(rows_at_once) if parts else ():
                values = self.values(tokens, {part.site for part in parts})
                for part in parts:
                    added = part.get(values[part.site]).double().sum((0, 1))
                    sums[part] = sums[part] + added if part in sums else added
        dtype = self.weights["embed.W_E"].dtype
        return {part: (total / rows.numel()).to(dtype) for part, total in sums.items()}


class _Reading:
    """One model reading some texts, untouched and changed."""

    def __init__(
        self, model: _Model, tokens: Tensor, means: Mapping[Part, Tensor], donors: Mapping[str, Tensor]
    ) -> None:
        self.model, self.tokens, self.means, self.donors = model, tokens, means, donors
        self.clean = model.log_probs(tokens, None)[:, :-1]

    def effects(self, intervention: Intervention) -> dict[Measure, Tensor]:
        """Return what an intervention does to log-probabilities, by what is measured."""
        part = intervention.part

        def change(site: str, value: Tensor) -> Tensor:
            return part.put(value, self._changed(intervention, part.get(value))) if site == part.site else value

        return moved_by(self.tokens, self.clean, self.model.log_probs(self.tokens, change))

    def _changed(self, intervention: Intervention, value: Tensor) -> Tensor:
        part = intervention.part
        match intervention.how:
            case "zero":
                return torch.zeros_like(value)
            case "mean":
                return self.means[part].expand_as(value)
            case "other_text":
                return part.get(self.donors[part.site])
            case "other_position":
                return torch.cat([value[:, :1], value[:, :-1]], 1)
            case "add":
                assert isinstance(part, Direction)
                return value + part.vector.norm()


class Reading(Protocol):
    """A model that has read some texts, and says what changes when a part of it is changed."""

    def effects(self, intervention: Intervention) -> dict[Measure, Tensor]: ...


def reading_of_target(spec: ModelSpec, weights: Mapping[str, Tensor], tokens: Int[Tensor, "row pos"]) -> Reading:
    """Let a target read some texts, whose parts can be set to zero."""
    return _Reading(_Model(spec, weights, None), tokens, {}, {})


def moved_by(
    tokens: Int[Tensor, "row pos"], clean: Float[Tensor, "row pos-1 d_vocab"], changed: Float[Tensor, "row pos d_vocab"]
) -> dict[Measure, Tensor]:
    """Return how far log-probabilities are from those of the untouched model, by what is measured."""
    moved = changed[:, :-1] - clean
    following = moved.gather(-1, tokens[:, 1:, None])
    return {"next_token": following, "centred": moved - moved.mean(-1, keepdim=True)}


def sum_over(readings: Sequence[Reading], interventions: Sequence[Intervention]) -> Effects:
    """Sum over one batch, the program's reading first, the target's second.

    Each part is also compared with the one before it of its kind, the first with the second.
    """
    same: dict[Key, PairSums] = {}
    other: dict[Key, PairSums] = {}
    alike: dict[tuple[str, How], list[Intervention]] = {}
    for intervention in interventions:
        alike.setdefault((intervention.part.kind, intervention.how), []).append(intervention)
    for (kind, how), group in alike.items():
        before: tuple[str, dict[Measure, Tensor], dict[Measure, Tensor]] | None = None
        for place, intervention in enumerate(group):
            name = intervention.part.name
            program, target = (reading.effects(intervention) for reading in readings)
            for measure in MEASURES:
                same[kind, name, how, measure] = PairSums.of(program[measure], target[measure])
                if before is not None:
                    other[kind, name, how, measure] = PairSums.of(before[1][measure], target[measure])
                    if place == 1:
                        other[kind, before[0], how, measure] = PairSums.of(program[measure], before[2][measure])
            before = name, program, target
    return Effects(same, other)


def _check(
    spec: ModelSpec, replacement: Replacement, rows: Tensor, mean_rows: Tensor, interventions: Sequence[Intervention]
) -> None:
    if spec != replacement.spec:
        raise ConfigError(
            "interventions: the program stands for a model of another shape than the target; give the target that its "
            "dictionaries were made for"
        )
    hows = {intervention.how for intervention in interventions}
    if not interventions or not rows.numel() or rows.shape[1] < 2:
        raise ConfigError(
            f"interventions: {len(interventions)} on {tuple(rows.shape)} tokens; expected one or more, on rows of two "
            "tokens or more"
        )
    if "mean" in hows and not mean_rows.numel():
        raise ConfigError("interventions: found no text to take means over; give mean_rows")
    if "other_text" in hows and len(rows) < 2:
        raise ConfigError("interventions: values of another text are asked for, but there is one text; give two rows")
    sizes = site_sizes(spec)
    for intervention in interventions:
        part = intervention.part
        match part:
            case Head():
                fits = 0 <= part.layer < spec.n_layers and 0 <= part.head < spec.n_heads
            case Mlp():
                fits = 0 <= part.layer < spec.n_layers
            case Direction():
                fits = sizes.get(part.site) == len(part.vector) and bool(part.vector.norm() > 0)
        if not fits:
            raise ConfigError(
                f"{part.name}: the model has no such part at {part.site}; it has {spec.n_layers} layers of "
                f"{spec.n_heads} heads, and directions of {spec.d_model} numbers, not all zero, at sites such as "
                "blocks.0.hook_resid_mid"
            )
        if intervention.how == "add" and not isinstance(part, Direction):
            raise ConfigError(f"{part.name}: add is for directions; a {part.kind} can be zero, mean or of another text")
