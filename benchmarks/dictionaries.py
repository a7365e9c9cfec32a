"""Measure how fast dictionaries train beside SAELens and sparsify, on the same activations in memory; print one table.

    python benchmarks/dictionaries.py [--sizes 64x1024x16 160x2048x32 512x4096x32] [--batch 4096] [--threads 1]

Peers run in their own Pythons: --saelens and --sparsify, or ENGLISHROOM_SAELENS_PYTHON and
ENGLISHROOM_SPARSIFY_PYTHON; one that is absent is left out. Every trainer is a process of its own that waits while
another trains; rounds are interleaved, the first is thrown away, and rates are medians. All have the same number of
threads and the same settings of malloc. Each takes the whole step that it takes in use, its auxiliary loss,
optimiser and constraints on the decoder included; SAELens trains no transcoders.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from table import Row, describe_machine, limit_threads, print_table

WORKER = Path(__file__).with_name("dictionary_steps.py")
MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
"""Keeps page faults, which cost everyone the same, out of the figures."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ["64x1024x16", "160x2048x32", "512x4096x32"]
    parser.add_argument("--sizes", nargs="+", default=default, help="numbers read x latents x active latents")
    parser.add_argument("--batch", type=int, default=4096, help="rows a step")
    parser.add_argument("--batches", type=int, default=8, help="batches in memory, gone through again and again")
    parser.add_argument("--steps", type=int, default=8, help="steps a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    for peer in ("saelens", "sparsify"):
        parser.add_argument(
            f"--{peer}", default=os.environ.get(f"ENGLISHROOM_{peer.upper()}_PYTHON"), help="its Python"
        )
    given = parser.parse_args()
    limit_threads(given.threads)
    os.environ |= MALLOC
    pythons = {"ours": sys.executable}
    if given.saelens:
        pythons |= {"saelens": given.saelens, "saelens-sparse": given.saelens}
    if given.sparsify:
        pythons["sparsify"] = given.sparsify
    for peer in ("saelens", "sparsify"):
        if peer not in pythons:
            print(f"{peer} is left out: give --{peer} or ENGLISHROOM_{peer.upper()}_PYTHON")
    print(describe_machine(given.threads))
    print_table(rows(pythons, given))


def rows(pythons: Mapping[str, str], given: argparse.Namespace) -> Iterator[Row]:
    """Measure every size, as an SAE and as a transcoder; what is left unexplained goes to standard error."""
    for size in given.sizes:
        d, latents, k = map(int, size.split("x"))
        for transcode in (False, True):
            settings = {"d": d, "latents": latents, "k": k, "batch": given.batch, "transcode": transcode}
            trainers = {name: python for name, python in pythons.items() if not (transcode and "saelens" in name)}
            rates, shares = measure(trainers, settings, given)
            measured = row(settings, rates)
            print(f"{measured.what}: unexplained after the last round: {shares}", file=sys.stderr, flush=True)
            yield measured


def measure(
    trainers: Mapping[str, str], settings: dict[str, int], given: argparse.Namespace
) -> tuple[dict[str, float], str]:
    """Return each trainer's median rows per second, and what it had left unexplained in the end."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        path = write_activations(Path(folder), settings, given.batches, given.threads)
        workers = {name: running.enter_context(started(name, python, path)) for name, python in trainers.items()}
        rates: dict[str, list[float]] = {name: [] for name in trainers}
        shares: dict[str, str] = {}
        for round_ in range(given.rounds + 1):
            for name, ask in workers.items():
                seconds, share = map(float, ask(str(given.steps)).split())
                shares[name] = f"{name} {share:.3f}"
                if round_:
                    rates[name].append(given.steps * given.batch / seconds)
    return {name: statistics.median(rate) for name, rate in rates.items()}, ", ".join(shares.values())


def write_activations(folder: Path, settings: dict[str, int], batches: int, threads: int) -> Path:
    """Draw activations that a dictionary can explain: sums of a few of many directions, and a function of them."""
    import numpy as np

    rng, d = np.random.default_rng(0), settings["d"]
    directions = rng.standard_normal((4 * d, d), dtype=np.float32)
    n_rows = batches * settings["batch"]
    x = 0.1 * rng.standard_normal((n_rows, d), dtype=np.float32)
    for _ in range(6):
        strength = rng.exponential(1, (n_rows, 1)).astype(np.float32)
        x += strength * directions[rng.integers(0, len(directions), n_rows)]
    hidden = np.maximum(x @ rng.standard_normal((d, 2 * d), dtype=np.float32), 0)
    y = hidden @ rng.standard_normal((2 * d, d), dtype=np.float32) / np.float32(d)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    places = {"x": str(folder / "x.npy"), "y": str(folder / "y.npy"), "threads": threads}
    (folder / "settings.json").write_text(json.dumps(settings | places))
    return folder / "settings.json"


@contextlib.contextmanager
def started(name: str, python: str, settings: Path) -> Iterator[Callable[[str], str]]:
    """Start a trainer, wait until it stands by, and offer a function that asks it for something."""
    command = [python, str(WORKER), name, str(settings)]
    with tempfile.TemporaryFile("w+") as errors:
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert worker.stdin is not None
        assert worker.stdout is not None

        def ask(request: str) -> str:
            if request:
                print(request, file=worker.stdin, flush=True)
            answer = worker.stdout.readline().strip()
            if not answer:
                errors.seek(0)
                raise SystemExit(f"{name} ended: {errors.read()[-2000:]}")
            return answer

        try:
            ask("")
            yield ask
        finally:
            worker.kill()
            worker.wait()


def row(settings: Mapping[str, int], rates: Mapping[str, float]) -> Row:
    """Put our rate beside the faster peer's."""
    kind = "transcoder" if settings["transcode"] else "SAE"
    what = f"train a TopK {kind}, {settings['d']} numbers, {settings['latents']:,} latents, k {settings['k']}"
    peers = {name: rate for name, rate in rates.items() if name != "ours"}
    beside = ", ".join(f"{name} {rate:,.0f} tok/s" for name, rate in peers.items())
    ratio = f"{rates['ours'] / max(peers.values()):.2f}" if peers else ""
    return Row(what, f"{rates['ours']:,.0f} tok/s", beside, ratio, "> 1")


if __name__ == "__main__":
    main()
