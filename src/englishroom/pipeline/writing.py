"""From a program to the files of a room: emit it, run what was emitted, and put it in its place."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import englishroom
from englishroom.emit.python import Heading, emit
from englishroom.errors import ConfigError
from englishroom.evaluate.talk import TalkOptions, continuation
from englishroom.evaluate.talkers.program import EmittedTalker, ProgramTalker
from englishroom.ir.labels import labels_from_json
from englishroom.ir.program import Program
from englishroom.ir.room import pack
from englishroom.ir.tokenizer import Tokenizer
from englishroom.names import LABELS, ORIGINS, PROGRAM, TABLES
from englishroom.passes.base import Record
from englishroom.pipeline.opening import TOLERANCE_NATS
from englishroom.pipeline.steps import Progress, Say
from englishroom.store import SCHEMA_VERSION, Manifest, sha256, write_room
from englishroom.talker import Talker

if TYPE_CHECKING:
    from englishroom.models.load import Target

MEASURED_POSITIONS = 128
EMITTED_NUMBERS = 60_000_000
"""Multiply-adds that pure Python may spend on checking the emitted file (a few seconds)."""
LogProbs = Callable[[NDArray[np.integer]], NDArray[Any]]


@dataclass
class Made:
    """What a decompilation made, before it is written.

    Attributes:
        same_as: what the program must agree with to rounding, and what that is called in the evidence: the target at
            the exact level, the fitted dictionaries run by torch at the featured level.
        facts: lines for the header of the emitted file, filled in with the evidence.
        files: further files of the room, name -> bytes.
    """

    program: Program
    records: list[Record]
    same_as: tuple[str, LogProbs]
    facts: Callable[[dict[str, Any]], tuple[str, ...]]
    evidence: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Laid:
    """A room laid out in memory: its files, and what is still to be checked once they are written.

    Attributes:
        files: name -> bytes; emptied as they are written.
        story: tokens on which the written program is run.
        expected: what the interpreter answered there, [pos, d_vocab].
    """

    files: dict[str, bytes]
    story: list[int]
    expected: NDArray[np.float64]
    level: str
    n_ctx: int
    target: dict[str, Any]
    records: list[Record]
    evidence: dict[str, Any]


def lay_out(made: Made, target: Target, tokenizer: Tokenizer, say: Say, progress: Progress) -> Laid:
    """Measure a program on a story, and write it as Python; the program and its target may then be let go.

    Raises:
        ConfigError: the program is not what it should be.
    """
    from englishroom.evaluate.talkers.target import TargetTalker

    program, evidence = made.program, made.evidence
    talker = ProgramTalker(target.name, program, tokenizer, np.float64)
    story, expected = measure(TargetTalker(target, tokenizer), talker, made.same_as, evidence, progress)
    name = made.same_as[0]
    say(f"largest log-probability difference from the {name}: {evidence[f'program_vs_{name}_nats']:.2g} nats")
    files = pack(program, tokenizer)
    labels = labels_from_json(made.files[LABELS]) if LABELS in made.files else None
    emitted = emit(program, tokenizer, Heading(target.name, made.facts(evidence)), sha256(files[TABLES]), labels)
    files |= {PROGRAM: emitted.text.encode(), ORIGINS: json.dumps(emitted.origins, indent=0).encode()}
    n_positions = max(1, min(len(story), EMITTED_NUMBERS // program.n_entries))
    identity = identity_of(target)
    level, n_ctx, records = program.level, program.n_ctx, made.records
    return Laid(files | made.files, story[:n_positions], expected, level, n_ctx, identity, records, evidence)


def write(
    laid: Laid, tokenizer: Tokenizer, config: dict[str, Any], seed: int, out: Path, progress: Progress
) -> Manifest:
    """Write a room, run the program in it, and put it in its place.

    Raises:
        EnglishRoomError: the written program says something else, or the place to write to will not do.
    """
    evidence = laid.evidence

    def describe(folder: Path) -> Manifest:
        reading = EmittedTalker(folder / PROGRAM, tokenizer, laid.n_ctx)
        evidence["emitted_positions"] = len(laid.story)
        evidence["emitted_vs_program_nats"] = check_emitted(reading, laid.story, laid.expected, progress)
        return Manifest(
            schema_version=SCHEMA_VERSION,
            level=laid.level,
            target=laid.target,
            config=config,
            seed=seed,
            records=[json.loads(json.dumps(asdict(record))) for record in laid.records],
            evidence=evidence,
            versions=versions(),
        )

    return write_room(out, _emptying(laid.files), describe)


def _emptying(contents: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield files one by one, keeping none of them."""
    while contents:
        name = next(iter(contents))
        yield name, contents.pop(name)


def measure(
    target: Talker,
    program: Talker,
    same_as: tuple[str, LogProbs],
    evidence: dict[str, Any],
    progress: Progress,
) -> tuple[list[int], NDArray[np.float64]]:
    """Run the program on the story that the target tells greedily from its start token.

    Adds to the evidence how far the program's log-probabilities are from those that it must agree with, and how many
    greedy tokens the program says like the target.

    Returns:
        The story's tokens, start token first, and the program's log-probabilities after each, [pos, d_vocab].

    Raises:
        ConfigError: they differ by more than rounding can explain.
    """
    options = TalkOptions(greedy=True, max_tokens=min(MEASURED_POSITIONS, target.n_ctx) - 1)
    story = [target.tokenizer.start_id]
    for token in continuation(target, story[:1], options):
        story.append(token)
        progress("measuring", len(story), MEASURED_POSITIONS)
    tokens = np.array([story])
    name, log_probs = same_as
    theirs, ours, expected = target.log_probs(tokens)[0], program.log_probs(tokens)[0], log_probs(tokens)[0]
    evidence["measured_positions"] = len(story)
    evidence[f"program_vs_{name}_nats"] = _gap(name, expected, ours)
    evidence["greedy_tokens_equal"] = int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    progress("measuring", MEASURED_POSITIONS, MEASURED_POSITIONS)
    return story, ours


def _gap(name: str, expected: NDArray[np.floating], found: NDArray[np.floating]) -> float:
    gap = float(np.abs(found - expected).max())
    if not gap <= TOLERANCE_NATS:
        raise ConfigError(
            f"the program differs from the {name} by {gap:.2g} nats, more than {TOLERANCE_NATS:g}; "
            "nothing was written, please report this model"
        )
    return gap


def check_emitted(talker: EmittedTalker, story: list[int], expected: NDArray[np.float64], progress: Progress) -> float:
    """Run the emitted file in a bare Python on the beginning of the story and compare with the interpreter."""
    largest = 0.0
    with talker:
        reading = talker.stream()
        for position, token in enumerate(story):
            answer = reading.extend(np.array([[token]]))[0, 0]
            largest = max(largest, _gap("interpreter", expected[position], answer))
            progress("running program.py", position + 1, len(story))
    return largest


def target_line(target: Target) -> tuple[str, ...]:
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
    names = ("torch", "transformers", "numpy", "scipy", "safetensors", "numba")
    return {
        "englishroom": englishroom.__version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
    }
