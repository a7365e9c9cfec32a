"""Rooms and sketches of others: nothing that they name is fetched or read, and no code of theirs run, unasked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from englishroom.cli import main
from englishroom.data.texts import READY, open_text
from englishroom.errors import ConfigError
from englishroom.evaluate.config import SampleTextConfig
from englishroom.evaluate.sample_file import SampledModel, write_parts
from englishroom.evaluate.talkers.target import TargetTalker
from englishroom.models.load import load_target
from englishroom.pipeline.fitting import own_options, sampled_again
from englishroom.pipeline.labelling import fit_text
from englishroom.pipeline.opening import open_target, original_name, original_tokenizer
from englishroom.store import read_manifest, read_room, write_room
from englishroom.talkers.shipped import shipped_path
from englishroom.written import remember, written_here
from forged import sign


def silent(_step: str, _done: int, _total: int) -> None:
    """Show no progress."""


@pytest.fixture
def foreign(tiny_room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a room that was not written here, which names a model on the hub and a text on this disk."""
    monkeypatch.setenv("ENGLISHROOM_CACHE", str(tmp_path / "another_user"))

    def fetched(name: str) -> None:
        raise AssertionError(f"{name} was asked of the hub")

    monkeypatch.setattr("englishroom.models.load.fetch_model", fetched)
    secret = tmp_path / "secret.txt"
    secret.write_text("my diary")
    text = {"name": str(secret), "sha256": "0" * 64, "documents": 1}
    config = {"model": "stranger/model", "opening": {"tokenizer": str(secret)}, "texts": {"fit": [str(secret)]}}
    return sign(tiny_room, config=config, evidence={"texts": {"fit": text, "report": text}})


def test_a_report_on_a_room_of_others_asks_before_it_opens_what_the_room_names(
    foreign: Path, tiny_talker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["report", str(foreign), "--max-documents", "2", "--out", str(out)]) == 0
    said = capsys.readouterr().err
    assert "secret.txt: the text that this room was measured on is not here, or not read unasked" in said
    assert f"measuring on {READY}" in said
    facts = json.loads((out / "report.json").read_bytes())
    assert "stranger/model, which is not fetched or read unasked" in facts["not_compared"]
    assert "name the model with --model" in facts["not_compared"]
    assert "diary" not in (out / "report.json").read_text()
    options = ["--max-documents", "2", "--out", str(out), "--report", str(tmp_path / "secret.txt")]
    assert main(["report", str(foreign), "--model", str(tiny_talker), *options]) == 0
    facts = json.loads((out / "report.json").read_bytes())
    assert facts["compared"]["text"].endswith("secret.txt")


def test_a_frontier_asks_for_the_model(foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frontier", str(foreign), "--out", str(tmp_path / "out"), "--max-documents", "2"]) == 1
    assert "which is not fetched or read unasked" in capsys.readouterr().err


def test_a_shipped_model_is_known_by_its_hash(foreign: Path) -> None:
    manifest = read_manifest(sign(foreign, target={"sha256": load_target(str(shipped_path("tiny-1l"))).sha256}))
    assert original_name(foreign, manifest, None) == "tiny-1l"
    assert original_name(foreign, manifest, "mine") == "mine"
    assert original_tokenizer(manifest) is None


def test_texts_are_read_for_rooms_that_were_written_here(foreign: Path) -> None:
    with pytest.raises(ConfigError, match=r"secret\.txt is not read unasked; give --text"):
        fit_text(foreign, None, "--text", 3, silent)
    sign(foreign, evidence={"texts": {"fit": {"name": "samples of x, fit", "sha256": "0" * 64, "documents": 1}}})
    with pytest.raises(ConfigError, match=r"was fitted on samples of x, fit, and needs the model .*; give --fit$"):
        fit_text(foreign, None, "--fit", 3, silent)


def test_what_a_model_told_for_its_own_room_is_told_again(tiny_room: Path, tiny_talker: Path, tmp_path: Path) -> None:
    target, tokenizer = open_target(str(tiny_talker))
    talker = TargetTalker(target, tokenizer)
    config = SampleTextConfig(parts=(6, 2, 2), drawing=own_options(0))
    write_parts(talker, SampledModel("tiny", target.sha256), config, tmp_path / "texts")
    told = open_text(tmp_path / "texts" / "fit.txt.xz").documents
    assert sampled_again(talker, 0, 3, silent).documents == told[:3]
    text = {"name": "samples of tiny, fit", "sha256": "0" * 64, "documents": 6}
    sign(tiny_room, evidence={"texts": {"fit": text}})
    remember(read_manifest(tiny_room).sha256)
    found = fit_text(tiny_room, None, "--text", 3, silent)
    assert found.documents == told[:3]
    assert found.name == f"samples of {target.name}, fit (first 3 documents)"


def test_several_texts_are_read_by_their_own_names(tiny_room: Path, story_file: Path, unseen_file: Path) -> None:
    both = {"name": f"{unseen_file} + {story_file}", "sha256": "0" * 64, "documents": 230}
    sign(tiny_room, config={"texts": {"fit": [str(unseen_file), str(story_file)]}}, evidence={"texts": {"fit": both}})
    remember(read_manifest(tiny_room).sha256)
    found = fit_text(tiny_room, None, "--text", 32, silent)
    first, second = (open_text(file).documents for file in (unseen_file, story_file))
    assert found.documents == (*first, *second)[:32]


def test_a_slice_of_a_room_of_others_does_not_count_as_written_here(foreign: Path) -> None:
    stored = read_room(foreign)
    again = write_room(foreign, stored.contents.items(), lambda _folder: stored.manifest, stored.manifest)
    assert not written_here(again.sha256)
