"""Lists in the docs that are made from the code say what the code says."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from englishroom import names

PAGE = Path(__file__).resolve().parents[1] / "docs" / "generate.py"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", PAGE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_lists_in_the_reference_are_those_of_the_code(generate, capsys) -> None:
    assert generate.main(check=True) == 0, f"{capsys.readouterr().out}; python docs/generate.py writes them"


def test_lists_hold_what_the_code_holds(generate) -> None:
    assert {"`Lookup`", "`Vote`", "`Match`"} <= set(re.findall(r"^\| (`\w+`)", generate.block_table(), re.MULTILINE))
    named = re.findall(r"^\| `([\w-]+)`", generate.pass_table(), re.MULTILINE)
    assert named == ["compact", "explained", "fold-norms", "prune", "quantise", "slice"]
    assert "| `englishroom decompile` | " in generate.command_table()


def test_every_file_of_a_room_says_what_it_holds() -> None:
    declared = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}
    assert names.EVERY_ROOM.keys() | names.SOME_ROOMS.keys() == declared


def test_a_list_that_differs_is_named(generate, monkeypatch, tmp_path, capsys) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- generated: things -->\n\nold\n\n<!-- end -->\n")
    monkeypatch.setattr(generate, "DOCS", tmp_path)
    monkeypatch.setattr(generate, "LISTS", {"things": ("page.md", lambda: "new")})
    assert generate.main(check=True) == 1
    assert "differs from the code: page.md (things)" in capsys.readouterr().out
    assert "old" in page.read_text()
    assert generate.main(check=False) == 0
    assert page.read_text() == "# Page\n\n<!-- generated: things -->\n\nnew\n\n<!-- end -->\n"
    assert generate.main(check=True) == 0


def test_what_nothing_uses_is_there_for_python_and_listed(generate) -> None:
    """Code that only tests use goes, or is named on the page that says what there is beside the commands."""
    folder = Path(generate.program.__file__).parents[1]
    files = [path for path in folder.rglob("*.py") if not {"shipped_rooms", "prelude"} & set(path.parts)]
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    words = Counter(re.findall(r"\w+", "\n".join(texts.values())))
    unused = set()
    for path, text in texts.items():
        module = ".".join(path.relative_to(folder).with_suffix("").parts)
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and words[node.name] == 1:
                unused.add(f"{module}.{node.name}")
    assert unused == set(generate.PUBLIC), "use it, remove it, or mend PUBLIC in docs/generate.py"
