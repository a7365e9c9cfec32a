"""Open what a name stands for: a room, a shipped model, a file, a folder, a name on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from englishroom.errors import ConfigError, UnsupportedModelError
from englishroom.evaluate.talkers.program import ProgramTalker
from englishroom.ir.room import load_program
from englishroom.ir.tokenizer import Tokenizer
from englishroom.pipeline.steps import Say
from englishroom.sketch.folder import SOURCE, looks_like_sketch, read_sketch
from englishroom.store import looks_like_room
from englishroom.talker import Talker
from englishroom.talkers.shipped import shipped_path

if TYPE_CHECKING:  # torch loads only where a target is needed
    from englishroom.models.load import Target

TOLERANCE_NATS = 1e-2
"""Above this two implementations do not say the same, and what follows would be about another model."""


def open_talker(
    name_or_path: str,
    tokenizer: Path | None = None,
    check: bool = True,
    say: Say = lambda _line: None,
    dtype: DTypeLike = np.float32,
) -> Talker:
    """Open a room, a sketch or a model as a talker; torch is loaded for models only.

    Args:
        dtype: precision in which a room's program is run.
    """
    path = Path(name_or_path)
    if looks_like_room(path):
        program, own = load_program(path)
        return ProgramTalker(f"{name_or_path} ({program.level})", program, own, dtype)
    if looks_like_sketch(path):
        from englishroom.evaluate.talkers.sketch import SketchTalker

        record, own = read_sketch(path)
        return SketchTalker(path / SOURCE, own, record.n_ctx, f"{name_or_path} (sketch)")
    from englishroom.evaluate.talkers.target import TargetTalker

    target, own = open_target(name_or_path, tokenizer)
    if check:
        check_forward(target, say)
    return TargetTalker(target, own)


def open_target(name_or_path: str, tokenizer: Path | None = None) -> tuple[Target, Tokenizer]:
    """Read a model and its tokenizer: a shipped name, a path, or a hub name.

    Raises:
        ConfigError: there is no such model, or its tokenizer cannot be found.
    """
    from englishroom.data.tokens import read_hf_tokenizer, read_llama2c_tokenizer
    from englishroom.models.load import load_target

    here = Path(name_or_path).exists()
    target = load_target(name_or_path if here else str(shipped_path(name_or_path) or name_or_path))
    if target.kind == "huggingface":
        return target, read_hf_tokenizer(tokenizer or target.path, target.spec.d_vocab)
    if tokenizer is None:
        found = sorted(target.path.parent.glob("tok*.bin"))
        if len(found) != 1:
            raise ConfigError(
                f"{target.path}: {len(found)} files tok*.bin beside it, expected its tokenizer; give --tokenizer FILE"
            )
        tokenizer = found[0]
    return target, read_llama2c_tokenizer(tokenizer, target.spec.d_vocab)


def check_forward(target: Target, say: Say) -> float:
    """Compare our forward pass with ``transformers``, and say how far they are apart.

    Raises:
        UnsupportedModelError: they differ by more than rounding can explain.
    """
    from englishroom.models.reference import largest_difference

    difference = largest_difference(target)
    if not difference <= TOLERANCE_NATS:
        raise UnsupportedModelError(
            f"{target.path}: our forward pass differs from transformers by {difference:.2g} nats, more than "
            f"{TOLERANCE_NATS:g}; this model needs something that is not supported, please report it"
        )
    say(f"largest log-probability difference from transformers: {difference:.2g} nats (64 random tokens)")
    return difference
