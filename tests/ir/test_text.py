"""The text form: what is printed parses back to an equal program, and whatever else is refused in one line."""

from __future__ import annotations

import random
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from englishroom.errors import ArtifactError
from englishroom.ir.program import Lookup, Normalise, Origin, Program, Space, SparseTable, Table, Vote
from englishroom.ir.text import parse_code, parse_program, print_code, print_program
from englishroom.ir.verify import verify
from programs import programs

GOOD = """\
Program(level='featured', n_ctx=2)
Space('vocab', 3)
Lookup('embed', 'vocab', index='token', table=Table('W'), origin=Origin('lift', 'wte.weight', 'the rest'))
Linear('logits', 'vocab', reads='embed', weight=Table('M'), bias=None, transposed=True, origin=Origin('lift'))
Select('few', 'vocab', reads='logits', k=2, thresholds=None, origin=Origin('lift'))
Vote('log_probs', 'vocab', reads=('few',), origin=Origin('lift'))
Dense('W', 'float32', (3, 3), '0.5 1.0 -2.0 0.0 0.0 0.125 3.0 4.0 5.0')
Sparse('M', 'int64', 'int32', 'float64', 3, '0 1 1 2', '2 0', '0.25 -0.125')
"""


@given(programs())
@settings(deadline=None, max_examples=60)
def test_what_is_printed_parses_back(program: Program) -> None:
    text = print_program(program)
    assert parse_program(text) == program
    assert print_program(parse_program(text)) == text
    assert parse_code(print_code(program), program.tables()) == program


def test_the_text_form_is_as_documented() -> None:
    program = parse_program(GOOD)
    assert verify(program) == []
    assert print_program(program) == GOOD
    assert program.tables()["W"] == Table("W", np.array([[0.5, 1, -2], [0, 0, 0.125], [3, 4, 5]], dtype=np.float32))
    starts, columns = np.array([0, 1, 1, 2]), np.array([2, 0], dtype=np.int32)
    assert program.tables()["M"] == SparseTable("M", starts, columns, np.array([0.25, -0.125]), 3)


def test_lines_may_be_blank_and_tables_may_stand_anywhere() -> None:
    lines = GOOD.splitlines()
    assert parse_program("\n\n".join([*lines[6:], *lines[:6]])) == parse_program(GOOD)


