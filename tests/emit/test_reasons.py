"""Why a readable program says a word: the right reasons, true of the program, and the same from file and room."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from englishroom.cli import main
from englishroom.emit import conditions, reasons
from englishroom.emit.listing import ReadableListing
from englishroom.emit.prelude import rereading
from englishroom.emit.prelude.deciding import few_voters
from englishroom.emit.prelude.holding import read_text, why_true
from englishroom.emit.prelude.reasons import KEY, listed
from englishroom.emit.reasons import parts_of
from englishroom.evaluate.talk import TalkOptions
from englishroom.inside.explain import explain
from englishroom.inside.voters import kept_greedily, kl_nats, voters_of
from englishroom.interp.vectorised import Interpreter, Stream
from englishroom.ir.condition import (
    Condition,
    InQuotes,
    IntoSentence,
    Repeated,
    Term,
    Word,
    WordAt,
    WordEarlier,
    holds,
)
from englishroom.ir.labels import Explanation, Feature, Labels
from englishroom.ir.marks import marks_of
from englishroom.ir.program import Program
from englishroom.ir.wording import token_words
from programs import quoting_tokenizer, random_readable, run_file, tokenizer_for, tokens_for, write_emitted
from readable import LISTS, induction
from readable import tokens as tokens_of
from tiny_slice import write_small_room

WORDS = tokenizer_for(12)
GREEDY = TalkOptions(greedy=True, max_tokens=1)
HERE = Explanation(
    Condition(((WordAt((Word(1, "~a"),)), WordEarlier((Word(2, "~b"), Word(9, "~i")))),)), 1.0, 0.75, 0.5, 0.6
)
LABELS = Labels(
    {
        "lists": tuple(Feature(name) for name in LISTS),
        "moved.0": tuple(Feature(f"m0.{at}:{name}", frequency=0.5, mean=0.75) for at, name in enumerate(LISTS[:4])),
        "rules.0": (Feature("r0.0:a~then~b", frequency=0.25, mean=2.0), Feature("r0.1:first")),
        "moved.1": tuple(
            Feature(f"m1.{at}:{name}", explanation=HERE if name == "b" else None) for at, name in enumerate(LISTS[:5])
        ),
        "rules.1": (Feature("r1.0:found~b", frequency=0.1, mean=0.5),),
    }
)


def explained(program: Program, text: str, labels: Labels, told: str | None = None) -> str:
    words = tokenizer_for(program.d_vocab)
    return "".join(explain(program, words, labels, text, GREEDY, told)).removeprefix(KEY + "\n")


def test_the_reasons_of_a_program_written_by_hand() -> None:
    """After the a that stood before b, and among names: b, found by the first look of the second layer.

    That look weighs the b nine times as much as the four other positions; the feature votes 4 nats for b, the rule 2
    for a list in which e has 2.
    """
    assert explained(induction(), "abca", LABELS).splitlines() == [
        '"~b" after: abca',
        '  Its chance is 54.1%. Others: "~e" 14.7%, "~f" 14.7%, "~a" 2.1%.',
        '  With all features as on average it is 12.9%, +0.50 nats of that by what follows "~a" anywhere. Others: "~c" '
        "12.9%,",
        '      "~e" 9.6%, "~f" 9.6%.',
        "  Voting features on here: 2. With the 2 below as they are, and all others as on average, it is 53.4%, and "
        "the whole",
        "      answer the same within 0.1 nats:",
        "  +2.77  by m1.1:b, on with 0.692; without it 14.1%",
        '        when "~a" here, and "~b" 2 back (on at 75 of 100 such places); look 1.0 looks at "~b" 2 back (69% of '
        "its weight)",
        '  +0.00, "~e" +1.77  by r1.0:found~b, on with 0.492; without it 72.4%',
        "        adds up m1.1:b 0.79, m1.4:names 0.35 = 1.14, more than 1",
        "",
    ]


def test_where_a_condition_mostly_errs_terms_are_shown() -> None:
    moved = [
        replace(one, explanation=one.explanation and replace(HERE, precision=0.4)) for one in LABELS.features["moved.1"]
    ]
    lines = explained(induction(), "abca", Labels({**LABELS.features, "moved.1": tuple(moved)})).splitlines()
    assert lines[7] == '        look 1.0 looks at "~b" 2 back (69% of its weight: b 1.15) = 1.15, more than 1'


def test_a_feature_that_is_off_is_needed_where_it_is_often_on() -> None:
    """A rule that votes 1 nat for c, on at half of all places with 4, is off here, which the answer needs."""
    labels = Labels({"rules.0": (Feature("r0.0", frequency=0.5, mean=4.0), Feature("r0.1"))})
    assert explained(induction(), "", labels).splitlines() == [
        '"~a" begins the text',
        '  Its chance is 21.4%. Others: "~b" 7.9%, "~c" 7.9%, "~d" 7.9%.',
        '  With all features as on average it is 5.7%, +0.00 nats of that by what follows "<s>" anywhere. Others: "~c" '
        "42.5%,",
        '      "~b" 5.7%, "~d" 5.7%.',
        "  Voting features on here: 1. With the 1 below as they are, and all others as on average, it is 9.1%, and the "
        "whole",
        "      answer the same within 0.1 nats:",
        '  +0.00, "~c" -2.00  by r0.0, off, on average 2; without it 21.4%',
        "        adds up nothing = 0.00, not more than 1",
        "",
    ]


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ([], "nothing"),
        ([("word a", 2.0), ("r0.1:b", -3.0)], 'r0.1:b -1.50, "a" here 1.00'),
        ([("x", 4.0), ("y", 0.3), ("word a", 0.2)], "x 2.00, ... 2 more 0.25"),
        ([(f"x{at}", 2.0 - at / 8) for at in range(7)], "x0 1.00, x1 0.94, x2 0.88, x3 0.81, x4 0.75, ... 2 more 1.31"),
    ],
)
def test_terms_are_listed_largest_first_and_those_below_a_tenth_folded(terms: list, told: str) -> None:
    assert listed(terms, 2.0) == told


def text_read(parts: dict, tokens: list[int]) -> dict:
    text: dict = {"tokens": tokens, "past": [], "memory": {}}
    for position, token in enumerate(tokens):
        on, _ = rereading.read(parts, token, position, text["memory"])
        text["past"].append(on)
    return text


def listing_of(program: Program, labels: Labels | None = None) -> ReadableListing:
    return ReadableListing(program, token_words(tokenizer_for(program.d_vocab)), labels or Labels())


def some_text(program: Program, seed: int) -> NDArray[np.int64]:
    return tokens_for(program, seed)[0] if seed else tokens_of("abcabca")


@pytest.mark.parametrize("seed", range(6))
def test_what_is_said_without_a_feature_is_what_the_program_says_with_it_silent(seed: int) -> None:
    program = random_readable(seed) if seed else induction()
    tokens, listing = some_text(program, seed), listing_of(program)
    parts = rereading.prepared(parts_of(program, tokenizer_for(program.d_vocab), Labels()))
    text = text_read(parts, tokens.tolist())
    interpreter, changed = Interpreter(program, np.float64), 0
    whole = Stream(interpreter, 1, len(tokens))
    own, values = whole.extend(tokens[None])[0, -1], whole.values
    said = rereading.said(parts, text["past"][-1], int(tokens[-1]), len(tokens) - 1)
    assert np.abs(np.array(said) - own).max() < 1e-9
    for at, block in enumerate(program.blocks):
        names = listing.names[block.name] if listing.is_feature(block.name) else []
        for index, name in enumerate(names):
            silent = values[at].copy()
            silent[:, index] = 0.0
            expected = Stream(interpreter, 1, len(tokens)).resume(tokens[None], [*values[:at], silent])[0, -1]
            assert np.abs(np.array(rereading.said_without(parts, text, name)) - expected).max() < 1e-9, name
            changed += bool(np.abs(expected - own).max() > 1e-6)
    assert changed > 2


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tolerance", [0.0, 0.01, 0.1])
def test_the_voters_needed_are_those_that_readability_counts(seed: int, tolerance: float) -> None:
    program = random_readable(seed) if seed else induction()
    tokens, listing, voters = some_text(program, seed), listing_of(program), voters_of(program)
    variables = Interpreter(program, np.float64).variables(tokens)
    names = [name for variable in voters.variables for name in listing.names[variable]]
    mean = np.random.default_rng(seed).uniform(0, 0.5, len(voters.places))
    apart = voters.values(variables)[-1] - mean
    answer = variables[program.vote.name][-1]
    expected = kept_greedily(answer, apart, voters.votes, tolerance, least=0)
    own = [names[at] for at in voters.places]
    ballots = rereading.prepared(parts_of(program, tokenizer_for(program.d_vocab), Labels()))["ballots"]
    usual, needed, kept = few_voters(answer.tolist(), dict(zip(own, apart, strict=True)), ballots, tolerance)
    assert len(needed) == len(expected) - 1
    assert kl_nats(answer, np.array(usual)) == pytest.approx(expected[0], abs=1e-9)
    assert kl_nats(answer, np.array(kept)) == pytest.approx(expected[-1], abs=1e-9)


def test_means_are_those_over_the_text_that_features_were_named_on() -> None:
    labels = LABELS.features["rules.1"][0]
    assert reasons.means_of(listing_of(induction(), LABELS)) == {"r0.0:a~then~b": 0.5, "r1.0:found~b": 0.05}
    assert labels.frequency * labels.mean == 0.05


TEXT = [0, 7, 1, 8, 2, 9, 1]
"""<s> " a . b “ a"""


