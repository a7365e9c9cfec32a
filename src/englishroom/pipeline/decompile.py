"""From a model to a room; :func:`decompile` reads like the table of contents of the project."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import englishroom
from englishroom.emit.python import Heading, emit
from englishroom.errors import ConfigError
from englishroom.evaluate.program import EmittedTalker, ProgramTalker
from englishroom.evaluate.protocol import Talker
from englishroom.evaluate.talk import TalkOptions, continuation
from englishroom.ir.room import TABLES, pack
from englishroom.pipeline.opening import TOLERANCE_NATS, check_forward, open_target
from englishroom.pipeline.steps import Progress, Say
from englishroom.store import SCHEMA_VERSION, Manifest, check_out, sha256, write_room
from englishroom.talkers.shipped import DEFAULT

if TYPE_CHECKING:  # torch loads only where a target is needed
    from englishroom.models.load import Target

MEASURED_POSITIONS = 128
EMITTED_NUMBERS = 60_000_000
"""Multiply-adds that pure Python may spend on checking the emitted file (a few seconds)."""


@dataclass(frozen=True)
class DecompileConfig:
    """What to decompile, and how far."""

    model: str = DEFAULT
    level: str = "exact"
    tokenizer: Path | None = None
    check: bool = True
    seed: int = 0


def decompile(
    config: DecompileConfig,
    out: Path,
    say: Say = lambda _line: None,
    progress: Progress = lambda _step, _done, _total: None,
) -> Manifest:
    """Decompile a model into a room.

    1. Read the target and, where asked, compare it with its reference implementation.
    2. Lift its weights into an exact program.
    3. Measure the program beside the target on a story that the target tells.
    4. Write the program as Python, run the written file, and put the room in its place.

    Raises:
        EnglishRoomError: the model, the settings or the place to write to will not do; nothing is left behind.
    """
    from englishroom.evaluate.target import TargetTalker
    from englishroom.lower.lift import lift

    if config.level != "exact":
        raise ConfigError(f"--level is {config.level}; this version makes programs at the exact level")
    check_out(out)
    progress("reading the model", 0, 1)
    target, tokenizer = open_target(config.model, config.tokenizer)
    progress("reading the model", 1, 1)
    say(f"{target.name}: {target.spec.family}, {target.spec.n_layers} layers, {target.parameter_count:,} parameters")
    evidence: dict[str, Any] = {}
    if config.check:
        progress("comparing with transformers", 0, 1)
        evidence["forward_vs_transformers_nats"] = check_forward(target, say)
        progress("comparing with transformers", 1, 1)

    program, record = lift(target)
    say(f"lifted into {len(program.blocks)} blocks, {program.n_entries:,} numbers, {len(record.rewrites)} rewrites")

    talker = ProgramTalker(target.name, program, tokenizer, np.float64)
    story, expected = measure(TargetTalker(target, tokenizer), talker, evidence, progress)
    say(f"largest log-probability difference from the target: {evidence['program_vs_target_nats']:.2g} nats")
    del talker

    contents = pack(program, tokenizer)
    emitted = emit(program, tokenizer, _heading(target, evidence), sha256(contents[TABLES]))
    contents |= {"program.py": emitted.text.encode(), "origins.json": json.dumps(emitted.origins, indent=0).encode()}
    level, n_ctx, identity = program.level, program.n_ctx, _identity(target)
    n_positions = max(1, min(len(story), EMITTED_NUMBERS // program.n_entries))
    del target, program  # the emitted file needs memory of its own now

    def describe(folder: Path) -> Manifest:
        reading = EmittedTalker(folder / "program.py", tokenizer, n_ctx)
        evidence["emitted_positions"] = n_positions
        evidence["emitted_vs_program_nats"] = _check_emitted(reading, story[:n_positions], expected, progress)
        return Manifest(
            schema_version=SCHEMA_VERSION,
            level=level,
            target=identity,
            config={k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items()},
            seed=config.seed,
            records=[json.loads(json.dumps(asdict(record)))],
            evidence=evidence,
            versions=_versions(),
        )

    return write_room(out, _emptying(contents), describe)


def _emptying(contents: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield files one by one, keeping none of them."""
    while contents:
        name = next(iter(contents))
        yield name, contents.pop(name)


def measure(
    target: Talker, program: Talker, evidence: dict[str, Any], progress: Progress
) -> tuple[list[int], NDArray[np.float64]]:
    """Compare program and target on the story that the target tells greedily from its start token.

    Adds to the evidence how far the log-probabilities are apart, and how many greedy tokens the program says alike.

    Returns:
        The story's tokens, start token first, and the program's log-probabilities after each, [pos, d_vocab].

    Raises:
        ConfigError: the two differ by more than rounding can explain.
    """
    options = TalkOptions(greedy=True, max_tokens=min(MEASURED_POSITIONS, target.n_ctx) - 1)
    story = [target.tokenizer.start_id]
    for token in continuation(target, story[:1], options):
        story.append(token)
        progress("measuring", len(story), MEASURED_POSITIONS)
    tokens = np.array([story])
    theirs, ours = target.log_probs(tokens)[0], program.log_probs(tokens)[0]
    evidence["measured_positions"] = len(story)
    evidence["program_vs_target_nats"] = _gap(theirs, ours)
    evidence["greedy_tokens_equal"] = int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    progress("measuring", MEASURED_POSITIONS, MEASURED_POSITIONS)
    return story, ours


def _gap(theirs: NDArray[np.floating], ours: NDArray[np.floating]) -> float:
    gap = float(np.abs(ours - theirs).max())
    if not gap <= TOLERANCE_NATS:
        raise ConfigError(
            f"the program differs from the target by {gap:.2g} nats, more than {TOLERANCE_NATS:g}; "
            "nothing was written, please report this model"
        )
    return gap


def _check_emitted(talker: EmittedTalker, story: list[int], expected: NDArray[np.float64], progress: Progress) -> float:
    """Run the emitted file in a bare Python on the beginning of the story and compare with the interpreter."""
    largest = 0.0
    with talker:
        reading = talker.stream()
        for position, token in enumerate(story):
            answer = reading.extend(np.array([[token]]))[0, 0]
            largest = max(largest, _gap(expected[position], answer))
            progress("running program.py", position + 1, len(story))
    return largest


def _heading(target: Target, evidence: dict[str, Any]) -> Heading:
    spec = target.spec
    facts = (
        f"Target: {target.name}, {spec.family}, {spec.n_layers} layers, {spec.n_heads} heads, d_model {spec.d_model}, "
        f"{target.parameter_count:,} parameters,",
        f"        sha256 {target.sha256}.",
        f"Faithful: on a greedy story of {evidence['measured_positions']} tokens its log-probabilities are within "
        f"{evidence['program_vs_target_nats']:.1e} nats of the target's,",
        f"        and {evidence['greedy_tokens_equal']} of {evidence['measured_positions']} next tokens are the same. "
        "Nothing is approximated at the exact level.",
    )
    return Heading(target.name, facts)


def _identity(target: Target) -> dict[str, Any]:
    spec = json.loads(json.dumps(asdict(target.spec)))
    return {"name": target.name, "sha256": target.sha256, "parameters": target.parameter_count, "spec": spec}


def _versions() -> dict[str, str]:
    names = ("torch", "transformers", "numpy", "scipy", "safetensors")
    return {
        "englishroom": englishroom.__version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
    }
