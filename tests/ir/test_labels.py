"""Labels: names with a fallback, a file that reads back to the same, and clear words for files that do not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from englishroom.errors import ArtifactError
from englishroom.ir.condition import Condition, Word, WordAt
from englishroom.ir.labels import Explanation, Feature, Labels, check_labels, labels_from_json, load_labels
from englishroom.ir.program import Lookup, Program, Space, Table, Vote
from englishroom.names import LABELS
from englishroom.store import SCHEMA_VERSION, Manifest, write_room

SHE = Feature("word:she/her", "word", 0.5, 0.25, 1.5, (("she", 1.0), ("\\x1b", 0.5)), (), (("it", -1.0),))
EXPLAINED = Explanation(Condition(((WordAt((Word(1, "she"),)),),)), 1.5, 1.0, 0.5, 0.7)
FOUND = Labels({"words": (SHE, Feature("word:é", explanation=EXPLAINED))}, {"text": "stories", "positions": 12})


def program(size: int = 2) -> Program:
    table = Table("words.table", np.zeros((size, size), np.float32))
    blocks = (
        Lookup(name="words", space="words", index="token", table=table),
        Vote(name="log_probs", space="words", reads=("words",)),
    )
    return Program("exact", 4, (Space("words", size),), blocks)


def room(folder: Path, files: dict[str, bytes]) -> Path:
    write_room(
        folder,
        files.items(),
        lambda _: Manifest(SCHEMA_VERSION, "sparse", {"name": "t"}, {}, 0, [], {}, {}),
    )
    return folder


def test_a_feature_is_called_by_its_label_or_by_its_number() -> None:
    assert FOUND.of("words", 0) == "word:she/her"
    assert FOUND.of("words", 2) == "words[2]"
    assert FOUND.of("words", -1) == "words[-1]"
    assert FOUND.of("rules.0", 7) == "rules.0[7]"
    assert FOUND.feature("words", 0) is SHE
    assert FOUND.feature("rules.0", 0) is None


def test_the_file_reads_back_to_the_same_labels() -> None:
    assert labels_from_json(FOUND.to_json()) == FOUND
    assert labels_from_json(Labels().to_json()) == Labels()
    assert FOUND.to_json().isascii()


def test_labels_of_a_room_are_read_through_its_manifest(tmp_path: Path) -> None:
    assert load_labels(room(tmp_path / "with", {LABELS: FOUND.to_json()}), program()) == FOUND
    assert load_labels(room(tmp_path / "without", {}), program()) == Labels()
    (tmp_path / "with" / LABELS).write_bytes(b"{}")
    with pytest.raises(ArtifactError, match=r"labels.json: changed since the room was written"):
        load_labels(tmp_path / "with", program())


def edited(**changes: object) -> bytes:
    values = json.loads(FOUND.to_json())
    values["features"]["words"][1] |= changes
    return json.dumps(values).encode()


def hostile(text: str) -> dict[str, object]:
    """Return the explanation as plain data, with another text of its word."""
    plain = json.loads(FOUND.to_json())["features"]["words"][1]["explanation"]
    plain["condition"]["alternatives"][0][0]["words"][0]["text"] = text
    return plain


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", r"here: the whole text: Invalid JSON: .*; make it again with englishroom label"),
        (b"{}", r"here: about: Field required; make it again"),
        (edited(colour="red"), r"here: features.words.1.colour: Unexpected keyword argument"),
        (edited(mean="high"), r"here: features.words.1.mean: Input should be a valid number"),
        (edited(mean=float("nan")), r"here: features.words.1.mean: Input should be a finite number"),
        (edited(explanation={"condition": 1}), r"words.1.explanation.condition: Input should be an object"),
        (edited(explanation=hostile("a\x1b")), r"words.1.explanation.* Value error, the text 'a\\x1b' of token 1"),
        (edited(label=""), r"here: words\[1\]: label is empty, expected one of its own"),
        (edited(label="word:she/her"), r"here: words\[1\]: label is 'word:she/her', which stands there before"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(data: bytes, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        labels_from_json(data, "here")


def test_labels_of_another_program_are_refused() -> None:
    assert check_labels(FOUND, program()) is FOUND
    with pytest.raises(ArtifactError, match=r"labels.json: 2 labels for words, expected 3; make it again"):
        check_labels(FOUND, program(3))
    with pytest.raises(ArtifactError, match=r"labels.json: 1 labels for stars, expected a variable of the program"):
        check_labels(Labels({"stars": (SHE,)}), program())


def test_a_condition_of_another_vocabulary_is_refused() -> None:
    labels = Labels({"words": (Feature("a", explanation=EXPLAINED),)})
    with pytest.raises(ArtifactError, match=r"words\[0\]: its condition has the token 1, expected less than 1"):
        check_labels(labels, program(1))


def test_explanations_are_exchanged_as_a_whole() -> None:
    moved = FOUND.explained({("words", 0): EXPLAINED}, {"explained_on": "more"})
    assert moved.explanations == {("words", 0): EXPLAINED}
    assert moved.about == {"text": "stories", "positions": 12, "explained_on": "more"}
    assert b"explanation" not in Labels({"words": (SHE,)}).to_json()
