"""Lines of emitted code, each with its origin, and pieces of our own source copied verbatim."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from types import ModuleType

import englishroom

WRITTEN = f"Written by englishroom {englishroom.__version__}. It needs nothing but Python 3.11 or later."
TO_HEAR = (
    'To hear it:  python program.py "Once upon a time"  (--help lists the options)',
    "In Python:   import program",
    "             ''.join(program.talk('Once upon a time', seed=1))",
    "             program.log_probs(tokens)",
)
"""Lines of the header of every program that talks."""


class Code(str):
    """An expression in emitted code, which is written as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True)
class LineOrigin:
    """Where a run of emitted lines comes from: ``made_by`` is a pass or ``emit``; ``block`` the block it spells."""

    made_by: str
    block: str | None = None


@dataclass
class SourceText:
    """Emitted code in the making.

    Attributes:
        lines: the text, line by line.
        origins: for each line, where it comes from.
    """

    lines: list[str] = field(default_factory=list)
    origins: list[LineOrigin] = field(default_factory=list)

    def add(self, text: str, origin: LineOrigin) -> None:
        """Append text (one or more lines)."""
        for line in text.split("\n"):
            self.lines.append(line)
            self.origins.append(origin)

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    def ranges(self) -> list[dict[str, object]]:
        """List runs of lines of one origin: first and last line (from 1), pass, and block where there is one."""
        found: list[dict[str, object]] = []
        for number, origin in enumerate(self.origins, 1):
            last = found[-1] if found else None
            if last and (last["made_by"], last["block"]) == (origin.made_by, origin.block):
                last["last"] = number
            else:
                found.append({"first": number, "last": number, "made_by": origin.made_by, "block": origin.block})
        return found


class Verbatim:
    """Pieces of modules, by name, to be copied with everything they need.

    Attributes:
        pieces: top-level name -> its source text, and the names it uses.
        module_of: top-level name -> the module that defines it, in the order of definition.
        imports: name -> the line that imports it.
    """

    def __init__(self, modules: Sequence[ModuleType]) -> None:
        self.pieces: dict[str, tuple[str, frozenset[str]]] = {}
        self.module_of: dict[str, ModuleType] = {}
        self.imports: dict[str, str] = {}
        for module in modules:
            self._read(module)

    def _read(self, module: ModuleType) -> None:
        assert module.__file__ is not None
        package, _, name = module.__name__.rpartition(".")
        text = resources.files(package).joinpath(f"{name}.py").read_text(encoding="utf-8")
        lines = text.split("\n")
        for node in ast.parse(text).body:
            match node:
                case ast.Import(names=names):
                    self.imports.update({a.asname or a.name: _import(a) for a in names})
                case ast.ImportFrom(module=str(source)) if source.startswith("englishroom."):
                    pass  # a piece of another module
                case ast.ImportFrom(module=source, names=names):
                    self.imports.update({a.asname or a.name: f"from {source} {_import(a)}" for a in names})
                case ast.FunctionDef(name=defined) | ast.ClassDef(name=defined):
                    self._piece([defined], node, lines, module)
                case ast.Assign(targets=[ast.Name(id=defined)]):
                    self._piece([defined], node, lines, module)
                case ast.Try():
                    self._piece([n.name for n in ast.walk(node) if isinstance(n, ast.FunctionDef)], node, lines, module)
                case _:
                    pass

    def _piece(self, names: Sequence[str], node: ast.stmt, lines: Sequence[str], module: ModuleType) -> None:
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(d.lineno for d in decorators)])
        text = "\n".join(lines[first - 1 : node.end_lineno])
        uses = frozenset(_globals(symtable.symtable(text, module.__name__, "exec")))
        for name in names:
            self.pieces[name] = (text, uses)
            self.module_of[name] = module

    def needed(self, wanted: Iterable[str]) -> list[str]:
        """List the pieces that ``wanted`` needs, itself included, in the order of their modules."""
        found: set[str] = set()
        queue = list(wanted)
        while queue:
            name = queue.pop()
            if name in self.pieces and name not in found:
                found.add(name)
                queue += self.pieces[name][1]
        return [name for name in self.module_of if name in found]

    def imports_of(self, texts: Iterable[str]) -> list[str]:
        """List the import lines that pieces of code need, sorted."""
        names = {n.id for text in texts for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)}
        lines = {self.imports[name] for name in names if name in self.imports}
        plain = sorted(line for line in lines if line.startswith("import"))
        grouped: dict[str, list[str]] = {}
        for line in lines:
            if line.startswith("from"):
                module, _, name = line.removeprefix("from ").partition(" import ")
                grouped.setdefault(module, []).append(name)
        return plain + [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(grouped.items())]


def _globals(table: symtable.SymbolTable) -> Iterator[str]:
    """Name the globals that a piece of code defines or uses; a local variable of the same name is none."""
    yield from (symbol.get_name() for symbol in table.get_symbols() if symbol.is_global())
    for inner in table.get_children():
        yield from _globals(inner)


def _import(alias: ast.alias) -> str:
    return f"import {alias.name}" + (f" as {alias.asname}" if alias.asname else "")
