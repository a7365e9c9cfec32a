"""What changes when a head or an MLP is switched off, in a target and in its wired model alike."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from englishroom.circuits.intervene import (
    Effects,
    InterventionRow,
    Measure,
    moved_by,
    reading_of_target,
    sum_over,
    tabulate_effects,
)
from englishroom.circuits.parts import Head, Intervention, Mlp, block_interventions
from englishroom.models.load import Target
from englishroom.readable.wiring import WiredModel
from englishroom.steps import StepProgress, silent

AT_ONCE = 2
"""Texts that are read side by side."""


@torch.no_grad()
def effects_of(
    model: WiredModel, target: Target, rows: Int[Tensor, "row pos"], progress: StepProgress = silent
) -> list[InterventionRow]:
    """Set each head and MLP of a target to zero, let the features that stand for it in the model be silent; compare.

    Args:
        rows: texts that effects are measured on.
    """
    interventions, total = block_interventions(target.spec, ("zero",)), Effects({}, {})
    for number, tokens in enumerate(rows.split(AT_ONCE)):
        readings = _Reading(model, tokens), reading_of_target(target.spec, target.weights, tokens)
        total = total + sum_over(readings, interventions)
        progress(min(len(rows), (number + 1) * AT_ONCE), len(rows))
    return tabulate_effects(total)


class _Reading:
    """A wired model that has read some texts."""

    def __init__(self, model: WiredModel, tokens: Int[Tensor, "row pos"]) -> None:
        self.model, self.tokens = model, tokens
        self.clean = self._log_probs(None)[:, :-1]

    def _log_probs(self, off: tuple[int, int | None] | None) -> Tensor:
        return self.model.run(self.tokens, off=off).log_softmax(-1).unflatten(0, self.tokens.shape)

    def effects(self, intervention: Intervention) -> dict[Measure, Tensor]:
        """Return what it changes that the features of a part are silent, by what is measured."""
        part = intervention.part
        assert isinstance(part, Head | Mlp)
        off = part.layer, part.head if isinstance(part, Head) else None
        return moved_by(self.tokens, self.clean, self._log_probs(off))
