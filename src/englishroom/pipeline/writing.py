"""From a program to the files of a room: emit it, run what was emitted, and put it in its place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from englishroom.emit.python import Header, emit
from englishroom.evaluate.talkers.program import EmittedTalker, ProgramTalker
from englishroom.ir.labels import Labels, labels_from_json
from englishroom.ir.program import Program
from englishroom.ir.room import pack
from englishroom.ir.tokenizer import Tokenizer
from englishroom.manifest import versions_of
from englishroom.names import LABELS, ORIGINS, PROGRAM, TABLES
from englishroom.passes.base import Record
from englishroom.pipeline.checking import LogProbs, check_emitted, measure, positions_to_emit, windows_of
from englishroom.pipeline.evidence import CheckedText, FeaturedSummary, ReadableSummary, SparseSummary
from englishroom.steps import Progress, Say
from englishroom.store import SCHEMA_VERSION, Manifest, sha256, write_room

if TYPE_CHECKING:
    from englishroom.models.load import Target


@dataclass(frozen=True)
class Decompilation:
    """What a decompilation made, before it is written.

    Attributes:
        same_as: what the program must agree with to rounding, and what that is called in the evidence: the target at
            the exact level, the fitted dictionaries run by torch at the featured level.
        summary: how good the program is, where it is not exact.
        files: further files of the room, name -> bytes.
    """

    program: Program
    records: list[Record]
    same_as: tuple[str, LogProbs]
    summary: FeaturedSummary | ReadableSummary | SparseSummary | None = None
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass
class RoomDraft:
    """A room laid out in memory: its files, and what is still to be checked once they are written.

    Attributes:
        files: name -> bytes; emptied as they are written.
        text: on which the written program is run.
        expected: what the interpreter answered there, [pos, d_vocab].
        manifest: what the room says of itself, but for how well its written program was checked.
    """

    files: dict[str, bytes]
    tokenizer: Tokenizer
    n_ctx: int
    text: CheckedText
    expected: NDArray[np.float64]
    manifest: Manifest


def draft_room(
    program: Program,
    tokenizer: Tokenizer,
    header: Header,
    labels: Labels | None,
    text: CheckedText,
    manifest: Manifest,
    more: Mapping[str, bytes] = MappingProxyType({}),
) -> RoomDraft:
    """Lay out the room of a program; every room with a program in it is made so.

    Args:
        labels: of the program's features, kept as a file of the room where there are any.
        text: on which the written program will be compared with the interpreter, which reads it here.
        more: further files, name -> bytes; also those of the program, where they stand in a room already.
    """
    files = pack(program, tokenizer) | dict(more)
    emitted = emit(program, tokenizer, header, sha256(files[TABLES]), labels)
    files |= {PROGRAM: emitted.text.encode(), ORIGINS: json.dumps(emitted.origins, indent=0).encode()}
    if labels is not None and labels.features:
        files[LABELS] = labels.to_json()
    talker = ProgramTalker("program", program, tokenizer, np.float64)
    expected = talker.log_probs(np.array([text.tokens]))[0]
    return RoomDraft(files, tokenizer, program.n_ctx, text, expected, manifest)


def write(draft: RoomDraft, out: Path, progress: Progress, made_of: Manifest | None = None) -> Manifest:
    """Write a room, run the program in it, and put it in its place.

    Args:
        made_of: the room that its program comes from, where it comes from one.

    Raises:
        EnglishRoomError: the written program says something else, or the place to write to will not do.
    """

    def describe(folder: Path) -> Manifest:
        reading = EmittedTalker(folder / PROGRAM, draft.tokenizer, draft.n_ctx)
        checked = check_emitted(reading, draft.text, draft.expected, progress)
        return replace(draft.manifest, evidence=draft.manifest.evidence | checked.evidence())

    return write_room(out, _emptying(draft.files), describe, made_of)


def draft_decompiled_room(
    decompilation: Decompilation,
    target: Target,
    tokenizer: Tokenizer,
    config: dict[str, Any],
    forward_gap_nats: float | None,
    say: Say,
    progress: Progress,
) -> RoomDraft:
    """Measure what a decompilation made, and lay out its room; program and target may then be let go.

    Args:
        config: settings of the decompilation, as plain data.
        forward_gap_nats: how far the target is from its reference implementation, where they were compared.

    Raises:
        ConfigError: the program is not what it should be.
    """
    from englishroom.evaluate.talkers.target import TargetTalker

    program, summary = decompilation.program, decompilation.summary
    talker = ProgramTalker(target.name, program, tokenizer, np.float64)
    target_talker = TargetTalker(target, tokenizer)
    agreement = measure(target_talker, talker, decompilation.same_as, target.spec.windows, progress)
    say(f"largest log-probability difference from the {agreement.same_as}: {agreement.gap_nats:.2g} nats")
    read = agreement.text.first(positions_to_emit(program))
    if (windows := windows_of(program)) and len(read.tokens) <= max(windows):
        say(f"program.py is checked on {len(read.tokens)} positions, inside the window of {max(windows)}")
    labels = labels_from_json(decompilation.files[LABELS]) if LABELS in decompilation.files else None
    forward = {} if forward_gap_nats is None else {"forward_vs_transformers_nats": forward_gap_nats}
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        level=program.level,
        target=identity_of(target),
        config=config,
        seed=config["seed"],
        records=[plain_record(record) for record in decompilation.records],
        evidence=forward | ({} if summary is None else summary.evidence()) | agreement.evidence(),
        versions=versions(),
    )
    header = Header(target.name, (*_target_lines(target), *(summary or agreement).summary_lines()))
    return draft_room(program, tokenizer, header, labels, read, manifest, decompilation.files)


def plain_record(record: Record) -> dict[str, Any]:
    """Return what a pass did as a manifest holds it."""
    return json.loads(json.dumps(asdict(record)))


def _emptying(contents: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield files one by one, keeping none of them."""
    while contents:
        name = next(iter(contents))
        yield name, contents.pop(name)


def _target_lines(target: Target) -> tuple[str, ...]:
    """Name a target in the header of an emitted file."""
    spec = target.spec
    return (
        f"Target: {target.name}, {spec.family}, {spec.n_layers} layers, {spec.n_heads} heads, d_model {spec.d_model}, "
        f"{target.parameter_count:,} parameters,",
        f"        sha256 {target.sha256}.",
    )


def identity_of(target: Target) -> dict[str, Any]:
    """Name a target in an artefact."""
    spec = json.loads(json.dumps(asdict(target.spec)))
    cut = {} if target.cut_from is None else {"context_of_its_configuration": target.cut_from}
    return {"name": target.name, "sha256": target.sha256, "parameters": target.parameter_count, "spec": spec} | cut


def versions() -> dict[str, str]:
    """Name what took part."""
    return versions_of("torch", "transformers", "numpy", "scipy", "safetensors", "numba")
