"""Count the lines of code in `src`, beside those of an earlier commit, package by package.

    python benchmarks/source_lines.py [--before 26937ac] [--at COMMIT]

1. A line counts where a token of code stands on it: blank lines, comments and strings that stand alone do not. The
   programs of shipped rooms are data.
2. `source_lines.toml` names what serves features that the earlier commit lacks: modules, or functions, classes and
   constants of them. What is left beside these serves the same features.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tarfile
import tokenize
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from table import ROOT

HERE = "here"
"""Names the working tree in the place of a commit."""
FEATURES = Path(__file__).with_suffix(".toml")
PACKAGE = "src/englishroom"
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="26937ac", help="commit to compare with")
    parser.add_argument("--at", default=HERE, help="commit to count; by default the working tree")
    given = parser.parse_args()
    before, now = read_modules(given.before), read_modules(given.at)
    features: dict[str, list[str]] = tomllib.loads(FEATURES.read_text(encoding="utf-8"))
    lines = {feature: {name: len(lines_of(name, now)) for name in names} for feature, names in features.items()}
    counted = [by_package({path: len(code_lines(text)) for path, text in tree.items()}) for tree in (before, now)]
    new = by_package({name: n for names in lines.values() for name, n in names.items()})
    print(f"| package | {given.before} | {given.at} | for new features | for the same features | difference |")
    print("|---|---|---|---|---|---|")
    for package in sorted(counted[0] | counted[1]):
        print_row(package, counted[0][package], counted[1][package], new[package])
    print_row("all", counted[0].total(), counted[1].total(), new.total())
    print("\n| new feature | lines |\n|---|---|")
    for feature, names in lines.items():
        print(f"| {feature} | {sum(names.values()):,} |")
    if absent := [name for names in lines.values() for name, n in names.items() if not n]:
        print(f"\nnot in {given.at}, counted as nothing: {', '.join(absent)}")


def print_row(package: str, before: int, now: int, new: int) -> None:
    print(f"| {package} | {before:,} | {now:,} | {new:,} | {now - new:,} | {now - new - before:+,} |", flush=True)


def read_modules(commit: str) -> dict[str, str]:
    """Return the text of every module, by its path in the package."""
    if commit == HERE:
        files = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in (ROOT / PACKAGE).rglob("*.py")}
    else:
        packed = subprocess.run(["git", "archive", commit, PACKAGE], cwd=ROOT, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            files = {
                member.name: file.read()
                for member in archive
                if member.name.endswith(".py") and (file := archive.extractfile(member))
            }
    return {
        path.removeprefix(f"{PACKAGE}/"): data.decode() for path, data in files.items() if "/shipped_rooms/" not in path
    }


def code_lines(text: str) -> set[int]:
    """Return the numbers of the lines of code."""
    texts = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    prose = {line for node in texts for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in NO_CODE]
    return {line for token in tokens for line in range(token.start[0], token.end[0] + 1)} - prose


def lines_of(name: str, modules: Mapping[str, str]) -> set[int]:
    """Return the lines of code of a module, or of what it names: ``path``, ``path::name``, ``path::Class.name``."""
    path, _, inner = name.partition("::")
    text = modules.get(path, "")
    if not inner:
        return code_lines(text)
    body, node = ast.parse(text).body, None
    for part in inner.split("."):
        node = next((node for node in body if part in names_of(node)), None)
        body = node.body if isinstance(node, ast.ClassDef) else []
    if node is None:
        return set()
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
    return code_lines(text) & set(range(first, (node.end_lineno or first) + 1))


def names_of(node: ast.stmt) -> list[str]:
    """Return what a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def by_package(lines: Mapping[str, int]) -> Counter[str]:
    """Add up by the first part of the path."""
    total: Counter[str] = Counter()
    for path, n in lines.items():
        total[path.partition("::")[0].partition("/")[0]] += n
    return total


if __name__ == "__main__":
    main()
