"""A readable room from end to end: its file runs alone and talks, and a killed run ends the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from englishroom.cli import main
from englishroom.data.corpus import write_documents
from englishroom.data.texts import open_text
from englishroom.errors import ConfigError
from englishroom.evaluate import sample_file
from englishroom.evaluate.readability_metrics import READABILITY_METRICS
from englishroom.evaluate.talkers.program import EmittedTalker, ProgramTalker
from englishroom.inside.readability import text_means
from englishroom.ir.labels import load_labels
from englishroom.ir.room import load_program
from englishroom.pipeline import decompile
from englishroom.pipeline.presets import preset_of
from englishroom.readable.stream_fit import StreamFit
from englishroom.readable.wiring_fit import WiringFit
from englishroom.store import read_manifest, read_room
from tiny import CASES
from tiny_readable import readable_room_config

FILES = ("program.ir", "tables.safetensors", "program.py", "scores.json", "readability.json", "labels.json")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return CASES["gpt2"].write(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def room(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rooms") / "room"
    decompile(readable_room_config(model), out)
    return out


def test_the_room_holds_a_readable_program_and_its_evidence(room: Path) -> None:
    manifest = read_manifest(room)
    assert set(FILES) < set(manifest.files)
    assert not (room.parent / "room.work").exists()
    evidence = manifest.evidence
    assert evidence["program_vs_wired_model_nats"] < 1e-9
    assert evidence["emitted_vs_program_nats"] < 1e-9
    assert evidence["kl_target_program_nats"] > 0
    assert evidence["reads_per_rule_most"] <= 24
    assert evidence["entries_used_mean"] > evidence["entries_needed_median"] >= 0
    program, _ = load_program(room)
    assert program.is_readable


def test_the_emitted_file_says_what_the_program_says_and_talks(room: Path) -> None:
    program, tokenizer = load_program(room)
    tokens = np.array([tokenizer.start_id, *tokenizer.encode("Once upon a time there was a")])
    expected = ProgramTalker("program", program, tokenizer, np.float64).log_probs(tokens[None])[0]
    with EmittedTalker(room / "program.py", tokenizer, program.n_ctx) as emitted:
        assert np.abs(emitted.log_probs(tokens[None])[0] - expected).max() < 1e-9
    talking = [sys.executable, "-I", str(room / "program.py"), "Once", "--max-tokens", "5", "--seed", "0"]
    assert subprocess.run(talking, capture_output=True, check=True, text=True).stdout.startswith("Once")


def test_the_file_and_the_room_say_why_in_the_same_words(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With means of features, and shared lists written into sums."""
    asked = ["Once", "--explain", "--greedy", "--max-tokens", "3"]
    alone = subprocess.run(
        [sys.executable, "-I", str(room / "program.py"), *asked], capture_output=True, check=True, text=True
    ).stdout
    assert main(["talk", str(room), *asked]) == 0
    assert capsys.readouterr().out.strip() == alone.strip()
    assert "Voting features on here: " in alone


def test_a_room_is_fitted_on(room: Path, model: Path, tmp_path: Path) -> None:
    config = readable_room_config(model).changed(start_room=room, short_tokens=20_000, explain_features=True)
    on = decompile(config, tmp_path / "on")
    before = read_manifest(room)
    assert on.records[0]["made_by"] == "start"
    assert on.records[0]["options"] == {"room": room.name, "sha256": before.sha256}
    assert on.evidence["kl_target_program_nats"] < before.evidence["kl_target_program_nats"]
    assert on.evidence["explanation_mcc"] > on.evidence["explanation_mcc_shuffled"]
    assert on.records[-1]["made_by"] == "explain-features"
    program, _ = load_program(tmp_path / "on")
    assert load_labels(tmp_path / "on", program).explanations
    assert "held out: precision" in (tmp_path / "on" / "program.py").read_text()
    with pytest.raises(
        ConfigError, match=r"--start-room: .*room is made of model, expected tiny-2l; give a room of it"
    ):
        decompile(
            preset_of("fast", "readable").changed(start_room=room, check=False, fit=("sampled:fit",)), tmp_path / "x"
        )


