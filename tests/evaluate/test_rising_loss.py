"""A line that says where a model's loss rises along its context."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from englishroom.cli import main
from englishroom.errors import ConfigError
from englishroom.evaluate.rising_loss import LEAST_CONTEXT, rising_loss
from englishroom.pipeline import open_talker
from tiny import tensors_of, write_tensors
from tiny_stories import story

STORIES = [story(seed) for seed in range(400, 700)]
LINE = (
    r"lost: its loss rises along the context: tokens from position 16 on cost \d+\.\d\d nats, and \d\.\d\d where it "
    r"reads 16 at once; it may have been trained on shorter texts than its configuration says, so give --context 16"
)


@pytest.fixture(scope="module")
def lost(tiny_talker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model whose configuration says twice the context that it was trained on, as TinyStories' own say."""
    folder = shutil.copytree(tiny_talker, tmp_path_factory.mktemp("lost") / "lost")
    tensors = tensors_of(folder)
    tensors["transformer.wpe.weight"][16:] *= -30
    write_tensors(folder, tensors)
    return folder


@pytest.mark.parametrize("run_on", [True, False])
def test_the_line_names_where_it_rises_and_the_context_to_set(lost: Path, run_on: bool):
    found = rising_loss(open_talker(str(lost), check=False), STORIES, run_on)
    assert found is not None
    assert re.fullmatch(LINE, found)


@pytest.mark.parametrize("run_on", [True, False])
def test_there_is_no_line_for_a_model_that_reads_all_of_its_context(tiny_talker: Path, run_on: bool):
    assert open_talker(str(tiny_talker), check=False).n_ctx >= LEAST_CONTEXT
    assert rising_loss(open_talker(str(tiny_talker), check=False), STORIES, run_on) is None


def test_there_is_no_line_where_no_text_reaches_so_far_or_the_context_is_cut(lost: Path):
    assert rising_loss(open_talker(str(lost), check=False), ["Tom"] * 300, run_on=False) is None
    assert rising_loss(open_talker(str(lost), check=False, context=16), STORIES, run_on=True) is None


def test_a_score_prints_it_and_keeps_it(lost: Path, unseen_file: Path, capsys: pytest.CaptureFixture[str]):
    options = ["--text", str(unseen_file), "--max-documents", "20", "--greedy-prompts", "0", "--no-check"]
    assert main(["score", str(lost), *options]) == 0
    told = capsys.readouterr()
    for stream in (told.out, told.err):
        assert re.search(LINE, stream.replace("\n", " "))
    assert main(["score", str(lost), *options, "--context", "16"]) == 0
    assert "rises" not in capsys.readouterr().out


def test_a_fit_says_it_before_it_starts(
    lost: Path,
    story_file: Path,
    unseen_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def stopped(*_given: object) -> None:
        raise ConfigError("stopped before the fit")

    monkeypatch.setattr("englishroom.pipeline.fitting.fit", stopped)
    (tmp_path / "choose.txt").write_text(STORIES[0], encoding="utf-8")
    texts = ["--fit", str(story_file), "--choose", str(tmp_path / "choose.txt"), "--report", str(unseen_file)]
    out = ["--level", "featured", "--no-check", "--out", str(tmp_path / "room")]
    assert main(["decompile", str(lost), *texts, *out]) == 1
    assert re.search(LINE, capsys.readouterr().err.replace("\n", " "))
