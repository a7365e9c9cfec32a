"""Who imports whom: no module reaches itself again, not even by imports inside functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import englishroom

ROOT = Path(englishroom.__file__).parent


def module_name(path: Path) -> str:
    return ".".join(("englishroom", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_name(path): path for path in ROOT.rglob("*.py") if "shipped_rooms" not in path.parts}


def imported(path: Path) -> Iterator[str]:
    """Name the modules of englishroom that a module imports when it runs, wherever it does so."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            inner = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in MODULES else str(node.module) for name in inner)


def test_no_module_imports_in_a_circle() -> None:
    graph = {name: set(imported(path)) for name, path in MODULES.items()}
    assert graph["englishroom.emit.python"] >= {"englishroom.emit.sparse", "englishroom.emit.emitter"}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_tests_take_builders_from_helper_modules() -> None:
    folder = Path(__file__).parent
    found = []
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [f"{path.name}: {n}" for n in names if n.split(".")[-1].startswith("test_") or n == "conftest"]
    assert found == [], "put what several tests need into a module of its own; tests/README.md lists them"


def test_the_readme_of_the_tests_names_every_helper() -> None:
    folder = Path(__file__).parent
    told = (folder / "README.md").read_text(encoding="utf-8")
    helpers = {path.name for path in folder.glob("*.py") if not path.name.startswith("test_")}
    missing = {name for name in helpers if name not in told}
    assert missing == set(), "say in tests/README.md what the helper is for"
