"""The emitted file: complete, of the standard library alone, the same every time, and safe from any text in it."""

from __future__ import annotations

import ast
import hashlib
import itertools
import json
import keyword
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from englishroom.emit import tables as table_text
from englishroom.emit.prelude.loading import float32
from englishroom.emit.python import Emitted, Header
from englishroom.interp import reference
from englishroom.ir.program import (
    LEVELS,
    Level,
    Linear,
    Lookup,
    Normalise,
    Origin,
    Program,
    Rules,
    Space,
    SparseTable,
    Table,
    Vote,
    tables_of,
)
from englishroom.ir.tokenizer import Tokenizer
from englishroom.ir.verify import require_valid
from englishroom.ir.wording import escaped
from programs import emitted, full_program, programs, run_file, tokens_for, write_emitted

TESTS = Path(__file__).resolve().parents[1]
PARTS = {"step", "new_memory", "TOKENIZER", "PIECES", "N_CTX", "D_VOCAB", "log_probs", "talk", "main", "Tokenizer"}


def statements(text: str) -> dict[str, ast.stmt]:
    """Return what a module defines at its top level, by name."""
    found: dict[str, ast.stmt] = {}
    for node in ast.parse(text).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                assert name not in found, f"{name} is defined twice"
                found[name] = node
            case _:
                pass
    return found


def assignments(text: str) -> list[ast.Assign]:
    """Return the assignments of ``step``, one a block."""
    step = statements(text)["step"]
    assert isinstance(step, ast.FunctionDef)
    return [node for node in step.body if isinstance(node, ast.Assign)]


@pytest.mark.parametrize("level", LEVELS)
def test_only_the_standard_library_is_imported(level: Level) -> None:
    for seed in range(3):
        text = emitted(full_program(level, seed)).text
        modules: set[str] = set()
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Import(names=names):
                    modules |= {alias.name.partition(".")[0] for alias in names}
                case ast.ImportFrom(module=str(module), level=0):
                    modules.add(module.partition(".")[0])
                case ast.ImportFrom():
                    pytest.fail("a relative import")
                case ast.Name(id="__import__" | "exec" | "eval" | "compile" | "importlib"):
                    pytest.fail(f"line {node.lineno} can import by name")
                case _:
                    pass
        assert modules
        assert modules <= sys.stdlib_module_names


@pytest.mark.parametrize("level", LEVELS)
def test_a_bare_python_runs_it_with_nothing_else_loaded(level: Level, tmp_path: Path) -> None:
    program = full_program(level, 4)
    tokens = tokens_for(program)[0].tolist()
    path = write_emitted(tmp_path, program)
    harness = (
        "import json, runpy, sys; names = runpy.run_path(sys.argv[1]);"
        f"print(json.dumps([names['log_probs']({tokens}), sorted(sys.modules)]))"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", harness, path], capture_output=True, text=True, check=True, cwd="/"
    )
    answers, modules = json.loads(run.stdout)
    assert run.stderr == ""
    np.testing.assert_allclose(answers, reference.log_probs(program, tokens), rtol=1e-9, atol=1e-9)
    roots = {name.partition(".")[0] for name in modules}
    assert roots <= sys.stdlib_module_names | {"__main__"}


def test_the_bytes_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "import hashlib\n"
        "from englishroom.ir.room import pack\n"
        "from englishroom.ir.text import print_program\n"
        "from programs import LEVELS, emitted, full_program, tokenizer_for\n"
        "digest = hashlib.sha256()\n"
        "for level in LEVELS:\n"
        "    program = full_program(level, 7)\n"
        "    file = emitted(program)\n"
        "    digest.update(file.text.encode() + repr(file.origins).encode() + print_program(program).encode())\n"
        "    digest.update(repr(pack(program, tokenizer_for(program.d_vocab))).encode())\n"
        "print(digest.hexdigest())\n"
    )
    digests = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    ]
    assert len(digests[0]) == 65
    assert digests == digests[:1] * 3


