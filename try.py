"""Set up and run what this project is for: `python3 try.py`. Needs Python 3.11 or later, and git to have cloned it.

1. The program that ships tells a story, and explains one word of it. Python alone is enough for that.
2. A virtual environment, .venv, is made, with torch and this package in it.
3. tiny-2l, a model that ships too, is decompiled into ./room; when this was stopped, the same command goes on.
4. The fresh program tells a story.

`python3 try.py --setup` does the second step alone; `python3 try.py --test` does it, and runs the tests.
"""

import argparse
import hashlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
ROOM = ROOT / "room"
SHIPPED = ROOT / "src" / "englishroom" / "talkers" / "shipped_rooms" / "tiny-2l" / "program.py"
TORCH = (
    "torch==2.13.0"  # the version that the figures were measured with; where .venv has torch 2.9 or later, that stays
)
PYTEST = [PYTHON, "-m", "pytest", "-n", "auto", "--dist", "loadfile"]
NEEDED_GB = 3  # torch for the CPU and the rest; builds for GPUs, which pip takes on some systems, need 5 more
STORY = ["Once upon a time", "--temperature", "0.6"]
QUESTION = "Once upon a time, there was a little girl named"


class Refusal(Exception):
    """What is in the way, in one line."""


def say(text):
    """Print what happens now, at once."""
    print(f"\n==> {text}", flush=True)


def check_python(version=sys.version_info, system=sys.platform):
    """Refuse a system that is not supported, and a Python that is too old."""
    if system == "win32":
        raise Refusal("Linux and macOS are supported; on Windows run it in WSL")
    if tuple(version[:2]) < (3, 11):
        found = ".".join(str(part) for part in version[:3])
        raise Refusal(f"this is Python {found}, expected 3.11 or later: run it as `python3.11 try.py` or the like")


def check_machine(free_bytes=None):
    """Refuse a machine on which no environment can be made."""
    if sys.platform == "win32":
        raise Refusal("englishroom runs on Linux and macOS; on Windows, run it inside WSL")
    if not VENV.exists():
        try:
            import ensurepip
            import venv
        except ImportError as error:
            module = "python3-venv"
            raise Refusal(f"this Python has no module {error.name}: install it (Debian, Ubuntu: {module})") from error
        del ensurepip, venv
    free = shutil.disk_usage(ROOT).free if free_bytes is None else free_bytes
    if free < NEEDED_GB * 10**9:
        raise Refusal(f"{free / 10**9:.1f} GB are free at {ROOT}, expected {NEEDED_GB} GB for .venv: make room first")


def status_of(command, **streams):
    """Run a command in the root of the repository, and return its exit status."""
    return subprocess.run([str(part) for part in command], cwd=ROOT, check=False, **streams).returncode


def run(command, what):
    """Run a command, its output on the terminal; refuse where it fails."""
    status = status_of(command)
    if status:
        advice = "the line above says why" if status == 1 else "the same command goes on where it was"
        raise Refusal(f"{what} ended with status {status}; {advice}")


def run_quietly(command, what):
    """Run a command with its output in .venv/setup.log, and say how long it took."""
    log = VENV / "setup.log"
    print(f"    {what} ...", end=" ", flush=True)
    start = time.monotonic()
    with log.open("a") as out:
        status = status_of(command, stdout=out, stderr=out)
    print(f"{time.monotonic() - start:.0f} s" if not status else "failed", flush=True)
    if status:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("ERROR")]
        reason = (lines or ["no reason given"])[-1][:300]
        raise Refusal(f"{what} failed: {reason} (all of it: {log})")


def answers(code):
    """Say whether the environment's Python runs a line of code."""
    if not PYTHON.exists():
        return False
    return subprocess.run([str(PYTHON), "-c", code], check=False, capture_output=True).returncode == 0


def set_up():
    """Make .venv with all that is needed; leave what is there already."""
    mark = VENV / "set-up"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if mark.exists() and mark.read_text() == wanted and answers("import englishroom, torch, pytest"):
        return
    check_machine()
    say("Setting up .venv: a few minutes, most of them to download torch. What pip says stands in .venv/setup.log.")
    if not answers("import pip, sys; sys.exit(sys.version_info < (3, 11))"):
        VENV.mkdir(exist_ok=True)
        run_quietly([sys.executable, "-m", "venv", VENV], "making the environment")
    if not answers("import torch"):
        run_quietly([PYTHON, "-m", "pip", "install", TORCH], f"installing {TORCH}")
    run_quietly([PYTHON, "-m", "pip", "install", "-e", ".[dev]"], "installing englishroom and its tools")
    mark.write_text(wanted)


def tell_and_explain(width=150, lines=5):
    """Let the program that ships tell a story, and say why it says one word."""
    program = [sys.executable, "-I", "-S", SHIPPED]
    say("A program without a network in it tells a story. It was decompiled from the model tiny-2l:")
    run([*program, *STORY, "--seed", "2", "--max-tokens", "120"], "the program that ships")
    say(f'Why does it say the next word after "{QUESTION}"?')
    explain = [str(part) for part in (*program, QUESTION, "--explain", "--greedy", "--max-tokens", "1")]
    told = subprocess.run(explain, cwd=ROOT, check=True, capture_output=True, text=True, encoding="utf-8").stdout
    for line in told.splitlines()[:lines]:
        print(line if len(line) <= width else line[: width - 4] + " ...")
    print(
        "\n    Each line is a rule that votes for the word. Its share adds up, with the others, to the word's\n"
        "    log-probability; `without` is what the word would lose if the rule were taken out. The first rule fires\n"
        "    because a head looked one word back and found `girl`. docs/howto/explain.md reads the rest.",
        flush=True,
    )


def decompile():
    """Decompile the shipped model into ./room, unless that has been done."""
    if (ROOM / "manifest.json").exists():
        say("room is there already, so nothing is decompiled (remove the folder, and it is made anew).")
        return
    say("Decompiling tiny-2l afresh, into the folder room: seven minutes on two idle cores. If it is stopped, the same")
    print("    command goes on where it was. It fits less long than the program above was fitted, and talks less well.")
    run([VENV / "bin" / "englishroom", "decompile", "--out", ROOM], "englishroom decompile")


def main(arguments=None):
    """Do what is asked on the command line, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--setup", action="store_true", help="make .venv and stop")
    group.add_argument("--test", nargs=argparse.REMAINDER, help="run the tests; what follows goes to pytest")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # takes the command at hand along
    try:
        check_python()
        if options.setup or options.test is not None:
            set_up()
            return 0 if options.setup else status_of([*PYTEST, *options.test])
        tell_and_explain()
        set_up()
        decompile()
        say("The fresh program tells a story:")
        run([PYTHON, "-I", "-S", ROOM / "program.py", *STORY, "--seed", "1"], "the fresh program")
        say("Next: open room/program.py, which is meant to be read; then docs/tour.md, two minutes in Python;")
        print("    `.venv/bin/englishroom --help` lists the commands, `python3 try.py --test` runs the tests.")
    except Refusal as refusal:
        print(f"try.py: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ntry.py: stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
