"""Emitted n-gram programs: of the standard library alone, the same every time, and saying what the talker says."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from englishroom.errors import ArtifactError, ConfigError
from englishroom.evaluate.talk import TalkOptions, talk
from englishroom.evaluate.talkers.program import EmittedTalker
from englishroom.talkers.ngrams.emit import emit_ngrams
from englishroom.talkers.ngrams.model_file import load_ngrams
from englishroom.talkers.ngrams.talker import NgramTalker
from tiny_ngrams import ngrams_of

TESTS = Path(__file__).resolve().parents[2]
ORDERS = (1, 2, 5)


@pytest.fixture(scope="module", params=ORDERS)
def emitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[NgramTalker, Path]:
    """Return a talker and the folder it was emitted to."""
    talker, out = ngrams_of(request.param), tmp_path_factory.mktemp("emitted") / "program"
    emit_ngrams(talker, out)
    return talker, out


def test_the_folder_holds_a_program_and_its_tables(emitted: tuple[NgramTalker, Path]) -> None:
    _, out = emitted
    assert sorted(entry.name for entry in out.iterdir()) == ["program.py", "tables.safetensors"]
    assert [entry.name for entry in out.parent.iterdir()] == ["program"]


def test_only_the_standard_library_is_imported(emitted: tuple[NgramTalker, Path]) -> None:
    text = (emitted[1] / "program.py").read_text(encoding="utf-8")
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 120
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


def test_a_bare_python_says_what_the_talker_says(emitted: tuple[NgramTalker, Path], tmp_path: Path) -> None:
    talker, out = emitted
    double = load_ngrams(out / "tables.safetensors", np.float64)
    rng = np.random.default_rng(1)
    tokens = [0, *rng.integers(1, 14, 12), 0, *talker.tokenizer.encode("abcdefghiaba"), *rng.integers(0, 14, 20)]
    tokens = [int(token) for token in tokens]
    harness = (
        "import json, runpy, sys; names = runpy.run_path(sys.argv[1]);"
        f"print(json.dumps([names['log_probs']({tokens}), sorted(sys.modules)]))"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", harness, out / "program.py"],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    answers, modules = json.loads(run.stdout)
    assert run.stderr == ""
    np.testing.assert_allclose(answers, double.log_probs(np.array([tokens]))[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(answers, talker.log_probs(np.array([tokens]))[0], rtol=0, atol=1e-6)
    assert {name.partition(".")[0] for name in modules} <= sys.stdlib_module_names | {"__main__"}


def test_it_is_a_talker_in_a_process_of_its_own(emitted: tuple[NgramTalker, Path]) -> None:
    talker, out = emitted
    with EmittedTalker(out / "program.py", talker.tokenizer, talker.n_ctx) as program:
        tokens = np.random.default_rng(2).integers(0, 14, (2, 15))
        np.testing.assert_allclose(program.log_probs(tokens), talker.log_probs(tokens), rtol=0, atol=1e-6)
        reading = program.stream()
        parts = [reading.extend(part) for part in np.split(tokens[:1], [1, 7], axis=1)]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), program.log_probs(tokens[:1]))


def test_it_talks_as_the_talker_does(emitted: tuple[NgramTalker, Path]) -> None:
    _, out = emitted
    double = load_ngrams(out / "tables.safetensors", np.float64)
    command = [sys.executable, "-I", "-S", str(out / "program.py"), "ab", "--seed", "5", "--max-tokens", "40"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == "ab" + "".join(talk(double, "ab", TalkOptions(seed=5, max_tokens=40))) + "\n"


def test_the_bytes_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from englishroom.talkers.ngrams.emit import emit_ngrams\n"
        "from tiny_ngrams import ngrams_of\n"
        "emit_ngrams(ngrams_of(3), Path(sys.argv[1]))\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), str(TESTS), *sys.path])
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        subprocess.run([sys.executable, "-c", code, str(tmp_path / seed)], env=environment, check=True)
    for name in ("program.py", "tables.safetensors"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()


def test_tables_of_another_program_are_refused(tmp_path: Path) -> None:
    emit_ngrams(ngrams_of(2), tmp_path / "a")
    emit_ngrams(ngrams_of(3), tmp_path / "b")
    (tmp_path / "b" / "tables.safetensors").replace(tmp_path / "a" / "tables.safetensors")
    run = subprocess.run([sys.executable, str(tmp_path / "a" / "program.py")], capture_output=True, text=True)
    assert run.returncode == 1
    assert "not the tables this program was written with" in run.stderr


def test_what_stands_there_is_never_overwritten(tmp_path: Path) -> None:
    talker = ngrams_of(1)
    (tmp_path / "empty").mkdir()
    emit_ngrams(talker, tmp_path / "empty")
    assert (tmp_path / "empty" / "program.py").is_file()
    with pytest.raises(ConfigError, match="empty: is a folder with other things in it; choose another one"):
        emit_ngrams(talker, tmp_path / "empty")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="file: is a file; choose another place for the folder"):
        emit_ngrams(talker, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(ArtifactError, match=r"file/deep/er: cannot be written \(Not a directory\)"):
        emit_ngrams(talker, tmp_path / "file" / "deep" / "er")


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(ArtifactError, match=r"out: cannot be written \(no space left on the disk; it takes"):
        emit_ngrams(ngrams_of(1), tmp_path / "out")
    assert not list(tmp_path.iterdir())
