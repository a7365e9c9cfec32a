"""What the benchmarks share: rows that are printed as they come, interleaved timing, and the machine at hand."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("ENGLISHROOM_SHARED", ROOT.parent / "shared"))


@dataclass(frozen=True)
class Row:
    """One measurement beside what it is held against."""

    what: str
    ours: str
    beside: str
    ratio: str
    aim: str


def print_table(rows: Iterable[Row]) -> None:
    """Print every row as soon as it is there."""
    print("| what | ours | beside | ratio | aim |")
    print("|---|---|---|---|---|", flush=True)
    for row in rows:
        print(f"| {row.what} | {row.ours} | {row.beside} | {row.ratio} | {row.aim} |", flush=True)


def limit_threads(threads: int) -> None:
    """Give torch, numpy and their libraries so many threads; holds where none of them is loaded yet."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(threads)


def describe_machine(threads: int) -> str:
    import torch
    import transformers

    cpu = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return (
        f"{cpu}, {os.cpu_count()} cores, {threads} thread(s) used; "
        f"{platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def interleaved(tasks: Sequence[Callable[[], int]], rounds: int) -> list[float]:
    """Run the tasks in turn, `rounds` times after a warm-up; return each one's median rate in units per second."""
    rates: list[list[float]] = [[] for _ in tasks]
    for round_ in range(rounds + 1):
        for i, task in enumerate(tasks):
            began = time.perf_counter()
            units = task()
            if round_:
                rates[i].append(units / (time.perf_counter() - began))
    return [statistics.median(rate) for rate in rates]