@given(st.data(), st.sampled_from([np.float32, np.float64]))
@settings(deadline=None, max_examples=60)
def test_numbers_keep_every_bit(data: st.DataObject, dtype: type) -> None:
    width = 32 if dtype is np.float32 else 64
    numbers = data.draw(st.lists(st.floats(width=width, allow_nan=False), min_size=3, max_size=30))
    values = np.array(numbers[: len(numbers) // 3 * 3], dtype=dtype).reshape(-1, 3)
    lookup = Lookup(name="x", space="s", index="position", table=Table("t", values))
    program = Program("exact", len(values), (Space("s", 3),), (lookup, Vote(name="v", space="s", reads=("x",))))
    read = parse_program(print_program(program)).tables()["t"].values
    assert read.dtype == values.dtype
    assert read.tobytes() == values.tobytes()


@given(st.floats(0, allow_nan=False, allow_infinity=False), st.lists(st.text(st.characters()), max_size=3))
@settings(deadline=None, max_examples=60)
def test_settings_and_origins_keep_every_bit(eps: float, sources: list[str]) -> None:
    norm = Normalise(name="n", space="s", reads="x", centred=False, eps=eps, origin=Origin("a pass", tuple(sources)))
    program = Program("exact", 1, (Space("s", 3),), (norm, Vote(name="v", space="s", reads=("n",))))
    text = print_program(program)
    assert parse_program(text) == program
    assert parse_program(text.encode().decode()) == program  # even surrogates can be written to a file
    assert len(text.splitlines()) == 4


@pytest.mark.parametrize(
    ("line", "wrong", "message"),
    [
        (1, "Program(level='featured')", "argument n_ctx is missing"),
        (1, "Program(level='featured', n_ctx=2, words=3)", "argument words is unknown"),
        (1, "Program('featured', 2)", "2 unnamed arguments, expected 0"),
        (1, "Program(level='featured', n_ctx='2')", "argument n_ctx is of the wrong type"),
        (1, "Program(level='featured', n_ctx=True)", "argument n_ctx is of the wrong type"),
        (1, "Program(level=3, n_ctx=2)", "argument level is of the wrong type"),
        (2, "Program(level='featured', n_ctx=2)", r"a second line Program\(...\)"),
        (2, "Space('vocab')", "1 unnamed arguments, expected 2"),
        (2, "Space('vocab', 3.0)", "argument size is of the wrong type"),
        (2, "Space('vocab', 3, wide=True)", "argument wide is unknown"),
        (2, "Space('vocab', 3, size=3)", "argument size is given twice"),
        (3, "Lookup('embed', 'vocab', index='token')", "argument table is missing"),
        (3, "Lookup('embed', 'vocab', index='token', table=Table('X'))", "table X is missing"),
        (3, "Lookup('embed', 'vocab', index='token', table=Table('a\\nb'))", r"table a\\nb is missing"),
        (3, "Lookup('embed', 'vocab', index='token', table='W')", "argument table is of the wrong type"),
        (3, "Lookup('embed', 'vocab', index='token', table=3)", "argument table is of the wrong type"),
        (3, "Lookup('embed', 'vocab', index=0, table=Table('W'))", "argument index is of the wrong type"),
        (3, "Lookup(0, 'vocab', index='token', table=Table('W'))", "argument name is of the wrong type"),
        (
            3,
            "Lookup('e', 'vocab', index='token', table=Table('W'), origin='x')",
            "argument origin is of the wrong type",
        ),
        (3, "Lookup('e', 'vocab', index='token', table=Table('W'), origin=Origin(1))", "an origin is told in words"),
        (3, "Lookup('e', 'vocab', index='token', table=Table('W'), **{})", "argument None is unknown"),
        (
            4,
            "Linear('l', 'vocab', reads='embed', weight=Table('M'), bias=Table('M'))",
            "argument bias is of the wrong.*",
        ),
        (4, "Linear('l', 'vocab', reads=('embed',), weight=Table('M'))", "argument reads is of the wrong type"),
        (4, "Linear('l', 'vocab', reads='embed', weight=Table('M'), transposed=1)", "argument transposed is of the.*"),
        (5, "Select('few', 'vocab', reads='logits', k=2.0)", "argument k is of the wrong type"),
        (5, "Product('few', 'vocab', reads=('logits',))", "argument reads is of the wrong type"),
        (5, "Product('few', 'vocab', reads=['logits', 'logits'])", "argument reads is of the wrong type"),
        (
            5,
            "Match('few', 'vocab', queries='logits', keys='logits', values='logits', scores=(Table('M'),))",
            "argument scores is of the wrong type",
        ),
        (5, "Guess('few', 'vocab')", "unknown kind Guess, expected one of Lookup, .*"),
        (5, "Select('few', 'vocab', reads='logits', k=2", r"not of the form Kind\(...\)"),
        (5, "Select('few', 'vocab'); Select('few', 'vocab')", r"not of the form Kind\(...\)"),
        (5, "few = Select('few', 'vocab', reads='logits', k=2)", r"not of the form Kind\(...\)"),
        (5, "ir.Select('few', 'vocab')", r"not of the form Kind\(...\)"),
        (5, "'Select'", r"not of the form Kind\(...\)"),
        (5, "Select('few\0', 'vocab')", r"not of the form Kind\(...\)"),
        (5, "(" * 9999 + "1" + ")" * 9999, r"not of the form Kind\(...\)"),
        (5, "1+" * 99999 + "1", r"not of the form Kind\(...\)"),
        (6, "Vote('log_probs', 'vocab', reads=('few' + 's',))", "malformed node or string.*"),
        (7, "Dense('W', 'float32', (3, 3), '1 2 3')", r"cannot reshape array of size 3 into shape \(3,3\)"),
        (7, "Dense('W', 'float32', (-1, 1), '1 2 3')", "expected a name, a number type, a shape and the numbers"),
        (7, "Dense('W', 'float32', 3, '1 2 3')", "expected a name, a number type, a shape and the numbers"),
        (7, "Dense(3, 'float32', (3,), '1 2 3')", "expected a name, a number type, a shape and the numbers"),
        (7, "Dense('W', 'float32', (3,), '1 two 3')", "could not convert string to float: 'two'"),
        (
            7,
            "Dense('W', 'floating', (3,), '1 2 3')",
            "numbers of type floating, expected float32, float64, int32 or int64",
        ),
        (7, "Dense('W', '2f4,', (3,), '1 2 3')", "numbers of type 2f4,, expected .*"),
        (7, "Dense('W', 'float32', (3,), '1 2 3', 4)", r"too many values to unpack \(expected 4\)"),
        (7, "Dense('W', 'float32', (3,), '1 2 3', order='F')", "argument order is unknown"),
        (
            8,
            "Sparse('M', 'int32', 'int32', 'float64', 3, '0 1 1 2147483648', '2 0', '1 2')",
            ".* 2147483648 out of bounds.*",
        ),
        (8, "Sparse('M', 'int64', 'int32', 'float64', '3', '0', '', '')", "expected a name, three number types, .*"),
    ],
)
def test_a_wrong_line_is_named(line: int, wrong: str, message: str) -> None:
    lines = GOOD.splitlines()
    lines[line - 1] = wrong
    with pytest.raises(ArtifactError, match=rf"\Aprogram text, line {line}: {message}; restore the file\Z"):
        parse_program("\n".join(lines))


def test_a_table_is_given_once() -> None:
    with pytest.raises(ArtifactError, match=r"\Aprogram text, line 9: table W is given twice; restore the file\Z"):
        parse_program(GOOD + "Dense('W', 'float32', (3,), '1 2 3')")
    with pytest.raises(ArtifactError, match=r"\Aprogram text, line 7: table W is given twice; restore the file\Z"):
        parse_code(GOOD, {"W": Table("W", np.zeros(3))})


def test_a_text_without_a_head_is_refused() -> None:
    with pytest.raises(
        ArtifactError, match=r"\Aprogram text: no line Program\(level=..., n_ctx=...\); restore the file\Z"
    ):
        parse_program(GOOD.partition("\n")[2])
    with pytest.raises(ArtifactError, match="no line Program"):
        parse_program("")


@pytest.mark.parametrize(
    "form",
    [
        "{0}",
        "Space({0}, 3)",
        "Space('x', {0})",
        "Space(*{0})",
        "Program(level={0}, n_ctx=2)",
        "Lookup('e', 'vocab', index='token', table=Table({0}))",
        "Lookup('e', 'vocab', index='token', table={0})",
        "Lookup('e', 'vocab', index='token', table=Table('W'), origin=Origin({0}))",
        "Vote('v', 'vocab', reads=({0},))",
        "Vote('v', 'vocab', reads=[{0} for _ in (1,)])",
        "Vote('v', 'vocab', reads=f'{{{0}}}')",
        "Vote('v', 'vocab', **{0})",
        "Dense({0}, 'float32', (3,), '1 2 3')",
        "Dense('X', {0}, (3,), '1 2 3')",
        "Sparse('X', 'int64', 'int64', 'float64', {0}, '0', '', '')",
    ],
)
def test_reading_never_runs_what_is_read(form: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    wrong = form.format(f"__import__('pathlib').Path({str(mark)!r}).touch()")
    lines = GOOD.splitlines()
    with pytest.raises(ArtifactError, match=r"\Aprogram text, line 7: .*; restore the file\Z"):
        parse_program("\n".join([*lines[:6], wrong, *lines[6:]]))
    assert not mark.exists()


@given(programs(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_damaged_text_is_read_or_refused_and_nothing_else(program: Program, chance: random.Random) -> None:
    """Whatever still parses can be verified; whatever does not is refused in one line."""
    text = print_program(program)
    for _ in range(8):
        damaged = _damaged(text, chance)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read = parse_program(damaged)
            except ArtifactError as error:
                assert str(error).startswith("program text")
                assert "\n" not in str(error)
            else:
                assert all("\n" not in fault for fault in verify(read))


def _damaged(text: str, chance: random.Random) -> str:
    characters = list(text)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(characters))
        match chance.randrange(4):
            case 0:
                del characters[at : at + chance.randint(1, 3)]
            case 1:
                characters[at] = chance.choice("()[]{},='\"0123456789-.eNoT\n\\ #*:")
            case 2:
                words = ("9" * 30, "None", "-", "1.5", "True", "'x'", "()", "nan", "\n", "*", "**{}", "1e999", "j")
                characters.insert(at, chance.choice(words))
            case _:
                characters[at:at] = characters[at : at + chance.randint(1, 40)]
    return "".join(characters)


def test_a_value_without_text_form_is_refused() -> None:
    program = parse_program(GOOD)
    odd = replace(program.blocks[2], k=np.int64(2))
    with pytest.raises(TypeError, match="no text form for int64"):
        print_program(replace(program, blocks=(*program.blocks[:2], odd, program.blocks[3])))