@pytest.mark.parametrize(
    ("term", "told"),
    [
        (WordAt((Word(1, "~a"),)), '"~a" here'),
        (WordAt((Word(2, "~b"), Word(1, "~a")), back=2), '"~b" 2 back'),
        (WordAt((Word(2, "~b"),), back=1), ""),
        (WordAt((Word(2, "~b"),), back=1, negated=True), "not: ~b 1 back"),
        (WordAt((Word(2, "~b"),), back=8), ""),
        (WordEarlier((Word(1, "~a"), Word(2, "~b"))), '"~b" 2 back'),
        (WordEarlier((Word(1, "~a"),), reach="sentence"), ""),
        (WordEarlier((Word(1, "~a"),), reach="sentence", negated=True), "not: ~a in this sentence"),
        (WordEarlier((Word(2, "~b"),), reach="quote"), '"~b" 2 back'),
        (WordEarlier((Word(1, "~a"),), reach=3), ""),
        (WordEarlier((Word(1, "~a"),), reach=4), '"~a" 4 back'),
        (InQuotes(), "the quote opened '\"' 5 back"),
        (InQuotes(negated=True), ""),
        (IntoSentence(2), "2 words of the sentence stand before this one"),
        (IntoSentence(3), ""),
        (IntoSentence(3, negated=True), "2 words of the sentence stand before this one"),
        (Repeated(), '"~a" 4 back'),
        (Repeated(negated=True), ""),
    ],
)
def test_what_makes_a_condition_true_is_shown_with_its_distance(term: Term, told: str) -> None:
    words = token_words(quoting_tokenizer())
    condition = Condition(((WordAt((Word(3, "~c"),)),), (term,)))
    text = read_text(TEXT, quoting_tokenizer(), words)
    assert why_true(conditions.spelt(condition, words), text) == told
    assert bool(told) == holds(condition, TEXT, len(TEXT) - 1, marks_of(quoting_tokenizer()))


