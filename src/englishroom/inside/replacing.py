"""What it costs to put something else in the place of one feature of a program, the others as they are.

For all features at once it is estimated to second order. A small change d of the votes raises KL(program‖changed) by
half the variance of d under what the program says, which is half the mean square of the change of log-probability of a
word that the program draws. So words are drawn, one at each position, and their log-probabilities are followed back
through votes, rules and looks to every feature. Thresholds are not crossed in this.

For a few features it is measured: the program is run with the feature replaced, all later blocks computed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from englishroom.interp.recorded_run import RecordedRun
from englishroom.interp.vectorised import Interpreter, Stream
from englishroom.ir.program import Program
from englishroom.steps import StepProgress, silent

Variables = Mapping[str, NDArray]
Replace = Callable[[NDArray[np.integer], Variables], Variables]
"""Of tokens and the variables that a program made of them, what features would be replaced by: name -> [pos, size]."""
Rows = Sequence[NDArray[np.integer]]
DRAWS = 4
"""Words drawn at each position."""


def estimated_costs(
    program: Program, rows: Rows, replace: Replace, seed: int = 0, progress: StepProgress = silent
) -> dict[str, NDArray[np.float64]]:
    """Estimate, for every feature, by how many nats a token KL rises when it alone is replaced: variable -> [size]."""
    interpreter, generator = Interpreter(program, np.float32), np.random.default_rng(seed)
    found: dict[str, NDArray[np.float64]] = {}
    positions = sum(map(len, rows))
    for number, tokens in enumerate(rows):
        run = RecordedRun(interpreter, tokens)
        others = replace(tokens, run.variables)
        changes = {name: other - run.variables[name] for name, other in others.items()}
        chances = np.exp(run.log_probs)
        summed = np.cumsum(chances, axis=1)
        for _ in range(DRAWS):
            aim = generator.random((len(tokens), 1)) * summed[:, -1:]
            drawn = np.minimum((summed < aim).sum(1), program.d_vocab - 1)
            gradient = -chances
            gradient[np.arange(len(tokens)), drawn] += 1
            back = run.back(gradient, "everything")
            for name, change in changes.items():
                moved = (back[name] * change).sum(0, dtype=np.float64) if name in back else np.zeros(change.shape[1])
                found[name] = found.get(name, 0.0) + moved**2 / (2 * DRAWS * positions)
        progress(number + 1, len(rows))
    return found


def measured_costs(
    program: Program,
    rows: Rows,
    replace: Replace,
    features: Sequence[tuple[str, int]],
    progress: StepProgress = silent,
) -> list[float]:
    """Measure by how many nats a token KL rises when each of some features alone is replaced."""
    interpreter = Interpreter(program, np.float32)
    place = {block.name: at for at, block in enumerate(program.blocks)}
    totals, positions = np.zeros(len(features)), sum(map(len, rows))
    for number, tokens in enumerate(rows):
        variables = interpreter.variables(tokens)
        others = replace(tokens, variables)
        said = variables[program.vote.name]
        for slot, (name, index) in enumerate(features):
            changed = variables[name].copy()
            changed[:, index] = others[name][:, index]
            before = [variables[block.name] for block in program.blocks[: place[name]]]
            stream = Stream(interpreter, 1, capacity=len(tokens))
            answer = stream.resume(tokens[None, :], [*before, changed])[0]
            totals[slot] += float((np.exp(said) * (said - answer)).sum(dtype=np.float64))
        progress(number + 1, len(rows))
    return (totals / positions).tolist()
