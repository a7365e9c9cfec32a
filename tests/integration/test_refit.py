"""Programs of the frontier that are refitted: nearer to their target than those that are not, and as small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from englishroom.errors import ConfigError
from englishroom.ir.room import load_program
from englishroom.passes.prune import edge_tables
from englishroom.pipeline import decompile, refitting
from englishroom.pipeline.commands import FrontierConfig
from englishroom.pipeline.frontier import frontier
from englishroom.sparse.fit import SparseFit
from englishroom.store import read_manifest
from tiny import CASES
from tiny_sparse import room_config


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refit")
    decompile(room_config(CASES["gpt2"].write(folder / "model")), folder / "room")
    return folder / "room"


def sweep(room: Path, out: Path, story_file: Path, unseen_file: Path, refit: int) -> list[dict[str, Any]]:
    choose = out.parent / "choose.txt"
    choose.write_text("\n<|endoftext|>\n".join(f"Mia saw the rain, number {i}." for i in range(40)))
    texts = {"text": str(unseen_file), "fit": str(story_file), "choose": str(choose), "max_documents": 8}
    steps = {"bits": ("ternary",), "keep": (0.5,), "baselines": False}
    return frontier(FrontierConfig((room,), **texts, **steps, refit=refit), out)["points"][2:]


def test_refitting_brings_programs_nearer_and_a_killed_sweep_goes_on(
    room: Path, story_file: Path, unseen_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = sweep(room, tmp_path / "plain", story_file, unseen_file, 0)
    update, fit, steps, checkpoints = SparseFit.update, refitting.fit_sparse, [], []

    def noted(run: SparseFit, checkpoint: Path, show: Any) -> Any:
        checkpoints.append(checkpoint)
        return fit(run, checkpoint, show)

    def interrupted(run: SparseFit) -> float:
        steps.append(run.step)
        if len(steps) == 30:
            run.save(checkpoints[-1])
            raise KeyboardInterrupt
        return update(run)

    monkeypatch.setattr(refitting, "fit_sparse", noted)
    monkeypatch.setattr(SparseFit, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep(room, tmp_path / "refitted", story_file, unseen_file, 6000)
    refitted = sweep(room, tmp_path / "refitted", story_file, unseen_file, 6000)
    assert steps[30] == steps[29]
    assert checkpoints[0] == checkpoints[1]
    assert not any(path.exists() for path in checkpoints)
    for before, after in zip(plain, refitted, strict=True):
        assert after["kl_target_talker"] < before["kl_target_talker"], after["name"]
        assert (after["name"], after["kind"]) == tuple(f"{before[key]}, refitted" for key in ("name", "kind"))
        assert after["rules_fired_mean"] > 0
    source, _ = load_program(room)
    ternary, pruned = (load_program(Path(point["open"]))[0] for point in refitted)
    for name, table in edge_tables(ternary).items():
        if not name.endswith("loudness.weight"):
            assert len(np.unique(np.abs(table.values))) <= 1, name
    counts = [sum(t.n_entries for t in edge_tables(program).values()) for program in (source, pruned)]
    assert counts[1] < 0.8 * counts[0]  # loudness and words keep all of theirs
    assert read_manifest(Path(refitted[0]["open"])).records[-1]["made_by"] == "refit"


def test_a_refit_of_less_than_nothing_is_refused(room: Path) -> None:
    with pytest.raises(ConfigError, match=r"--refit is -1, expected 0 or more"):
        frontier(FrontierConfig((room,), refit=-1), room.parent / "out")
