"""Laws of slicing: what nothing needs goes without a change, and what goes beyond that stays within the tolerance."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings

from englishroom.errors import ConfigError
from englishroom.inside.entry_importance import gap_to, gaps, near_to, weigh
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Program, Rules
from englishroom.ir.verify import verify
from englishroom.passes.base import run_passes
from englishroom.passes.compact import Compact, compacted
from englishroom.passes.slice import Slice, entries_behind, keeping, n_entries
from programs import full_program, programs, tokens_for
from tiny_slice import small_program, small_texts

TEXT = small_texts(1, seed=3)[0][:-1]


def log_probs(program: Program, tokens: np.ndarray) -> np.ndarray:
    return Interpreter(program, np.float64).log_probs(tokens)


def slicing(program: Program, tokens: np.ndarray, tolerance: float, **options: object) -> Slice:
    fold = bool(options.get("fold", True))
    near = near_to(program, tokens, "tokens", tolerance)
    return Slice(
        tolerance,
        gap=gap_to(program, tokens, "tokens"),
        weigh=lambda p: weigh(p, tokens, fold, near),
        **options,  # type: ignore[arg-type]
    )


@settings(max_examples=60, deadline=None)
@given(programs())
def test_compacting_changes_nothing_that_is_said(program: Program) -> None:
    found, (record,) = run_passes(program, [Compact()])
    tokens = tokens_for(program)[0]
    assert np.abs(log_probs(found, tokens) - log_probs(program, tokens)).max() < 1e-9
    assert record.made_by == "compact"
    assert Compact()(found) == (found, ())
    assert found.n_entries <= program.n_entries or len(found.tables()) > len(program.tables())


def test_compacting_leaves_out_what_nothing_reads() -> None:
    program = small_program()
    found, kept = compacted(program)
    sizes = {block.name: found.space(block.space).size for block in found.blocks}
    assert {name: len(places) for name, places in kept.items()} == sizes
    whole = next(block for block in program.blocks if isinstance(block, Rules))
    none = np.zeros(whole.effects.n_entries, bool)
    without = keeping(program, {whole.effects.name: none}, None)
    found, kept = compacted(without, unread=True)
    assert verify(found) == []
    assert whole.name not in kept
    assert np.abs(log_probs(found, TEXT) - log_probs(without, TEXT)).max() < 1e-9


@pytest.mark.parametrize("seed", range(6))
def test_at_tolerance_0_only_unused_parts_go(seed: int) -> None:
    program = full_program("sparse", seed)
    tokens = tokens_for(program, seed)[0]
    found, (record,) = run_passes(program, [slicing(program, tokens, 0.0)])
    assert np.abs(log_probs(found, tokens) - log_probs(program, tokens)).max() < 1e-9
    assert n_entries(found) <= n_entries(program)
    assert record.options == {"tolerance": 0.0, "evaluations": 1000, "fold": True}
    again, _ = run_passes(found, [slicing(found, tokens, 0.0)])
    assert n_entries(again) == n_entries(found)


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("tolerance", [0.05, 0.5])
def test_a_slice_stays_within_the_tolerance(tolerance: float, fold: bool) -> None:
    program = small_program()
    exact, _ = run_passes(program, [slicing(program, TEXT, 0.0)])
    found, (record,) = run_passes(program, [slicing(program, TEXT, tolerance, fold=fold, evaluations=80)])
    reached = gaps(log_probs(program, TEXT), log_probs(found, TEXT), TEXT, "tokens").max()
    assert 0 < reached <= tolerance
    assert n_entries(found) < n_entries(exact) < n_entries(program)
    assert "programs tried" in record.rewrites[-1]


def test_without_end_next_to_nothing_is_left() -> None:
    program = small_program()
    found, _ = run_passes(program, [slicing(program, TEXT, float("inf"), evaluations=100)])
    assert n_entries(found) < 10
    assert not any(block.conditions.n_entries for block in found.blocks if isinstance(block, Rules))


def test_a_wider_tolerance_and_more_trials_leave_less() -> None:
    program = small_program()

    def left(tolerance: float, evaluations: int) -> int:
        return n_entries(slicing(program, TEXT, tolerance, evaluations=evaluations)(program)[0])

    assert left(0.5, 60) < left(0.05, 60)
    assert left(0.5, 60) <= left(0.5, 20)


def test_what_goes_with_a_rule_is_counted() -> None:
    before = compacted(small_program(), unread=True)[0]
    behind = entries_behind(before)
    last = [block for block in before.blocks if isinstance(block, Rules)][-1]
    for rule in range(3):
        kept = np.ones(last.effects.n_entries, bool)
        kept[rule] = False
        after = compacted(keeping(before, {last.effects.name: kept}, None), unread=True)[0]
        assert n_entries(before) - n_entries(after) == behind[last.effects.name][rule] + 1


def broken_gap(_program: Program) -> float:
    return 1.0


def test_where_leaving_unused_parts_out_is_no_use_the_whole_program_stays() -> None:
    program = small_program()
    found, _ = Slice(0.0, gap=broken_gap, weigh=lambda p: weigh(p, TEXT, False))(program)
    assert n_entries(found) == n_entries(program)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: slicing(small_program(), TEXT, -1.0), r"--tolerance is -1, expected 0 or more"),
        (lambda: slicing(small_program(), TEXT, float("nan")), r"--tolerance is nan, expected 0 or more"),
        (lambda: slicing(small_program(), TEXT, 0.1, evaluations=0), r"--evaluations is 0, expected 1 or more"),
    ],
)
def test_bad_settings_are_one_line(make: Callable[[], Slice], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_its_record_holds_its_options_and_nothing_that_it_was_given() -> None:
    _, (record,) = run_passes(small_program(), [slicing(small_program(), TEXT, 0.1, evaluations=3)])
    assert record.options == {"tolerance": 0.1, "evaluations": 3, "fold": True}
    assert json.loads(json.dumps(record.options)) == record.options