@given(programs())
@settings(deadline=None, max_examples=40)
def test_lines_are_plain_and_every_one_has_an_origin(program: Program) -> None:
    file = emitted(program)
    assert file.text.isascii()
    assert file.text.replace("\n", " ").isprintable()
    assert file.text.endswith("    main()\n")
    lines = file.text.splitlines()
    at = 1
    for run in file.origins:
        assert run["first"] == at
        assert list(run) == ["first", "last", "made_by", "block"]
        at = int(str(run["last"])) + 1
        assert at > int(str(run["first"]))
    assert at == len(lines) + 1
    neighbours = [(run["made_by"], run["block"]) for run in file.origins]
    assert all(one != other for one, other in itertools.pairwise(neighbours))
    assert json.loads(json.dumps(file.origins)) == file.origins


def origin_of(file: Emitted, line: int) -> tuple[object, object]:
    """Return which pass and block a line comes from."""
    run = next(run for run in file.origins if int(str(run["first"])) <= line <= int(str(run["last"])))
    return run["made_by"], run["block"]


@given(programs())
@settings(deadline=None, max_examples=40)
def test_origins_lead_from_a_line_to_its_block(program: Program) -> None:
    """Each block is one assignment of ``step``, in order, and each table belongs to the first block that holds it.

    Readable programs of the sparse level, and explained ones, are written another way (``test_emit_readable.py``).
    """
    assume(program.level != "explained" and (program.level != "sparse" or not program.is_readable))
    file = emitted(program)
    made = assignments(file.text)
    assert len(made) == len(program.blocks)
    assert len({ast.unparse(node.targets[0]) for node in made}) == len(made)
    for node, block in zip(made, program.blocks, strict=True):
        assert {origin_of(file, at) for at in range(node.lineno, (node.end_lineno or 0) + 1)} == {
            (block.origin.made_by, block.name)
        }
        above = file.text.splitlines()[node.lineno - 3 : node.lineno - 1]
        assert above[0].startswith(f"    # {block.name}")
    top = ast.parse(file.text).body
    first = next(
        i for i, node in enumerate(top) if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TABLES"
    )
    holders: dict[str, str] = {}
    for block in program.blocks:
        for table in tables_of(block):
            holders.setdefault(table.name, block.name)
    written = [node for node in top[first + 1 :] if isinstance(node, ast.Assign)]
    assert {origin_of(file, node.lineno)[1] for node in written} == set(holders.values())
    assert len(written) >= len(holders)


def test_the_names_of_blocks_are_not_those_of_tables() -> None:
    """A block and a table may bear one name; the code keeps them apart."""
    table = Table("x", np.ones((2, 2)))
    both = Table("x_columns", np.ones((2, 2)))
    blocks = (
        Lookup(name="x", space="s", index="token", table=table),
        Linear(name="x_columns", space="s", reads="x", weight=table),
        Linear(name="y", space="s", reads="x_columns", weight=both),
        Linear(name="z", space="s", reads="y", weight=both, transposed=True),
        Vote(name="v", space="s", reads=("z",)),
    )
    text = emitted(require_valid(Program("exact", 2, (Space("s", 2),), blocks))).text
    local = {ast.unparse(node.targets[0]) for node in assignments(text)}
    assert len(local) == 5
    assert not local & statements(text).keys()


def run_emitted(program: Program, folder: Path, tokenizer: Tokenizer | None = None) -> dict:
    return run_file(write_emitted(folder, program, tokenizer))


