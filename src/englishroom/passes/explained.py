"""Put conditions in the place of features: the program of its explanations alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from englishroom.ir.condition import Condition
from englishroom.ir.marks import Marks, marks_table
from englishroom.ir.program import Block, Conditions, Fire, Looks, Origin, Program, Table, Vote, reads_of
from englishroom.passes.base import GIVEN

Told = Mapping[tuple[str, int], tuple[Condition, float]]
"""Variable and index of a feature -> its condition, and what it is worth where that holds."""
NEVER = Condition(), 0.0


@dataclass(frozen=True)
class ExplainedAlone:
    """Put its condition, with one value, in the place of each moved feature and rule of a readable program.

    A feature without a condition is never on. Lists and places that nothing votes from go, as looks and sums do; votes,
    and what follows each word, stay as they are. Other programs are left as they are.
    """

    name = "explained"
    told: Told = field(metadata=GIVEN)
    marks: Marks = field(metadata=GIVEN)

    def __call__(self, program: Program) -> tuple[Program, tuple[str, ...]]:
        if not program.is_readable:
            return program, ()
        blocks = [self._block(program, block) for block in program.blocks]
        needed: set[str] = set()
        for block in reversed(blocks):
            if isinstance(block, Vote) or block.name in needed:
                needed.update((block.name, *reads_of(block)))
        kept = tuple(block for block in blocks if block.name in needed)
        written = {block.space for block in kept}
        spaces = tuple(space for space in program.spaces if space.name in written)
        rewrites = [
            f"{block.name}: {sum(bool(c.alternatives) for c in block.conditions):,} of {len(block.conditions):,} "
            "features have a condition"
            for block in kept
            if isinstance(block, Conditions)
        ]
        rewrites += [f"left out {block.name}" for block in blocks if block.name not in needed]
        return Program("explained", program.n_ctx, spaces, kept), tuple(rewrites)

    def _block(self, program: Program, block: Block) -> Block:
        if not isinstance(block, Looks | Fire):
            return block
        told = [self.told.get((block.name, at), NEVER) for at in range(program.space(block.space).size)]
        return Conditions(
            name=block.name,
            space=block.space,
            conditions=tuple(condition for condition, _ in told),
            values=Table(f"{block.name}.values", np.array([max(0.0, value) for _, value in told], np.float32)),
            marks=marks_table(self.marks, "conditions.marks"),
            origin=Origin(self.name, (block.name,)),
        )
