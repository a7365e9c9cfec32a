"""The command: a sketch of a model is written, measured, opened as a talker, and refused where it will not do."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from englishroom.cli import main
from englishroom.data.corpus import write_documents
from englishroom.data.texts import open_text
from englishroom.errors import ArtifactError, ConfigError
from englishroom.evaluate.talkers.sketch import SketchTalker
from englishroom.pipeline import open_talker
from englishroom.sketch.folder import read_sketch
from englishroom.sketch.sampling import listen
from tiny_sketch import TinyTalker
from tiny_stories import story

FEW = [
    "--lines",
    "215",
    "--words",
    "60",
    "--kinds",
    "8",
    "--positions",
    "1500",
    "--report-positions",
    "300",
    "--no-check",
]


@pytest.fixture(scope="module")
def texts(story_file: Path, unseen_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return options that name three texts without a common document."""
    choose = tmp_path_factory.mktemp("text") / "choose.txt"
    choose.write_text("\n<|endoftext|>\n".join(map(story, range(500, 530))), encoding="utf-8")
    return ["--fit", str(story_file), "--choose", str(choose), "--report", str(unseen_file)]


@pytest.fixture(scope="module")
def written(tiny_talker: Path, texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a sketch."""
    out = tmp_path_factory.mktemp("sketches") / "sketch"
    assert main(["sketch", str(tiny_talker), "--out", str(out), *FEW, *texts]) == 0
    return out


def test_the_record_says_what_was_measured(written: Path) -> None:
    record = json.loads((written / "sketch.json").read_text(encoding="utf-8"))
    text = (written / "sketch.py").read_text(encoding="utf-8")
    assert record["lines"] == text.count("\n") <= 215
    assert max(map(len, text.split("\n"))) <= 120
    assert record["file_vs_fit_nats"] <= 1e-9
    assert record["share"] == pytest.approx(1 - record["kl_talker_sketch"] / record["kl_talker_unigram"])
    assert record["gears"][0]["gear"] == "words"
    added = sum(row["adds_nats"] for row in record["gears"])
    assert added == pytest.approx(record["kl_talker_unigram"] - record["kl_talker_sketch"], abs=1e-6)
    assert {part: about["blank_lines"] for part, about in record["texts"].items()} == dict.fromkeys(
        ("fit", "choose", "report"), "collapse"
    )
    assert f"It keeps {record['share']:.1%}" in text
    places = [text.index(f"GEARS[{row['gear']}]") for row in record["gears"][1:]]
    assert places == sorted(places), "gears stand in the order in which they add most"


def test_it_scores_talks_samples_and_compares(
    written: Path, tiny_talker: Path, unseen_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--text", str(unseen_file), "--max-documents", "4", "--no-check"]
    scored = [*options, "--greedy-prompts", "1", "--out", str(tmp_path / "scores")]
    assert main(["score", str(tiny_talker), str(written), *scored]) == 0
    target, row = json.loads((tmp_path / "scores.json").read_text())["rows"]
    assert row["kl_target_talker"] > 0
    assert 0 < row["description_bits"] < target["description_bits"]
    assert main(["compare", str(tiny_talker), str(written), *options, "--prompt", "Lily saw"]) == 0
    assert main(["sample", str(written), "--documents", "2", "--out", str(tmp_path / "told.txt")]) == 0
    capsys.readouterr()
    assert main(["talk", str(written), "Lily saw", "--seed", "1", "--max-tokens", "5"]) == 0
    assert capsys.readouterr().out.startswith("Lily saw")


def test_its_score_is_its_record(written: Path, tiny_talker: Path, texts: list[str], tmp_path: Path) -> None:
    """The report is the first documents of the text, by the positions that score counts."""
    record = json.loads((written / "sketch.json").read_text(encoding="utf-8"))
    tokens = documents = 0
    _, tokenizer, _ = read_sketch(written)
    stories = Path(texts[-1]).read_text(encoding="utf-8").split("\n<|endoftext|>\n")
    while tokens < 300:
        tokens += len(tokenizer.encode(stories[documents]))
        documents += 1
    options = ["--text", texts[-1], "--max-documents", str(documents), "--no-check", "--greedy-prompts", "0"]
    assert main(["score", str(tiny_talker), str(written), *options, "--out", str(tmp_path / "scores")]) == 0
    row = json.loads((tmp_path / "scores.json").read_text())["rows"][1]
    assert row["kl_target_talker"] == pytest.approx(record["kl_talker_sketch"], abs=1e-4)
    assert row["nats_per_token"] == pytest.approx(record["cross_entropy"], abs=1e-4)


def test_it_imports_the_standard_library_alone(written: Path) -> None:
    code = f"import runpy, sys; runpy.run_path({str(written / 'sketch.py')!r}); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in run.stdout.split()} <= {
        *sys.stdlib_module_names,
        "__main__",
        "__mp_main__",
    }


def test_blank_lines_are_kept_on_request(tiny_talker: Path, tmp_path: Path, capsys) -> None:
    texts = []
    for part, begin, end in (("fit", 0, 200), ("choose", 500, 530), ("report", 700, 730)):
        path = tmp_path / f"{part}.txt"
        write_documents(path, [story(at).replace(". ", ".\n\n", 1) for at in range(begin, end)])
        texts += [f"--{part}", str(path)]
    out = tmp_path / "sketch"
    assert main(["sketch", str(tiny_talker), "--out", str(out), *FEW, *texts, "--blank-lines", "keep"]) == 0
    assert "; blank lines kept\n" in capsys.readouterr().out
    record, _, _ = read_sketch(out)
    for part, about in record.texts.items():
        path = tmp_path / f"{part}.txt"
        assert about["blank_lines"] == "keep"
        assert about["sha256"] == open_text(path, blank_lines="keep").sha256 != open_text(path).sha256


def test_a_share_out_of_reach_is_said(tiny_talker: Path, texts: list[str], tmp_path: Path, capsys) -> None:
    few = [*FEW, "--share", "0.999"]
    assert main(["sketch", str(tiny_talker), "--out", str(tmp_path / "sketch"), *few, *texts]) == 0
    printed = capsys.readouterr().out
    assert "share 0.999 cannot be kept in 215 lines: " in printed
    assert "was reached; give more --lines or a smaller --share" in printed


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--share", "1.5"], "--share is 1.5, expected above 0 and below 1"),
        (["--lines", "20"], "--lines is 20, expected 180 or more"),
        (["--positions", "5"], "--positions is 5, expected 1000 or more"),
        (["--report-positions", "5"], "--report-positions is 5, expected 100 or more"),
        (["--words", "1"], "--words is 1, expected 2 or more"),
        (["--kinds", "1"], "--kinds is 1, expected 2 or more"),
        (["--out", "no/where"], "no: no such folder; create it first, or choose another --out"),
    ],
)
def test_settings_that_make_no_sense(
    options: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sketch", "tiny-2l", *options]) == 1
    assert said in capsys.readouterr().err


def test_places_that_will_not_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary").write_text("")
    assert main(["sketch", "tiny-2l", "--out", str(tmp_path / "file")]) == 1
    assert "a file, expected a folder or nothing; choose another --out" in capsys.readouterr().err
    assert main(["sketch", "tiny-2l", "--out", str(tmp_path / "full")]) == 1
    assert "holds other things than a sketch (diary); choose another --out" in capsys.readouterr().err


def test_texts_that_share_documents(tiny_talker: Path, texts: list[str], tmp_path: Path, capsys) -> None:
    same = [*texts[:-1], texts[1]]
    assert main(["sketch", str(tiny_talker), "--out", str(tmp_path / "s"), *FEW, *same]) == 1
    assert "200 of the 200 documents of" in capsys.readouterr().err


def test_damaged_sketches_are_refused(written: Path, tmp_path: Path) -> None:
    for name, said in (("sketch.py", "changed since it was written"), ("sketch.json", "talker: Field required")):
        copy = tmp_path / name.replace(".", "_")
        copy.mkdir()
        for file in ("sketch.py", "sketch.json", "tokenizer.json"):
            (copy / file).write_bytes((written / file).read_bytes())
        (copy / name).write_text("{}")
        with pytest.raises(ArtifactError, match=said):
            read_sketch(copy)


def test_a_file_that_says_something_else_is_not_written(
    tiny_talker: Path, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr("englishroom.pipeline.sketching.TOLERANCE_NATS", -1.0)
    out = tmp_path / "sketch"
    assert main(["sketch", str(tiny_talker), "--out", str(out), *FEW, *texts]) == 1
    assert "the written sketch differs from the fitted one by" in capsys.readouterr().err
    assert not out.exists()


def test_texts_that_cannot_be_listened_to() -> None:
    talker = TinyTalker()
    with pytest.raises(ConfigError, match="the text has no token to listen to; give more text"):
        listen(talker, [], 100, ends=False)
    talker.tokenizer = replace(talker.tokenizer, byte_ids=(-1,) * 256)
    with pytest.raises(ConfigError, match=r"text: the vocabulary has no token for byte 0x5a.*; use a text of other"):
        listen(talker, ["Z"], 100, ends=False)


def test_words_that_are_no_tokens_are_refused(written: Path) -> None:
    _, tokenizer, text = read_sketch(written)
    text = text.replace("if __name__ ==", 'KNOWN["no such"] = 1\nif __name__ ==')
    with pytest.raises(ArtifactError, match=r"it says words that are no tokens: \['no such'\]"):
        SketchTalker(Path("sketch.py"), text, tokenizer, 32).log_probs(np.array([[1]]))


@pytest.fixture
def foreign(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a sketch of others, with code that says that it ran."""
    monkeypatch.setenv("ENGLISHROOM_CACHE", str(tmp_path / "another_user"))
    copy = Path(shutil.copytree(written, tmp_path / "foreign"))
    source = (copy / "sketch.py").read_bytes() + b"\nopen(__file__ + '.ran', 'w').close()\n"
    (copy / "sketch.py").write_bytes(source)
    record = json.loads((copy / "sketch.json").read_bytes())
    record["files"]["sketch.py"] = hashlib.sha256(source).hexdigest()
    (copy / "sketch.json").write_text(json.dumps(record), encoding="utf-8")
    return copy


@pytest.mark.parametrize(
    "command",
    [
        ["talk", "{}", "Lily", "--max-tokens", "3"],
        ["score", "{}", "--max-documents", "1", "--greedy-prompts", "0"],
        ["compare", "{}", "{}", "--max-documents", "1", "--prompt", "Lily"],
        ["sample", "{}", "--documents", "1", "--max-tokens", "3", "--out", "{}.txt"],
        ["sketch", "{}"],
    ],
)
def test_a_sketch_of_others_is_code_and_runs_on_request_only(
    foreign: Path, unseen_file: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(foreign) for word in command]
    words += ["--text", str(unseen_file)] if command[0] in ("score", "compare") else []
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "a sketch is Python code, and this one was not written here; read" in said
    assert "then give --run-code to run it" in said
    assert not foreign.with_name("foreign").joinpath("sketch.py.ran").exists()
    if command[0] == "sketch":
        return
    assert main([*words, "--run-code"]) == 0
    assert f"{foreign / 'sketch.py'} is Python code; running it" in capsys.readouterr().err
    assert (foreign / "sketch.py.ran").exists()


def test_what_runs_is_what_was_checked(written: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(written, tmp_path / "copy"))
    tokens = np.array([[1, 2, 3]])
    expected = open_talker(str(written)).log_probs(tokens)
    talker = open_talker(str(copy))
    (copy / "sketch.py").write_text("open(__file__ + '.ran', 'w').close()", encoding="utf-8")
    np.testing.assert_array_equal(talker.log_probs(tokens), expected)
    assert not (copy / "sketch.py.ran").exists()


def test_an_own_sketch_says_that_it_is_code(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["talk", str(written), "Lily", "--max-tokens", "3"]) == 0
    assert f"{written / 'sketch.py'} is Python code; running it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_ctx": "many"}, "n_ctx: Input should be a valid integer"),
        ({"n_ctx": 0}, "not the record of sketch.py and tokenizer.json"),
        ({"files": {"../x": "0"}}, "not the record of sketch.py and tokenizer.json"),
        ({"gears": 3}, "gears: Input should be a valid array"),
    ],
)
def test_a_record_of_another_form_is_refused(written: Path, tmp_path: Path, changes, said: str) -> None:
    copy = Path(shutil.copytree(written, tmp_path / "copy"))
    record = json.loads((copy / "sketch.json").read_bytes()) | changes
    (copy / "sketch.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ArtifactError, match=f"sketch.json: {said}.*; sketch the talker again"):
        read_sketch(copy)
