"""The report of a real room, from the command line to the browser."""

from __future__ import annotations

import json

import numpy as np
import pytest

from browser import look
from englishroom.cli import main
from englishroom.data.texts import Text
from englishroom.errors import ArtifactError
from englishroom.evaluate.talkers.program import ProgramTalker
from englishroom.ir.labels import Feature, Labels
from englishroom.pipeline.commands import ReportConfig
from englishroom.pipeline.following import follow
from englishroom.pipeline.reporting import commands, report
from englishroom.store import read_manifest
from englishroom.talkers import shipped
from programs import full_program, tokenizer_for


@pytest.fixture
def options(tiny_room, unseen_file, tmp_path):
    return [str(tiny_room), "--report", str(unseen_file), "--max-documents", "6", "--out", str(tmp_path / "out")]


def test_a_room_is_reported_on_and_shown(options, tmp_path, capsys) -> None:
    assert main(["report", *options]) == 0
    out = tmp_path / "out"
    assert f"wrote {out / 'report.html'}" in capsys.readouterr().out
    facts = json.loads((out / "report.json").read_text())
    assert [row["role"] for row in facts["scores"]["rows"]] == ["target", "talker"]
    assert facts["compared"]["documents"] == 6
    assert facts["compared"]["kl_nats"][0] < 1e-4  # an exact program
    assert [story["prompt"] for story in facts["compared"]["stories"]] == ["Once upon a time", "Lily and Tom", ""]
    for story in facts["compared"]["stories"]:
        assert story["first"] == story["second"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert facts["room"]["target"]["sha256"] in page
    assert facts["room"]["sha256"] in page
    (tmp_path / "empty").mkdir()
    seen = look(out / "report.html", tmp_path / "empty")
    assert seen.complaints == []
    assert seen.requests == []
    assert "How much of the model it holds" in seen.dom
    assert f"{facts['scores']['rows'][1]['ce_increase']:+.3f}".replace("-", "−") in seen.dom


def test_what_was_measured_stays_until_something_changes(options, tmp_path, capsys) -> None:
    assert main(["report", *options]) == 0
    first = (tmp_path / "out" / "report.json").read_bytes()
    capsys.readouterr()
    assert main(["report", *options]) == 0
    assert "measured before" in capsys.readouterr().err
    assert (tmp_path / "out" / "report.json").read_bytes() == first
    assert main(["report", *options, "--seed", "1"]) == 0
    assert "measured before" not in capsys.readouterr().err
    assert (tmp_path / "out" / "report.json").read_bytes() != first


def test_a_room_without_its_target_is_still_reported_on(options, tmp_path) -> None:
    assert main(["report", *options, "--model", "tiny-1l"]) == 0
    facts = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "not the model of this room" in facts["not_compared"]
    assert "No stories were told: tiny-1l" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_commands_make_the_room_again(tiny_room, tiny_talker) -> None:
    first, *others = commands(tiny_room, read_manifest(tiny_room))
    assert first == f"englishroom decompile {tiny_talker} --level exact --no-check --out {tiny_room}"
    assert others == [f"englishroom score {tiny_talker} {tiny_room} --baselines", f"englishroom report {tiny_room}"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "missing; make it with englishroom frontier"),
        ("{", "Invalid JSON"),
        ("{}", "text: Field required; make it with englishroom frontier"),
    ],
)
def test_a_frontier_that_is_none_is_refused(tiny_room, tmp_path, content, message) -> None:
    file = tmp_path / "frontier.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(Exception, match=message):
        report(ReportConfig(tiny_room, frontier=file), tmp_path / "out")


def test_no_room_ships_where_none_does(monkeypatch) -> None:
    monkeypatch.setattr(shipped, "ROOMS", "nowhere")
    with pytest.raises(ArtifactError, match=r"no shipped room; name one, or make one"):
        shipped.shipped_room()


def test_shares_of_followed_sentences_add_up() -> None:
    program = full_program("sparse")
    tokenizer = tokenizer_for(program.d_vocab)
    talker = ProgramTalker("program", program, tokenizer, np.float64)
    sizes = {block.name: program.space(block.space).size for block in program.blocks}
    labels = Labels({name: tuple(Feature(f"{name}-{i}!") for i in range(size)) for name, size in sizes.items()})
    text = Text.of("letters", ["ab", "a", ""])
    found = follow(talker, program, tokenizer, labels, text, lambda _step, _done, _total: None)
    assert [len(sentence["tokens"]) for sentence in found] == [min(2, program.n_ctx - 1), min(1, program.n_ctx - 1)]
    for sentence in found:
        for token in sentence["tokens"]:
            assert token["target_nats"] == pytest.approx(token["program_nats"])
            total = token["baseline"] + sum(part["nats"] for part in token["parts"])
            assert total == pytest.approx(-token["program_nats"], abs=1e-6)
            assert token["parts"][-1]["name"] == "all others"
