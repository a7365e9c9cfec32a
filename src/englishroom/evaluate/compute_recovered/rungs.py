"""The models of the ladder: train those that are not there, and score them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from englishroom.data.corpus import text_hash
from englishroom.data.tokens import read_hf_tokenizer
from englishroom.errors import ConfigError
from englishroom.evaluate.compute_recovered.curve import measure_run
from englishroom.evaluate.score import score
from englishroom.evaluate.talkers.target import TargetTalker
from englishroom.models.load import load_target
from englishroom.steps import Progress, Say, silent
from englishroom.talkers.build import build_talker
from englishroom.talkers.config import TalkerConfig, TrainConfig
from englishroom.talkers.ladder import LADDER, LadderRun, LadderScore, read_runs, run_folders, write_runs
from englishroom.talkers.record import read_training


def rebuild_ladder(
    texts: Sequence[str],
    ladder: Path,
    settings: Mapping[str, TrainConfig] = LADDER,
    say: Say = silent,
    progress: Progress = silent,
) -> None:
    """Train every run that is not finished, each in its own folder of ``ladder``; call again to go on after a kill.

    Raises:
        ConfigError: a folder holds something else than its run.
        ArtifactError: a file of a run is damaged.
    """
    for name, folder in run_folders(ladder, settings).items():
        if _finished(folder, name, settings[name]) is not None:
            say(f"{name}: finished already")
            continue
        say(f"{name}: {settings[name].tokens:,} tokens")
        build_talker(
            TalkerConfig(tuple(texts), training=settings[name]),
            folder,
            measure_run,
            say,
            lambda step, done, total, name=name: progress(f"{name}: {step}", done, total),
        )


def measure_ladder(
    ladder: Path,
    texts: Mapping[str, Sequence[str]],
    runs_file: Path,
    settings: Mapping[str, TrainConfig] = LADDER,
    say: Say = silent,
    progress: Progress = silent,
) -> list[LadderRun]:
    """Score the final weights of every finished run on texts (name -> documents), and write what they score to a file.

    The file is written after every score, and what it holds of the same weights and documents stays.

    Raises:
        ConfigError: no run is finished, or one was trained with other settings.
        ArtifactError: a file of a run, or the file to write to, is damaged.
    """
    known = {run.name: run for run in read_runs(runs_file)}
    finished = 0
    for name, folder in run_folders(ladder, settings).items():
        record = _finished(folder, name, settings[name])
        if record is None:
            say(f"{name}: not finished, left out")
            continue
        finished += 1
        target = load_target(str(folder))
        end, fit = record["curves"][0]["points"][-1], record["fit_sha256"]
        run = LadderRun(
            name, asdict(settings[name]), target.parameter_count, end["tokens"], end["flops"], fit, target.sha256, {}
        )
        before = known.get(name)
        if before is not None and replace(before, scores={}) == run:
            run = before
        talker = TargetTalker(target, read_hf_tokenizer(folder, target.spec.d_vocab))
        for text, documents in texts.items():
            sha256 = text_hash(documents)
            if sha256 in run.scores:
                continue
            step = f"{name} on {text}"
            result = score(talker, documents, partial(progress, step))
            scores = LadderScore(
                text, len(documents), result.tokens, result.bytes, result.nats_per_token, result.bits_per_byte
            )
            run = replace(run, scores={**run.scores, sha256: scores})
            known[name] = run
            write_runs(runs_file, list(known.values()))
    if not finished:
        raise ConfigError(f"{ladder}: no finished run of the ladder in it; run englishroom ladder rebuild first")
    return read_runs(runs_file)


def _finished(folder: Path, name: str, config: TrainConfig) -> dict[str, Any] | None:
    """Read the record of a finished run, or ``None`` where it is not finished.

    Raises:
        ConfigError: the folder holds a run with other settings.
    """
    record = read_training(folder)
    if record is None:
        return None
    wanted = asdict(config)
    changed = sorted(key for key in wanted | record["config"] if wanted.get(key) != record["config"].get(key))
    if changed:
        raise ConfigError(f"{folder}: has a run with other settings than {name} ({', '.join(changed)}); use another")
    return record