def run(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd="/")


@pytest.mark.parametrize("labels", [Labels(), LABELS], ids=["no labels", "labels"])
def test_the_file_alone_and_the_room_say_the_same(
    labels: Labels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    room = write_small_room(tmp_path / "room", induction(), labels=labels)
    for options in (["abca", "--greedy", "--max-tokens", "3"], ["ab", "--told", "cade"]):
        alone = run(room / "program.py", "--explain", *options)
        assert alone.returncode == 0, alone.stderr
        assert alone.stdout.startswith(KEY)
        assert alone.stdout.count(" after: ") == 3 + ("--told" in options)
        assert main(["talk", str(room), "--explain", *options]) == 0
        assert capsys.readouterr().out.rstrip("\n") == alone.stdout.rstrip("\n")


@pytest.mark.parametrize("seed", range(1, 5))
def test_file_and_room_say_the_same_of_any_program(seed: int, tmp_path: Path) -> None:
    """With large tables beside the file, too."""
    program = random_readable(seed)
    words = tokenizer_for(program.d_vocab)
    (tmp_path / "program.py").write_text(write_emitted(tmp_path, program).read_text())
    told = "".join(words.pieces[at].decode() for at in tokens_for(program, seed)[0] if at)[: program.n_ctx - 1]
    alone = run(tmp_path / "program.py", "--told", told)
    assert alone.returncode == 0, alone.stderr
    assert alone.stdout.rstrip("\n") == (KEY + "\n" + explained(program, "", Labels(), told)).rstrip("\n")


def test_it_fits_a_screen_and_escapes_what_does_not_print(tmp_path: Path) -> None:
    program, long = induction(), "x" * 300
    labels = Labels({"rules.1": (Feature(long),), "moved.1": tuple(Feature(f"{long}{at}") for at in range(5))})
    words = replace(WORDS, pieces=(*WORDS.pieces[:2], b"\x1b[2J\n", "\u202e\u2028".encode(), *WORDS.pieces[4:]))
    found = "".join(explain(program, words, labels, "abca"[:1], TalkOptions(seed=1, max_tokens=7)))
    for one in found.split("\n\n"):
        assert len(one.splitlines()) <= 40
    assert all(len(line) <= 120 and line.isprintable() for line in found.splitlines())
    assert "after: a" in found


def test_those_that_do_not_fit_a_screen_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("englishroom.emit.prelude.reasons.MOST_LINES", 9)
    assert explained(induction(), "abca", LABELS).splitlines()[8:] == ["  and 1 more: r1.0:found~b +0.00", ""]


def test_nothing_is_explained_that_the_program_does_not_say(tmp_path: Path) -> None:
    names = run_file(write_emitted(tmp_path, induction()))
    size = names["D_VOCAB"]
    names["step"] = lambda _token, _position, _memory: [0.0] * size
    with pytest.raises(SystemExit, match=r"at position 0 the program differs by .* nats from what is explained"):
        names["main"](["abc", "--explain"])
