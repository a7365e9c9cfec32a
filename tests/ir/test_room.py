"""Programs in rooms: what is packed loads again, and a room that does not fit together is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from englishroom.errors import ArtifactError
from englishroom.ir.program import LEVELS, Level, Linear, Lookup, Program, Space, SparseTable, Table, Vote
from englishroom.ir.room import load_program, pack, stored_arrays
from englishroom.ir.text import print_code
from englishroom.names import CODE, TABLES, TOKENIZER
from englishroom.store import SCHEMA_VERSION, Manifest, arrays_to_bytes, write_room
from programs import LETTERS, chain, full_program, programs, tokenizer_for


def write(path: Path, contents: dict[str, bytes]) -> None:
    """Write files as a room of the level that the program states."""
    level = next((level for level in LEVELS if f"level='{level}'".encode() in contents[CODE]), "exact")
    manifest = Manifest(SCHEMA_VERSION, level, {"name": "t"}, {}, 0, [], {}, {})
    write_room(path, contents.items(), lambda _folder: manifest)


@given(program=programs())
@settings(deadline=None, max_examples=40)
def test_a_program_loads_as_it_was_packed(program: Program, tmp_path_factory: pytest.TempPathFactory) -> None:
    room = tmp_path_factory.getbasetemp() / "packed"
    tokenizer = tokenizer_for(program.d_vocab)
    write(room, pack(program, tokenizer))
    assert load_program(room) == (program, tokenizer)


@pytest.mark.parametrize("level", LEVELS)
def test_packing_gives_the_same_bytes_every_time(level: Level) -> None:
    packed = [pack(full_program(level, 5), tokenizer_for(full_program(level, 5).d_vocab)) for _ in range(2)]
    assert packed[0] == packed[1]
    assert list(packed[0]) == [CODE, TABLES, TOKENIZER]


def test_shared_tables_are_stored_once() -> None:
    table = Table("W_E", np.ones((4, 3), dtype=np.float32))
    blocks = (
        Lookup(name="embed", space="resid", index="token", table=table),
        Linear(name="logits", space="vocab", reads="embed", weight=table, transposed=True),
        Vote(name="log_probs", space="vocab", reads=("logits",)),
    )
    program = Program("exact", 2, (Space("vocab", 4), Space("resid", 3)), blocks)
    arrays = stored_arrays(program.tables())
    assert list(arrays) == ["W_E"]
    assert arrays["W_E"].dtype == np.float32


def test_names_of_parts_meet_no_name_of_a_table(tmp_path: Path) -> None:
    """A sparse table ``m`` and dense tables ``m.starts``, ``m.values`` ... are different things."""
    dense = [
        Table(f"m.{part}", np.full((1, 3), i + 0.5)) for i, part in enumerate(("starts", "columns", "values", "shape"))
    ]
    sparse = SparseTable("m", np.array([0, 1]), np.array([2]), np.array([7.0]), 3)
    tables = [*dense, sparse]
    reads = tuple(f"x.{i}" for i in range(len(tables)))
    lookups = [Lookup(name=n, space="s", index="position", table=t) for n, t in zip(reads, tables, strict=True)]
    program = Program("featured", 1, (Space("s", 3),), (*lookups, Vote(name="v", space="s", reads=reads)))
    write(tmp_path / "room", pack(program, tokenizer_for(3)))
    assert load_program(tmp_path / "room")[0] == program


def test_a_room_is_refused_when_its_parts_do_not_fit(tmp_path: Path) -> None:
    program = full_program("sparse")
    room, tokenizer = tmp_path / "room", tokenizer_for(program.d_vocab)
    whole = pack(program, tokenizer)
    table = next(iter(program.tables()))

    def told(contents: dict[str, bytes]) -> str:
        write(room, contents)
        with pytest.raises(ArtifactError) as caught:
            load_program(room)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    other = pack(program, tokenizer_for(program.d_vocab + 1))
    tokens, expected = program.d_vocab + 1, program.d_vocab
    message = f"{room / TOKENIZER}: {tokens} tokens, the program has {expected}; decompile again"
    assert told(whole | {TOKENIZER: other[TOKENIZER]}) == message

    broken = replace(program, n_ctx=0)
    message = f"{room / CODE}: invalid program, 1 fault: n_ctx is 0, expected at least 1; decompile again"
    assert told(whole | {CODE: print_code(broken).encode()}) == message

    empty = arrays_to_bytes({})
    line = next(i for i, text in enumerate(print_code(program).splitlines(), 1) if "Table(" in text)
    message = f"{room / CODE}: program text, line {line}: table {table} is missing; restore the file"
    assert told(whole | {TABLES: empty}) == message

    message = f"{room / CODE}: program text, line 1: not of the form Kind(...); restore the file"
    assert told(whole | {CODE: b"import os\n"}) == message

    assert told(whole | {TABLES: b"nonsense"}).startswith(f"{room / TABLES}: damaged safetensors file")
    assert told(whole | {TOKENIZER: b"{"}).startswith(f"{room / TOKENIZER}: the whole text: Invalid JSON")


@pytest.mark.parametrize("name", [CODE, TABLES, TOKENIZER])
def test_a_missing_or_changed_file_is_named(name: str, tmp_path: Path) -> None:
    program = full_program("featured")
    room = tmp_path / "room"
    write(room, pack(program, tokenizer_for(program.d_vocab)))
    data = (room / name).read_bytes()
    (room / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ArtifactError, match=rf"{name}: changed since the room was written"):
        load_program(room)
    (room / name).unlink()
    with pytest.raises(ArtifactError, match=rf"{name}: missing; restore the file or decompile again"):
        load_program(room)


def test_a_folder_that_is_no_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a room"):
        load_program(tmp_path)


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", "-c", code, *arguments], capture_output=True, text=True)


def test_nothing_that_a_room_needs_loads_torch(tmp_path: Path) -> None:
    """Import all of the program side, then load, rewrite, run and emit a program of every kind of block."""
    program = full_program("featured", 6)
    write(tmp_path / "room", pack(program, tokenizer_for(program.d_vocab)))
    done = run_python(
        """
