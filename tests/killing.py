"""Kill a command at every rename, go on with it, and compare what it makes in the end with what a whole run makes.

A rename is the moment at which something starts to count. A run is killed before or after the first rename that no
earlier run of the same chain was killed at, and started again; so every run goes on from what the one before it left.
The dead do nothing more: once a run is killed, nothing is renamed or removed while its ``finally`` clauses run.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

MOST_KILLS = 80
CHANGES = ("replace", "rename", "unlink", "remove", "rmdir", "mkdir")
"""What a dead run does no more."""


class Killed(BaseException):
    """Nothing that is caught as an error."""


class Killer:
    """Kills a run at the first rename that it did not kill one at before.

    Args:
        when: the rename itself is done no more, or done before the run ends.
    """

    def __init__(self, when: Literal["before", "after"]) -> None:
        self.when = when
        self.seen: set[tuple[str, str]] = set()
        self.dead = False

    def patch(self, patched: pytest.MonkeyPatch) -> None:
        """Stand between the run and the system."""
        self.dead = False
        for name in CHANGES:
            patched.setattr(os, name, self._guarded(name, getattr(os, name)))

    def _guarded(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def change(*given: object, **named: object) -> object:
            if self.dead:
                return None
            key = _key(given[0], given[1]) if name in ("replace", "rename") else None
            if key is None or key in self.seen:
                return real(*given, **named)
            self.seen.add(key)
            if self.when == "after":
                real(*given, **named)
            self.dead = True
            raise Killed

        return change


def _key(source: object, place: object) -> tuple[str, str]:
    """Tell renames apart by what they put where; folders by their place alone."""
    path = Path(str(source))
    return str(place), "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


def contents(folder: Path) -> dict[str, bytes]:
    """Read all that a command left, but for hidden files."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    named = {str(path.relative_to(folder)): path for path in files}
    return {
        name: path.read_bytes()
        for name, path in named.items()
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def check_kills(
    run: Callable[[], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[], object] = lambda: None,
) -> int:
    """Run a command whole, and killed at every rename; compare what is left, and return how often it was killed.

    Args:
        run: writes into the folder that it is run in.
        prepare: puts into it what must stand there before.
    """
    wholes: dict[str, dict[str, bytes]] = {}
    kills = 0
    monkeypatch.setattr("time.perf_counter", lambda: 0.0)  # manifests tell how long passes took
    for name in ("whole", "before", "after"):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        prepare()
        killer = Killer("before" if name == "before" else "after")
        for _ in range(MOST_KILLS):
            with monkeypatch.context() as patched:
                if name != "whole":
                    killer.patch(patched)
                try:
                    run()
                    break
                except Killed:
                    kills += 1
        else:
            pytest.fail(f"killed {MOST_KILLS} times and not done: {sorted(place for place, _ in killer.seen)}")
        wholes[name] = contents(folder)
    whole = wholes.pop("whole")
    assert whole
    for name, found in wholes.items():
        assert found.keys() ^ whole.keys() == set(), name
        assert [file for file in whole if whole[file] != found[file]] == [], name
    return kills
