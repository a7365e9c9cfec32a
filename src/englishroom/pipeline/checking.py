"""Reading a text with what must agree: so far that heads look back, and beyond the windows of those that look near."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.evaluate.talk import TalkOptions, continuation
from englishroom.ir.program import Attend, Looks, Lookup, Match, Program, tables_of
from englishroom.pipeline.evidence import Agreement, CheckedText, EmittedAgreement
from englishroom.steps import Progress
from englishroom.talker import Talker

if TYPE_CHECKING:
    from englishroom.evaluate.talkers.program import EmittedTalker

TOLERANCE_NATS = 1e-2
"""Above this two implementations do not say the same, and what follows would be about another model."""
MEASURED_POSITIONS = 128
BEYOND = 16
"""Positions read beyond the widest window of local attention."""
EMITTED_NUMBERS = 60_000_000
"""Multiply-adds that pure Python may spend on checking the emitted file (a few seconds)."""
EMITTED_POSITIONS = 8
"""Positions that it reads whatever they cost, so that heads look back."""
CROSSING_NUMBERS = 2_000_000_000
"""Multiply-adds that it may spend on getting beyond the widest window (a minute or two)."""
SEED = 0
"""Of the random tokens."""
LogProbs = Callable[[NDArray[np.integer]], NDArray[Any]]


def lengthened(tokens: Sequence[int], n_positions: int, d_vocab: int) -> CheckedText:
    """Go on with random tokens, always the same, where a text has too few."""
    missing = max(0, n_positions - len(tokens))
    drawn = np.random.default_rng(SEED).integers(0, d_vocab, missing)
    return CheckedText([*tokens, *drawn.tolist()], missing)


def windows_of(program: Program) -> list[int]:
    """List the windows of heads and looks that see no farther back than so many positions, in longer contexts."""
    windows = [block.window for block in program.blocks if isinstance(block, Attend | Match | Looks)]
    return [window for window in windows if window is not None and window < program.n_ctx]


def positions_to_read(windows: Iterable[int | None], n_ctx: int, least: int) -> int:
    """Say how many positions to read: so many at least, and beyond the widest window, as the context allows."""
    beyond = [window + BEYOND for window in windows if window is not None]
    return min(n_ctx, max([least, *beyond]))


def positions_to_emit(program: Program) -> int:
    """Say how many positions the emitted file reads: as many as the time allows, and as many as looking back takes."""
    rows = {t.name: t.shape[0] for b in program.blocks if isinstance(b, Lookup) for t in tables_of(b)}
    others = {t.name for b in program.blocks if not isinstance(b, Lookup) for t in tables_of(b)}
    sizes = {name: table.n_entries for name, table in program.tables().items()}
    numbers = sum(n if name in others else n // rows[name] for name, n in sizes.items()) or 1
    beyond = max([0, *(window + 2 for window in windows_of(program))])
    wanted = max(EMITTED_NUMBERS // numbers, EMITTED_POSITIONS, min(beyond, CROSSING_NUMBERS // numbers))
    return min(program.n_ctx, wanted)


def measure(
    target: Talker, program: Talker, same_as: tuple[str, LogProbs], windows: Sequence[int | None], progress: Progress
) -> Agreement:
    """Run the program on the story that the target tells greedily from its start token, and on random tokens behind it.

    Args:
        windows: how many positions back heads of the target look, ``None`` for all.

    Raises:
        ConfigError: they differ by more than rounding can explain.
    """
    n_positions = positions_to_read(windows, target.n_ctx, MEASURED_POSITIONS)
    story = [target.tokenizer.start_id]
    for token in continuation(target, story[:1], TalkOptions(greedy=True, max_tokens=n_positions - 1)):
        story.append(token)
        progress("measuring", len(story), n_positions)
    text = lengthened(story, n_positions, len(target.tokenizer.pieces))
    tokens = np.array([text.tokens])
    name, log_probs = same_as
    theirs, ours, expected = target.log_probs(tokens)[0], program.log_probs(tokens)[0], log_probs(tokens)[0]
    gap = largest_gap(name, expected, ours)
    progress("measuring", n_positions, n_positions)
    return Agreement(text, name, gap, int((ours.argmax(-1) == theirs.argmax(-1)).sum()))


def check_emitted(
    talker: EmittedTalker, text: CheckedText, expected: NDArray[np.float64], progress: Progress
) -> EmittedAgreement:
    """Run the emitted file in a bare Python on a text; return how far it is from the interpreter.

    Raises:
        ConfigError: they differ by more than rounding can explain.
    """
    largest = 0.0
    with talker:
        reading = talker.stream()
        for position, token in enumerate(text.tokens):
            answer = reading.extend(np.array([[token]]))[0, 0]
            largest = max(largest, largest_gap("interpreter", expected[position], answer))
            progress("running program.py", position + 1, len(text.tokens))
    return EmittedAgreement(text, largest)


def largest_gap(name: str, expected: NDArray[np.floating], found: NDArray[np.floating]) -> float:
    """Return the largest difference of log-probabilities from what a program must agree with.

    Raises:
        ConfigError: it is more than rounding can explain.
    """
    gap = float(np.abs(found - expected).max())
    if not gap <= TOLERANCE_NATS:
        raise ConfigError(
            f"the program differs from the {name} by {gap:.2g} nats, more than {TOLERANCE_NATS:g}; "
            "nothing was written, please report this model"
        )
    return gap