def test_tables_of_every_length_and_kind_are_read(tmp_path: Path) -> None:
    """Vectors stand in the code up to a length; longer ones and matrices come from the file."""
    generator = np.random.default_rng(0)
    short, long = table_text.LITERAL_ENTRIES, table_text.LITERAL_ENTRIES + 1
    blocks = []
    for size, dtype in ((short, np.float32), (short, np.float64), (long, np.float32), (long, np.float64)):
        name = f"{np.dtype(dtype).name}.{size}"
        weight = Table(f"W.{name}", generator.normal(size=(3, size)).astype(dtype))
        bias = Table(f"b.{name}", generator.normal(size=size).astype(dtype))
        back = Table(f"V.{name}", generator.normal(size=(3, size)).astype(dtype))
        blocks += [
            Linear(name=f"up.{name}", space=f"s{size}", reads="x", weight=weight, bias=bias),
            Linear(name=f"down.{name}", space="vocab", reads=f"up.{name}", weight=back, transposed=True),
        ]
    embed = Lookup(name="x", space="vocab", index="token", table=Table("E", generator.normal(size=(3, 3))))
    vote = Vote(name="v", space="vocab", reads=tuple(block.name for block in blocks[1::2]))
    spaces = (Space("vocab", 3), Space(f"s{short}", short), Space(f"s{long}", long))
    program = require_valid(Program("exact", 3, spaces, (embed, *blocks, vote)))
    names = run_emitted(program, tmp_path)
    np.testing.assert_allclose(names["log_probs"]([2, 0, 1]), reference.log_probs(program, [2, 0, 1]), atol=1e-9)
    text = (tmp_path / "program.py").read_text()
    for dtype in ("float32", "float64"):
        assert f'rows("b.{dtype}.{short}")' not in text
        assert f'rows("b.{dtype}.{long}")' in text
        assert names[f"b_{dtype}_{short}"] == program.tables()[f"b.{dtype}.{short}"].values.tolist()
        assert names[f"b_{dtype}_{long}"] == program.tables()[f"b.{dtype}.{long}"].values.tolist()
    assert names["TABLES"] == {}


def test_empty_tables_are_read(tmp_path: Path) -> None:
    nothing, index = np.zeros(0), np.zeros(0, dtype=np.int64)
    rules = Rules(
        name="r",
        space="s",
        reads="x",
        conditions=SparseTable("c", np.zeros(1, dtype=np.int64), index, nothing, 3),
        thresholds=Table("t", nothing),
        effects=SparseTable("e", np.zeros(1, dtype=np.int64), index, nothing, 3),
    )
    embed = Lookup(
        name="x", space="s", index="token", table=SparseTable("E", np.zeros(4, dtype=np.int32), index, nothing, 3)
    )
    program = require_valid(
        Program("sparse", 2, (Space("s", 3),), (embed, rules, Vote(name="v", space="s", reads=("r", "x"))))
    )
    names = run_emitted(program, tmp_path)
    np.testing.assert_allclose(names["log_probs"]([0, 2]), np.full((2, 3), -np.log(3)), atol=1e-12)


FLOATS32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
FLOATS64 = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(FLOATS32, max_size=40))
@example([3.4028234663852886e38, -3.4028234663852886e38, 1.401298464324817e-45, -0.0, 1.1754943508222875e-38])
@settings(deadline=None, max_examples=100)
def test_a_literal_of_float32_gives_back_every_bit(numbers: list[float]) -> None:
    values = np.array(numbers, dtype=np.float32)
    read = eval(table_text.literal(Table("t", values)), {"float32": float32})
    assert np.array(read, dtype=np.float64).tobytes() == values.astype(np.float64).tobytes()


@given(st.lists(FLOATS64, max_size=40))
@settings(deadline=None, max_examples=60)
def test_a_literal_of_float64_gives_back_every_bit(numbers: list[float]) -> None:
    values = np.array(numbers, dtype=np.float64)
    read = eval(table_text.literal(Table("t", values)), {})
    assert np.array(read, dtype=np.float64).tobytes() == values.tobytes()


