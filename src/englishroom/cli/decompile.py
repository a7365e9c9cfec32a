"""englishroom decompile"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from englishroom.cli.output import progress_bar, say, show, talk_command
from englishroom.errors import ConfigError
from englishroom.names import PROGRAM
from englishroom.pipeline.config import DecompileConfig
from englishroom.pipeline.presets import PRESETS, Preset, preset_of


@dataclass(frozen=True)
class Command:
    """Turn a model into a room: a folder with a program in plain Python and the evidence of how faithful it is.

    MODEL, --out, --level and --preset are enough for most runs. The defaults below are those of the level and preset
    that are named beside --help: englishroom decompile --preset full --help shows those of the preset full. Settings
    that have no effect at the level are refused.
    """

    out: Path = Path("room")
    """Folder to write the room to. A room that is there already is replaced when the new one is complete."""
    preset: Preset = "fast"
    """How long to fit and how much to measure: minutes, half an hour, or hours (all levels but exact)."""
    config: Annotated[DecompileConfig, arg(name="")] = DecompileConfig()

    @staticmethod
    def defaults(arguments: Sequence[str]) -> Command:
        """Return the command with the settings of the level and preset that these arguments name.

        Raises:
            ConfigError: there is no such level or preset, a setting has no effect at that level, or a flag is spelt as
                it was in earlier versions.
        """
        for flag, now in (("--skip", "--skip"), ("--tables", "--no-tables")):
            for at, word in enumerate(arguments):
                if word.startswith(f"{flag}=") or (word == flag and (flag != now or _is_value(arguments[at + 1 :]))):
                    raise ConfigError(f"{flag} takes no value any more; give {now}, or leave it out")
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        parser.add_argument("--preset", nargs="?", default="fast")
        parser.add_argument("--level", nargs="?", default="sparse")
        named = parser.parse_known_args([*arguments])[0]
        config = preset_of(str(named.preset), str(named.level))
        given = [word.partition("=")[0].replace("_", "-") for word in arguments if word.startswith("--")]
        if lost := [flag for flag in dict.fromkeys(given) if _is_idle(flag, config)]:
            others = [presets["fast"] for presets in PRESETS.values()]
            levels = [other.level for other in others if not any(_is_idle(flag, other) for flag in lost)]
            raise ConfigError(
                f"{', '.join(lost)}: no effect at --level {config.level}; leave it out, or choose --level "
                f"{' or '.join(levels)}"
            )
        return Command(preset=named.preset, config=config)

    def run(self) -> None:
        from englishroom.pipeline import decompile

        with progress_bar() as progress:
            manifest = decompile(self.config, self.out, say, progress)
        size = (self.out / PROGRAM).stat().st_size
        emitted, positions = (manifest.evidence[f"emitted_{key}"] for key in ("vs_program_nats", "positions"))
        say(
            f"program.py: {size:,} bytes; run by itself on {positions} positions it is within {emitted:.2g} nats "
            "of the interpreter"
        )
        show(f"wrote {self.out}; next: {talk_command(self.out / PROGRAM)}")


def _is_idle(flag: str, config: DecompileConfig) -> bool:
    """Say whether a flag has no effect at the level of some settings."""
    idle = config.without_effect() | ({"--preset"} if config.level == "exact" else set())
    return flag in idle or flag.replace("--no-", "--", 1) in idle


def _is_value(rest: Sequence[str]) -> bool:
    return bool(rest) and rest[0] in ("True", "False", "None")
