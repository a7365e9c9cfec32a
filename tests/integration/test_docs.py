"""The commands and examples in README and docs are run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_page_of_docs_is_linked() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    linked = {
        (page.parent / link).resolve() for page in pages for link in re.findall(r"\]\(([^)#]+)\)", page.read_text())
    }
    missing = {page for page in pages if page.resolve() not in linked} - {
        ROOT / "README.md",
        ROOT / "docs" / "README.md",
    }
    assert not missing