PIECES = (
    *(b"'", b'"', b"\\", b"\n", b'"""', b"'''", b"#", b"\x00", b"\xff\xfe", b"\xe2\x80\xae", b"\r\n", b"\\N{BULLET}"),
    *(b'"""\nimport os\n"""', b"\\", b"{x}", b"%s", b" ", b"", b"\xf0\x9f\x8e\x88", b"\x1b[31m", b"a" * 300),
)
WORDS = (
    *('"""', "'''", "\\", "\\\\", "\n", "\r", "\x0c", "#", "\u202e", "\u2066", "\u2028", "\x00", "\x1b[31m", "\ud800"),
    *("import os", "# -*- coding: utf-16 -*-", "{", "%s", '\\"', '"', "\\N{BULLET}", "\\u0022" * 3, "é", "\U0001f388"),
)
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=6).map("".join)


def code_of(text: str, without: Sequence[str] = ("PIECES",)) -> str:
    """Return the code of a module without its docstring and without some assignments."""
    module = ast.parse(text)
    assert isinstance(module.body[0], ast.Expr)
    kept = [
        node
        for node in module.body[1:]
        if not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in without)
    ]
    return ast.dump(ast.Module(kept, []))


@given(st.lists(st.binary(max_size=6) | st.sampled_from(PIECES), min_size=5, max_size=30))
@example([*PIECES])
@settings(deadline=None, max_examples=40)
def test_no_piece_of_the_vocabulary_changes_the_code(pieces: list[bytes]) -> None:
    program = replace(bigram(len(pieces)), n_ctx=4)
    plain = Tokenizer(
        kind="byte_bpe",
        pieces=tuple(b"x%d" % i for i in range(len(pieces))),
        merges=((0, 1),),
        scores=(),
        byte_ids=(-1,) * 256,
        specials=(2,),
        start_id=2,
        stop_ids=(2, 3),
        prefix_space=False,
    )
    text = emitted(program, replace(plain, pieces=tuple(pieces))).text
    assert text.isascii()
    assert code_of(text) == code_of(emitted(program, plain).text)
    written = statements(text)["PIECES"]
    assert isinstance(written, ast.Assign)
    assert ast.literal_eval(written.value) == tuple(pieces)


@given(TEXTS, st.lists(TEXTS, max_size=3), st.lists(TEXTS, max_size=3), TEXTS)
@example('"""', ['"""\nimport os\n"""'], ['"', "\\"], "\n    import os\n    # ")
@example("x\\", ["\\"], ['""', '"'], "\\")
@settings(deadline=None, max_examples=60)
def test_no_name_from_the_model_changes_the_code(
    target: str, facts: list[str], sources: list[str], made_by: str
) -> None:
    program, plain = bigram(5), emitted(bigram(5))
    origin = Origin(made_by, tuple(sources))
    named = replace(program, blocks=tuple(replace(block, origin=origin) for block in program.blocks))
    file = emitted(named, header=Header(target, tuple(facts)))
    assert code_of(file.text, ()) == code_of(plain.text, ())
    assert file.text.replace("\n", " ").isprintable()
    assert len(file.text.splitlines()) == len(plain.text.splitlines()) + len(facts)
    told = ast.get_docstring(ast.parse(file.text), clean=False) or ""
    assert told.startswith(f"A program that talks: {escaped(target)}, decompiled to the exact level.\n")
    assert all(f"\n{escaped(fact)}\n" in told for fact in facts)


def bigram(d_vocab: int) -> Program:
    """Make a program that tells the next token from this one alone."""
    table = Table("W", np.random.default_rng(0).normal(size=(d_vocab, d_vocab)).astype(np.float32))
    blocks = (
        Lookup(name="x", space="vocab", index="token", table=table, origin=Origin("lift", ("wte",))),
        Vote(name="v", space="vocab", reads=("x",), origin=Origin("lift", ("wte",))),
    )
    return require_valid(Program("exact", 8, (Space("vocab", d_vocab),), blocks))


