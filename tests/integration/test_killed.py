"""Every command that keeps work, killed at every rename and started again, makes what a run makes that is let be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from englishroom.cli import main
from englishroom.evaluate.compute_recovered.curve import measure_curve, measure_run
from englishroom.evaluate.compute_recovered.rungs import measure_ladder, rebuild_ladder
from englishroom.ir.room import load_program
from englishroom.pipeline import decompile
from englishroom.pipeline.commands import LabelConfig
from englishroom.pipeline.deriving import write_derived
from englishroom.pipeline.frontier import FrontierConfig, frontier
from englishroom.pipeline.labelling import relabel
from englishroom.pipeline.presets import preset_of
from englishroom.pipeline.sketching import SketchConfig, sketch
from englishroom.store import read_room
from englishroom.talkers.build import build_talker
from englishroom.talkers.config import TalkerConfig, TrainConfig
from killing import check_kills
from summing import ruled
from tiny import make_gpt2
from tiny_slice import small_program, write_small_room
from tiny_stories import story

TRAINED = TrainConfig(n_layers=1, d_model=8, n_heads=1, n_ctx=16, vocabulary=270, tokens=2 * 16 * 4, batch=2)
SIZES = {
    **{"moved": 8, "moved_active": 2, "rules": 8, "rules_active": 2, "local_tokens": 100, "joint_tokens": 200},
    **{"samples": (8, 4, 4), "probe_rows": 2, "evidence_rows": 4, "report_documents": 2, "greedy_prompts": 1},
}
SPARSE_SIZES = {"kinds": 16, "kinds_active": 4, "edges": 300, "reads": 4, "fan_in": 8, "sparse_tokens": 400}


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, str]:
    """Write three texts without a common document."""
    for at, name in enumerate(("fit", "choose", "report")):
        documents = map(story, range(100 * at, 100 * at + 30))
        (tmp_path / f"{name}.txt").write_text("\n<|endoftext|>\n".join(documents))
    return {name: str(tmp_path / f"{name}.txt") for name in ("fit", "choose", "report")}


@pytest.mark.parametrize("level", ["exact", "featured", "sparse"])
def test_decompile(level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_gpt2(tmp_path / "model", n_layer=1, n_embd=16, n_head=2, n_positions=16)
    sizes = {"exact": {}, "featured": SIZES, "sparse": {k: v for k, v in SIZES.items() if k != "evidence_rows"}}[level]
    changes = sizes | (SPARSE_SIZES if level == "sparse" else {})
    config = preset_of("fast", level).changed(**{"model": str(model), "check": False} | changes)
    kills = check_kills(lambda: decompile(config, Path("room")), tmp_path, monkeypatch)
    assert kills >= {"exact": 2, "featured": 20, "sparse": 20}[level]


def test_sketch(tiny_talker: Path, texts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SketchConfig(
        str(tiny_talker),
        lines=185,
        fit=(texts["fit"],),
        choose=texts["choose"],
        report=texts["report"],
        positions=1000,
        report_positions=100,
        words=20,
        kinds=4,
    ).changed(check=False)
    assert check_kills(lambda: sketch(config, Path("sketch")), tmp_path, monkeypatch) >= 8


def test_train_and_curve(texts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> None:
        build_talker(TalkerConfig((texts["fit"],), training=TRAINED), Path("talker"), measure_run)
        measure_curve(Path("talker"), "report", [story(i) for i in range(900, 902)])

    assert check_kills(run, tmp_path, monkeypatch) >= 20


def test_ladder(texts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rungs = {"one": replace(TRAINED, tokens=64), "two": replace(TRAINED, tokens=96)}

    def run() -> None:
        rebuild_ladder([texts["fit"]], Path("ladder"), rungs)
        measure_ladder(Path("ladder"), {"report": [story(900)]}, Path("runs.json"), rungs)

    assert check_kills(run, tmp_path, monkeypatch) >= 20


@pytest.mark.parametrize(
    "options", [["--documents", "6", "--out", "text.txt"], ["--parts", "4", "3", "3", "--out", "x"]]
)
def test_sample(options: list[str], tiny_talker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> None:
        assert main(["sample", str(tiny_talker), "--max-tokens", "8", "--no-check", *options]) == 0

    assert check_kills(run, tmp_path, monkeypatch) >= 4


def test_score(tiny_talker: Path, texts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--text", texts["report"], "--max-documents", "2", "--greedy-prompts", "0", "--no-check"]

    def run() -> None:
        assert main(["score", str(tiny_talker), *options, "--out", "scores"]) == 0

    assert check_kills(run, tmp_path, monkeypatch) == 6


def test_report(
    tiny_talker: Path, tiny_room: Path, texts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--report", texts["report"], "--model", str(tiny_talker), "--max-documents", "2", "--prompt", "Tom"]

    def run() -> None:
        assert main(["report", str(tiny_room), *options]) == 0

    assert check_kills(run, tmp_path, monkeypatch) == 4


def test_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = small_program()
    (tmp_path / "letters.txt").write_text("\n<|endoftext|>\n".join("abbacddcef" + letter for letter in "abcd"))

    def run() -> None:
        relabel(LabelConfig(Path("room"), str(tmp_path / "letters.txt"), 2))

    assert check_kills(run, tmp_path, monkeypatch, lambda: write_small_room(Path("room"), program)) == 4


def test_frontier(
    tiny_talker: Path, tiny_room: Path, texts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, tokenizer = load_program(tiny_room)
    program = ruled(before.d_vocab, before.n_ctx)
    write_derived(read_room(tiny_room), program, tokenizer, [], (), {}, "Tom", tmp_path / "room", lambda *_: None)
    config = FrontierConfig(
        (tmp_path / "room",),
        text=texts["report"],
        max_documents=2,
        bits=("4",),
        keep=(0.5,),
        baselines=False,
        fit=texts["fit"],
        choose=texts["choose"],
        model=str(tiny_talker),
    )
    assert check_kills(lambda: frontier(config, Path("out")), tmp_path, monkeypatch) >= 16
