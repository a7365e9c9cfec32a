"""Measures of readability on programs whose answers are computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from englishroom.evaluate.readability_metrics import READABILITY_METRICS
from englishroom.inside.entries_used import entries_used
from englishroom.inside.readability import (
    choose_places,
    measure_readability,
    often_on_share,
    text_means,
    voters_needed,
    with_permuted_votes,
    with_shuffled_numbers,
)
from englishroom.inside.token_run import TokenRun
from englishroom.inside.token_slice import count, live, slice_of
from englishroom.inside.voters import kept_greedily, voters_of
from englishroom.inside.wires import Readable
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Fire, Lookup, Program, Space, SparseTable, Vote, Votes
from englishroom.ir.verify import require_valid
from programs import random_readable, tokens_for
from readable import induction, sparse, tokens, vector


def voting(*votes: float) -> Program:
    """Make a program of four words, a list for each, a rule for each list, and a vote of each rule for its word.

    Rule 3 is on at every word, since its bias alone exceeds its threshold, and votes for word 0.
    """
    itself = {(at, at): 1.0 for at in range(4)}
    cast = {(at, at): vote for at, vote in enumerate(votes[:3])} | {(3, 0): votes[3]}
    return require_valid(
        Program(
            "sparse",
            8,
            (Space("lists", 4), Space("rules", 4), Space("vocab", 4)),
            (
                Lookup(name="lists", space="lists", index="token", table=sparse("lists.words", 4, 4, itself)),
                Fire(
                    name="rules",
                    space="rules",
                    reads=("lists",),
                    conditions=sparse("rules.conditions", 4, 4, {(at, at): 1.0 for at in range(3)}),
                    biases=vector("rules.biases", 0.0, 0.0, 0.0, 1.0),
                    thresholds=vector("rules.thresholds", 0.5, 0.5, 0.5, 0.5),
                ),
                Votes(
                    name="votes",
                    space="vocab",
                    reads=("rules",),
                    weights=sparse("votes.weights", 4, 4, cast),
                    bias=vector("votes.bias", *[0.0] * 4),
                ),
                Vote(name="log_probs", space="vocab", reads=("votes",)),
            ),
        )
    )


def kl(wanted: list[float], kept: list[float]) -> float:
    """Return KL of the softmax of one list of logits from that of another."""
    p, q = (np.exp(logits) / np.exp(logits).sum() for logits in (np.array(wanted), np.array(kept)))
    return float((p * np.log(p / q)).sum())


def test_entries_that_carry_something_are_counted_by_hand() -> None:
    """After ``<s> a b a``: see the variables in tests/interp/test_readable.py."""
    program, read = induction(), tokens("aba")
    found = entries_used(program.blocks, Interpreter(program, np.float64).variables(read), read)
    by_hand = {
        "lists.words": [0, 2, 2, 2 + 2],  # at the end e and f, through the votes for their list
        "position_basis.positions": [1, 1, 1, 1],
        "follows.words": [0, 1, 1, 1],
        "moved.0.queries": [0, 0, 0, 0],
        "moved.0.keys": [0, 0, 0, 0],
        "moved.0.lone_keys": [0, 0, 0, 0],
        "moved.0.conditions": [0, 1, 1, 1],
        "rules.0.conditions": [1, 0, 2, 0],  # the first word; b and a before it; nothing reads an a, or a b before
        "moved.1.queries": [0, 1, 1, 1],
        "moved.1.keys": [0, 0, 1, 1],
        "moved.1.lone_keys": [0, 1, 1, 1],
        "moved.1.conditions": [0, 2, 2, 2],  # the word, and names
        "rules.1.conditions": [0, 1, 1, 2],  # names; and the b that followed
        "list_votes.weights": [0, 0, 0, 1],
        "votes.weights": [1, 0, 1, 1],
    }
    assert {name: counts.tolist() for name, counts in found.items()} == by_hand
    means = text_means(program, [read])
    assert sum(means.entries_used.values()) == pytest.approx(sum(map(sum, by_hand.values())) / 4)


def test_features_that_are_often_on_are_a_share_of_rules_and_moved_features() -> None:
    """After ``<s> a b a`` 7 of 12 features are on, at a quarter of the positions or more."""
    means = text_means(induction(), [tokens("aba")])
    # moved.0: a and b; rules.0: both; moved.1: b (once) and names; rules.1: its only one
    assert often_on_share(means) == pytest.approx((2 + 2 + 2 + 1) / 12)
    assert often_on_share(text_means(induction(), [tokens("aba"), tokens("kkkkkkk")])) == pytest.approx(1 / 12)


def test_voters_needed_are_those_by_hand() -> None:
    """Each of words 0, 1, 2 and 3 is read once, so that rules 0 to 2 are 1/4 in the mean, and rule 3 is 1 always."""
    program = voting(4.0, 2.0, 0.1, 3.0)
    rows = [np.array([0, 1, 2, 3])]
    means = text_means(program, rows)
    np.testing.assert_allclose(means.variables["rules"], [0.25, 0.25, 0.25, 1.0])
    voters = voters_of(program)
    assert voters.places.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(voters.votes.toarray(), [[4, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0.1, 0], [3, 0, 0, 0]])
    needed, best, without = voters_needed(program, rows, [(0, 0), (0, 1), (0, 3)], means, tolerance=0.1)
    # at word 0: votes 7, 0, 0, 0 against 4, 0.5, 0.025, 0 in the mean
    none, one = kl([7, 0, 0, 0], [4, 0.5, 0.025, 0]), kl([7, 0, 0, 0], [7, 0.5, 0.025, 0])
    assert none < 0.1
    # at word 1: votes 3, 2, 0, 0; the voter for word 1 is the best, and it suffices
    assert kl([3, 2, 0, 0], [4, 0.5, 0.025, 0]) > 0.1 > kl([3, 2, 0, 0], [4, 2, 0.025, 0])
    assert kl([3, 2, 0, 0], [4, 2, 0.025, 0]) < kl([3, 2, 0, 0], [3, 0.5, 0.025, 0])
    # at word 3: votes 3, 0, 0, 0
    assert kl([3, 0, 0, 0], [4, 0.5, 0.025, 0]) < 0.1
    assert needed == [0, 1, 0]
    by_hand = [none, kl([3, 2, 0, 0], [4, 0.5, 0.025, 0]), kl([3, 0, 0, 0], [4, 0.5, 0.025, 0])]
    assert without == pytest.approx(by_hand, abs=1e-12)
    assert best == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)  # there are fewer than 8
    log_probs, apart = np.log(np.exp([7.0, 0, 0, 0]) / np.exp([7.0, 0, 0, 0]).sum()), np.array([0.75, -0.25, -0.25, 0])
    kls = kept_greedily(log_probs, apart, voters.votes, 0.1)
    assert kls[:2] == pytest.approx([none, one])


def test_votes_for_lists_are_votes_for_their_words() -> None:
    voters = voters_of(induction())
    assert voters.variables == ("lists", "position_basis", "moved.0", "rules.0", "moved.1", "rules.1")
    assert voters.places.tolist() == [12, 13, 14, 15, 16, 17, 19]
    last = voters.votes.toarray()[-1]
    assert np.flatnonzero(last).tolist() == [5, 6]
    assert last[5] == 2.0 * 2.0


@pytest.mark.parametrize("seed", range(6))
def test_greedy_steps_are_the_best_ones_and_kept_voters_say_what_the_program_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    votes = sparse(
        "votes", 5, 4, {(i, j): float(rng.normal()) for i in range(5) for j in range(4) if rng.random() < 0.6}
    )
    dense, apart = votes.dense(), rng.normal(size=5)
    logits = rng.normal(size=4)
    log_probs = logits - np.log(np.exp(logits).sum())
    found = kept_greedily(log_probs, apart, votes.csr(), tolerance=0.0)
    rest, left = log_probs - apart @ dense, set(range(5))
    for step in found[1:]:
        costs = {i: kl(list(log_probs), list(rest + apart[i] * dense[i])) for i in left}
        best = min(costs, key=lambda i: costs[i])
        assert step == pytest.approx(costs[best], abs=1e-12)
        rest = rest + apart[best] * dense[best]
        left.remove(best)
    assert found[-1] == pytest.approx(0.0, abs=1e-12)


def test_the_entries_that_a_token_needs_are_those_by_hand() -> None:
    """At word 1 of ``voting``, what is needed is the list, its rule and its vote: three entries."""
    program = voting(1.0, 6.0, 0.1, 0.0)
    rows = [np.array([0, 1, 2, 3])]
    readable = Readable(program, text_means(program, rows).variables)
    run = TokenRun(readable, np.array([0, 1]))
    kept = slice_of(run, 0.1)
    by_hand = {"lists.words": [1], "rules.conditions": [1], "votes.weights": [1]}
    assert {name: np.flatnonzero(mask).tolist() for name, mask in kept.items()} == by_hand
    assert run.kl_nats(kept) == pytest.approx(0.0, abs=1e-12)
    assert run.kl_nats({name: np.zeros_like(mask) for name, mask in kept.items()}) > 0.1
    assert count(slice_of(TokenRun(readable, np.array([3])), 0.1)) == 0  # word 3 says what the biases say


BIASES = {
    "queries": "query_biases",
    "keys": "key_biases",
    "lone_keys": "",
    "conditions": "biases",
    "sums": "bias",
}


def kept_program(run: TokenRun, masks: dict[str, np.ndarray]) -> Program:
    """Write what is kept as a program: fewer entries, with constants in place of the others."""
    readable = run.readable
    blocks = []
    for block in readable.program.blocks:
        if isinstance(block, Lookup):
            table = block.table
            assert isinstance(table, SparseTable)
            kept, means = masks[table.name], readable.means[readable.own(block.name)]
            values = np.where(kept, table.values, means[table.columns])
            blocks.append(replace(block, table=replace(table, name=f"{block.name}.kept", values=values)))
            continue
        changed = {}
        for part, name in BIASES.items():
            if part not in run.wires[block.name]:
                continue
            wires = run.wires[block.name][part]
            field = part if part != "sums" else "weights" if isinstance(block, Votes) else "weight"
            table = getattr(block, field)
            used = np.zeros(table.n_entries, bool)
            used[wires.order] = masks[wires.table][wires.order]
            own = np.isin(wires.order, np.flatnonzero(used))
            shift = np.bincount(
                wires.targets[own], (wires.weights * readable.means[wires.sources])[own], len(wires.constants)
            )
            changed[field] = replace(table.keep(used), name=f"{block.name}.{part}.kept")
            if name:
                changed[name] = vector(f"{block.name}.{name}.kept", *(wires.constants - shift))
        blocks.append(replace(block, **changed))
    return replace(readable.program, blocks=tuple(blocks))


@pytest.mark.parametrize("seed", range(12))
def test_what_is_kept_is_a_program_that_says_so(seed: int) -> None:
    """The run with some entries is the run of a program of these entries; all of them are the program itself."""
    program = random_readable(seed) if seed else induction()
    rows = [tokens_for(program, draw)[0] for draw in range(3)]
    readable, rng = Readable(program, text_means(program, rows).variables), np.random.default_rng(seed)
    whole = Interpreter(program, np.float64).log_probs(rows[0])[-1]
    run = TokenRun(readable, rows[0])
    np.testing.assert_allclose(run.kl_nats(run.everything), 0.0, atol=1e-12)
    np.testing.assert_allclose(run.kl_nats(live(run, run.everything)), 0.0, atol=1e-12)
    for tolerance in (0.01, 0.1):
        kept = slice_of(run, tolerance)
        some = {name: mask & (rng.random(len(mask)) < 0.5) for name, mask in run.everything.items()}
        for masks in (kept, some):
            found = Interpreter(kept_program(run, masks), np.float64).log_probs(rows[0])[-1]
            assert run.kl_nats(masks) == pytest.approx(np.exp(whole) @ (whole - found), abs=1e-12)
        assert run.kl_nats(kept) <= tolerance
        assert count(live(run, kept)) == count(kept)


def test_nulls_keep_the_shape_of_the_program() -> None:
    program, rng = induction(), np.random.default_rng(0)
    permuted, shuffled = with_permuted_votes(program, rng), with_shuffled_numbers(program, rng)
    before, after = (voters_of(one) for one in (program, permuted))
    assert before.places.tolist() == after.places.tolist()
    assert sorted(map(tuple, before.votes.toarray()[:-1])) == sorted(map(tuple, after.votes.toarray()[:-1]))
    for name, table in program.tables().items():
        if isinstance(table, SparseTable):
            other = shuffled.tables()[name]
            assert sorted(other.values) == sorted(table.values)
            np.testing.assert_array_equal(other.columns, table.columns)


def test_everything_is_measured_with_its_null() -> None:
    rows = [tokens(text) for text in ("abcabca", "aba", "ddddddd")]
    found = measure_readability(induction(), rows, n_places=5, seed=1)
    assert found.measures["reads_per_rule_most"] == 2
    assert len(found.places) == len(found.voters_needed) == len(found.entries_needed) == 5
    assert {row for row, _ in found.places} == {0, 1, 2}
    reads = {f"reads_per_rule_{name}" for name in ("median", "p95", "most")}
    names = {metric.key for metric in READABILITY_METRICS} - {"explanation_mcc"}
    assert names | {f"{name}_null" for name in names - reads} == found.measures.keys()
    assert found == measure_readability(induction(), rows, n_places=5, seed=1)
    assert all(math.isfinite(value) for value in found.measures.values())


def test_places_are_spread_over_documents() -> None:
    rng = np.random.default_rng(0)
    assert sorted({row for row, _ in choose_places([3, 1, 5], 3, rng)}) == [0, 1, 2]
    assert len(choose_places([3, 1, 5], 100, rng)) == 9
