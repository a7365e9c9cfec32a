"""How many features a program without rules lets through at one position: those that its selections keep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Program, Select
from englishroom.steps import StepProgress, silent


def count_selected(
    program: Program, texts: Sequence[NDArray[np.integer]], progress: StepProgress = silent
) -> float | None:
    """Count the features that all selections of a program keep at a position, on average over texts.

    Returns:
        ``None`` where it selects nothing: such a program works with all of its numbers everywhere.
    """
    chosen = [block.name for block in program.blocks if isinstance(block, Select)]
    if not chosen:
        return None
    interpreter = Interpreter(program, np.float32)
    kept = positions = 0
    for number, tokens in enumerate(texts):
        variables = interpreter.variables(tokens)
        kept += sum(int(np.count_nonzero(variables[name])) for name in chosen)
        positions += len(tokens)
        progress(number + 1, len(texts))
    return kept / positions
