"""A blind reader is asked about what stands in the file of a program, and is scored by what the program does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from englishroom.data.corpus import write_documents
from englishroom.emit.prelude.holding import place_of
from englishroom.errors import ArtifactError
from englishroom.inside.labelling import label
from englishroom.interp.reference import run
from englishroom.ir.labels import Labels
from englishroom.ir.program import Program
from programs import chain, tokenizer_for
from readable import WORDS, induction
from readable import tokens as tokens_of
from tiny_slice import write_small_room

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
N_PLACES = 8
PLACES = ("on", "off, the same word here", "off, others")
KINDS = [f"{kind} of layer {layer}" for layer in (0, 1) for kind in ("moved features", "rules")]


def letters(seed: int, count: int = 80) -> list[str]:
    """Draw documents of the words a to e, often the same again."""
    return ["".join(word) for word in np.random.default_rng(seed).choice(list("aabbcde"), (count, 7))]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program, tokenizer = induction(), tokenizer_for(len(WORDS))
    labels = label(program, tokenizer, [tokens_of(text) for text in letters(0)], "letters")
    return write_small_room(tmp_path_factory.mktemp("blind") / "room", program, tokenizer, labels)


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import blind_reader

    return blind_reader


@pytest.fixture
def out(reader: ModuleType, room: Path, tmp_path: Path) -> Path:
    """The folder of ten questions."""
    write_documents(tmp_path / "text.txt", letters(1))
    asked = ["ask", str(room), "--text", str(tmp_path / "text.txt"), "--out", str(tmp_path / "asked")]
    reader.main([*asked, "--features", "10"])
    return tmp_path / "asked"


def questions(out: Path) -> list[tuple[str, list[str]]]:
    """Return the lines of each feature, and its places."""
    form = re.compile(r"^## \d+\n\n```text\n(.*?)```.*?```text\n(.*?)\n```", re.MULTILINE | re.DOTALL)
    found = form.findall((out / "questions.md").read_text())
    return [(lines, re.findall(r"^\d\. (.*)$", places, re.MULTILINE)) for lines, places in found]


def answers(out: Path) -> list[str]:
    """Return right answers."""
    key = json.loads((out / "key.json").read_text())["features"]
    marks = [["+" if place == "on" else "-" for place in feature["places"]] for feature in key]
    return [f"{number}: {' '.join(one)}" for number, one in enumerate(marks, 1)]


def scored(reader: ModuleType, out: Path, lines: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """Score answers; return the cells of each row."""
    (out / "answers.txt").write_text("\n".join(lines))
    capsys.readouterr()
    reader.main(["score", str(out / "answers.txt")])
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    return {name: cells for name, *cells in rows}


def test_the_key_says_what_the_program_does_at_the_places_shown(room: Path, out: Path) -> None:
    key = json.loads((out / "key.json").read_text())["features"]
    asked, program = questions(out), induction()
    assert len(asked) == len(key) > 6
    for (lines, places), feature in zip(asked, key, strict=True):
        assert lines in (room / "program.py").read_text()
        assert lines.startswith(f"# {feature['feature']}\n")
        kind, layer, index = re.fullmatch(r"([mr])(\d)\.(\d+)", place_of(feature["feature"])).groups()
        variable = f"{'moved' if kind == 'm' else 'rules'}.{layer}"
        assert len(set(places)) == len(feature["places"]) == N_PLACES
        ends = [re.fullmatch(r"<s>(\w*)\[(\w)\]", place) for place in places]
        values = [run(program, tokens_of(end[1] + end[2]))[variable][-1, int(index)] for end in ends]
        assert [value > 0 for value in values] == [place == "on" for place in feature["places"]]
        here = {kind: {end[2] for end, k in zip(ends, feature["places"], strict=True) if k == kind} for kind in PLACES}
        assert here["off, the same word here"] <= here["on"]
        assert feature["places"].count("on") == N_PLACES / 2
    assert any("off, the same word here" in feature["places"] for feature in key)


def test_right_answers_score_all_and_always_on_scores_half(
    reader: ModuleType, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = answers(out)
    rows = scored(reader, out, right, capsys)
    assert set(rows) <= {"all", *KINDS, *PLACES}
    assert {cells[0] for cells in rows.values()} == {"100.0%"}
    assert rows["all"][1] == str(N_PLACES * len(right))
    assert rows["all"][3] == "50.0%"
    assert float(rows["all"][4].rstrip("%")) < 80
    rows = scored(reader, out, [f"{number}: {'+' * N_PLACES}" for number in range(1, len(right) + 1)], capsys)
    assert rows["all"][0] == rows["all"][3] == rows["all"][4] == "50.0%"
    assert (rows["on"][0], rows["off, others"][0]) == ("100.0%", "0.0%")


def test_answers_to_other_features_are_those_of_the_same_kind(
    reader: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first two features have the same key, the third is of another kind and has none to compare with."""
    on_off = ["on"] * 4 + ["off, others"] * 4
    key = [{"feature": "m0.1", "kind": "m", "places": on_off}, {"feature": "m0.2", "kind": "m", "places": on_off}]
    key += [{"feature": "r0.1", "kind": "r", "places": on_off[::-1]}]
    (tmp_path / "key.json").write_text(json.dumps({"features": key}))
    rows = scored(reader, tmp_path, ["1: ++++----", "2: ++--++++", "3: ++++++++"], capsys)
    assert (rows["m"][0], rows["m"][4]) == ("62.5%", "62.5%")
    assert rows["r"][0] == "50.0%"
    assert rows["m"][1:3] == ["16", "± 73.5%"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda lines: [lines[0], "2: + - maybe", *lines[2:]],
            "line 2: found '2: + - maybe', expected a number from 1",
        ),
        (lambda lines: [*lines, "99: + - + - + - + -"], "found '99: + - + - + - + -', expected a number from 1 to"),
        (lambda lines: [*lines, lines[0]], "answers 1 a second time, expected one line a feature"),
        (lambda lines: lines[2:], "no line for 1, 2, expected one for each of"),
    ],
)
def test_a_malformed_answer_is_refused_in_one_line(reader: ModuleType, out: Path, change, message: str) -> None:
    (out / "answers.txt").write_text("\n".join(change(answers(out))))
    with pytest.raises(SystemExit, match=re.escape(message)) as refused:
        reader.main(["score", str(out / "answers.txt")])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "message"), [(None, "answers stand beside what ask wrote"), ("[]", "is not what ask writes; ask again")]
)
def test_answers_without_their_key_are_refused(
    reader: ModuleType, tmp_path: Path, key: str | None, message: str
) -> None:
    if key is not None:
        (tmp_path / "key.json").write_text(key)
    with pytest.raises(SystemExit, match=message):
        reader.main(["score", str(tmp_path / "answers.txt")])


