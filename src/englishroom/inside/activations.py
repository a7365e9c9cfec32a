"""When the features of a sparse program are on, and how strongly; no other place knows which variables have them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Conditions, Fire, Looks, Program, Rules
from englishroom.steps import StepProgress, silent

Csc = scipy.sparse.csc_array
Firing = Looks | Fire | Conditions
"""Blocks whose variable says itself which of their rules, moved features or conditions are on."""


def features_on(
    program: Program,
    rows: Sequence[NDArray[np.integer]],
    progress: StepProgress = silent,
) -> dict[str, Csc]:
    """Run a program over rows of tokens and keep where its rules, moved features and conditions are on, and how much.

    Returns:
        By variable, in the order of the program; rows end to end, [pos, feature].
    """
    interpreter = Interpreter(program, np.float32)
    names = [block.name for block in program.blocks if isinstance(block, Rules | Firing)]
    found: dict[str, list[scipy.sparse.csr_array]] = {name: [] for name in names}
    for number, tokens in enumerate(rows):
        variables = interpreter.variables(np.asarray(tokens))
        for name, parts in found.items():
            parts.append(scipy.sparse.csr_array(variables[name]))
        progress(number + 1, len(rows))
    return {name: Csc(scipy.sparse.vstack(parts)) for name, parts in found.items()}