@pytest.mark.parametrize(("fit", "name"), [(StreamFit, "stream.pt"), (WiringFit, "wiring.pt")])
def test_killed_while_fitting_it_ends_at_the_same_program(
    fit: type[StreamFit | WiringFit],
    name: str,
    room: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    update = fit.update

    def cut(run: StreamFit | WiringFit) -> float:
        if run.step == 12:
            run.save(tmp_path / "again.work" / name)
            raise KeyboardInterrupt
        return update(run)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(fit, "update", cut)
    with pytest.raises(KeyboardInterrupt):
        decompile(readable_room_config(model), tmp_path / "again")
    monkeypatch.undo()
    monkeypatch.setattr(sample_file, "samples", None)  # texts are not told again
    decompile(readable_room_config(model), tmp_path / "again")
    assert all((room / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in FILES)


@pytest.mark.parametrize("case", ["llama-grouped-tied", "gpt_neo-local"])
def test_other_families_have_a_readable_form(case: str, tmp_path: Path) -> None:
    evidence = decompile(readable_room_config(CASES[case].write(tmp_path / "model")), tmp_path / "room").evidence
    assert evidence["emitted_vs_program_nats"] < 1e-9


def test_its_readability_is_measured_and_kept(
    room: Path, tiny_room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = tmp_path / "room"
    shutil.copytree(room, measured)
    command = ["readability", str(measured), "--max-documents", "4", "--positions", "3"]
    assert main([*command, "--out", str(tmp_path / "found.json")]) == 0
    told = capsys.readouterr().out
    assert "voters needed within 0.1 nats, median" in told
    assert "null: the same of a program with votes permuted among voters" in told
    before, after = read_manifest(room), read_manifest(measured)
    assert [record["made_by"] for record in after.records][-1] == "readability"
    found = json.loads((tmp_path / "found.json").read_text())
    values = found["measures"]
    assert values.items() <= after.evidence.items()
    assert values["reads_per_rule_most"] == before.evidence["reads_per_rule_most"]
    assert values["entries_used_mean"] == pytest.approx(sum(found["entries_used"].values()))
    assert {"entries_needed_median_null", "voters_needed_p90_null"} <= after.evidence.keys()
    assert json.loads((measured / "readability.json").read_text()) == found
    assert {name for name in after.files if after.files[name] != before.files[name]} == {"readability.json"}
    assert main(command) == 0
    assert read_manifest(measured).evidence == after.evidence
    assert main(["readability", str(tiny_room)]) == 1
    assert "its program is exact, and not made of looks, rules and votes" in capsys.readouterr().err


def test_it_is_measured_while_the_room_is_made(room: Path) -> None:
    stored, evidence = read_room(room), read_manifest(room).evidence
    found = stored.json("readability.json", TypeAdapter(dict))
    assert found["documents"] == 4
    assert len(found["places"]) == len(found["voters_needed"]) == 3
    assert found["measures"].items() <= evidence.items()
    assert found["text_sha256"] == evidence["texts"]["report"]["sha256"]
    assert found["measures"]["entries_used_mean"] == pytest.approx(sum(found["entries_used"].values()))
    header = stored.text("program.py")
    assert f"a token uses {evidence['entries_used_mean']:,.0f} table entries" in header


def reported(room: Path, out: Path) -> tuple[dict, str]:
    """Report on a room; return its facts and its page."""
    assert main(["report", str(room), "--out", str(out), "--prompt", "Once", "--max-documents", "4"]) == 0
    return json.loads((out / "report.json").read_text()), unescape((out / "report.html").read_text())


def test_its_report_knows_its_rules_and_how_readable_it_is(room: Path, tmp_path: Path) -> None:
    facts, page = reported(room, tmp_path / "report")
    evidence = read_manifest(room).evidence
    n_rules = evidence["rules"] + evidence["moved_features"]
    assert facts["program"]["rules"] == facts["trace"]["rules"] == facts["rules"]["of"] == n_rules > 0
    assert facts["trace"]["reads_per_rule"]["most"] == evidence["reads_per_rule_most"]
    assert facts["trace"]["rules_fired"]["mean"] > 0
    fired = [token["rules_fired"] for sentence in facts["sentences"] for token in sentence["tokens"]]
    assert 0 < max(fired) <= n_rules
    assert f"{n_rules:,} rules among them" in page
    for metric in READABILITY_METRICS:
        assert (metric.name in page) == (metric.meaning in page) == (metric.key != "explanation_mcc")
    for key in ("entries_used_mean", "voters_needed_p90", "kl_no_entries"):
        metric = next(metric for metric in READABILITY_METRICS if metric.key == key)
        assert f"<td>{metric.value(evidence)}</td><td>{metric.null(evidence)}</td>" in page


def test_a_frontier_has_it_with_its_entries(room: Path, tmp_path: Path) -> None:
    texts = [tmp_path / f"{name}.txt" for name in ("text", "choose", "fit")]
    for path in texts:
        write_documents(path, [f"Once upon a time {path.stem} saw {at} cats." for at in range(6)])
    flags = [word for path in texts for word in (f"--{path.stem}", str(path))]
    out = tmp_path / "frontier"
    assert main(["frontier", str(room), *flags, "--bits", "4", "--keep", "--no-baselines", "--out", str(out)]) == 0
    target, whole, quantised = json.loads((out / "frontier.json").read_text())["points"]
    evidence = read_manifest(room).evidence
    assert whole["kind"] == "readable"
    assert whole["rules"] == evidence["rules"] + evidence["moved_features"]
    assert whole["voters_needed_median"] == evidence["voters_needed_median"]
    program, tokenizer = load_program(room)
    rows = [np.array([tokenizer.start_id, *tokenizer.encode(text)]) for text in open_text(texts[0]).documents]
    used = text_means(program, [row[: program.n_ctx] for row in rows]).entries_used
    assert whole["entries_used_mean"] == pytest.approx(sum(used.values()))
    assert quantised["entries_used_mean"] > 0
    assert "voters_needed_median" not in quantised
    assert "entries_used_mean" not in target
    assert "table entries used" in (out / "frontier-entries.svg").read_text()