def test_questions_do_not_take_the_place_of_answered_ones(reader: ModuleType, room: Path, out: Path) -> None:
    (out / "answers.txt").touch()
    with pytest.raises(SystemExit, match="answers stand here already; give --out another folder"):
        reader.main(["ask", str(room), "--text", "text.txt", "--out", str(out)])


@pytest.mark.parametrize(
    ("program", "more", "message"),
    [
        (induction(), [], "its features have no labels; give englishroom label"),
        (chain(), [], "its program is not readable; give a room of decompile --level readable"),
        (induction(), ["--features", "0"], "--features and --documents must be 1 or more"),
    ],
)
def test_a_room_or_number_that_will_not_do_is_refused(
    reader: ModuleType, tmp_path: Path, program: Program, more: list[str], message: str
) -> None:
    path = write_small_room(tmp_path / "bare", program, tokenizer_for(program.d_vocab), Labels())
    with pytest.raises(SystemExit, match=message):
        reader.main(["ask", str(path), "--text", "text.txt", "--out", str(tmp_path), *more])


def test_a_text_with_too_few_places_is_refused(reader: ModuleType, room: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("ab")
    with pytest.raises(SystemExit, match=r"no feature is on at 4 of its places and at 0.05%; give more text"):
        reader.main(["ask", str(room), "--text", str(tmp_path / "text.txt"), "--out", str(tmp_path)])


def test_a_feature_without_remarks_in_the_file_is_refused(reader: ModuleType) -> None:
    with pytest.raises(ArtifactError, match=r"has no line with remarks on r0\.12:she; give englishroom label room"):
        reader.lines_of("12 r0.12:she: for she 2 > 1\n", "r0.12:she", Path("room"))
