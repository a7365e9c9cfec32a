"""Labels come from what is seen on text: checked against a plain count, and on features whose meaning is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from englishroom.inside.evidence import BEFORE, FURTHER, HERE, gather
from englishroom.inside.grouping import CLASSES, Profile, classes_of, group_of
from englishroom.inside.labelling import LONGEST, label
from englishroom.interp.recorded_run import RecordedRun
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.labels import check_labels, labels_from_json
from englishroom.ir.program import Match, Program, Rules, SparseTable
from staged import D_VOCAB, N_CTX, N_RULES, PIECES, rows, staged, tokenizer

PROGRAM, ROWS = staged(0), rows(20)


@pytest.mark.parametrize("turned", [False, True])
def test_every_feature_has_a_short_name_of_its_own_and_its_evidence(turned: bool) -> None:
    program = staged(0, turned=turned)
    labels = label(program, tokenizer(), ROWS, "random")
    assert check_labels(labels, program) is labels
    assert labels_from_json(labels.to_json()) == labels
    assert {"words", "places", "always", "brought.0", "moved.0", "rules.0", "said"} <= labels.features.keys()
    assert labels.about["positions"] == 20 * N_CTX
    for features in labels.features.values():
        names = [feature.label for feature in features]
        assert len(set(names)) == len(names)
        for feature in features:
            assert len(feature.label) <= LONGEST + 6
            assert feature.label.isprintable()
            assert feature.label.isprintable()
            assert " " not in feature.label
            assert not feature.label.isdigit()
    assert all(feature.group for feature in labels.features["rules.1"])


def test_the_same_text_gives_the_same_names() -> None:
    assert label(PROGRAM, tokenizer(), ROWS).to_json() == label(PROGRAM, tokenizer(), ROWS).to_json()


def test_what_is_counted_is_what_the_interpreter_says() -> None:
    evidence = gather(PROGRAM, ROWS)
    interpreter = Interpreter(PROGRAM, np.float64)
    values = np.concatenate([interpreter.variables(row)["rules.1"] for row in ROWS])
    tokens = np.concatenate(ROWS)
    seen = evidence.seen["rules.1"]
    assert np.allclose(seen.frequency, (values > 0).mean(0))
    assert np.allclose(seen.mean, values.sum(0) / np.maximum((values > 0).sum(0), 1), atol=1e-4)
    by_token = np.zeros((D_VOCAB, N_RULES))
    np.add.at(by_token, tokens, values)
    assert np.allclose(seen.by_token.toarray(), by_token, atol=1e-4)


def test_what_excites_a_rule_adds_up_to_its_strength() -> None:
    """Where a rule fires, the parts from features, its constant and its bias make up what it passes on."""
    evidence = gather(PROGRAM, ROWS)
    block = next(b for b in PROGRAM.blocks if b.name == "rules.0")
    assert isinstance(block, Rules)
    assert block.biases is not None
    seen = evidence.seen["rules.0"]
    interpreter = Interpreter(PROGRAM, np.float64)
    variables = [interpreter.variables(row) for row in ROWS]
    always = block.conditions.dense()[:, -2]
    constant = np.concatenate([v["rules.0.seen"][:, -2:-1] for v in variables]) * always + block.biases.values
    fires = np.concatenate([v["rules.0"] for v in variables]) > 0
    parts = sum(np.asarray(part.sum(1)).ravel() for part in seen.excited.values())
    times = np.maximum(fires.sum(0), 1)
    alone = (constant * fires).sum(0) / times
    on = fires.any(0)
    assert on.any()
    assert np.allclose((parts + alone)[on], seen.mean[on], atol=1e-4)


def test_what_heads_bring_is_followed_to_its_tokens() -> None:
    evidence = gather(PROGRAM, ROWS)
    interpreter = Interpreter(PROGRAM, np.float64)
    block = next(b for b in PROGRAM.blocks if b.name == "brought.1")
    rules = next(b for b in PROGRAM.blocks if b.name == "moved.1")
    assert isinstance(block, Match)
    assert isinstance(rules, Rules)
    assert block.moves is not None
    conditions = rules.conditions.dense()[:, : PROGRAM.space(block.space).size]
    origins, back = np.zeros((D_VOCAB, N_RULES)), np.zeros((3, N_RULES))
    for row in ROWS:
        variables = interpreter.variables(row)
        looks = RecordedRun(interpreter, row).weights[block.name]
        brought = np.zeros_like(variables["brought.1"])
        for weights, moves in zip(looks, block.moves, strict=True):
            assert isinstance(moves, SparseTable)
            values = variables[block.values] @ moves.dense()
            brought += weights @ values
            for here in range(len(row)):
                for there in range(here + 1):
                    parts = np.maximum(weights[here, there] * conditions @ values[there], 0)
                    parts *= variables["moved.1"][here] > 0
                    origins[row[there]] += parts
                    back[{0: HERE, 1: BEFORE}.get(here - there, FURTHER)] += parts
        assert np.allclose(brought, variables["brought.1"], atol=1e-5)
    seen = evidence.seen["moved.1"]
    assert seen.origins is not None
    assert seen.back is not None
    assert np.allclose(seen.origins, origins, atol=1e-3)
    assert np.allclose(seen.back, back, atol=1e-3)


def test_importance_is_by_votes_and_handed_on_to_what_excites() -> None:
    evidence = gather(PROGRAM, ROWS)
    for name, importance in evidence.importance.items():
        assert (importance >= evidence.direct[name] - 1e-9).all()
    assert np.array_equal(evidence.importance["rules.1"], evidence.direct["rules.1"])
    assert evidence.importance["words"].sum() > evidence.direct["words"].sum()
    edges, words = evidence.votes_for["rules.1"]
    chance = (evidence.counts + 0.5) / (evidence.counts + 0.5).sum()
    votes = (edges @ words).toarray()
    spread = (votes**2 @ chance) - (votes @ chance) ** 2
    never = evidence.seen["rules.1"].frequency == 0
    assert (evidence.direct["rules.1"][never] == 0).all()
    assert (evidence.direct["rules.1"][~never & (spread > 1e-6)] > 0).all()


def silent(program: Program) -> Program:
    """Raise what a rule asks for beyond anything."""
    blocks = []
    for block in program.blocks:
        if isinstance(block, Rules) and block.name == "rules.1":
            values = block.thresholds.values.copy()
            values[3] = 1e6
            block = replace(block, thresholds=replace(block.thresholds, values=values))
        blocks.append(block)
    return replace(program, blocks=tuple(blocks))


def test_a_rule_that_never_fires_says_so() -> None:
    feature = label(silent(PROGRAM), tokenizer(), ROWS).features["rules.1"][3]
    assert feature.label.startswith("r1:never")
    assert feature.group == "never on in the text"
    assert feature.importance == feature.frequency == 0.0


def profile(**changes: object) -> Profile:
    none = np.zeros(len(CLASSES))
    plain = Profile(0.1, 1.0, none, 0.0, 0.0, {}, none, np.zeros(3), 0.0)
    return replace(plain, **changes)


def of_class(name: str) -> np.ndarray:
    return np.eye(len(CLASSES))[CLASSES.index(name)]


@pytest.mark.parametrize(
    ("changes", "group"),
    [
        ({"frequency": 0.0}, "never on in the text"),
        ({"opening": 0.6}, "position and opening"),
        ({"excited": {"place": 0.6}}, "position and opening"),
        ({"votes_for": of_class("continuation")}, "goes on with a word"),
        ({"votes_for": of_class("quote")}, "speech"),
        ({"votes_for": of_class("punctuation")}, "punctuation and ends of sentences"),
        ({"votes_for": of_class("name")}, "names"),
        ({"votes_for": of_class("name"), "direct": 0.1, "few": 0.6}, "after a word, a word"),
        ({"origins": of_class("word"), "again": 0.6}, "says again what stood earlier"),
        ({"origins": of_class("word"), "back": np.eye(3)[HERE]}, "brought from the word itself"),
        ({"origins": of_class("word"), "back": np.eye(3)[BEFORE]}, "brought from the word before"),
        ({"origins": of_class("name"), "back": np.eye(3)[FURTHER]}, "names brought from further back"),
        ({"origins": of_class("word"), "back": np.eye(3)[FURTHER]}, "brought from further back"),
        ({"excited": {"moved": 0.6}}, "what stood earlier"),
        ({"excited": {"rules": 0.6}}, "rules that read rules"),
        ({"excited": {"word": 0.6}}, "after a kind of word"),
        ({}, "several things at once"),
    ],
)
def test_a_rule_is_in_the_first_group_whose_criterion_it_meets(changes: dict, group: str) -> None:
    assert group_of(profile(**changes)) == group


def test_tokens_are_sorted_by_spelling_and_by_where_they_stand() -> None:
    at = PIECES.index
    said = [
        0,
        at(b" the"),
        at(b" Lily"),
        at(b" ran"),
        at(b"ing"),
        at(b"."),
        at(b" once"),
        at(b"once"),
        at(b'"'),
        at(b"Lily"),
    ]
    classes = [CLASSES[number] for number in classes_of(tokenizer(), [np.array(said)])]
    assert classes[at(b" Lily")] == "name"
    assert classes[at(b"ing")] == "continuation"
    assert classes[at(b"once")] == "continuation"
    assert classes[at(b" once")] == "word"
    assert classes[at(b".")] == "punctuation"
    assert classes[at(b'"')] == "quote"
    assert classes[at(b"Lily")] == "word"
