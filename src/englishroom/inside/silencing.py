"""By how much the answers of a readable program change where some of its features are silent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from englishroom.interp.vectorised import Interpreter, Stream
from englishroom.ir.labels import Labels, silent_key
from englishroom.ir.program import Fire, Looks, Lookup, Program
from englishroom.steps import StepProgress, silent


def parts_of(program: Program, labels: Labels) -> dict[str, tuple[str, NDArray[np.bool_]]]:
    """List what is silenced: each block of features or words that follow, each look, and each group of rules.

    Returns:
        Key in ``Labels.about`` -> variable and which of its coordinates.
    """
    found: dict[str, tuple[str, NDArray[np.bool_]]] = {}
    for block in program.blocks:
        size, first = program.space(block.space).size, 0
        if isinstance(block, Looks | Fire | Lookup):
            found[silent_key(block.name)] = block.name, np.ones(size, bool)
        if isinstance(block, Looks):
            for look, n_moved in enumerate(block.moved):
                own = (np.arange(size) >= first) & (np.arange(size) < first + n_moved)
                found[silent_key(block.name, f"look {look}")] = block.name, own
                first += n_moved
        if isinstance(block, Fire) and block.name in labels.features:
            groups = [feature.group for feature in labels.features[block.name]]
            for group in sorted(set(groups) - {""}):
                found[silent_key(block.name, group)] = block.name, np.array([own == group for own in groups])
    return found


def silent_nats(
    program: Program,
    parts: Mapping[str, tuple[str, NDArray[np.bool_]]],
    rows: Sequence[NDArray[np.integer]],
    progress: StepProgress = silent,
) -> dict[str, float]:
    """Measure KL(program, program with a part silent), in nats, the mean over all positions.

    What reads a silent feature reads 0 there; all else runs on from that.
    """
    interpreter = Interpreter(program, np.float32)
    slots = {block.name: at for at, block in enumerate(program.blocks)}
    total, n_positions = dict.fromkeys(parts, 0.0), 0
    for number, row in enumerate(rows):
        tokens = np.asarray(row)[None]
        whole = Stream(interpreter, 1, len(row))
        own = whole.extend(tokens)[0].astype(np.float64)
        values = whole.values
        for key, (variable, which) in parts.items():
            at = slots[variable]
            without = np.where(which, np.float32(0), values[at])
            answer = Stream(interpreter, 1, len(row)).resume(tokens, [*values[:at], without])[0]
            total[key] += float((np.exp(own) * (own - answer)).sum())
        n_positions += len(row)
        progress(number + 1, len(rows))
    return {key: float(f"{nats / max(1, n_positions):.4g}") for key, nats in total.items()}
