"""A sparse room is named and named again: its program stays the same, its file carries the names, all is checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from englishroom.cli import main
from englishroom.data.texts import open_text
from englishroom.emit.python import Header, emit
from englishroom.errors import ArtifactError, ConfigError
from englishroom.evaluate.talkers.program import EmittedTalker, ProgramTalker
from englishroom.inside.activations import features_on
from englishroom.inside.condition_config import SearchConfig
from englishroom.inside.explanations import scores
from englishroom.ir.holding import read_rows, where_holds
from englishroom.ir.labels import load_labels
from englishroom.ir.marks import marks_of
from englishroom.ir.room import load_program, pack
from englishroom.ir.wording import escaped
from englishroom.names import LABELS, TABLES
from englishroom.pipeline.commands import ExplainFeaturesConfig, LabelConfig
from englishroom.pipeline.explaining import explain_features
from englishroom.pipeline.labelling import relabel, rows_of, summary_lines_of
from englishroom.store import SCHEMA_VERSION, Manifest, read_manifest, read_room, write_room
from forged import put
from staged import staged, tokenizer

FACTS = ("Target: made up.", 'Held: nothing, \u2016 and a """ quote.')


@pytest.fixture
def texts(tmp_path: Path) -> tuple[Path, Path]:
    """Return two different texts that the tokenizer can spell."""
    fit, report = tmp_path / "fit.txt", tmp_path / "report.txt"
    fit.write_text("\n<|endoftext|>\n".join('once upon\n"once."' for _ in range(6)))
    report.write_text("\n<|endoftext|>\n".join("once upon once." for _ in range(6)))
    return fit, report


@pytest.fixture
def room(tmp_path: Path, texts: tuple[Path, Path]) -> Path:
    """Write a room of a random sparse program, without labels."""
    program, own = staged(0), tokenizer()
    files = pack(program, own)
    emitted = emit(program, own, Header("made up", FACTS), hashlib.sha256(files[TABLES]).hexdigest())
    files |= {"program.py": emitted.text.encode(), "origins.json": json.dumps(emitted.origins).encode()}
    fit, report = (open_text(text) for text in texts)
    about = {
        part: {"name": text.name, "sha256": text.sha256, "documents": 6}
        for part, text in (("fit", fit), ("report", report))
    }
    target = {"name": "made up", "parameters": 1, "sha256": "0" * 64}
    records = [{"made_by": "sparsify", "options": {}, "rewrites": [], "seconds": 0.0, "cost_nats": None}]

    def describe(_: Path) -> Manifest:
        return Manifest(SCHEMA_VERSION, "sparse", target, {}, 0, records, {"texts": about}, {})

    write_room(tmp_path / "room", files.items(), describe)
    return tmp_path / "room"


def test_naming_changes_names_and_nothing_else(room: Path) -> None:
    before = read_room(room)
    assert summary_lines_of(before) == tuple(map(escaped, FACTS))
    said: list[str] = []
    manifest = relabel(LabelConfig(room, rows=4), said.append)
    after = read_room(room)
    assert set(after.contents) == {*before.contents, LABELS}
    assert all(after.contents[name] == before.contents[name] for name in ("program.ir", TABLES, "tokenizer.json"))
    assert after.contents["program.py"] != before.contents["program.py"]
    assert summary_lines_of(after) == tuple(map(escaped, FACTS))
    assert manifest == read_manifest(room)
    assert [record["made_by"] for record in manifest.records] == ["sparsify", "label"]
    assert manifest.evidence["emitted_vs_program_nats"] < 1e-9
    assert "program.py says what the program says" in said[-1]
    program, own = load_program(room)
    labels = load_labels(room, program)
    assert labels.about["rows"] == 4
    rules = labels.features["rules.1"]
    assert all(f" {feature.label} " in after.text("program.py") for feature in rules if "\\" not in feature.label)
    tokens = np.array([[0, *own.encode("once upon")][: program.n_ctx]])
    expected = ProgramTalker("program", program, own, np.float64).log_probs(tokens)[0]
    with EmittedTalker(room / "program.py", own, program.n_ctx) as emitted:
        assert np.abs(emitted.log_probs(tokens)[0] - expected).max() < 1e-9


def test_naming_twice_gives_the_same_room(room: Path) -> None:
    relabel(LabelConfig(room, rows=4))
    once = read_room(room)
    relabel(LabelConfig(room, rows=4))
    again = read_room(room)
    assert dict(once.contents) == dict(again.contents)
    assert [record["made_by"] for record in again.manifest.records] == ["sparsify", "label"]


