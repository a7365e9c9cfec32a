"""The layout of the package: a name stands for one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import englishroom.names

SRC = Path(__file__).parents[1] / "src" / "englishroom"
COMMAND = "Command"
"""The class of this name in every file of ``cli`` is that file's command."""


def sources() -> list[Path]:
    return [path for path in SRC.rglob("*.py") if "shipped_rooms" not in path.parts]


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in sources():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and node.name != COMMAND:
                places[node.name].append(str(path.relative_to(SRC)))
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_few_files_have_one_name() -> None:
    """Folders tell files of one name apart; three of a name are too many to keep in mind, but for ``config.py``."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in sources():
        if path.name not in ("__init__.py", "config.py") and path.relative_to(SRC).parts[0] != "cli":
            places[path.name].append(str(path.relative_to(SRC)))
    assert {name: paths for name, paths in places.items() if len(paths) > 2} == {}


def imported(path: Path) -> set[str]:
    """Return what a file takes from other modules, as ``module.name``."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return {f"{node.module}.{alias.name}" for node in nodes for alias in node.names}


def test_rooms_with_a_program_are_laid_out_in_one_place() -> None:
    for name in ("englishroom.emit.python.emit", "englishroom.ir.room.pack"):
        users = {path.name for path in sources() if path.parent.name == "pipeline" and name in imported(path)}
        assert users == {"writing.py"}, name


CHANGES = {"add", "append", "clear", "extend", "insert", "pop", "remove", "setdefault", "update"}


def changed_by(node: ast.AST) -> ast.expr | None:
    """Return what a statement or call writes into, where it is not a new name."""
    if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
        return node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
        return node.func.value
    return node.target if isinstance(node, ast.AugAssign) else None


def test_no_function_of_the_pipeline_writes_into_its_arguments() -> None:
    found: list[str] = []
    for path in (path for path in sources() if path.parent.name == "pipeline"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef) and function.name != "_emptying":  # which is there to let go
                given = {a.arg for a in (*function.args.args, *function.args.kwonlyargs)} - {"self"}
                changed = [value for node in ast.walk(function) if (value := changed_by(node)) is not None]
                names = {value.id for value in changed if isinstance(value, ast.Name)} & given
                found += [f"{path.name}: {function.name} writes into {name}" for name in sorted(names)]
    assert found == []


def test_the_names_of_a_room_s_files_stand_in_one_place() -> None:
    names = {value for value in vars(englishroom.names).values() if isinstance(value, str) and "." in value}
    names = {name for name in names if name.count(".") == 1 and " " not in name} - {"tokenizer.json"}
    for path in sources():
        if path.name == "names.py" or path.parent.name == "prelude":
            continue
        texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert not texts & names, path
