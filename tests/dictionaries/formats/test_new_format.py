"""A format is declared in its module and entered in one tuple; all that reads and writes dictionaries follows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from coders import assert_alike, coder

from englishroom.cli import main
from englishroom.dictionaries.dictionary import Dictionary, DictionarySpec
from englishroom.dictionaries.formats import FORMATS, read_dictionaries, registry, write_dictionaries
from englishroom.dictionaries.formats.format import CodedModel, DictionaryFormat, in_new_folder
from englishroom.errors import ArtifactError, ConfigError

MARKER = "numbers.json"


def read(folder: Path) -> list[Dictionary]:
    listed = json.loads((folder / MARKER).read_text())
    return [
        Dictionary.of(
            DictionarySpec(**{key: tuple(v) if isinstance(v, list) else v for key, v in each["spec"].items()}),
            {key: torch.tensor(numbers) for key, numbers in each["weights"].items()},
        )
        for each in listed
    ]


def contents(dictionaries: Sequence[Dictionary], _model: CodedModel) -> dict[str, bytes]:
    listed = [
        {"spec": vars(d.spec), "weights": {key: tensor.tolist() for key, tensor in d.weights.items()}}
        for d in dictionaries
    ]
    return {MARKER: json.dumps(listed).encode()}


@pytest.fixture(autouse=True)
def numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a format the way CONTRIBUTING says: a declaration, and its place among the others."""
    declared = DictionaryFormat("numbers", MARKER, read, in_new_folder(contents))
    monkeypatch.setattr(registry, "FORMATS", (*registry.FORMATS, declared))


def test_a_new_format_is_written_known_by_its_marker_and_read(tmp_path: Path):
    ours = coder()
    write_dictionaries(tmp_path / "out" / "inside", "numbers", [ours], "tiny")
    (found,) = read_dictionaries(tmp_path / "out")
    assert_alike(ours, found)


def test_messages_name_it(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"^--format is pickle, expected englishroom, .*, numbers$"):
        write_dictionaries(tmp_path / "out", "pickle", [coder()], "tiny")
    with pytest.raises(ArtifactError, match=r"numbers\.json \(numbers\)$"):
        read_dictionaries(tmp_path)


def test_the_help_of_export_lists_every_format(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert ", ".join(known.name for known in FORMATS) in shown
