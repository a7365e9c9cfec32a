"""Three readings of one program: the reference, the fast interpreter, and the emitted file."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.interp import reference
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import (
    LEVELS,
    Activate,
    AnyTable,
    Attend,
    Block,
    Join,
    Level,
    Linear,
    Lookup,
    Match,
    Normalise,
    Product,
    Program,
    Rotate,
    Rules,
    Select,
    Space,
    SparseTable,
    Sum,
    Table,
    Unexplained,
    Vote,
    tables_of,
)
from englishroom.ir.verify import require_valid
from programs import full_program, programs, run_file, tokens_for, write_emitted

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
SEEDS = st.integers(0, 2**32 - 1)


@given(programs(), SEEDS)
@settings(deadline=None, max_examples=60)
def test_every_variable_is_the_reference_s(program: Program, seed: int) -> None:
    tokens = tokens_for(program, seed)[0]
    expected = reference.run(program, tokens.tolist())
    found = Interpreter(program, np.float64).variables(tokens)
    assert list(found) == list(expected) == [block.name for block in program.blocks]
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, err_msg=name, **CLOSE)


@given(programs(), SEEDS, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_reading_in_pieces_changes_nothing(program: Program, seed: int, chance: random.Random) -> None:
    """Whole texts, several at once, token by token, and in chunks: the same answers as the reference."""
    texts = tokens_for(program, seed, n_texts=3)
    expected = np.stack([reference.log_probs(program, text.tolist()) for text in texts])
    interpreter = Interpreter(program, np.float64)
    np.testing.assert_allclose(interpreter.log_probs(texts), expected, **CLOSE)
    np.testing.assert_allclose(interpreter.log_probs(texts[1]), expected[1], **CLOSE)
    np.testing.assert_allclose(interpreter.log_probs(texts[:, :1]), expected[:, :1], **CLOSE)

    singly = interpreter.stream(batch=3)
    answers = [singly.extend(texts[:, at : at + 1]) for at in range(program.n_ctx)]
    np.testing.assert_allclose(np.concatenate(answers, axis=1), expected, **CLOSE)

    cuts = sorted(chance.choices(range(1, program.n_ctx + 1), k=2))
    chunked = interpreter.stream(batch=3)
    parts = [texts[:, low:high] for low, high in zip([0, *cuts], [*cuts, program.n_ctx], strict=True) if low < high]
    np.testing.assert_allclose(np.concatenate([chunked.extend(part) for part in parts], axis=1), expected, **CLOSE)
    assert chunked.length == singly.length == program.n_ctx


@given(program=programs(), seed=SEEDS)
@settings(deadline=None, max_examples=60)
def test_the_emitted_file_gives_the_reference_s_answers(
    program: Program, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = run_file(write_emitted(tmp_path_factory.mktemp("emitted"), program))
    for text in tokens_for(program, seed, n_texts=2).tolist():
        np.testing.assert_allclose(names["log_probs"](text), reference.log_probs(program, text), **CLOSE)


@given(programs(), SEEDS)
@settings(deadline=None, max_examples=40)
def test_answers_are_log_probabilities_of_a_prefix(program: Program, seed: int) -> None:
    """They sum to 1, and what comes later changes nothing before it."""
    tokens = tokens_for(program, seed)[0]
    answers = reference.log_probs(program, tokens.tolist())
    np.testing.assert_allclose(np.exp(answers).sum(axis=1), 1.0, **CLOSE)
    short = reference.log_probs(program, tokens[: len(tokens) // 2 + 1].tolist())
    assert np.array_equal(answers[: len(short)], short)


@given(programs(), SEEDS)
@settings(deadline=None, max_examples=40)
def test_float32_tables_mean_their_very_numbers(program: Program, seed: int) -> None:
    """Tables widened to float64 by hand give the same answers, bit for bit."""

    def wide(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(wide, value))
        return replace(value, values=value.values.astype(np.float64)) if isinstance(value, AnyTable) else value

    widened = replace(
        program,
        blocks=tuple(
            replace(block, **{name: wide(value) for name, value in vars(block).items()}) for block in program.blocks
        ),
    )
    assert {table.values.dtype for block in widened.blocks for table in tables_of(block)} == {np.dtype(np.float64)}
    tokens = tokens_for(program, seed)[0]
    assert np.array_equal(reference.log_probs(widened, tokens.tolist()), reference.log_probs(program, tokens.tolist()))
    assert np.array_equal(
        Interpreter(widened, np.float64).log_probs(tokens), Interpreter(program, np.float64).log_probs(tokens)
    )


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", range(3))
def test_no_step_leaves_the_precision_asked_for(level: Level, seed: int) -> None:
    program = full_program(level, seed)
    tokens = tokens_for(program, seed)[0]
    found = Interpreter(program, np.float32).variables(tokens)
    assert {name: values.dtype for name, values in found.items()} == dict.fromkeys(found, np.dtype(np.float32))
    assert Interpreter(program, np.float32).stream().extend(tokens[None, :1]).dtype == np.float32


def one_block(inputs: Mapping[str, NDArray], size: int, block: Block) -> Program:
    """Make a program of one block ``y``, its votes, over inputs given position by position, [pos, size]."""
    n_ctx = len(next(iter(inputs.values())))
    spaces = {f"{name}.space": values.shape[1] for name, values in inputs.items()} | {"out": size}
    lookups = [
        Lookup(name=name, space=f"{name}.space", index="position", table=Table(f"{name}.table", values))
        for name, values in inputs.items()
    ]
    last = Vote(name="v", space=block.space, reads=("y",))
    made = [Space(name, size) for name, size in spaces.items()]
    return require_valid(Program("featured", n_ctx, tuple(made), (*lookups, block, last)))


def rows(*numbers: Sequence[float]) -> NDArray[np.float64]:
    return np.array(numbers, dtype=np.float64)


def csr(name: str, dense: NDArray) -> SparseTable:
    starts = np.concatenate([[0], np.cumsum((dense != 0).sum(axis=1))])
    return SparseTable(name, starts, np.nonzero(dense)[1], dense[dense != 0], dense.shape[1])


X, Y = rows([1, -2, 3], [0, 4, -1]), rows([10, 20, 30], [1, 1, 1])
W = rows([1, 2], [0, -1], [3, 0])
E = math.e


@pytest.mark.parametrize(
    ("inputs", "block", "expected"),
    [
        ({"x": X}, Linear(name="y", space="out", reads="x", weight=Table("W", W)), rows([10, 4], [-3, -4])),
        (
            {"x": X},
            Linear(name="y", space="out", reads="x", weight=csr("W", W), bias=Table("b", np.array([1.0, 2]))),
            rows([11, 6], [-2, -2]),
        ),
        (
            {"x": X},
            Linear(name="y", space="out", reads="x", weight=Table("W", W.T), transposed=True),
            rows([10, 4], [-3, -4]),
        ),
        (
            {"x": X},
            Linear(name="y", space="out", reads="x", weight=csr("W", W.T), transposed=True),
            rows([10, 4], [-3, -4]),
        ),
        ({"x": X}, Sum(name="y", space="x.space", reads=("x", "x", "x")), 3 * X),
        ({"x": X, "w": Y}, Join(name="y", space="out", reads=("w", "x")), np.concatenate([Y, X], axis=1)),
        ({"x": X}, Product(name="y", space="x.space", reads=("x", "x")), X * X),
        ({"x": X}, Activate(name="y", space="x.space", reads="x", function="relu"), rows([1, 0, 3], [0, 4, 0])),
        (
            {"x": rows([0.0, 1.0, -1.0])},
            Activate(name="y", space="x.space", reads="x", function="silu"),
            rows([0, E / (1 + E), -1 / (1 + E)]),
        ),
        (
            {"x": rows([0.0, math.sqrt(2), -math.sqrt(2)])},
            Activate(name="y", space="x.space", reads="x", function="gelu"),
            math.sqrt(0.5) * rows([0, 1 + math.erf(1), math.erf(1) - 1]),
        ),
        (
            {"x": rows([0.0, 1.0, 100.0])},
            Activate(name="y", space="x.space", reads="x", function="gelu_new"),
            rows([0, 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * 1.044715)), 100]),
        ),
        (
            {"x": rows([3.0, 4.0])},
            Normalise(name="y", space="x.space", reads="x", centred=False, eps=0.25),
            rows([3, 4]) / math.sqrt(12.75),
        ),
        (
            {"x": rows([3.0, 5.0])},
            Normalise(
                name="y",
                space="x.space",
                reads="x",
                centred=True,
                eps=3.0,
                gain=Table("g", np.array([2.0, 4.0])),
                bias=Table("b", np.array([0.5, 0.0])),
            ),
            rows([-0.5, 2]),
        ),
        (
            {"x": rows([3.0, 4.0])},
            Normalise(
                name="y", space="x.space", reads="x", centred=False, eps=1.0, form=csr("f", rows([1, 1], [1, -1]))
            ),
            rows([3, 4]) / math.sqrt(9 + 24 - 16 + 1),
        ),
        (
            {"x": rows([3.0, 4.0], [4.0, 3.0])},
            Normalise(
                name="y", space="x.space", reads="x", centred=False, eps=0.25, form=csr("f", rows([1, 0], [0, -1]))
            ),
            rows([6, 8], [4 / math.sqrt(7.25), 3 / math.sqrt(7.25)]),
        ),
        ({"x": X}, Select(name="y", space="x.space", reads="x", k=2), rows([1, 0, 3], [0, 4, 0])),
        (
            {"x": X},
            Select(name="y", space="x.space", reads="x", thresholds=Table("t", np.array([1.0, -3, 2]))),
            rows([0, -2, 3], [0, 4, 0]),
        ),
        (
            {"x": X},
            Select(name="y", space="x.space", reads="x", k=1, thresholds=Table("t", np.array([0.0, -3, 4]))),
            rows([1, 0, 0], [0, 4, 0]),
        ),
        (
            {"x": rows([1, 0, 0, 1], [1, 0, 0, 1], [0, 0, 1, 2])},
            Rotate(name="y", space="x.space", reads="x", n_heads=1, theta=4.0),
            rows(
                [1, 0, 0, 1],
                [math.cos(1), -math.sin(0.5), math.sin(1), math.cos(0.5)],
                [-math.sin(2), -2 * math.sin(1), math.cos(2), 2 * math.cos(1)],
            ),
        ),
        (
            {"q": rows([5, 5], [0, 0]), "k": rows([1], [9]), "x": rows([2, 4], [4, 8])},
            Attend(name="y", space="out", queries="q", keys="k", values="x", n_heads=2, n_kv_heads=1, scale=1.0),
            rows([2, 4, 2, 4], [3, 6, 3, 6]),
        ),
        (
            {"q": rows([0, 0], [math.log(3), 0]), "k": rows([1, 1], [0, 5]), "x": rows([0, 8], [4, 0])},
            Attend(name="y", space="out", queries="q", keys="k", values="x", n_heads=2, n_kv_heads=2, scale=1.0),
            rows([0, 8], [1, 4]),
        ),
        (
            {"q": X, "k": X, "x": rows([2, 4], [4, 8])},
            Attend(
                name="y", space="out", queries="q", keys="k", values="x", n_heads=1, n_kv_heads=1, scale=1.0, window=1
            ),
            rows([2, 4], [4, 8]),
        ),
        (
            {"q": rows([1, 0], [0, 1]), "k": rows([2], [1]), "x": rows([6.0], [2.0])},
            Match(
                name="y",
                space="out",
                queries="q",
                keys="k",
                values="x",
                scores=((Table("s", rows([9], [math.log(3)])),), (csr("z", rows([0], [0])),)),
                distance=Table("d", rows([0, 0], [0, math.log(3)])),
            ),
            rows([6, 6], [5, 5]),
        ),
        (
            {"q": X, "k": X, "x": rows([6.0], [2.0])},
            Match(
                name="y",
                space="out",
                queries="q",
                keys="k",
                values="x",
                scores=((Table("s", np.ones((3, 3))),),),
                window=1,
            ),
            rows([6], [2]),
        ),
        (
            {"q": rows([0, 1], [0, 1], [1, 0]), "k": rows([1], [1], [1]), "x": rows([6.0, 0], [2, 0], [0, 4])},
            Match(
                name="y",
                space="out",
                queries="q",
                keys="k",
                values="x",
                scores=((csr("near", rows([0], [0])), Table("far", rows([math.log(2)], [math.log(3)]))),),
                buckets=(0, 1),
            ),
            rows([6, 0], [5, 0], [16 / 5, 4 / 5]),
        ),
        (
            {"q": rows([1.0], [1], [1]), "k": rows([1.0], [1], [2]), "x": rows([6.0, 0], [2, 0], [0, 4])},
            Match(
                name="y",
                space="out",
                queries="q",
                keys="k",
                values="x",
                scores=(
                    (Table("s", rows([0.0])), Table("t", rows([math.log(2)])), Table("u", rows([-99.0]))),
                    (csr("z", rows([0.0])),) * 3,
                ),
                buckets=(0, 1, 2),
                moves=(Table("m", rows([1, 0, 0], [0, 1, 0])), csr("n", rows([0, 0, 1], [0, 0, 10]))),
                window=2,
            ),
            rows([6, 0, 6], [14 / 3, 0, 4], [4 / 3, 4 / 3, 21]),
        ),
        (
            {"x": X},
            Rules(
                name="y",
                space="out",
                reads="x",
                conditions=csr("c", rows([1, 0, 1], [0, 1, 0], [0, 0, 0])),
                thresholds=Table("t", np.array([1.0, 3.0, -0.5])),
                effects=csr("e", rows([1, 2], [10, 0], [0, 100])),
            ),
            rows([3, 6 + 50], [10, 50]),
        ),
        (
            {"x": X},
            Rules(
                name="y",
                space="out",
                reads="x",
                conditions=csr("c", rows([1, 0, 1], [0, 1, 0], [0, 0, 0])),
                thresholds=Table("t", np.array([1.0, 3.0, -0.5])),
                effects=csr("e", rows([1, 2], [10, 0], [0, 100])),
                biases=Table("b", np.array([2.0, -1.0, -0.25])),
                passes="value",
                offset=Table("o", np.array([0.5, -1.0])),
            ),
            rows([6.5, 12 - 25 - 1], [0.5, -26]),
        ),
        (
            {"x": rows([1, 2, 2, 5, 3], [0, -1, 1, 1, 9])},
            Rules(
                name="y",
                space="out",
                reads="x",
                conditions=csr("c", np.eye(5)),
                thresholds=Table("t", np.array([0.0, 0.0, 0.0, 6.0, 2.5])),
                effects=csr("e", np.eye(5)),
                passes="value",
                k=2,
            ),
            rows([0, 2, 0, 0, 3], [0, 0, 1, 0, 9]),
        ),
        (
            {"x": rows([1, 2, 2, 5, 3], [0, -1, 1, 1, 9])},
            Rules(
                name="y",
                space="out",
                reads="x",
                conditions=csr("c", np.eye(5)),
                thresholds=Table("t", np.array([0.0, 0.0, 0.0, 6.0, 2.5])),
                effects=csr("e", np.eye(5)),
                k=1,
            ),
            rows([0, 2, 0, 0, 0], [0, 0, 0, 0, 6.5]),
        ),
        (
            {"x": X},
            Unexplained(name="y", space="x.space", exact="x", explained="x"),
            0 * X,
        ),
    ],
    ids=lambda case: type(case).__name__ if isinstance(case, Block) else "",
)
def test_blocks_compute_what_their_docstrings_say(
    inputs: dict[str, NDArray], block: Block, expected: NDArray, tmp_path: Path
) -> None:
    """In the reference, in the fast interpreter, and in the emitted file, made to show its votes as they are."""
    program = one_block(inputs, expected.shape[1], block)
    tokens = np.zeros(program.n_ctx, dtype=int)
    np.testing.assert_allclose(reference.run(program, tokens)["y"], expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        Interpreter(program, np.float64).variables(tokens)["y"], expected, rtol=1e-12, atol=1e-12
    )
    names = run_file(write_emitted(tmp_path, program))
    names["log_softmax"] = list
    np.testing.assert_allclose(names["log_probs"](tokens.tolist()), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("function", ["gelu_new", "gelu", "relu", "silu"])
def test_pointwise_functions_stay_finite_far_out(function: Any) -> None:
    x = rows([-1e6, -745.0, -40.0, -1e-300, 0.0, 1e-300, 40.0, 745.0, 1e6])
    program = one_block({"x": x}, 1, Activate(name="y", space="x.space", reads="x", function=function))
    expected = reference.run(program, [0])["y"]
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(Interpreter(program, np.float64).variables(np.array([0]))["y"], expected, **CLOSE)
    np.testing.assert_allclose(expected[0, -3:], x[0, -3:], **CLOSE)


def votes_of(values: Sequence[float], k: int | None, thresholds: Sequence[float] | None) -> Program:
    """Make a program whose votes are a selection of the same values at its one position."""
    table = None if thresholds is None else Table("t", np.array(thresholds, dtype=np.float64))
    blocks = (
        Lookup(name="x", space="s", index="position", table=Table("x", rows(values))),
        Select(name="y", space="s", reads="x", k=k, thresholds=table),
        Vote(name="v", space="s", reads=("y",)),
    )
    return require_valid(Program("featured", 1, (Space("s", len(values)),), blocks))


@pytest.mark.parametrize(
    ("values", "k", "thresholds", "kept"),
    [
        ([1, 3, 3, 3, 0], 2, None, [0, 3, 3, 0, 0]),
        ([1, 3, 3, 3, 0], 4, None, [1, 3, 3, 3, 0]),
        ([-2, -1, -1], 1, None, [0, -1, 0]),
        ([-2, -1, -1], 3, None, [-2, -1, -1]),
        ([1, 2, 3], None, [1, 1, 3], [0, 2, 0]),
        ([1, 2, 3], None, [5, 5, 5], [0, 0, 0]),
        ([5, 5, 5, 5], 2, [5, 4, 4, 4], [0, 5, 5, 0]),
        ([5, 6, 7], 2, [9, 9, 0], [0, 0, 7]),
        ([-3, -5, -4], 2, [-9, -9, -9], [-3, 0, -4]),
        ([0.0, -0.0, 0.0], 1, None, [0, 0, 0]),
        ([2, 1] * 40, 50, None, [2, 1] * 10 + [2, 0] * 30),
    ],
)
def test_ties_go_to_the_lower_index_and_thresholds_are_exceeded(
    values: list[float], k: int | None, thresholds: list[float] | None, kept: list[float], tmp_path_factory: Any
) -> None:
    program = votes_of(values, k, thresholds)
    assert reference.run(program, [0])["y"].tolist() == [kept]
    assert Interpreter(program, np.float64).variables(np.array([0]))["y"].tolist() == [kept]
    assert Interpreter(program, np.float32).variables(np.array([0]))["y"].tolist() == [kept]
    expected = np.array(kept) - math.log(np.exp(kept).sum())
    names = run_file(write_emitted(tmp_path_factory.mktemp("ties"), program))
    np.testing.assert_allclose(names["log_probs"]([0]), [expected], **CLOSE)


def test_turning_makes_scores_depend_on_the_distance_alone() -> None:
    generator = np.random.default_rng(0)
    x = np.tile(generator.normal(size=8), (6, 1))
    turned = reference.run(
        one_block({"x": x}, 1, Rotate(name="y", space="x.space", reads="x", n_heads=2, theta=100.0)), [0] * 6
    )["y"]
    scores = turned @ turned.T
    for back in range(6):
        np.testing.assert_allclose(np.diag(scores, back), scores[0, back], **CLOSE)
    assert abs(scores[0, 1] - scores[0, 2]) > 1e-3


@pytest.mark.parametrize("level", LEVELS)
def test_texts_read_together_do_not_touch_each_other(level: Level) -> None:
    program = full_program(level, 1)
    texts = tokens_for(program, 1, n_texts=3)
    interpreter = Interpreter(program, np.float64)
    changed = texts.copy()
    changed[1] = (changed[1] + 1) % program.d_vocab
    before, after = interpreter.log_probs(texts), interpreter.log_probs(changed)
    np.testing.assert_allclose(before[[0, 2]], after[[0, 2]], **CLOSE)
    assert not np.allclose(before[1], after[1])


@pytest.mark.parametrize("token", [-1, "d_vocab"])
def test_tokens_outside_the_vocabulary_are_refused(token: int | str) -> None:
    program = full_program("exact", 2)
    wrong = program.d_vocab if token == "d_vocab" else int(token)
    message = f"expected 0..{program.d_vocab - 1}"
    with pytest.raises(ConfigError, match=f"^token {wrong} is outside the vocabulary, {message}$"):
        reference.log_probs(program, [0, wrong][: program.n_ctx])
    with pytest.raises(ConfigError, match=f"^token {wrong} is outside the vocabulary, {message}$"):
        Interpreter(program).log_probs(np.array([0, wrong]))


def test_more_tokens_than_positions_are_refused() -> None:
    program = full_program("exact", 2)
    long = [0] * (program.n_ctx + 1)
    message = f"^{len(long)} tokens do not fit the context of {program.n_ctx}; shorten the prompt or the text$"
    with pytest.raises(ConfigError, match=message):
        reference.log_probs(program, long)
    with pytest.raises(ConfigError, match=message):
        Interpreter(program).log_probs(np.array(long))


def test_a_refused_piece_leaves_the_reading_as_it_was() -> None:
    program = full_program("exact", 2)
    tokens = tokens_for(program)
    stream = Interpreter(program, np.float64).stream()
    answers = [stream.extend(tokens[:, :2])]
    with pytest.raises(ConfigError, match="do not fit"):
        stream.extend(np.tile(tokens, 2))
    with pytest.raises(ConfigError, match="outside the vocabulary"):
        stream.extend(np.array([[program.d_vocab]]))
    answers.append(stream.extend(tokens[:, 2:]))
    with pytest.raises(ConfigError, match=f"^{program.n_ctx + 1} tokens do not fit"):
        stream.extend(tokens[:, :1])
    expected = reference.log_probs(program, tokens[0].tolist())
    np.testing.assert_allclose(np.concatenate(answers, axis=1)[0], expected, **CLOSE)
