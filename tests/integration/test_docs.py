"""The commands and examples in README and docs are run."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from englishroom.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *(ROOT / "docs" / "howto" / f"{name}.md" for name in ("decompile", "train"))]


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_console_lines_run(page: Path, tmp_path: Path) -> None:
    """Run every line that begins with `$`, in order, in an empty folder."""
    commands = [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]
    assert commands
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for command in commands:
        run = subprocess.run(
            command, shell=True, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
        )
        assert run.returncode == 0, f"{command}\n{run.stderr}"
    if page.name == "README.md":
        (excerpt,) = [block for block in blocks(page, "python") if "import program" not in block]
        assert excerpt in (tmp_path / "room" / "program.py").read_text(encoding="utf-8")


def commands_of(page: Path) -> list[list[str]]:
    """List the commands of englishroom on a page: in blocks, and but for the lab book, with options, in lines."""
    text = page.read_text(encoding="utf-8")
    fences = re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for fence in fences for line in fence.replace("\\\n", " ").splitlines()]
    if page.parent.name != "lab":
        lines += [re.sub(r"\s+", " ", code) for code in re.findall(r"`([^`]+)`", prose_with_code(page))]
    commands = [shlex.split(re.split(r" [>#|]", line)[0]) for line in lines if re.match(r"(\$ )?englishroom ", line)]
    return [command[command.index("englishroom") + 1 :] for command in commands if "[" not in "".join(command)]


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.stem
)
def test_every_command_parses(page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Options of every command on the page are options that there are; nothing is run."""
    for command, *arguments in commands_of(page):
        if command not in COMMANDS or not arguments or "--help" in arguments:
            continue
        module = importlib.import_module(f"englishroom.cli.{command.replace('-', '_')}")
        monkeypatch.setattr(module.Command, "run", lambda self: None)
        assert main([command, *arguments]) == 0, f"{command} {arguments}\n{capsys.readouterr().err}"


def test_a_command_with_an_option_that_is_gone_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```text\nenglishroom talk room --seed 1\nenglishroom talk room \\\n    --sead 1  # old\n```\n")
    assert commands_of(page) == [["talk", "room", "--seed", "1"], ["talk", "room", "--sead", "1"]]
    with pytest.raises(SystemExit):
        main(commands_of(page)[1])
    assert sum(len(commands_of(page)) for page in every_page()) > 60


def test_python_page_runs(tmp_path: Path) -> None:
    code = "\n".join(blocks(ROOT / "docs" / "howto" / "python.md", "python"))
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "blocks.1.attn.hook_pattern (1, 5, 5, 5)" in run.stdout
    room, model = (line.split()[1:] for line in run.stdout.splitlines() if line.startswith(("room ", "tiny-2l ")))
    assert room == model


def test_readme_module_example_runs(tiny_room: Path) -> None:
    (example,) = [block for block in blocks(ROOT / "README.md", "python") if "import program" in block]
    run = subprocess.run([sys.executable, "-c", example], cwd=tiny_room, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) >= 2


def test_ci_runs_the_commands_of_the_readme() -> None:
    first, second = blocks(ROOT / "README.md", "sh")
    assert first == "python3 try.py\n"
    assert second == "python3 try.py --test\n"
    script = (ROOT / ".ci" / "run").read_text()
    assert re.search(r"\n\./check\n", script)
    assert "block 1" in script
    assert "block 2" in script
    for number, expected in (("1", first), ("2", second)):
        function = script[script.index("block() {") : script.index("\n}") + 2]
        printed = subprocess.run(
            ["bash", "-c", f"{function}\nblock {number}"], cwd=ROOT, capture_output=True, text=True
        )
        assert printed.stdout == expected


def prose_with_code(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """Return a page without its blocks of code and its code in lines, in which brackets are no links."""
    return re.sub(r"`[^`\n]*`", "`code`", prose_with_code(page))


def links(page: Path) -> list[tuple[Path, str]]:
    """List where the relative links of a page lead: a path, and an anchor or nothing."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    parts = [link.partition("#")[::2] for link in found if not re.match(r"\w+:", link)]
    return [((page.parent / path).resolve() if path else page, anchor) for path, anchor in parts]


def anchors(page: Path) -> set[str]:
    """List the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", prose_with_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def every_page() -> list[Path]:
    return [*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")), *(ROOT / "docs").rglob("*.md")]


def lost_links(page: Path) -> list[str]:
    return [
        f"{page.name}: {path.name}{anchor and '#'}{anchor}"
        for path, anchor in links(page)
        if not path.exists() or (anchor and anchor not in anchors(path))
    ]


def test_links_lead_somewhere() -> None:
    assert [lost for page in every_page() for lost in lost_links(page)] == []


def test_a_link_or_an_anchor_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `code` heading, said\n[a](page.md#a-code-heading-said) [b](#none) [c](gone.md) `[d](no.md)`\n")
    assert lost_links(page) == ["page.md: page.md#none", "page.md: gone.md"]


def test_every_page_of_docs_stands_in_the_index() -> None:
    """An index of its own (decisions, the lab book) speaks for the pages beside it."""
    index = ROOT / "docs" / "README.md"
    listed = {path for path, _ in links(index)}
    listed |= {path for inner in listed if inner.name == "README.md" for path, _ in links(inner)}
    assert set((ROOT / "docs").rglob("*.md")) - listed == {index}


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "decisions").glob("0*.md")), ids=lambda page: page.stem[:4])
def test_every_decision_has_a_status(page: Path) -> None:
    """And the index says the same."""
    found = re.search(
        r"^\*\*Status\.\*\* (Proposed|Accepted|Superseded)\b.*\d{4}-\d\d-\d\d", page.read_text(), re.MULTILINE
    )
    assert found, f"{page.name} has no line like: **Status.** Accepted, 2026-11-21."
    index = (page.parent / "README.md").read_text()
    assert re.search(rf"^\|.*\({re.escape(page.name)}\) \| {found[1].lower()}", index, re.MULTILINE)


def test_paths_of_code_that_the_docs_name_exist() -> None:
    """Paths with a folder, such as `emit/python.py` or `passes/`, below the root, the package, or the tests."""
    roots = (ROOT, ROOT / "src" / "englishroom", ROOT / "docs")
    for page in set(every_page()) - set((ROOT / "docs" / "lab").glob("*.md")):
        for path in re.findall(r"`([\w-]+(?:/[\w.-]+)*/[\w-]+\.py)`", prose_with_code(page)):
            placeholder = re.search(r"[A-Z]{4}", path)
            assert placeholder or any((root / path).exists() for root in roots), f"{page.name}: {path}"


def test_words_are_defined_where_the_page_says() -> None:
    """In its last column: a path below the package, and classes, functions or constants that stand there."""
    rows = [line.split("|")[-2] for line in (ROOT / "docs/concepts/words.md").read_text().splitlines() if "|" in line]
    places = [re.findall(r"`([^`]+)`", part) for cell in rows for part in cell.split(";") if ".py`" in cell]
    assert len(places) > 30
    for path, *names in places:
        assert names
        tree = ast.parse((ROOT / "src" / "englishroom" / path).read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
        assert set(names) <= defined | {node.id for node in assigned}, path


def test_map_of_the_packages_names_them_all() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (`.*?) \|", text[text.index("## A map") : text.index("## To add")], re.MULTILINE)
    named = {name for cell in table for name in re.findall(r"`(\w+)`", cell)}
    package = ROOT / "src" / "englishroom"
    assert {path.parent.name for path in package.glob("*/__init__.py")} <= named
    assert all((package / name).exists() or (package / f"{name}.py").exists() for name in named)
