"""Two runs on one place, and a text that changes between two runs: refused by name, or done anew; never mixed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from englishroom.cli import main
from englishroom.names import SCORES
from englishroom.pipeline import decompile
from englishroom.pipeline.presets import preset_of
from englishroom.store import read_manifest, read_room
from englishroom.work import Work
from killing import Killed
from tiny_stories import story

SIZES = {
    **{"moved": 8, "moved_active": 2, "rules": 8, "rules_active": 2, "local_tokens": 100, "joint_tokens": 200},
    **{"probe_rows": 2, "evidence_rows": 4, "report_documents": 4, "greedy_prompts": 1},
}
HOLD = """
import sys
from pathlib import Path
from englishroom.disk import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(place: Path) -> Iterator[None]:
    """Let another process hold a place, as a command does that is writing there."""
    command = [sys.executable, "-c", HOLD, str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.communicate("")


def write_text(path: Path, first: int) -> Path:
    """Write a text of thirty stories that no other text of this file has."""
    path.write_text("\n<|endoftext|>\n".join(map(story, range(first, first + 30))))
    return path


def write_texts(folder: Path, *names: str) -> dict[str, Path]:
    """Write a text for each name; no two have a story in common."""
    return {name: write_text(folder / f"{name}.txt", 100 * at) for at, name in enumerate(names)}


@pytest.mark.parametrize(
    "arguments",
    [
        ["decompile", "TALKER", "--level", "exact", "--no-check"],
        ["sketch", "TALKER", "--fit", "FIT", "--choose", "CHOOSE", "--report", "REPORT"],
        ["train", "FIT"],
        ["sample", "TALKER", "--documents", "4"],
        ["score", "TALKER", "--text", "REPORT", "--no-check"],
        ["report", "ROOM", "--report", "REPORT"],
        ["slice", "ROOM", "--text", "Tom"],
        ["frontier", "ROOM", "--text", "REPORT", "--fit", "FIT", "--choose", "CHOOSE", "--model", "TALKER"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_second_command_on_a_place_is_refused(
    arguments: list[str], tiny_talker: Path, tiny_room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = write_texts(tmp_path, "FIT", "CHOOSE", "REPORT")
    named = {"TALKER": tiny_talker, "ROOM": tiny_room} | texts
    out = tmp_path / ("out.txt" if arguments[0] == "sample" else "out")
    with held(out):
        assert main([*(str(named.get(word, word)) for word in arguments), "--out", str(out)]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line or "Traceback" in line]
    assert errors == [
        f"error: {out}: another englishroom is writing there; wait until it ends, or choose another place"
    ]
    assert not out.exists() or not list(out.iterdir())
    assert [path for path in tmp_path.glob("*out*") if path != out] == []


def test_a_reporting_text_that_changes_under_its_name_is_measured_anew(
    tiny_talker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = write_texts(tmp_path, "fit", "choose", "report")
    named = {"fit": (str(texts["fit"]),), "choose": str(texts["choose"]), "report": str(texts["report"])}
    config = preset_of("fast", "featured").changed(**{"model": str(tiny_talker), "check": False} | named | SIZES)
    once = Work.once

    def killed(work: Work, name: str, make: object) -> object:
        made = once(work, name, make)  # pyright: ignore[reportArgumentType]
        if name == SCORES:
            raise Killed
        return made

    with monkeypatch.context() as patched:
        patched.setattr(Work, "once", killed)
        with pytest.raises(Killed):
            decompile(config, tmp_path / "room")
    assert (tmp_path / "room.work" / SCORES).is_file()
    write_text(texts["report"], 300)
    decompile(config, tmp_path / "room")
    decompile(config, tmp_path / "whole")
    changed, whole = read_room(tmp_path / "room"), read_room(tmp_path / "whole")
    assert read_manifest(tmp_path / "room").evidence["texts"] == whole.manifest.evidence["texts"]
    assert changed.contents[SCORES] == whole.contents[SCORES]
    assert changed.contents.keys() == whole.contents.keys()
    assert [name for name in whole.contents if changed.contents[name] != whole.contents[name]] == []
