"""A sweep from end to end: every point is measured, can be opened, and is not measured twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from englishroom.cli import main
from englishroom.data.corpus import write_documents
from englishroom.data.texts import open_text
from englishroom.errors import ConfigError
from englishroom.evaluate.description import describe
from englishroom.ir.room import load_program
from englishroom.passes.prune import edge_tables
from englishroom.pipeline import frontier as frontier_module
from englishroom.pipeline.commands import FrontierConfig
from englishroom.pipeline.deriving import write_derived
from englishroom.pipeline.frontier import frontier
from englishroom.store import read_manifest, read_room, write_room
from summing import ruled


@pytest.fixture
def sparse_room(tiny_room, tmp_path) -> Path:
    """Write a sparse program, of random entries, that claims to be of the model of a room."""
    source = read_room(tiny_room)
    before, tokenizer = load_program(tiny_room)
    program = ruled(before.d_vocab, before.n_ctx)
    write_derived(source, program, tokenizer, [], (), {}, "Tom", tmp_path / "room", lambda _step, _done, _total: None)
    return tmp_path / "room"


@pytest.fixture
def options(story_file, unseen_file, tmp_path):
    choose = tmp_path / "choose.txt"
    choose.write_text("\n<|endoftext|>\n".join(f"Mia saw the rain, number {i}." for i in range(40)))
    texts = ["--text", str(unseen_file), "--fit", str(story_file), "--choose", str(choose), "--max-documents", "4"]
    return [*texts, "--bits", "4", "ternary", "--keep", "0.5", "--out", str(tmp_path / "out")]


def test_every_point_can_be_opened(sparse_room, options, tmp_path, capsys) -> None:
    assert main(["frontier", str(sparse_room), *options]) == 0
    printed = capsys.readouterr()
    out = tmp_path / "out"
    found = json.loads((out / "frontier.json").read_bytes())
    kinds = [point["kind"] for point in found["points"]]
    assert kinds[:5] == ["target", "sparse", "sparse, quantised", "sparse, quantised", "sparse, pruned"]
    assert set(kinds[5:]) == {"n-gram", "quantised", "pruned"}
    for point in found["points"]:
        assert point["name"] in printed.out
        assert point["description_bits"] > 0
        assert (point["kl_target_talker"] == 0) == (point["kind"] == "target")
        made_by_score = point["kind"] in ("n-gram", "quantised", "pruned")
        assert point["open"].endswith("--blank-lines collapse --max-documents 4") == made_by_score
    source, _ = load_program(sparse_room)
    for point in found["points"][2:5]:
        program, _ = load_program(Path(point["open"]))
        assert describe(program).bits == point["description_bits"]
        assert point["rules_fired_mean"] > 0
        trace = json.loads((Path(point["open"]) / "trace.json").read_bytes())
        assert point["entries_used_mean"] == trace["edges_used"]["mean"] > 0
        records = read_manifest(Path(point["open"])).records
        assert [record["made_by"] for record in records[:-1]] == [
            record["made_by"] for record in read_manifest(sparse_room).records
        ]
        if point["kind"] == "sparse, pruned":
            counts = [sum(t.n_entries for t in edge_tables(p).values()) for p in (source, program)]
            assert counts[1] == round(counts[0] / 2)
            assert records[-1]["options"] == {"edges": counts[1]}
        else:
            assert records[-1]["made_by"] == "quantise"
        rows = json.loads((Path(point["open"]) / "scores.json").read_bytes())["rows"]
        assert rows[1]["kl_target_talker"] == point["kl_target_talker"]
    four, ternary = (p["kl_target_talker"] for p in found["points"][2:4])
    exact = found["points"][1]["kl_target_talker"]
    assert abs(four - exact) < abs(ternary - exact)
    for name in ("frontier.svg", "frontier-rules.svg", "frontier-entries.svg", "frontier-compute.svg"):
        assert (out / name).read_text().startswith('<?xml version="1.0"')

    assert main(["frontier", str(sparse_room), *options]) == 0
    assert "measuring" not in capsys.readouterr().err
    assert json.loads((out / "frontier.json").read_bytes()) == found

    assert main(["frontier", str(sparse_room), *options, "--store"]) == 0
    assert "measuring" not in capsys.readouterr().err
    assert json.loads((sparse_room / "frontier.json").read_bytes())["points"] == found["points"]
    assert load_program(sparse_room)[0] == source
    assert main(["frontier", str(sparse_room), *options]) == 0
    assert "measuring" not in capsys.readouterr().err

    shown = tmp_path / "shown"
    arguments = ["report", found["points"][2]["open"], "--frontier", str(out), "--out", str(shown)]
    assert main([*arguments, "--prompt", "Tom"]) == 0
    page = (shown / "report.html").read_text(encoding="utf-8")
    assert page.count('class="plot"') >= 4
    assert "room, 4 bits" in page
    assert "Sentences, followed through" in page


def test_blank_lines_are_read_as_asked(tiny_room, story_file, tmp_path, capsys) -> None:
    for part, number in (("text", 5), ("choose", 40)):
        write_documents(tmp_path / f"{part}.txt", [f"Mia saw {part} {i}.\n\nIt rained." for i in range(number)])
    texts = ["--text", str(tmp_path / "text.txt"), "--fit", str(story_file), "--choose", str(tmp_path / "choose.txt")]
    for how, said in (("keep", "kept"), ("collapse", "collapsed")):
        out = tmp_path / how
        arguments = ["frontier", str(tiny_room), *texts, "--bits", "--keep", "--no-baselines", "--out", str(out)]
        assert main([*arguments, "--blank-lines", how]) == 0
        assert f"5 documents, blank lines {said}" in capsys.readouterr().out
        found = json.loads((out / "frontier.json").read_bytes())
        assert found["text"]["blank_lines"] == found["settings"]["blank_lines"] == how
        assert found["text"]["sha256"] == open_text(tmp_path / "text.txt", blank_lines=how).sha256


def test_a_point_whose_room_is_gone_is_made_again(sparse_room, options, tmp_path, capsys, monkeypatch) -> None:
    arguments = ["frontier", str(sparse_room), *options, "--no-baselines", "--keep"]
    assert main(arguments) == 0
    place = tmp_path / "out" / "points" / "room-4-bits"
    place.rename(tmp_path / "elsewhere")
    capsys.readouterr()
    assert main(arguments) == 0
    assert place.is_dir()
    assert "measuring room, 4 bits" in capsys.readouterr().err
    monkeypatch.setattr(frontier_module.englishroom, "__version__", "another")
    assert main(arguments) == 0
    assert "measuring room, ternary" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": ("17",)}, r"--bits has '17', expected 1 to 16, or ternary"),
        ({"bits": ("few",)}, r"--bits has 'few'"),
        ({"bits": ("13",), "refit": 100}, r"--bits has '13', expected 1 to 12, or ternary, with --refit"),
        ({"keep": (0.0,)}, r"--keep is 0, expected above 0 and at most 1"),
        ({"rooms": ()}, r"no room to sweep; name one or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        frontier(FrontierConfig(**({"rooms": (tmp_path,)} | settings)), tmp_path / "out")


def test_rooms_of_two_models_are_refused(sparse_room, tiny_room, options, tmp_path, capsys) -> None:
    stored = read_room(tiny_room)
    other = replace(stored.manifest, target=stored.manifest.target | {"name": "other", "sha256": "0" * 64})
    write_room(tmp_path / "other", stored.contents.items(), lambda _folder: other)
    assert main(["frontier", str(sparse_room), str(tmp_path / "other"), *options]) == 1
    assert "other: made of other, and" in (said := capsys.readouterr().err)
    assert "give rooms of one model" in said


def test_another_model_is_refused(sparse_room, options, capsys) -> None:
    assert main(["frontier", str(sparse_room), *options, "--model", "tiny-1l"]) == 1
    assert "tiny-1l: not the model of this room" in capsys.readouterr().err


def test_a_sweep_without_a_sparse_room_says_so(tiny_room, options, tmp_path, capsys) -> None:
    assert main(["frontier", str(tiny_room), *options, "--no-baselines"]) == 0
    assert "none of the rooms is sparse" in capsys.readouterr().err
    points = json.loads((tmp_path / "out" / "frontier.json").read_bytes())["points"]
    assert [point["kind"] for point in points] == ["target", "exact"]
