"""Write the lists of the docs that the code already holds: blocks, passes, levels, commands, files of a room.

    python docs/generate.py [--check]

Each list stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``. With ``--check`` nothing is written: where
one differs from the code its page is named, and the exit status is 1. `./check --fix` writes, and the tests check.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import get_args

from englishroom import names, passes
from englishroom.cli import COMMANDS
from englishroom.ir import levels, program
from englishroom.passes.base import option_names

DOCS = Path(__file__).parent
PUBLIC = (
    "circuits.ov.moved_terms",
    "circuits.ov.to_tokens",
    "circuits.parts.feature_interventions",
    "circuits.qk.bucket_loss",
    "circuits.qk.score_terms",
    "dictionaries.evidence.latent_evidence.read_evidence",
    "dictionaries.evidence.latent_evidence.write_evidence",
    "ir.rule.rule_at",
    "ir.rule.rule_count",
    "ir.text.parse_program",
    "passes.fold.FoldNorms",
    "talkers.ngrams.arpa.to_arpa",
    "talkers.ngrams.emit.emit_infini",
    "talkers.ngrams.emit.emit_ngrams",
    "talkers.ngrams.emit.emit_skip",
    "talkers.ngrams.encode.drop_repeats",
    "talkers.ngrams.model_file.load_ngrams",
    "talkers.ngrams.talker.fit_ngrams",
)
"""What is there for whoever works in Python: no command uses it. Other code that nothing uses goes."""


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Lay rows out as a table of Markdown, as mdformat leaves it."""
    lines = [header, tuple("--" for _ in header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def meaning(kind: type, paragraphs: int | None = None) -> str:
    """Return a docstring, or its first paragraphs, on one line, its code marked as Markdown marks it."""
    text = re.sub(r"\s+", " ", " ".join((inspect.getdoc(kind) or "").split("\n\n")[:paragraphs]))
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")


def code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def block_table() -> str:
    """List the blocks of the language in the order of their declaration."""
    kinds = get_args(program.Block)
    common = {field.name for field in fields(program._Block)}
    rows = ((code([kind.__name__]), code(f.name for f in fields(kind) if f.name not in common), kind) for kind in kinds)
    return table(("block", "fields", "what it makes"), ((name, own, meaning(kind)) for name, own, kind in rows))


def all_passes() -> Iterator[type]:
    """Yield every pass: a dataclass of the package ``passes`` that has a name and is called with a program."""
    for module in pkgutil.iter_modules(passes.__path__):
        for _, kind in inspect.getmembers(importlib.import_module(f"{passes.__name__}.{module.name}"), inspect.isclass):
            own = kind.__module__ == f"{passes.__name__}.{module.name}"
            if own and is_dataclass(kind) and isinstance(getattr(kind, "name", None), str) and "__call__" in vars(kind):
                yield kind


def pass_table() -> str:
    rows = sorted((kind.name, code(option_names(kind)), meaning(kind, 1)) for kind in all_passes())
    return table(("pass", "options", "what it does"), ((code([name]), options, what) for name, options, what in rows))


def command_table() -> str:
    return table(("command", "what it does"), ((f"`englishroom {name}`", what) for name, what in COMMANDS.items()))


def level_table() -> str:
    """List the blocks that each level allows."""
    allowed = {
        "exact": levels.EXACT_BLOCKS,
        "featured": levels.FEATURED_BLOCKS,
        "sparse": levels.SPARSE_BLOCKS,
        "sparse, readable": levels.READABLE_BLOCKS,
        "explained": levels.EXPLAINED_BLOCKS,
    }
    return table(
        ("level", "blocks"), ((level, code(kind.__name__ for kind in kinds)) for level, kinds in allowed.items())
    )


def room_table() -> str:
    return table(("file", "what it holds"), ((code([name]), what) for name, what in names.EVERY_ROOM.items()))


def further_table() -> str:
    rows = ((code([name]), rooms, what) for name, (rooms, what) in names.SOME_ROOMS.items())
    return table(("file", "rooms", "what it holds"), rows)


def public_table() -> str:
    def rows() -> Iterator[tuple[str, str, str]]:
        for name in PUBLIC:
            module, _, own = name.rpartition(".")
            found = getattr(importlib.import_module(f"englishroom.{module}"), own)
            yield code([own]), code([f"englishroom.{module}"]), meaning(found, 1)

    return table(("name", "module", "what it does"), rows())


LISTS = MappingProxyType(
    {
        "blocks": ("reference/language.md", block_table),
        "passes": ("reference/language.md", pass_table),
        "commands": ("reference/commands.md", command_table),
        "files of every room": ("reference/room.md", room_table),
        "files of some rooms": ("reference/room.md", further_table),
        "levels": ("concepts/program.md", level_table),
        "public": ("howto/python.md", public_table),
    }
)


def generated(text: str, name: str, content: str) -> str:
    """Return a page with the list of that name replaced."""
    start = f"<!-- generated: {name} -->\n"
    pattern = re.compile(rf"{re.escape(start)}.*?<!-- end -->", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise SystemExit(f"expected one list between `{start.strip()}` and `<!-- end -->`")
    return pattern.sub(lambda _found: f"{start}\n{content}\n\n<!-- end -->", text)


def main(check: bool) -> int:
    stale = []
    for name, (page, content) in LISTS.items():
        path = DOCS / page
        before = path.read_text(encoding="utf-8")
        after = generated(before, name, content())
        if after != before:
            stale.append(f"{path.name} ({name})")
            if not check:
                path.write_text(after, encoding="utf-8")
    if stale:
        print(f"{'differs from the code' if check else 'wrote'}: {', '.join(stale)}")
    return int(bool(stale) and check)


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
