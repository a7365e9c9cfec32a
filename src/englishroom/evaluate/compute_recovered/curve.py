"""Validation curves: a talker in training, or its kept checkpoints, scored by the protocol of every other talker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, with_config
from typing_extensions import TypedDict

from englishroom.data.corpus import text_hash
from englishroom.data.tokens import read_hf_tokenizer
from englishroom.disk import locked
from englishroom.errors import ConfigError
from englishroom.evaluate.score import score
from englishroom.evaluate.talkers.target import TargetTalker
from englishroom.models.adapters.mapping import Family, read_weights
from englishroom.models.load import Target, read_config, read_safetensors
from englishroom.plain import to_json
from englishroom.steps import Progress, silent
from englishroom.talkers.build import checkpoint_path
from englishroom.talkers.record import (
    FILE,
    STRICT,
    Curve,
    CurvePoint,
    CurveRecord,
    find_curve,
    read_training,
    write_json,
)
from englishroom.talkers.train import Run
from englishroom.untrusted import parse_json
from englishroom.work import Kept, Work


@with_config(STRICT)
class Measured(TypedDict):
    """What was measured of a curve that is not complete yet."""

    tokens: int
    bytes: int
    points: list[CurvePoint]


def measure_run(run: Run, folder: Path, documents: Sequence[str]) -> dict[str, float]:
    """Score a run as it stands, its weights rounded to float16 as they are written; ``folder`` holds its tokenizer."""
    weights = {name: weight.detach().cpu().half().float() for name, weight in run.weights.items()}
    target = Target("run", folder, "huggingface", run.spec, weights, {}, "")
    result = score(TargetTalker(target, read_hf_tokenizer(folder, run.spec.d_vocab)), documents)
    return {"nats_per_token": result.nats_per_token, "bits_per_byte": result.bits_per_byte}


def measure_curve(folder: Path, text: str, documents: Sequence[str], progress: Progress = silent) -> Curve:
    """Score every kept checkpoint of a finished run and add the curve to its ``training.json``.

    What is measured is kept after every checkpoint, so the same call goes on after a kill; a curve that is there
    already is returned at once.

    Args:
        text: what to call the documents; their hash is what the curve is found by.

    Raises:
        ConfigError: the folder holds no finished run, or its checkpoints are gone.
        ArtifactError: a file of the run is damaged.
    """
    record = read_training(folder)
    if record is None:
        raise ConfigError(f"{folder}: no {FILE} in it, so no finished run; give the --out folder of englishroom train")
    found = find_curve(record, text_hash(documents))
    if found is not None:
        _kept(folder, record, found.sha256).path.unlink(missing_ok=True)  # a run was killed before it could
        return found
    with locked(folder):
        return _measure(folder, text, documents, record, progress)


def _measure(folder: Path, text: str, documents: Sequence[str], record: dict[str, Any], progress: Progress) -> Curve:
    """Score the checkpoints of a run in a folder that no other run writes to."""
    sha256 = text_hash(documents)
    work = folder / "work"
    points: list[CurvePoint] = record["curves"][0]["points"]
    gone = [point["step"] for point in points if not checkpoint_path(folder, point["step"]).exists()]
    if gone:
        raise ConfigError(
            f"{work}: no checkpoint of step {gone[0]} ({len(gone)} of {len(points)} are gone), but a curve needs them "
            "all; train again"
        )
    kept = _kept(folder, record, sha256)
    measured = Measured(tokens=0, bytes=0, points=[])
    if (before := kept.read()) is not None:
        measured = parse_json(before, TypeAdapter(Measured), kept.path, "delete it to measure again")
    family = read_config(work)
    tokenizer = read_hf_tokenizer(work, family.spec.d_vocab)
    done = {point["step"] for point in measured["points"]}
    for number, point in enumerate(points):
        progress(f"measuring on {text}", number, len(points))
        if point["step"] in done:
            continue
        target = _read_checkpoint(checkpoint_path(folder, point["step"]), family)
        result = score(TargetTalker(target, tokenizer), documents)
        scores: CurvePoint = {**point, "nats_per_token": result.nats_per_token, "bits_per_byte": result.bits_per_byte}
        measured = Measured(tokens=result.tokens, bytes=result.bytes, points=[*measured["points"], scores])
        kept.write(to_json(measured))
    progress(f"measuring on {text}", len(points), len(points))
    curve = CurveRecord(
        text=text,
        sha256=sha256,
        documents=len(documents),
        tokens=measured["tokens"],
        bytes=measured["bytes"],
        points=sorted(measured["points"], key=lambda point: point["step"]),
    )
    record = read_training(folder) or record  # another text may have been measured meanwhile
    record["curves"] = [*record["curves"], curve]
    write_json(folder / FILE, record)
    kept.path.unlink()
    added = find_curve(record, sha256)
    assert added is not None
    return added


def _kept(folder: Path, record: dict[str, Any], sha256: str) -> Kept:
    """Name the file of what was measured so far on a text."""
    identity = {"config": record["config"], "fit": record["fit_sha256"], "text": sha256}
    return Work(folder / "work", identity).file(f"curve-{sha256[:16]}.json")


def _read_checkpoint(path: Path, family: Family) -> Target:
    weights = read_weights(family, read_safetensors(path, "train again"), str(path))
    return Target(path.stem, path, "huggingface", family.spec, weights, {}, "")
