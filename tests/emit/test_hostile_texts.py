"""No text that a room holds becomes code in a file that is written: no label, group, token, name or summary line."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emitted_tables import looked_into
from englishroom.emit.python import Header, emit
from englishroom.errors import ArtifactError
from englishroom.inside.labelling import label
from englishroom.interp import reference
from englishroom.ir.condition import Condition, Word, WordAt
from englishroom.ir.labels import Explanation, Feature, Labels, labels_from_json
from englishroom.ir.program import Origin, Program
from englishroom.ir.room import pack
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.wording import as_word, comment, docstring, escaped
from englishroom.names import PROGRAM, TABLES
from englishroom.sketch.write import Tables, source
from englishroom.store import sha256
from englishroom.talkers.ngrams.emit import spell_program
from programs import run_file, tokenizer_for
from readable import induction, tokens
from staged import D_VOCAB, N_RULES, rows, staged, tokenizer

TOKENS = rows()[0].tolist()
RAN = 'open("ran", "w")'
HOSTILE = {
    "the group of the issue": f'x\n""" + str({RAN}) + r"""\n#',
    "on one line": f'""" + str({RAN}) + r"""',
    "as an escape": f'\\n\\"\\"\\" + str({RAN}) + \\x22\\x22\\x22',
    "a string that ends": f'"; {RAN}; "',
    "a single string that ends": f"'; {RAN}; '",
    "a triple string of the other kind": f"''' + str({RAN}) + '''",
    "a comment that ends": f"\n{RAN}\n#",
    "a carriage return": f"\r{RAN}\r#",
    "a form feed and a line": f"\x0c\n{RAN}\n#\x0b\x1c\x1d\x1e\x85",
    "line and paragraph separators": f"\u2028{RAN}\u2029{RAN}",
    "a text that turns round": f"\u202e{RAN}\u2066",
    "NUL": f"\x00{RAN}",
    "surrogates": f"\ud800{RAN}\udfff",
    "a backslash at the end": "x\\",
    "quotes at the end": 'x"',
    "only quotes": '"' * 9,
    "an f-string": "{" + RAN + "}",
    "another encoding": "# -*- coding: utf-16 -*-",
    "parts of a rule": "| > # -1 loudness +1",
    "spaces that are none": "a\xa0b\u3000c\u2003d",
    "very long": f'x"""{RAN}' * 20_000,
    "nothing": "",
    "another alphabet": "דבר слово 物語",
}
EACH = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


def labels_with(text: str) -> Labels:
    """Put a text into every place of the labels of a program."""
    scores = ((text, 1.0), (f"{text}2", -0.5))
    rules = tuple(Feature(f"{i}{text}", text, 1.0 - i / 100, 0.5, 1.0, scores, scores, scores) for i in range(N_RULES))
    word = Feature(text or "none", text, 1.0, 0.5, 1.0, scores, scores, scores)
    words = tuple(replace(word, label=f"{text}{i}") for i in range(20))
    return Labels({"rules.0": rules, "moved.0": rules, "words": words, "always": (word,)}, {"text": text})


def program_with(text: str) -> Program:
    """Put a text into every origin of a program."""
    program = staged(2)
    origin = Origin(text, (text, text))
    return replace(program, blocks=tuple(replace(block, origin=origin) for block in program.blocks))


def tokenizer_with(text: str) -> Tokenizer:
    """Put a text into the vocabulary, as a word that begins with a space and as one that does not."""
    own = tokenizer()
    piece = text.encode("utf-8", "surrogatepass")
    return replace(own, pieces=(*own.pieces[:-2], piece, b" " + piece))


def shape_of(text: str) -> str:
    """Return the code of a file up to its constants."""
    module = ast.parse(text)
    for node in ast.walk(module):
        if isinstance(node, ast.Constant):
            node.value, node.kind = None, None
        if isinstance(node, ast.Tuple | ast.List) and all(isinstance(part, ast.Constant) for part in node.elts):
            node.elts = []
    return ast.dump(module)


def written(folder: Path, text: str) -> str:
    """Emit a program with a text in all places, beside its tables."""
    program, words = program_with(text), tokenizer_with(text)
    files = pack(program, words)
    (folder / TABLES).write_bytes(files[TABLES])
    file = emit(program, words, Header(text, (text, f"{text} {text}")), sha256(files[TABLES]), labels_with(text))
    (folder / PROGRAM).write_bytes(file.text.encode())
    return file.text


