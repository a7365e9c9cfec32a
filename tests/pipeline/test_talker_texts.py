"""Texts as a model reads them: blank lines as it says them, without what it cannot spell, and refused by their use."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from englishroom.cli import main
from englishroom.data.corpus import write_documents
from englishroom.data.texts import open_text
from englishroom.errors import ArtifactError, ConfigError
from englishroom.evaluate.talkers.target import TargetTalker
from englishroom.pipeline import ScoreConfig, decompile, open_target, preset_of, score_table
from englishroom.pipeline.texts import TalkerTexts, open_again
from englishroom.report.page import page
from englishroom.store import read_manifest
from tiny import make_gpt2, tensors_of, write_tensors

SAID = ["One day, Lily\n\nsaw a ball. ", ' It was big.\n\n\n"Mine!" said Lily']
SIZES = {"moved": 12, "moved_active": 4, "rules": 16, "rules_active": 4, "local_tokens": 200, "joint_tokens": 300}
SAMPLES = {"samples": (30, 20, 20), "probe_rows": 3, "evidence_rows": 10, "report_documents": 12}


def talker(folder: Path) -> TargetTalker:
    return TargetTalker(*open_target(str(folder)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gpt2(tmp_path_factory.mktemp("model") / "tiny", n_positions=16)


@pytest.fixture(scope="module")
def two_newlines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model that says newline after newline, whatever stands before."""
    folder = make_gpt2(tmp_path_factory.mktemp("model") / "lines", n_positions=16, tie_word_embeddings=False)
    tensors = tensors_of(folder)
    newline = open_target(str(folder))[1].encode("\n")[0]
    tensors["transformer.ln_f.bias"] += 1
    tensors["lm_head.weight"] *= 0.3
    tensors["lm_head.weight"][newline] += 0.2
    write_tensors(folder, tensors)
    return folder


