"""From a model to a room; :func:`decompile` reads like the table of contents of the project."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from englishroom.disk import locked
from englishroom.errors import ConfigError
from englishroom.models.spec import LONGEST_CONTEXT
from englishroom.pipeline.config import DecompileConfig
from englishroom.pipeline.opening import check_forward, open_target, say_rows
from englishroom.pipeline.writing import Decompilation, draft_decompiled_room, write
from englishroom.steps import Progress, Say, silent
from englishroom.store import Manifest, check_out
from englishroom.work import Work

if TYPE_CHECKING:  # torch loads only where a target is needed
    from englishroom.ir.tokenizer import Tokenizer
    from englishroom.models.load import Target


def decompile(config: DecompileConfig, out: Path, say: Say = silent, progress: Progress = silent) -> Manifest:
    """Decompile a model into a room.

    1. Read the target and, where asked, compare it with its reference implementation.
    2. Lift its weights into an exact program; or fit dictionaries, and write them as a
       featured or, pruned and refitted, as a sparse program.
    3. Measure the program beside the target on a story that the target tells.
    4. Write the program as Python, run the written file, and put the room in its place.

    Raises:
        EnglishRoomError: the model, the settings or the place to write to will not do; nothing is left behind but,
            after the exact level, the folder of work from which the same command goes on.
    """
    config.validate()
    with locked(check_out(out)):
        return _decompile(config, out, say, progress)


def _decompile(config: DecompileConfig, out: Path, say: Say, progress: Progress) -> Manifest:
    """Decompile a model into a place that no other run writes to."""
    progress("reading the model", 0, 1)
    target, tokenizer = open_target(config.model, config.opening.tokenizer, config.opening.context)
    progress("reading the model", 1, 1)
    say(
        f"{target.name}: {target.spec.family}, {target.spec.n_layers} layers, {target.parameter_count:,} parameters"
        f"{_context(target)}"
    )
    say_rows(tokenizer, say)
    if config.level != "exact" and target.spec.n_ctx > LONGEST_CONTEXT:
        raise ConfigError(
            f"{target.name}: its configuration says a context of {target.spec.n_ctx:,} tokens; fits read whole "
            f"contexts, of {LONGEST_CONTEXT:,} at most; give a shorter --context"
        )
    forward_gap_nats = None
    if config.opening.check:
        progress("comparing with transformers", 0, 1)
        forward_gap_nats = check_forward(target, say)
        progress("comparing with transformers", 1, 1)
    if config.level != "exact":
        from englishroom.pipeline.fitting import check_dictionaries

        check_dictionaries(config, target)
    settings = config.plain()
    work = Work(out.with_name(f"{out.name}.work"), {"config": settings, "target": target.sha256})
    with contextlib.nullcontext() if config.level == "exact" else work.held():
        if config.level == "exact":
            decompilation = _exact(target, tokenizer, say)
        else:
            from englishroom.pipeline.featured import featured
            from englishroom.pipeline.readable_level import readable
            from englishroom.pipeline.sparse import sparse
            from englishroom.pipeline.threads import threads_for

            with threads_for(target.spec):
                further = {"featured": featured, "sparse": sparse, "readable": readable}[config.level]
                decompilation = further(config, target, tokenizer, work, say, progress)
        draft = draft_decompiled_room(decompilation, target, tokenizer, settings, forward_gap_nats, say, progress)
        del decompilation, target  # the emitted file needs memory of its own now
        manifest = write(draft, out, progress)
    if config.level != "exact":
        work.remove()
    return manifest


def _context(target: Target) -> str:
    """Say how much of its context a target is to use, where that is not all."""
    return "" if target.cut_from is None else f", context {target.spec.n_ctx:,} of {target.cut_from:,}"


def _exact(target: Target, tokenizer: Tokenizer, say: Say) -> Decompilation:
    from englishroom.evaluate.talkers.target import TargetTalker
    from englishroom.lower.lift import lift

    program, record = lift(target)
    say(f"lifted into {len(program.blocks)} blocks, {program.n_entries:,} numbers, {len(record.rewrites)} rewrites")
    return Decompilation(program, [record], ("target", TargetTalker(target, tokenizer).log_probs))