@EACH
def test_no_text_becomes_code_in_a_sparse_program(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    harmless = written(tmp_path, "harmless")
    found = written(tmp_path, text)
    assert shape_of(found) == shape_of(harmless)
    assert found.replace("\n", " ").isprintable()
    answers, _ = looked_into(tmp_path / PROGRAM, TOKENS)
    assert np.abs(np.array(answers) - reference.log_probs(staged(2), TOKENS)).max() < 1e-9
    assert not Path("ran").exists()
    assert not Path("/ran").exists()


@EACH
def test_no_text_becomes_code_in_a_readable_program(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def readable(with_text: str) -> str:
        scores, word = ((with_text, 1.0),), Word(1, as_word(with_text))
        when = Explanation(Condition(((WordAt((word,), 0),),)), 1.0, 0.5, 0.5, 0.5)
        feature = Feature(with_text or "none", with_text, 1.0, 0.5, 1.0, scores, scores, scores, when)
        sizes = {"lists": 6, "moved.0": 4, "moved.1": 5, "rules.0": 2, "rules.1": 1}
        labels = {n: tuple(replace(feature, label=f"{with_text}{i}") for i in range(sizes[n])) for n in sizes}
        origin = Origin(with_text, (with_text, with_text))
        program = induction()
        program = replace(program, blocks=tuple(replace(block, origin=origin) for block in program.blocks))
        words = tokenizer_for(12)
        piece = with_text.encode("utf-8", "surrogatepass")
        words = replace(words, pieces=(*words.pieces[:-2], piece, b" " + piece))
        files = pack(program, words)
        (tmp_path / TABLES).write_bytes(files[TABLES])
        header = Header(with_text, (with_text, f"{with_text} {with_text}"))
        file = emit(program, words, header, sha256(files[TABLES]), Labels(labels, {"text": with_text}))
        (tmp_path / PROGRAM).write_bytes(file.text.encode())
        return file.text

    monkeypatch.chdir(tmp_path)
    harmless = readable("harmless")
    found = readable(text)
    assert shape_of(found) == shape_of(harmless)
    assert found.replace("\n", " ").isprintable()
    read = tokens("abcabca").tolist()
    answers, _ = looked_into(tmp_path / PROGRAM, read)
    assert np.abs(np.array(answers) - reference.log_probs(induction(), read)).max() < 1e-9
    assert not Path("ran").exists()


@EACH
def test_no_text_becomes_code_in_a_sketch(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sketch(with_text: str) -> str:
        table = {"a": {"b": 2}}
        header = [with_text, f"{with_text} {with_text}"]
        return source(Tables({"@a": {"a": 1}}, {"last": table}), header, {"last": with_text}, 3, 8)

    monkeypatch.chdir(tmp_path)
    found = sketch(text)
    assert shape_of(found) == shape_of(sketch("harmless"))
    assert found.replace("\n", " ").isprintable()
    exec(compile(found, "sketch.py", "exec"), {"__name__": "sketch"})
    assert not Path("ran").exists()


@EACH
def test_no_text_becomes_code_in_a_program_of_ngrams(text: str) -> None:
    def program(with_text: str) -> str:
        step = "\ndef new_memory():\n    return []\n\n\ndef step(token, position, memory):\n    return [math.pi]\n"
        words = tokenizer_with(with_text)
        return spell_program([with_text, with_text], step, ("rows",), "", words, 4, "0" * 64)

    found = program(text)
    assert shape_of(found) == shape_of(program("harmless"))
    assert found.replace("\n", " ").isprintable()


@EACH
def test_the_escape_is_one_line_and_its_own_escape(text: str) -> None:
    line = escaped(text)
    assert line.isprintable()
    assert escaped(line) == line
    assert ast.parse(f"{comment(text)}\nx = 1").body[0].lineno == 2  # type: ignore[attr-defined]
    assert len(ast.parse(docstring([text, text])).body) == 1
    assert as_word(text).split() == [as_word(text)]


def test_names_in_other_alphabets_are_shown(tmp_path: Path) -> None:
    found = written(tmp_path, "דבר")
    assert "\n# דבר: 12, worth" in found
    assert "A program that talks: דבר, decompiled" in found
    assert "\\u05d" not in found.partition("PIECES")[0]
    names = run_file(tmp_path / PROGRAM)
    assert names["spelt"](names["TOKENIZER"], D_VOCAB - 1) == "' דבר'"


def test_features_of_other_alphabets_are_named_in_them() -> None:
    found = label(staged(2), tokenizer_with("ז"), rows(), "random")
    named = [feature.label for features in found.features.values() for feature in features]
    assert any("ז" in name for name in named)
    assert not any("\\u05d6" in name for name in named)
    assert labels_from_json(found.to_json()) == found


@pytest.mark.parametrize("place", ["label", "group", "tokens", "contexts", "votes"])
@pytest.mark.parametrize("text", ["a\nb", "\x1b[31m", "\u202e", "\u2028", "\x00", "x" * 100_000 + "\r"])
def test_labels_that_do_not_print_are_refused_in_one_short_line(place: str, text: str) -> None:
    feature = {"label": "fine", place: text if place in ("label", "group") else [[text, 1.0]]}
    data = json.dumps({"about": {}, "features": {"rules.0": [{"label": "first"}, feature]}}).encode()
    with pytest.raises(ArtifactError, match=r"^labels.json: rules.0\[1\]: .* does not print, expected") as error:
        labels_from_json(data)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400


def test_the_vocabulary_has_places_for_the_texts() -> None:
    assert len(tokenizer_with("x").pieces) == D_VOCAB
