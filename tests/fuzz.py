"""Damage rooms, models, dictionaries, evidence and texts at random, and see that each gives one clear line at most.

    python tests/fuzz.py --mutations 100000 [--seed N] [--only rooms models] [--first N]

Each mutation takes a small valid artefact, damages it in one to three places, and uses it as the commands do. It may be
read all the same, or refused by an ``EnglishRoomError``. Anything else is a bug: another exception, a message that is
long or takes several lines, more than TIME_LIMIT_S, or more than MEMORY_LIMIT bytes. Every bug is printed with the
command that repeats it. The work is done by a process of its own, so that even a crash is counted and gone past.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import itertools
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

TIME_LIMIT_S = 20
CRASH_LIMIT_S = 60
"""After this a loop that no signal reaches is ended with its process."""
MEMORY_LIMIT = 2**30
LONGEST_MESSAGE = 1300
READ, REFUSED, BUG = "read", "refused", "bug"
AREAS = ("rooms", "models", "dictionaries", "evidence", "texts", "ngrams", "sketches")


@dataclass(frozen=True)
class Outcome:
    """What came of one mutation.

    Attributes:
        kind: READ, REFUSED or BUG.
        what: what was done to which files.
        came: the message, or the end of the traceback.
    """

    kind: str
    what: str
    came: str = ""


class TooSlowError(BaseException):
    """A mutation took too long; no handler of ``Exception`` may swallow it."""


def run_one(seed: int, area: str, number: int, scratch: Path, limit_s: float = TIME_LIMIT_S) -> Outcome:
    """Damage one artefact and use it.

    Args:
        scratch: an empty folder; it is empty again afterwards.
    """
    from fuzz_artefacts import draw, sealed
    from fuzz_mutate import mutate, write

    chance = random.Random(f"{seed} {area} {number}")
    artefact = draw(area, chance)
    files = dict(artefact.files)
    what = mutate(files, chance)
    if chance.random() < 0.85:
        sealed(files, artefact)
    use = chance.choice(artefact.use)
    where = scratch / "artefact"
    where.mkdir()
    try:
        write(where, files)
        return outcome_of(lambda: use(where), f"{use.__name__.strip('_')} after {what}", limit_s)
    finally:
        for entry in scratch.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def outcome_of(use: Callable[[], object], what: str, limit_s: float) -> Outcome:
    from englishroom.errors import EnglishRoomError

    try:
        with limits(limit_s), quiet():
            use()
    except EnglishRoomError as error:
        message = str(error)
        if len(message) > LONGEST_MESSAGE or not message.isprintable():
            return Outcome(BUG, what, f"{type(error).__name__} of {len(message):,} characters: {message!r:.200}")
        return Outcome(REFUSED, what, message)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames if "englishroom" in frame.filename]
        return Outcome(BUG, what, f"{type(error).__name__}: {str(error)!r:.300} at {' '.join(ours[-4:])}")
    return Outcome(READ, what)


@contextlib.contextmanager
def limits(limit_s: float = TIME_LIMIT_S) -> Iterator[None]:
    """Bound the time and the memory of what is done inside."""

    def late(_signal: int, _frame: object) -> None:
        raise TooSlowError(f"more than {limit_s:g} s")

    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else None
    handler = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    if pages is not None:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_LIMIT, before[1]))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what commands print, and warnings about numbers, to themselves."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder in memory where there is such a place."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


def warm_up(areas: Sequence[str], scratch: Path) -> None:
    """Use every valid artefact once: all must be read, and what is loaded once does not count against a mutation."""
    from fuzz_artefacts import MAKERS
    from fuzz_mutate import write

    for area in areas:
        for number, artefact in enumerate(MAKERS[area]()):
            for use in artefact.use:
                where = scratch / f"{area}-{number}" / "artefact"
                where.mkdir(parents=True)
                write(where, dict(artefact.files))
                with quiet():
                    use(where)
                shutil.rmtree(where.parent)


def _places(areas: Sequence[str], first: int) -> Iterator[tuple[str, int]]:
    """Yield the area and number of every mutation, areas in turn."""
    for number in itertools.count(first):
        for area in areas:
            yield area, number


def work(options: argparse.Namespace) -> None:
    """Run mutations, and print a line for each before and after it."""
    faulthandler.enable()
    skip = options.skip
    with scratch_folder() as scratch:
        warm_up(options.only, scratch)
        for area, number in itertools.islice(_places(options.only, options.first), skip, options.mutations):
            print(f"at\t{area}\t{number}", flush=True)
            faulthandler.dump_traceback_later(CRASH_LIMIT_S, exit=True)
            outcome = run_one(options.seed, area, number, scratch, options.limit)
            faulthandler.cancel_dump_traceback_later()
            came = outcome.came if outcome.kind == BUG or options.show else ""
            print(f"{outcome.kind}\t{outcome.what!a}\t{came!a}", flush=True)


class _Run:
    """Counts, bugs, and the progress line of a run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.counts, self.done, self.begun = options, Counter[str](), 0, time.monotonic()
        self.kinds: Counter[str] = Counter()

    def note(self, area: str, number: int, kind: str, what: str, came: str) -> None:
        self.done += 1
        self.counts[f"{area} {kind}"] += 1
        self.counts[kind] += 1
        if kind == BUG:
            self.kinds[re.sub(r"0x[0-9a-f]+|\d+ s", "", came)[-160:]] += 1
            again = f"python tests/fuzz.py --seed {self.options.seed} --only {area} --first {number} --mutations 1"
            print(f"\nbug: {came}\n  {what[:600]}\n  {again}", flush=True)
        elif self.options.show:
            print(f"{area} {number}: {kind}: {what[:300]}\n    {came[:400]}")
        if self.done % 200 == 0 or self.done == self.options.mutations:
            rate = self.done / (time.monotonic() - self.begun)
            print(f"\r{self.done:,} of {self.options.mutations:,}: {self.line()}, {rate:.0f}/s ", end="", flush=True)

    def line(self) -> str:
        return f"{self.counts[READ]:,} read, {self.counts[REFUSED]:,} refused, {self.counts[BUG]:,} bugs"

    def finish(self) -> int:
        print(f"\nseed {self.options.seed}, {self.done:,} mutations: {self.line()}")
        for area in self.options.only:
            print(
                f"  {area:12} "
                + ", ".join(f"{self.counts[f'{area} {kind}']:,} {kind}" for kind in (READ, REFUSED, BUG))
            )
        for kind, times in self.kinds.most_common():
            print(f"  {times:6,} times {kind}")
        return 1 if self.counts[BUG] else 0


