"""The program of explanations alone, on the hand-set program: conditions set by hand, answers computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from englishroom.emit.python import Header, emit
from englishroom.evaluate.condition_code import conditions_length
from englishroom.evaluate.description import describe_program
from englishroom.inside.explained_fit import VotesFound, fit, measured, read_both, votes_of, with_votes
from englishroom.inside.replacing import Variables, estimated_costs, measured_costs
from englishroom.interp import reference
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.condition import Condition, InQuotes, IntoSentence, Word, WordAt, WordEarlier, holds
from englishroom.ir.labels import Explanation, Feature, Labels, labels_from_json
from englishroom.ir.marks import marks_in, marks_of
from englishroom.ir.program import Conditions, Program, SparseTable
from englishroom.ir.room import pack
from englishroom.ir.text import parse_program, print_program
from englishroom.ir.verify import verify
from englishroom.names import TABLES
from englishroom.passes.base import run_passes
from englishroom.passes.explained import ExplainedAlone
from englishroom.store import sha256
from programs import run_file, tokenizer_for
from readable import WORDS, induction, tokens

TOKENIZER = tokenizer_for(len(WORDS))
A, B = Word(1, "~a"), Word(2, "~b")
TOLD = {
    ("rules.0", 0): (Condition(((WordAt((B,)), WordAt((A,), 1)),)), 1.0),
    ("rules.0", 1): (Condition(((IntoSentence(1, negated=True),),)), 1.0),
    ("moved.1", 1): (Condition(((WordEarlier((B,)), WordAt((A,))),)), 0.5),
    ("moved.1", 4): (Condition(((WordEarlier((A, B)),), (WordAt((A, B)),))), 0.75),
    ("rules.1", 0): (Condition(((WordEarlier((B,)), WordAt((A,))),)), 0.25),
}
TEXTS = ("abcab", "hgfedc", "aabb", "")


def explained() -> Program:
    program, _ = run_passes(induction(), [ExplainedAlone(TOLD, marks_of(TOKENIZER))])
    return program


def labelled() -> Labels:
    sizes = {"moved.0": 4, "rules.0": 2, "moved.1": 5, "rules.1": 1}

    def feature(name: str, at: int) -> Feature:
        condition, value = TOLD.get((name, at), (None, 0.0))
        found = None if condition is None else Explanation(condition, value, 1.0, 1.0, 1.0)
        return Feature(f"{name[0]}{name[-1]}.{at}:a/{at}", explanation=found)

    return Labels({name: tuple(feature(name, at) for at in range(size)) for name, size in sizes.items()})


def test_answers_are_those_computed_by_hand() -> None:
    """At the second ``a`` of ``abca``: a b stood earlier, so that b is voted for, and ends, by their list."""
    votes = np.full(len(WORDS), 0.0)
    votes[0] = -5.0  # the bias of <s>
    votes[2] += 0.5  # what follows a
    votes[2] += 4.0 * 0.5  # moved.1[1] votes for b
    votes[[5, 6]] += 0.25 * 2.0 * 2.0  # rules.1[0] votes for the list of ends, whose strength is 2
    expected = votes - math.log(np.exp(votes).sum())
    np.testing.assert_allclose(reference.log_probs(explained(), tokens("abca").tolist())[-1], expected, atol=1e-6)


def test_looks_and_sums_go_and_votes_stay() -> None:
    program = explained()
    assert program.level == "explained"
    assert verify(program) == []
    kinds = [type(block).__name__ for block in program.blocks]
    assert kinds.count("Conditions") == 4
    assert not {"Looks", "Fire"} & set(kinds)
    again, (record,) = run_passes(program, [ExplainedAlone(TOLD, marks_of(TOKENIZER))])
    assert again == program
    assert record.rewrites == ()
    assert parse_program(print_program(program)) == program


@pytest.mark.parametrize("text", TEXTS)
def test_three_agree(text: str, tmp_path: Path) -> None:
    program, read = explained(), tokens(text)
    expected = reference.log_probs(program, read.tolist())
    interpreter = Interpreter(program, np.float64)
    np.testing.assert_allclose(interpreter.log_probs(read), expected, atol=1e-12)
    stream = interpreter.stream()
    one_by_one = [stream.extend(np.array([[token]]))[0, 0] for token in read]
    np.testing.assert_allclose(one_by_one, expected, atol=1e-12)
    np.testing.assert_allclose(written(program, tmp_path)["log_probs"](read.tolist()), expected, atol=1e-9)


def written(program: Program, folder: Path) -> dict:
    files = pack(program, TOKENIZER)
    (folder / TABLES).write_bytes(files[TABLES])
    text = emit(program, TOKENIZER, Header("a test"), sha256(files[TABLES]), labelled()).text
    (folder / "program.py").write_text(text)
    return run_file(folder / "program.py")


@pytest.mark.parametrize("text", TEXTS)
def test_conditions_agree_in_the_file_the_labels_and_the_interpreter(text: str, tmp_path: Path) -> None:
    program, read = explained(), tokens(text).tolist()
    labels = labels_from_json(labelled().to_json())
    names, variables = written(program, tmp_path), Interpreter(program, np.float64).variables(np.array(read))
    for block in program.blocks:
        if not isinstance(block, Conditions):
            continue
        for at, feature in enumerate(labels.features[block.name]):
            for here in range(len(read)):
                in_file = names["holds"](feature.label, read[: here + 1])
                assert names["holds"](feature.label.partition(":")[0], read[: here + 1]) == in_file
                assert in_file == (variables[block.name][here, at] != 0)
                told = feature.explanation
                marks = marks_in(block.marks)
                assert in_file == (told is not None and holds(told.condition, read, here, marks))


def test_the_file_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    names = written(explained(), tmp_path)
    with pytest.raises(ValueError, match=r"no feature is called 'r9.1'"):
        names["holds"]("r9.1", [0])
    with pytest.raises(ValueError, match=r"a condition holds at a word, and there is none; give tokens"):
        names["holds"]("r0.1", [])


def broken(program: Program, **changes: object) -> list[str]:
    """Return the faults of a program whose second block of conditions is changed."""
    at = [number for number, block in enumerate(program.blocks) if isinstance(block, Conditions)][1]
    blocks = list(program.blocks)
    blocks[at] = replace(blocks[at], **changes)
    return verify(replace(program, blocks=tuple(blocks)))


def test_every_broken_rule_of_conditions_is_told() -> None:
    program = explained()
    block = next(block for block in program.blocks if block.name == "rules.0")
    assert isinstance(block, Conditions)
    never = (Condition(), Condition())
    far = (Condition(((WordAt((Word(99, "x"),)),),)), Condition())
    values = replace(block.values, values=np.array([1.0, -2.0]))
    marks = replace(block.marks, name="other", values=block.marks.values + 1)
    twice = SparseTable("twice", np.minimum(np.arange(len(WORDS) + 1), 1) * 2, np.array([1, 2]), np.ones(2), 4)
    assert broken(program, conditions=never) == []
    assert broken(program, conditions=never[:1]) == ["rules.0: has 1 conditions, but space rules.0 has 2"]
    assert broken(program, conditions=far) == ["rules.0: a condition has the token 99, expected less than 12"]
    assert broken(program, values=values) == ["rules.0: table rules.0.values holds a value of -2, expected 0 or more"]
    assert "rules.0: table other holds other numbers than 1" in broken(program, marks=marks)
    assert "rules.0: has other marks than moved.0, expected the same" in broken(program, marks=marks)
    assert "rules.0: table twice says of token 0 twice what it does to quotes" in broken(program, marks=twice)


def test_conditions_are_counted_by_the_code_that_is_stated() -> None:
    condition = Condition(((WordAt((A, B), 1), InQuotes()),))
    bits = math.log2(4) + math.log2(3) + 2 * (math.log2(5) + 1) + math.log2(9) + math.log2(12) + math.log2(66)
    assert conditions_length((condition,), 12).bits == math.ceil(bits)
    found = describe_program(explained()).tables
    assert found["rules.0:conditions"].bits > 0
    assert found["moved.0:conditions"].bits == 4 * 2  # four times no alternative


def test_fitting_finds_the_votes_that_a_text_was_told_with() -> None:
    program, generator = explained(), np.random.default_rng(0)
    own = votes_of(program)
    assert own.weights.shape == (len(WORDS) + 6 + 2 + 12, len(WORDS))  # the word at hand; lists, places, conditions
    assert with_votes(program, own) == program
    rows = [np.append(0, generator.integers(1, 12, 7)) for _ in range(60)]
    truth = read_both(program, program, rows)
    assert measured(truth, own)["kl_nats"] < 1e-6
    wrong = VotesFound(own.weights * 1.5, np.full(len(WORDS), 0.3))
    before = measured(truth, wrong)["kl_nats"]
    said = [Interpreter(with_votes(program, wrong), np.float32).log_probs(row) for row in rows]
    kl = [(np.exp(t) * (t - s)).sum(1) for t, s in zip(np.split(truth.said, len(rows)), said, strict=True)]
    assert before == pytest.approx(np.mean(kl), rel=1e-4)
    alone = fit(truth, wrong, 50, True, 0)
    np.testing.assert_array_equal(alone.weights.data, wrong.weights.data)
    assert measured(truth, alone)["kl_nats"] < before
    assert measured(truth, fit(truth, wrong, 300, False, 0))["kl_nats"] < 0.02 * before


def test_where_nothing_else_votes_it_is_read_once() -> None:
    program = explained()
    reads = tuple(name for name in program.vote.reads if name != "votes_of_lists")
    blocks = [b for b in program.blocks if b.name not in ("list_votes", "votes_of_lists")]
    alone = replace(program, blocks=(*blocks[:-1], replace(program.vote, reads=reads)))
    rows = [tokens("abcabca"), tokens("ecabdab")]
    read = read_both(program, alone, rows)
    assert len(read.rest) == 1
    said = np.concatenate([Interpreter(alone, np.float32).log_probs(row) for row in rows])
    expected = (np.exp(read.said) * (read.said - said)).sum(1).mean()
    assert measured(read, votes_of(alone))["kl_nats"] == pytest.approx(expected, rel=1e-4)


def test_costs_of_a_small_change_are_estimated_as_they_are_measured() -> None:
    program, generator = induction(), np.random.default_rng(1)
    rows = [np.append(0, generator.integers(1, 5, 7)) for _ in range(40)]

    def weaker(_tokens: np.ndarray, variables: Variables) -> Variables:
        return {"rules.0": 0.9 * variables["rules.0"], "moved.1": 0.95 * variables["moved.1"]}

    estimates = estimated_costs(program, rows, weaker, seed=2)
    places = [("rules.0", 1), ("moved.1", 0), ("moved.1", 2)]
    for (name, at), nats in zip(places, measured_costs(program, rows, weaker, places), strict=True):
        assert nats > 0
        assert estimates[name][at] == pytest.approx(nats, rel=0.4)
