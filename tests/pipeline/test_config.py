"""Settings are declared once: what is declared is a flag with a help, is checked, and stands in the manifest."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from englishroom.bounds import Settings, flag_of
from englishroom.cli import main
from englishroom.cli.decompile import Command
from englishroom.errors import ArtifactError, ConfigError
from englishroom.manifest import Manifest
from englishroom.pipeline.commands import (
    CompareConfig,
    ExplainCheckConfig,
    FrontierConfig,
    LabelConfig,
    MemoryConfig,
    ReportConfig,
    ScoreConfig,
    ShowConfig,
    SketchConfig,
    SliceConfig,
    TalkConfig,
)
from englishroom.pipeline.config import DecompileConfig
from englishroom.pipeline.presets import PRESETS, command_of, nearest_preset, preset_of, settings_of


def declared(config: Settings) -> Iterator[tuple[type[Settings], str]]:
    """Yield every setting, as its config and its name, of configs within configs too."""
    for field in fields(config):
        value = getattr(config, field.name)
        if isinstance(value, Settings):
            yield from declared(value)
        else:
            yield type(config), field.name


def explained(config: type[Settings]) -> set[str]:
    """Return the fields that have a string under them."""
    kinds = [kind for kind in config.__mro__ if issubclass(kind, Settings)]
    trees = [ast.parse(inspect.getsource(kind)).body[0] for kind in kinds]
    pairs = [pair for tree in trees if isinstance(tree, ast.ClassDef) for pair in pairwise(tree.body)]
    return {
        field.target.id
        for field, under in pairs
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(under, ast.Expr)
    }


SETTINGS = list(declared(DecompileConfig()))


def test_every_setting_has_a_help_and_a_flag_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert [(config, name) for config, name in SETTINGS if name not in explained(config)] == []
    names = [flag_of(config, name) for config, name in SETTINGS]
    assert len(names) == len(set(names)) > 60
    with pytest.raises(SystemExit):
        main(["decompile", "--help"])
    shown = capsys.readouterr().out
    for config, name in SETTINGS:
        flag, value = flag_of(config, name), getattr(config(), name)
        assert f" {f'--no-{flag[2:]}' if value is True else 'MODEL' if name == 'model' else flag} " in shown


@pytest.mark.parametrize(
    ("command", "config"),
    [
        ("score", ScoreConfig(("room",))),
        ("frontier", FrontierConfig((Path("room"),))),
        ("sketch", SketchConfig()),
        ("slice", SliceConfig(Path("room"), "text")),
        ("report", ReportConfig()),
        ("compare", CompareConfig("one", "two")),
        ("talk", TalkConfig()),
        ("show", ShowConfig(Path("room"))),
        ("memory", MemoryConfig(Path("room"))),
        ("label", LabelConfig(Path("room"))),
        ("explain-check", ExplainCheckConfig(Path("room"))),
    ],
)
def test_the_settings_of_other_commands_are_flags_with_a_help(
    command: str, config: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = list(declared(config))
    assert [(kind, name) for kind, name in settings if name not in explained(kind)] == []
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out
    config.validate()
    given = [flag for flag in config.flags() if flag not in shown and f"--no-{flag[2:]}" not in shown]
    positional = {"--talkers", "--rooms", "--talker", "--room", "--first", "--second", "--prompt"}
    assert set(given) <= positional


def test_the_help_shows_the_defaults_of_the_preset_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["decompile", "--level=featured", "--preset", "full", "--help"])
    assert "(default: 40000000)" in re.sub(r"[│\s]+", " ", capsys.readouterr().out)


@pytest.mark.parametrize("level", ["sparse", "readable"])
def test_every_flag_reaches_the_run(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flags give what the same changes give from Python, for a value of every setting that is not its default."""
    config = preset_of("fast", level)
    others: dict[str, Any] = {
        flag: not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else value
        for flag, value in config.flags().items()
    }
    others |= {flag: value / 2 + 0.1 for flag, value in others.items() if isinstance(value, float)}
    others |= {"--stream-widen": 1.5, "--place-factor": 1.5}
    others |= {"--widen": 1.5, "--moved-from": 0, "--skip": False, "--fit": ("a", "b"), "--samples": (3, 2, 1)}
    others |= {"--betas": (0.5, 0.6), "--bits": "ternary", "--merge": 0.9, "--context": 17, "--model": "m"}
    others |= {flag: "x" for flag, value in others.items() if value is None and flag != "--dictionaries"}
    others |= {"--dictionaries": Path("d"), "--start-room": Path("r")}
    others |= {flag: value for flag, value in config.flags().items() if flag in config.without_effect()}
    ran: list[DecompileConfig] = []

    def stop(given: DecompileConfig, *_others: object) -> None:
        ran.append(given)
        raise ConfigError("far enough")

    monkeypatch.setattr("englishroom.pipeline.decompile", stop)
    words = command_of(config.changed(**{flag[2:].replace("-", "_"): value for flag, value in others.items()}))
    assert main(words[1:]) == 1
    assert ran[0].flags() == others


