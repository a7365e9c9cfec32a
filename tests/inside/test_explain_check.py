"""Explanations checked by intervention: over a thousand tokens they hold, and the check finds those that do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from englishroom.cli import main
from englishroom.emit.prelude import explaining, removing
from englishroom.errors import ConfigError
from englishroom.inside.config import CheckConfig
from englishroom.inside.explain_check import ExplainCheck, check_explanations
from englishroom.interp.recorded_run import RecordedRun
from programs import full_program
from tiny_slice import small_program, small_texts, write_small_room


@pytest.fixture(scope="module")
def checked() -> ExplainCheck:
    """Check a random program, in which more depends on which rules fire than in one that was fitted."""
    return check_explanations(small_program(), small_texts(120), CheckConfig(tokens=1000))


def test_rules_taken_out_change_what_is_said_as_it_was_said(checked: ExplainCheck) -> None:
    assert checked.passed, checked.faults
    assert checked.tokens >= 1000
    assert checked.total.effects >= 1000
    assert checked.total.mean_effect_nats > 0.01
    assert checked.total.largest_error_nats < 1e-6
    assert checked.total.within == 1
    assert checked.largest_sum_error_nats < 1e-6
    assert checked.largest_direct_error_nats < 1e-9
    assert checked.largest_printed_difference_nats < 1e-9


def test_effects_that_are_only_followed_are_near_but_not_exact(checked: ExplainCheck) -> None:
    assert checked.followed.within >= 0.75
    assert checked.followed.correlation >= 0.85
    assert checked.followed.largest_error_nats > 0.01
    assert sum(errors.effects for errors in checked.followed_by_block.values()) == checked.followed.effects


@pytest.mark.parametrize("broken", ["effects", "direct", "shares"])
def test_wrong_explanations_do_not_pass(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if broken == "effects":
        right = removing.without
        monkeypatch.setattr(removing, "without", lambda *given: 1.01 * right(*given))
        expected = "an effect differs from its explanation by"
    elif broken == "shares":
        split = explaining.shares

        def wrongly(*given: Any) -> Any:
            parts, brought, baseline = split(*given)
            return {at: 1.01 * part for at, part in parts.items()}, brought, baseline

        monkeypatch.setattr(explaining, "shares", wrongly)
        expected = "printed shares differ from those that are checked by"
    else:
        followed = RecordedRun.without
        monkeypatch.setattr(RecordedRun, "without", lambda *given, direct=False: 1.01 * followed(*given, direct=direct))
        expected = "own vote is off by"
    found = check_explanations(small_program(), small_texts(20), CheckConfig(tokens=100))
    assert not found.passed
    assert any(expected in fault for fault in found.faults)


def test_bad_settings_are_one_line() -> None:
    with pytest.raises(ConfigError, match="--tokens is 0, expected 1 or more"):
        check_explanations(small_program(), small_texts(1), CheckConfig(tokens=0))
    with pytest.raises(
        ConfigError, match=r"the text has 12 tokens for which a rule votes, expected 50 at least; give a"
    ):
        check_explanations(small_program(), small_texts(1), CheckConfig(tokens=50))
    with pytest.raises(ConfigError, match=r"at the exact level, and only sparse programs can be explained"):
        check_explanations(full_program("exact", 0), small_texts(1), CheckConfig())


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    room = write_small_room(tmp_path / "room", small_program())
    text = tmp_path / "text.txt"
    letters = np.random.default_rng(0).choice(list("abcdefghijklmnopqrstuvwxy"), (30, 11))
    text.write_text("\n<|endoftext|>\n".join("".join(row) for row in letters), encoding="utf-8")
    command = ["explain-check", str(room), "--text", str(text), "--tokens", "100"]
    command += ["--out", str(tmp_path / "check.json")]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "pass"
    found = json.loads((tmp_path / "check.json").read_bytes())
    assert found["passed"] is True
    assert found["text"]["blank_lines"] == "collapse"
    assert main([*command, "--within-nats", "0"]) == 1
    captured = capsys.readouterr()
    assert "FAIL: an effect differs from its explanation by" in captured.out
    assert "explanations do not hold: an effect differs from its explanation by" in captured.err


@pytest.mark.parametrize(("how", "said"), [("keep", "kept"), ("collapse", "collapsed")])
def test_blank_lines_are_read_as_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str, said: str) -> None:
    """The vocabulary has no line end, so that a document that keeps one is left out."""
    room = write_small_room(tmp_path / "room", small_program())
    letters = np.random.default_rng(0).choice(list("abcdefghijklmnopqrstuvwxy"), (30, 11))
    documents = ["".join(row) for row in letters]
    (tmp_path / "text.txt").write_text("\n<|endoftext|>\n".join([*documents, " \n\n abc"]), encoding="utf-8")
    command = ["explain-check", str(room), "--text", str(tmp_path / "text.txt"), "--tokens", "40"]
    assert main([*command, "--blank-lines", how, "--out", str(tmp_path / "check.json")]) == 0
    about = json.loads((tmp_path / "check.json").read_bytes())["text"]
    assert about["blank_lines"] == how
    assert about.get("left_out", 0) == (1 if how == "keep" else 0)
    assert f", blank lines {said}\n" in capsys.readouterr().out
