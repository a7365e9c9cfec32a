"""`python3 try.py`, a newcomer's first command: what it does in which order, and what it says where it cannot."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with a clone that has nothing in it yet."""
    spec = importlib.util.spec_from_file_location("try_script", ROOT / "try.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    for name, path in (("ROOT", "."), ("VENV", ".venv"), ("PYTHON", ".venv/bin/python"), ("ROOM", "room")):
        monkeypatch.setattr(module, name, tmp_path / path)
    return module


@pytest.fixture
def commands(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that the script would have run; each succeeds, and decompile leaves a room."""
    run: list[list[str]] = []

    def pretend(command: list[object], **_streams: object) -> int:
        run.append([str(part) for part in command])
        if "decompile" in run[-1]:
            script.ROOM.mkdir()
            (script.ROOM / "manifest.json").write_text("{}")
        return 0

    monkeypatch.setattr(script, "status_of", pretend)
    monkeypatch.setattr(script, "tell_and_explain", lambda: run.append(["tell"]))
    monkeypatch.setattr(script, "answers", lambda code: code.startswith("import englishroom"))
    return run


def words(commands: list[list[str]]) -> list[str]:
    known = ("tell", "venv", "torch==2.13.0", ".[dev]", "decompile", "pytest", "--seed")
    return [next(word for word in known if word in command) for command in commands]


def test_first_command_tells_sets_up_decompiles_and_talks_in_this_order(script, commands) -> None:
    assert script.main([]) == 0
    assert words(commands) == ["tell", "venv", "torch==2.13.0", ".[dev]", "decompile", "--seed"]
    assert commands[-1][:3] == [str(script.PYTHON), "-I", "-S"]


def test_second_run_makes_nothing_anew(script, commands, capsys) -> None:
    assert script.main([]) == 0
    commands.clear()
    assert script.main([]) == 0
    assert words(commands) == ["tell", "--seed"]
    assert "room is there already" in capsys.readouterr().out


def test_changed_requirements_are_installed(script, commands) -> None:
    script.main(["--setup"])
    commands.clear()
    (script.ROOT / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    assert script.main(["--setup"]) == 0
    assert ".[dev]" in words(commands)


def test_torch_that_is_there_stays(script, commands, monkeypatch) -> None:
    monkeypatch.setattr(script, "answers", lambda code: True)
    script.VENV.mkdir()
    assert script.main(["--setup"]) == 0
    assert words(commands) == [".[dev]"]


def test_second_command_sets_up_and_tests(script, commands, monkeypatch) -> None:
    assert script.main(["--test", "tests/ir", "-k", "text"]) == 0
    assert words(commands) == ["venv", "torch==2.13.0", ".[dev]", "pytest"]
    assert commands[-1][-3:] == ["tests/ir", "-k", "text"]
    monkeypatch.setattr(script, "status_of", lambda command, **_streams: 5)
    assert script.main(["--test"]) == 5


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("old", r"this is Python 3\.9\.2, expected 3\.11 or later: run it as `python3\.11 try\.py` or the like"),
        ("windows", r"Linux and macOS are supported; on Windows run it in WSL"),
        ("no venv", r"this Python has no module ensurepip: install it \(Debian, Ubuntu: python3-venv\)"),
        ("full disk", r"1\.5 GB are free at .*, expected 3 GB for \.venv: make room first"),
        ("refused", r"englishroom decompile ended with status 1; the line above says why"),
        ("killed", r"englishroom decompile ended with status -9; the same command goes on where it was"),
    ],
)
def test_what_is_in_the_way_is_one_line(script, commands, monkeypatch, capsys, found: str, message: str) -> None:
    if found == "old":
        check = script.check_python
        monkeypatch.setattr(script, "check_python", lambda: check((3, 9, 2, "final", 0)))
    elif found == "windows":
        check = script.check_python
        monkeypatch.setattr(script, "check_python", lambda: check((3, 12, 0), "win32"))
    elif found == "no venv":
        monkeypatch.setitem(sys.modules, "ensurepip", None)
    elif found == "full disk":
        monkeypatch.setattr(script.shutil, "disk_usage", lambda _path: type("Usage", (), {"free": 1_500_000_000}))
    else:
        monkeypatch.setattr(script, "set_up", lambda: None)
        monkeypatch.setattr(script, "status_of", lambda command: {"refused": 1, "killed": -9}[found])
    assert script.main([]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"try\.py: {message}", line)


def test_failed_installation_names_the_reason_and_the_log(script, capsys) -> None:
    script.VENV.mkdir()
    fail = [sys.executable, "-c", "print('ERROR: No matching distribution found for torch'); raise SystemExit(1)"]
    with pytest.raises(script.Refusal, match=r"installing torch failed: ERROR: No matching .*setup\.log"):
        script.run_quietly(fail, "installing torch")


def test_interrupted_run_says_how_it_goes_on(script, commands, monkeypatch, capsys) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "set_up", interrupt)
    assert script.main([]) == 130
    assert "try.py: stopped; the same command goes on" in capsys.readouterr().err


def test_a_killed_script_takes_its_command_along(tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        "names = runpy.run_path('try.py')\n"
        'child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"\n'
        "names['main'].__globals__['tell_and_explain'] = lambda: names['run']([sys.executable, '-c', child], 'it')\n"
        "names['main']([])\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as script:
        assert script.stdout
        child = int(script.stdout.readline())
        script.terminate()
        assert script.wait(30) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_story_and_explanation_come_with_python_alone() -> None:
    """The first thing that a newcomer sees, run by a Python without any package."""
    code = "import runpy; runpy.run_path('try.py')['tell_and_explain']()"
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "there was a little girl named Lily. She loved to play outside" in run.stdout
    assert re.search(r"' Lily' after ' little' ' girl' ' named': log p -0\.153", run.stdout)
    first = run.stdout.index("moved.1[67]")
    assert "head 0 from ' girl' 1 back" in run.stdout[first : first + 150]


def test_a_system_that_is_not_supported_is_refused_before_anything_is_made(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(script.Refusal, match="runs on Linux and macOS; on Windows, run it inside WSL"):
        script.check_machine()
