"""2,000 damaged artefacts are read, or refused in one clear line; ``python tests/fuzz.py`` runs any number of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fuzz import AREAS, BUG, READ, REFUSED, outcome_of, run_one
from fuzz_artefacts import read_folder

PARTS = 5
MUTATIONS = 2000
LIMIT_S = 60
"""More than by hand: other tests run at the same time."""


@pytest.mark.parametrize("seed", range(PARTS))
def test_damage_is_read_or_refused_in_one_clear_line(seed: int, tmp_path: Path) -> None:
    kinds = []
    for number in range(MUTATIONS // PARTS):
        area = AREAS[number % len(AREAS)]
        outcome = run_one(seed, area, number // len(AREAS), tmp_path, LIMIT_S)
        again = f"python tests/fuzz.py --seed {seed} --only {area} --first {number // len(AREAS)} --mutations 1"
        assert outcome.kind in (READ, REFUSED), f"{again}\n{outcome.what}\n{outcome.came}"
        kinds.append(outcome.kind)
    assert kinds.count(READ) > 0.05 * len(kinds)
    assert kinds.count(REFUSED) > 0.3 * len(kinds)


def test_the_fuzzer_takes_no_fault_for_a_refusal(tmp_path: Path) -> None:
    from englishroom.errors import ArtifactError

    def refuse(error: Exception):
        def use() -> None:
            raise error

        return use

    os.mkfifo(tmp_path / "pipe")
    assert outcome_of(lambda: 1 + 1, "", 5.0).kind == READ
    assert outcome_of(refuse(ArtifactError("a: damaged; restore it")), "", 5.0).kind == REFUSED
    assert outcome_of(refuse(KeyError("a")), "", 5.0).kind == BUG
    assert outcome_of(refuse(SystemExit(1)), "", 5.0).kind == BUG
    assert "TooSlow" in outcome_of(lambda: (tmp_path / "pipe").read_bytes(), "", 0.3).came
    assert "MemoryError" in outcome_of(lambda: bytearray(2**33), "", 5.0).came


def test_a_mutation_can_be_repeated(tmp_path: Path) -> None:
    first = [run_one(7, "dictionaries", number, tmp_path) for number in range(20)]
    assert first == [run_one(7, "dictionaries", number, tmp_path) for number in range(20)]
    assert read_folder(tmp_path) == {}