import importlib, pkgutil, sys
from pathlib import Path
names = [f"englishroom.{name}" for name in ("errors", "names", "untrusted", "manifest", "store")]
for name in ("ir", "passes", "interp", "emit"):
    package = importlib.import_module(f"englishroom.{name}")
    names += [item.name for item in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
modules = {name: importlib.import_module(name) for name in names}
program, tokenizer = modules["englishroom.ir.room"].load_program(Path(sys.argv[1]))
fold = modules["englishroom.passes.fold"].FoldNorms()
program, _ = modules["englishroom.passes.base"].run_passes(program, [fold])
modules["englishroom.interp.reference"].log_probs(program, [0])
modules["englishroom.interp.vectorised"].Interpreter(program).stream().extend(modules["englishroom.store"].np.array([[0]]))
emit = modules["englishroom.emit.python"]
assert "def step" in emit.emit(program, tokenizer, emit.Header("a test"), "").text
print(len(names), sorted({"torch", "transformers", "tokenizers", "huggingface_hub"} & sys.modules.keys()))
""",
        str(tmp_path / "room"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    count, _, loaded = done.stdout.strip().partition(" ")
    assert int(count) >= 19
    assert loaded == "[]"


def test_a_room_talks_where_there_is_no_torch(tmp_path: Path) -> None:
    program = chain()
    write(tmp_path / "room", pack(program, tokenizer_for(program.d_vocab)))
    done = run_python(
        """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "tokenizers", "huggingface_hub", "datasets"):
            raise ModuleNotFoundError(f"{name} is not there")

sys.meta_path.insert(0, Absent())
from englishroom.cli import main
sys.exit(main(["talk", *sys.argv[1:]]))
""",
        str(tmp_path / "room"),
        "cd",
        "--greedy",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{LETTERS[2:]}\n", "")