@pytest.mark.parametrize(
    ("level", "printed"),
    [
        ("exact", set()),
        ("featured", {"--seed", "--samples"}),
        ("readable", {"--seed", "--samples"}),
        ("sparse", {"--seed", "--samples", "--edges"}),
    ],
)
def test_printed_commands_leave_out_what_has_no_effect(level: str, printed: set[str]) -> None:
    words = command_of(preset_of("fast", level).changed(model="m", seed=3, edges=7, samples=(3, 2, 1), check=False))
    assert {"--no-check", "--seed", "--samples", "--edges"} & set(words) == printed | {"--no-check"}
    assert Command.defaults(words[2:]).config.level == level, "it is not refused"


@pytest.mark.parametrize("level", PRESETS)
@pytest.mark.parametrize("name", ["fast", "standard", "full"])
def test_presets_are_valid_and_stand_in_manifests(level: str, name: str) -> None:
    config = preset_of(name, level).changed(model="m", seed=3, fit=("a b", "c"))
    config.validate()
    stored = Manifest(1, level, {"name": "m"}, config.plain(), 3, [], {}, {})
    assert settings_of(stored) == config
    assert level == "exact" or nearest_preset(config) == name


def test_settings_of_rooms_before_0_2_0_are_read() -> None:
    old: dict[str, Any] = {"model": "m", "level": "sparse", "tokenizer": None, "check": True, "seed": 0}
    old |= {"preset": "full", "fit": ["a"], "choose": None, "report": "b", "dictionaries": None}
    found = settings_of(Manifest(1, "sparse", {"name": "m"}, old | {"changes": [["edges", 5]]}, 0, [], {}, {}))
    assert found == preset_of("full").changed(model="m", fit=("a",), report="b", edges=5)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"opening": {"tokenizer": 3}}, "manifest.json: config.opening.tokenizer: Input should be a valid string"),
        ({"changes": [["edgs", 5]], "preset": "fast"}, "manifest.json: config is not the settings of a decompilation"),
        ({"changes": 5, "preset": "fast"}, "manifest.json: config is not the settings of a decompilation"),
    ],
)
def test_a_manifest_with_other_settings_is_refused(stored: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        settings_of(Manifest(1, "sparse", {"name": "m"}, stored, 0, [], {}, {}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--reads 0", "--reads is 0, expected 1 or more"),
        ("--numbers 0", "--numbers is 0, expected 1 or more"),
        ("--seed -1", "--seed is -1, expected 0 or more"),
        ("--moved 0", "--moved is 0; a sparse program starts from a dictionary for every attention output"),
        ("--moved-from 1", "--moved-from is 1; a sparse program starts from"),
        ("--moved 0 --rules 0 --level featured", "--moved and --rules are both 0"),
        ("--rules 32", "--rules-active is 48, expected 1 to 32, the value of --rules"),
        ("--kinds 16", "--kinds-active is 32, expected 1 to 16, the value of --kinds"),
        ("--ablate nan", "--ablate is nan, expected a finite number"),
        ("--align inf", "--align is inf, expected a finite number"),
        ("--ablate 1.5", "--ablate is 1.5, expected 0 to 1"),
        ("--bits 13", "--bits is 13, expected 1 to 12 or ternary"),
        ("--samples 5 0 5", "--samples is 5 0 5, expected 1 or more"),
        ("--preset slow", "--preset is slow, expected fast, standard, full"),
        ("--level spare", "--level is spare, expected exact, featured, sparse, readable"),
        (
            "--level exact --sparse-tokens 5",
            "--sparse-tokens: no effect at --level exact; leave it out, or choose --level sparse",
        ),
        ("--level=exact --rate=1 --no-tables", "--rate, --no-tables: no effect at --level exact"),
        (
            "--level exact --preset full --seed 1",
            "--preset, --seed: no effect at --level exact; leave it out, or choose --level featured or sparse or",
        ),
        ("--level exact --samples 5 5 5", "--samples: no effect at --level exact"),
        ("--edges 5 --level featured", "--edges: no effect at --level featured; leave it out, or choose --level"),
        ("--level featured --first_reads 5", "--first-reads: no effect at --level featured"),
        ("--tables False", "--tables takes no value any more; give --no-tables"),
        ("--skip=True", "--skip takes no value any more; give --skip"),
    ],
)
def test_what_cannot_work_is_refused_before_the_model_is_read(
    arguments: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["decompile", "no-such-model", "--out", str(tmp_path / "room"), *arguments.split()]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_settings_that_there_are_not_are_refused() -> None:
    with pytest.raises(ConfigError, match="--edgs: no such setting"):
        DecompileConfig().changed(edgs=5)
