"""Settings that cannot work end in one line, before anything is read or written."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from englishroom.cli import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("train none.txt --out new/talker --batch 0", "--batch is 0, expected 1 or more"),
        ("train none.txt --out new/talker --vocabulary 9", "--vocabulary is 9, expected 257 to 65536"),
        ("train none.txt --out new/talker --matrix-rate 0", "--matrix-rate is 0, expected above 0"),
        (
            "train none.txt --out new/talker --n-heads 3",
            "--d-model is 160, expected a multiple of --n-heads, which is 3",
        ),
        ("train --out new/talker", "no text to train on; give at least one text file"),
        ("sample none --out new/text.txt --documents 0", "--documents is 0, expected 1 or more"),
        ("sample none --out new/text.txt --parts 3 0 3", "--parts is 3 0 3, expected 1 or more"),
        ("sample none --out new/text.txt --temperature nan", "--temperature is nan, expected a finite number"),
        ("sample none --out new/text.txt --context 1", "--context is 1, expected 2 or more"),
        ("ladder measure none --text none.txt --max-documents 0", "--max-documents is 0, expected 1 or more"),
        ("curve none --text none.txt --max-documents 0", "--max-documents is 0, expected 1 or more"),
        ("features none --limit=-1", "--limit is -1, expected 0 or more"),
        ("export none --out new/files --format zip", "--format is zip, expected englishroom, saelens"),
    ],
)
def test_a_setting_is_refused_before_any_work(
    arguments: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(arguments)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {said}")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
