"""The layout of the package: a name stands for one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

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
    """Folders tell files of one name apart; three of a name outside the commands are too many to keep in mind."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in sources():
        if path.name != "__init__.py" and path.relative_to(SRC).parts[0] != "cli":
            places[path.name].append(str(path.relative_to(SRC)))
    assert {name: paths for name, paths in places.items() if len(paths) > 2} == {}