@st.composite
def tokenizers(draw: st.DrawFn) -> Tokenizer:
    """Draw a tokenizer of either kind, with scores or merges or neither; its fields need not fit together."""
    pieces = draw(st.lists(st.binary(max_size=4), min_size=3, max_size=8))
    ids = st.integers(0, len(pieces) - 1)
    scores = draw(st.just(()) | st.tuples(*[FLOATS64] * len(pieces)))
    return Tokenizer(
        kind=draw(st.sampled_from(["byte_bpe", "sentencepiece"])),
        pieces=tuple(pieces),
        merges=() if scores else tuple(draw(st.lists(st.tuples(ids, ids), max_size=40))),
        scores=scores,
        byte_ids=tuple(draw(st.lists(ids | st.just(-1), min_size=256, max_size=256))),
        specials=tuple(draw(st.lists(ids, max_size=2))),
        start_id=draw(ids),
        stop_ids=tuple(draw(st.lists(ids, max_size=2))),
        prefix_space=draw(st.booleans()),
    )


@given(tokenizer=tokenizers())
@settings(deadline=None, max_examples=30)
def test_the_tokenizer_arrives_whole(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> None:
    names = run_emitted(bigram(len(tokenizer.pieces)), tmp_path_factory.mktemp("tokenizer"), tokenizer)
    assert type(names["TOKENIZER"]) is not Tokenizer
    assert asdict(names["TOKENIZER"]) == asdict(tokenizer)


def test_the_header_says_what_the_program_is() -> None:
    program = full_program("featured", 2)
    told = ast.get_docstring(ast.parse(emitted(program, header=Header("tiny", ("Fact one.", "Fact two."))).text)) or ""
    assert told.startswith("A program that talks: tiny, decompiled to the featured level.\n")
    assert "\nFact one.\nFact two.\n" in told
    assert f"{len(program.blocks)} blocks, {program.n_entries:,} numbers in tables" in told
    assert f"{program.d_vocab} tokens, context {program.n_ctx}." in told


def test_constants_are_written_as_plain_numbers() -> None:
    norm = Normalise(name="n", space="s", reads="x", centred=False, eps=np.float64(1e-5))
    program = bigram(3)
    blocks = (program.blocks[0], replace(norm, space="vocab"), Vote(name="v", space="vocab", reads=("n",)))
    assert "normalise(x, 1e-05)" in emitted(replace(program, blocks=blocks)).text


def test_each_attention_has_a_memory_of_its_own() -> None:
    program = full_program("featured", 1)
    text = emitted(program).text
    keeping = [block for block in program.blocks if type(block).__name__ in ("Attend", "Match", "Looks")]
    assert len(keeping) == 6
    assert re.findall(r"memory\[\d+\]", text) == [f"memory[{i}]" for i in range(6)]
    assert "[[] for _ in range(6)]" in text


def test_only_what_is_used_is_carried_along() -> None:
    small, large = (statements(emitted(program).text) for program in (bigram(4), full_program("featured", 1)))
    assert small.keys() >= PARTS
    assert not {"attend", "match", "rotate", "gelu", "select", "sparse_rows", "softmax"} & small.keys()
    assert {"attend", "match", "rotate", "softmax", "sparse_rows", "apply_rules"} <= large.keys()


def test_no_emitted_name_is_a_keyword() -> None:
    for level in set(LEVELS) - {"explained"}:  # which is lines, and no assignment a block
        for seed in range(4):
            names = {ast.unparse(node.targets[0]) for node in assignments(emitted(full_program(level, seed)).text)}
            assert not [name for name in names if keyword.iskeyword(name) or keyword.issoftkeyword(name)]


def test_a_table_of_the_wrong_bytes_is_refused(tmp_path: Path) -> None:
    path = write_emitted(tmp_path, full_program("sparse"))
    tables = tmp_path / "tables.safetensors"
    good = tables.read_bytes()
    assert hashlib.sha256(good).hexdigest() in path.read_text()
    tables.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(SystemExit, match=r"^.*tables.safetensors: not the tables this program was written with .*"):
        run_file(path)
    tables.unlink()
    with pytest.raises(SystemExit, match=r"^.*tables.safetensors: No such file or directory; .* restore the room$"):
        run_file(path)