def test_what_cannot_be_named_is_refused_in_one_line(
    room: Path, tiny_room: Path, texts: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_room(room)
    with pytest.raises(ConfigError, match="its program is exact; features are named in sparse rooms only"):
        relabel(LabelConfig(tiny_room, rows=4))
    with pytest.raises(ConfigError, match="--rows is 0, expected 1 or more"):
        relabel(LabelConfig(room, rows=0))
    with pytest.raises(ConfigError, match=r"report\.txt: is the text that the room is judged on; give --text another"):
        relabel(LabelConfig(room, str(texts[1]), 4))
    assert main(["label", str(room), "--text", str(texts[1])]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {texts[1]}: is the text")
    assert dict(read_room(room).contents) == dict(before.contents)


def test_a_room_that_does_not_say_what_it_was_fitted_on_needs_a_text(room: Path, texts: tuple[Path, Path]) -> None:
    stored = read_room(room)

    def describe(_: Path) -> Manifest:
        return Manifest(SCHEMA_VERSION, "sparse", stored.manifest.target, {}, 0, [], {}, {})

    write_room(room, stored.contents.items(), describe)
    with pytest.raises(ConfigError, match="does not say what it was fitted on; give --text"):
        relabel(LabelConfig(room, rows=4))
    assert relabel(LabelConfig(room, str(texts[0]), 2)).records[-1]["options"]["rows"] == 2


def test_the_commands_name_features_and_tell_memory_from_algorithm(
    room: Path, texts: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["label", str(room), "--rows", "3"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("words: 20 features: ")
    assert any(line.startswith("rules.1: 12 features: ") for line in told)
    assert main(["memory", str(room), "--text", str(texts[1]), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["text"] == str(texts[1])
    assert {row["name"] for row in measured["programs"]} >= {"whole", "memory", "algorithm", "constants"}
    assert main(["memory", str(room), "--text", str(texts[1])]) == 0
    told = capsys.readouterr().out
    assert "memory: " in told
    assert "what is left" in told


def test_a_program_that_does_not_parse_is_one_error(room: Path) -> None:
    put(room, "program.py", b"def (")
    with pytest.raises(ArtifactError, match=r"program\.py: no Python that can be read .*; decompile again"):
        summary_lines_of(read_room(room))
    put(room, "program.py", b"\xff")
    with pytest.raises(ArtifactError, match=r"program\.py: not UTF-8"):
        summary_lines_of(read_room(room))


def test_features_are_explained_and_labels_keep_that(
    room: Path, texts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["explain-features", str(room), "--held-out", str(texts[1]), "--least-rows", "1", "--nulls", "2"]
    with pytest.raises(ConfigError, match="its features have no labels; give englishroom label"):
        explain_features(ExplainFeaturesConfig(room, held_out=str(texts[1])))
    relabel(LabelConfig(room, rows=4))
    before = read_room(room)
    assert main([*command, "--out", str(tmp_path / "found.json")]) == 0
    told = capsys.readouterr().out
    assert "explanations by variable" in told
    assert "null: the same search for 2 features shifted against the text" in told
    after = read_room(room)
    changed = {name for name in after.contents if after.contents[name] != before.contents.get(name)}
    assert changed == {LABELS}
    assert [record["made_by"] for record in after.manifest.records] == ["sparsify", "label", "explain-features"]
    program, own = load_program(room)
    labels = load_labels(room, program)
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found["features"]) == len(labels.explanations) > 0
    mean = np.average(
        [f["explanation"]["mcc"] for f in found["features"]], weights=[f["importance"] for f in found["features"]]
    )
    assert after.manifest.evidence["explanation_mcc"] == pytest.approx(mean)
    assert {"explanation_mcc_shuffled", "explanation_mcc_shifted"} <= after.manifest.evidence.keys()

    rows = rows_of(open_text(texts[1]), program, own, 6)
    held, on = read_rows(rows, marks_of(own)), features_on(program, rows)
    for (variable, index), explanation in labels.explanations.items():
        holds = where_holds(explanation.condition, held)
        expected = scores(holds, on[variable][:, [index]].toarray().ravel() > 0)
        assert (explanation.precision, explanation.recall, explanation.mcc) == pytest.approx(expected, abs=1e-3)

    relabel(LabelConfig(room, rows=3))
    again = load_labels(room, program)
    assert again.explanations == labels.explanations
    assert again.about["explanations_measured_on"] == str(texts[1])


def test_features_are_not_explained_on_text_that_measures_them(
    room: Path, tiny_room: Path, texts: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    relabel(LabelConfig(room, rows=4))
    with pytest.raises(ConfigError, match="is exact; features are explained in sparse rooms only"):
        explain_features(ExplainFeaturesConfig(tiny_room))
    with pytest.raises(ConfigError, match=r"fit\.txt shares 1 documents with .*fit\.txt, expected none; give another"):
        explain_features(ExplainFeaturesConfig(room, held_out=str(texts[0])))
    with pytest.raises(ConfigError, match="--words is 13, expected 1 to 12"):
        explain_features(ExplainFeaturesConfig(room, search=SearchConfig(words=13)))
    assert main(["explain-features", str(room), "--text", str(texts[1])]) == 1
    assert "is the text that the room is judged on; give --text another one" in capsys.readouterr().err