def supervise(options: argparse.Namespace, given: Sequence[str]) -> int:
    """Run a worker, and another one from the next mutation on whenever one crashes."""
    run = _Run(options)
    with contextlib.suppress(KeyboardInterrupt):
        _supervise(run, options, given)
    if run.done < options.mutations:
        print(f"\nstopped; go on with --first {options.first + run.done // len(options.only)}")
    return run.finish()


def _supervise(run: _Run, options: argparse.Namespace, given: Sequence[str]) -> None:
    while run.done < options.mutations:
        command = [sys.executable, __file__, *given, "--worker", "--skip", str(run.done)]
        place = None
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            for line in worker.stdout:
                kind, first, second = line.rstrip("\n").split("\t")
                if kind == "at":
                    place = (first, int(second))
                elif place is not None:
                    run.note(*place, kind, first, second)
                    place = None
        if place is None:
            return
        run.note(*place, BUG, "", f"the process ended with status {worker.returncode}")


def main(given: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=2000, help="mutations in all, the areas in turn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation of each area")
    parser.add_argument("--only", nargs="+", choices=AREAS, default=AREAS, help="kinds of artefacts to damage")
    parser.add_argument("--limit", type=float, default=TIME_LIMIT_S, help="seconds that a mutation may take")
    parser.add_argument("--show", action="store_true", help="print every mutation and what came of it")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--skip", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    if options.worker:
        work(options)
        return 0
    return supervise(options, given)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
