"""Labels of a readable program that was set by hand: they say what was put in; and what silencing its parts changes."""

from __future__ import annotations

import numpy as np
import pytest

from englishroom.inside import readable_labels
from englishroom.inside.labelling import label
from englishroom.inside.silencing import parts_of, silent_nats
from englishroom.ir.labels import Feature, Labels, labels_from_json, silent_key
from programs import tokenizer_for
from readable import WORDS, induction, tokens

ROWS = [tokens("abcabca"), tokens("ecabdab"), tokens("bcdabca"), tokens("dabeabc")]


def labels() -> Labels:
    return label(induction(), tokenizer_for(len(WORDS)), ROWS, "a text")


def test_features_are_named_by_what_they_are_without_the_name_of_another() -> None:
    """What is moved comes from the word; the rule is on where a b stands, behind an a, and votes for c."""
    found = labels()
    moved = [feature.label for feature in found.features["moved.0"]]
    assert moved == ["m0.0:~a@1", "m0.1:~b@1", "m0.2:~c@1", "m0.3:~d@1"]  # one word back
    rule = found.features["rules.0"][0]
    assert rule.label == "r0.0:~b"
    n_on = sum("".join(WORDS[t] for t in row[1:]).count("ab") for row in ROWS)
    assert abs(rule.frequency - n_on / sum(map(len, ROWS))) < 1e-4
    assert [word for word, _ in rule.votes][:1] == ["~c"]
    assert rule.votes[0][1] > 0.5
    assert found.features["rules.0"][1].group == "the opening of a text"
    assert found.features["position_basis"][0].label == "place:0"
    assert "lists" not in found.features


def test_names_say_where_words_are_found_and_that_many_share_a_feature() -> None:
    features = [
        Feature("", tokens=(("she", 0.6), ("her", 0.2)), back=(1, 1, 2)),
        Feature("", tokens=(("she", 0.5), ("it", 0.05)), back=(3, 9, 30)),
        Feature("", tokens=(("a", 0.09), ("the", 0.08), ("an", 0.04))),
        Feature(""),
    ]
    assert readable_labels._names("m0", features) == ["m0.0:she/her@1", "m0.1:she@3..30", "m0.2:a/the/..", "m0.3"]


def test_shares_of_firings_are_those_counted_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the six b, five stand behind an a, four of them with a word behind; the sixth begins a text, before c."""
    assert labels().features["rules.0"][0].follows[0][2] is None  # one b elsewhere is too few to tell
    monkeypatch.setattr("englishroom.inside.firings.ENOUGH", 1)
    rule = labels().features["rules.0"][0]
    rows = ["".join(WORDS[t] for t in row[1:]) for row in ROWS]
    n_on, n_b = sum(row.count("ab") for row in rows), sum(row.count("b") for row in rows)
    assert rule.tokens == (("~b", 1.0),)
    assert rule.of_all == (float(f"{n_on / n_b:.4g}"),)
    behind = [row[at + 2] for row in rows for at in range(len(row) - 2) if row[at : at + 2] == "ab"]
    assert rule.follows[0] == ("~c", float(f"{behind.count('c') / len(behind):.4g}"), 1.0)
    assert {word for word, *_ in rule.follows} == {f"~{word}" for word in behind}
    assert all("a[b] -> ~" in example for example in rule.examples)
    assert rule.near_miss == "<s>[b] -> ~c"


def test_moved_features_show_what_they_find() -> None:
    feature = labels().features["moved.0"][0]
    assert feature.tokens == (("~a", 1.0),)
    assert all("{a}[" in example for example in feature.examples)


def test_moved_features_say_how_far_back_they_find() -> None:
    """The look looks at the word before, with three quarters of its weight, and that is asked for: above 0.5."""
    assert [feature.back for feature in labels().features["moved.0"]] == [(1, 1, 1)] * 4


def test_labels_are_kept_as_they_are() -> None:
    found = labels()
    assert labels_from_json(found.to_json()) == found


def test_a_silent_part_is_read_as_zero() -> None:
    program, found = induction(), labels()
    parts = parts_of(program, found)
    nats = silent_nats(program, parts, ROWS)
    assert set(nats) == set(parts)
    assert nats[silent_key("rules.0", "the opening of a text")] <= nats[silent_key("rules.0")]
    assert nats[silent_key("moved.1", "look 0")] > 0.1
    nothing = {"none": ("follows", np.zeros(len(WORDS), bool))}
    assert silent_nats(program, nothing, ROWS)["none"] < 1e-9


def test_only_readable_rooms_get_what_was_silenced() -> None:
    about = {silent_key("rules.0"): 0.25}
    assert Labels({}, about).silent_nats("rules.0") == 0.25
    assert Labels({}, about).silent_nats("rules.0", "names") is None
