"""Open what a name stands for: a room, a shipped model, a file, a folder, a name on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from englishroom.data.texts import READY
from englishroom.errors import ConfigError, UnsupportedModelError
from englishroom.evaluate.talkers.program import ProgramTalker
from englishroom.ir.room import load_program
from englishroom.ir.tokenizer import Tokenizer
from englishroom.pipeline.checking import TOLERANCE_NATS, positions_to_read
from englishroom.pipeline.presets import settings_of
from englishroom.sketch.folder import SOURCE, looks_like_sketch, read_sketch
from englishroom.steps import Say, silent
from englishroom.store import Manifest, looks_like_room, read_manifest, sha256
from englishroom.talker import Talker
from englishroom.talkers.shipped import shipped_names, shipped_path
from englishroom.written import written_here

if TYPE_CHECKING:  # torch loads only where a target is needed
    from englishroom.evaluate.talkers.target import TargetTalker
    from englishroom.models.load import Target

FORWARD_POSITIONS = 64
"""Random tokens on which our forward pass is compared with ``transformers``; more where attention is local."""


def open_talker(
    name_or_path: str,
    tokenizer: str | Path | None = None,
    check: bool = True,
    say: Say = silent,
    dtype: DTypeLike = np.float32,
    context: int | None = None,
    run_code: bool = False,
) -> Talker:
    """Open a room, a sketch or a model as a talker; torch is loaded for models only.

    Args:
        dtype: precision in which a room's program is run.
        context: positions that it is to read at most; by default all that it can.
        run_code: whether a sketch is run that was not written here.

    Raises:
        ConfigError: there is no such talker, or it is a sketch of others, which is not run unasked.
    """
    if context is not None and context < 2:
        raise ConfigError(f"--context is {context}, expected 2 or more")
    path = Path(name_or_path)
    if looks_like_room(path):
        program, own = load_program(path)
        talker = ProgramTalker(f"{name_or_path} ({program.level})", program, own, dtype)
    elif looks_like_sketch(path):
        from englishroom.evaluate.talkers.sketch import SketchTalker

        record, own, source = read_sketch(path)
        if not (run_code or written_here(record.files[SOURCE])):
            raise ConfigError(
                f"{path}: a sketch is Python code, and this one was not written here; read {path / SOURCE}, then give "
                "--run-code to run it"
            )
        say(f"{path / SOURCE} is Python code; running it")
        talker = SketchTalker(path / SOURCE, source, own, record.n_ctx, f"{name_or_path} (sketch)")
    else:
        from englishroom.evaluate.talkers.target import TargetTalker
        from englishroom.models.load import in_context

        target, own = open_target(name_or_path, tokenizer)
        say_rows(own, say)
        if context is not None:
            target = in_context(target, min(context, target.spec.n_ctx))
        if check:
            check_forward(target, say)
        talker = TargetTalker(target, own)
    if context is not None and context > talker.n_ctx:
        say(f"{talker.name} reads {talker.n_ctx:,} tokens at most; --context {context} changes nothing for it")
    elif context is not None:
        talker.n_ctx = context
    return talker


def talker_sha256(name_or_path: str, talker: Talker) -> str:
    """Name a talker by its weights, by its own file (a sketch), or by the manifest of its room."""
    from englishroom.evaluate.talkers.sketch import SketchTalker
    from englishroom.evaluate.talkers.target import TargetTalker

    if isinstance(talker, TargetTalker):
        return talker.target.sha256
    if isinstance(talker, SketchTalker):
        return sha256(talker.source.encode())
    return read_manifest(Path(name_or_path)).sha256


def open_target(
    name_or_path: str, tokenizer: str | Path | None = None, context: int | None = None
) -> tuple[Target, Tokenizer]:
    """Read a model and its tokenizer: a shipped name, a path, or a hub name.

    Args:
        tokenizer: a file, a folder or a hub name; by default what stands beside the weights.
        context: positions that the model is to read at most, where its configuration says more.

    Raises:
        ConfigError: there is no such model, its tokenizer cannot be found, or it has no such context.
        ArtifactError: the tokenizer is of another model.
    """
    from englishroom.models.load import in_context, load_target

    here = Path(name_or_path).exists()
    target = load_target(name_or_path if here else str(shipped_path(name_or_path) or name_or_path))
    if context is not None:
        target = in_context(target, context)
    return target, _read_tokenizer(tokenizer, target)


def original_name(room: Path, manifest: Manifest, given: str | None) -> str:
    """Name the model that a room was made of: the one given, the one that the room names, or a shipped one of its hash.

    A room may name any path or hub name. It is listened to only where it was written here.

    Raises:
        ConfigError: the room was written elsewhere, of a model that is not at hand.
    """
    if given is not None:
        return given
    named = settings_of(manifest).model
    if written_here(manifest.sha256):
        return named
    from englishroom.models.load import load_target

    for name in shipped_names():
        if load_target(str(shipped_path(name))).sha256 == manifest.target.get("sha256"):
            return name
    raise ConfigError(
        f"{room}: was made of {named}, which is not fetched or read unasked, as the room was not written here; name "
        "the model with --model"
    )


def open_original(room: Path, manifest: Manifest, n_ctx: int, given: str | None) -> TargetTalker:
    """Open the model that a room was made of, with the context of the room's program; see :func:`original_name`.

    Raises:
        ConfigError: there is no such model, or it is another one.
    """
    from englishroom.evaluate.talkers.target import TargetTalker
    from englishroom.models.load import in_context

    name = original_name(room, manifest, given)
    target, tokenizer = open_target(name, original_tokenizer(manifest))
    expected = manifest.target.get("sha256")
    if target.sha256 != expected:
        raise ConfigError(f"{name}: not the model of this room (sha256 {str(expected)[:16]}); name it with --model")
    return TargetTalker(in_context(target, n_ctx), tokenizer)


def original_tokenizer(manifest: Manifest) -> str | None:
    """Return the tokenizer that a room names, where it was written here; otherwise what stands beside the model is."""
    return settings_of(manifest).opening.tokenizer if written_here(manifest.sha256) else None


def may_open_text(manifest: Manifest, name: str) -> bool:
    """Say whether a text that a room names is opened unasked: a part of the ready corpus, or of a room from here."""
    return name.partition(":")[0] == READY or written_here(manifest.sha256)


def _read_tokenizer(given: str | Path | None, target: Target) -> Tokenizer:
    """Read the tokenizer that was given for a target, or the one that stands beside it."""
    from englishroom.data.hf_tokenizer_files import GIVE_ONE
    from englishroom.data.tokens import check_rows, read_hf_tokenizer, read_llama2c_tokenizer
    from englishroom.models.hub import fetch_tokenizer

    if given is None:
        path = target.path if target.kind == "huggingface" else _beside(target.path)
    elif not (path := Path(given)).exists():
        path = fetch_tokenizer(path.as_posix(), GIVE_ONE)
    if path.suffix == ".bin":
        return read_llama2c_tokenizer(path, target.spec.d_vocab)
    tokenizer = read_hf_tokenizer(path, target.spec.d_vocab)
    check_rows(tokenizer, path)
    return tokenizer


def say_rows(tokenizer: Tokenizer, say: Say) -> None:
    """Say how many rows of a model's vocabulary have no token, where there are any."""
    from englishroom.data.tokens import rows_without_token

    if bare := rows_without_token(tokenizer):
        say(f"{bare:,} of the {len(tokenizer.pieces):,} rows of the vocabulary have no token (padding)")


def _beside(path: Path) -> Path:
    """Find the tokenizer that stands beside the file of a llama2.c model."""
    from englishroom.data.hf_tokenizer_files import GIVE_ONE

    found = sorted(path.parent.glob("tok*.bin"))
    if len(found) != 1:
        raise ConfigError(f"{path}: {len(found)} files tok*.bin beside it, expected its tokenizer; {GIVE_ONE}")
    return found[0]


def check_forward(target: Target, say: Say) -> float:
    """Compare our forward pass with ``transformers``, and say how far they are apart.

    Raises:
        UnsupportedModelError: they differ by more than rounding can explain.
    """
    from englishroom.models.reference import largest_difference

    n_positions = positions_to_read(target.spec.windows, target.spec.n_ctx, FORWARD_POSITIONS)
    difference = largest_difference(target, n_positions)
    if not difference <= TOLERANCE_NATS:
        raise UnsupportedModelError(
            f"{target.path}: our forward pass differs from transformers by {difference:.2g} nats, more than "
            f"{TOLERANCE_NATS:g}; this model needs something that is not supported, please report it"
        )
    say(f"largest log-probability difference from transformers: {difference:.2g} nats ({n_positions} random tokens)")
    return difference