@pytest.fixture(scope="module")
def no_cyrillic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model whose vocabulary lacks a byte that Cyrillic letters begin with."""
    folder = make_gpt2(tmp_path_factory.mktemp("model") / "latin", n_positions=16)
    path = folder / "tokenizer.json"
    file = json.loads(path.read_text())
    del file["model"]["vocab"][chr(0xD0)]
    path.write_text(json.dumps(file))
    return folder


def test_blank_lines_are_kept_for_a_model_that_says_them(model: Path, two_newlines: Path, tmp_path: Path) -> None:
    path, lines = tmp_path / "text.txt", []
    write_documents(path, SAID)
    assert TalkerTexts([talker(model)]).open(path).documents == open_text(path).documents
    for folder, how in ((two_newlines, "auto"), (model, "keep")):
        text = TalkerTexts([talker(folder)], how, lines.append).open(path)
        assert (text.documents, text.blank_lines) == (tuple(SAID), "keep")
        assert text.name == f"{path} (blank lines kept)"
    assert lines == [f"blank lines of texts are kept: lines says more than 1 in 20 where a line of {path} ends"]
    assert TalkerTexts([talker(two_newlines)], "collapse").open(path).sha256 == open_text(path).sha256
    assert TalkerTexts([talker(two_newlines)]).open("sampled").sha256 == open_text("sampled").sha256


def test_tables_say_what_became_of_blank_lines(
    two_newlines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "text.txt"
    write_documents(path, SAID)
    for how, read in (("auto", "keep"), ("collapse", "collapse")):
        table = score_table(ScoreConfig((str(two_newlines),), text=str(path), blank_lines=how).changed(check=False))
        assert table.text["blank_lines"] == read
        assert table.text["bytes"] == sum(len(d.encode()) for d in open_text(path, blank_lines=read).documents)
        assert main(["score", str(two_newlines), "--text", str(path), "--no-check", "--blank-lines", how]) == 0
        assert f"bytes, blank lines {'kept' if read == 'keep' else 'collapsed'}, sha256" in capsys.readouterr().out


def test_documents_beyond_the_vocabulary_are_left_out_and_counted(no_cyrillic: Path, tmp_path: Path) -> None:
    path, lines = tmp_path / "text.txt", []
    write_documents(path, ["One day", "\u0436\u0437", "Lily saw", "a \u0436"])
    table = score_table(ScoreConfig((str(no_cyrillic),), text=str(path)).changed(check=False), lines.append)
    assert (table.text["documents"], table.text["left_out"]) == (2, 2)
    assert table.text["name"] == f"{path} (2 left out for characters that the vocabulary lacks)"
    assert f"--text: {table.text['name']} (the first: document 1 has '\u0436')" in lines
    tokenizer = open_target(str(no_cyrillic))[1]
    assert open_again(table.text, tokenizer, lambda *_: None).sha256 == table.text["sha256"]
    write_documents(path, ["\u0436", "\u0437\u0437"])
    with pytest.raises(ConfigError, match=r"--text: .*text.txt: none of its 2 documents can be spelled with the vocab"):
        score_table(ScoreConfig((str(no_cyrillic),), text=str(path)).changed(check=False))


@pytest.mark.parametrize("part", ["fit", "choose", "report"])
def test_a_refused_text_names_which_of_the_three_it_was(model: Path, tmp_path: Path, part: str) -> None:
    given = {}
    for name in ("fit", "choose", "report"):
        given[name] = str(tmp_path / f"{name}.txt")
        (tmp_path / f"{name}.txt").write_text(f"One {name}.", encoding="utf-8")
    (tmp_path / f"{part}.txt").write_bytes(b"\xff")
    settings = given | {"fit": (given["fit"],)}
    with pytest.raises(ArtifactError, match=rf"^--{part}: .*{part}.txt: not UTF-8 text"):
        decompile(preset_of("fast", "featured").changed(model=str(model), check=False, **settings), tmp_path / "room")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["choose.txt", "fit.txt", "report.txt"]


@pytest.mark.parametrize("n_ctx", [4, 8, 12])
def test_short_contexts_are_scored_and_decompiled(tmp_path: Path, n_ctx: int) -> None:
    folder = make_gpt2(tmp_path / "short", n_positions=n_ctx)
    path = tmp_path / "text.txt"
    write_documents(path, ["One day, Lily saw a big, red ball. It was hers.", "Once upon a time there was a boy."])
    row = score_table(ScoreConfig((str(folder),), text=str(path)).changed(check=False)).rows[0]
    assert math.isfinite(row["nats_per_token"])
    assert row["greedy_agreement"] == 1, "beginnings of half a context"
    config = preset_of("fast", "featured").changed(model=str(folder), check=False, **SIZES | SAMPLES)
    manifest = decompile(config, tmp_path / "room")
    assert np.isfinite(manifest.evidence["kl_target_program_nats"])
    assert main(["report", str(tmp_path / "room"), "--out", str(tmp_path / "report")]) == 0
    assert main(["compare", str(folder), str(folder), "--text", str(path), "--no-check"]) == 0


def test_a_model_that_ends_nothing_is_warned_about_in_log_manifest_and_report(
    two_newlines: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    config = preset_of("fast", "featured").changed(model=str(two_newlines), check=False, **SIZES | SAMPLES)
    decompile(config, tmp_path / "room", lines.append)
    manifest = read_manifest(tmp_path / "room")
    warning = manifest.evidence["warnings"][0]
    assert warning.startswith("30 of 30 samples of lines were cut at the end of its context, not ended by it")
    assert f"warning: {warning}" in lines
    assert {text["blank_lines"] for text in manifest.evidence["texts"].values()} == {"keep"}
    assert (
        main(["report", str(tmp_path / "room"), "--model", str(two_newlines), "--out", str(tmp_path / "report")]) == 0
    )
    facts = json.loads((tmp_path / "report" / "report.json").read_text())
    header = page(facts).partition("</header>")[0]
    assert f'<p class="warning">Warning: {warning}.</p>' in header
    assert "as it was" in page(facts)
