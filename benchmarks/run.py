"""Measure speed beside `transformers`, and against the limits we set ourselves; print one table.

    python benchmarks/run.py [--threads 1] [--models PATH ...] [--rounds 5]

Every ratio compares medians of interleaved rounds in this one process. Programs are those of the exact level.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from table import SHARED, Row, describe_machine, interleaved, limit_threads, print_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch and numpy alike")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stories", type=int, default=48, help="stories of 200 tokens that are scored")
    parser.add_argument("--tokens", type=int, default=200, help="tokens that are said in one stream")
    parser.add_argument("--models", nargs="*", help="default: the shipped model, and stories260K where it is at hand")
    given = parser.parse_args()
    limit_threads(given.threads)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    print(describe_machine(given.threads))
    print_table(rows(given))


def rows(given: argparse.Namespace) -> Iterator[Row]:
    at_hand = [str(path) for path in [SHARED / "models" / "stories260K"] if path.exists()]
    models = given.models or ["tiny-2l", *at_hand]
    for model in models:
        yield from score_rows(model, given.rounds, given.stories)
        yield from talk_rows(model, given.rounds, given.tokens)
    for model in models:
        yield emitted_row(model, given.tokens)
    yield help_row()
    for model in models:
        yield memory_row(model)
    if not given.models and (SHARED / "models" / "stories15M").exists():
        yield memory_row(str(SHARED / "models" / "stories15M"))


def _open(model: str):
    import numpy as np

    from englishroom.evaluate.talkers.program import ProgramTalker
    from englishroom.evaluate.talkers.target import TargetTalker
    from englishroom.lower.lift import lift
    from englishroom.models.reference import reference_model
    from englishroom.pipeline import open_target

    target, tokenizer = open_target(model)
    program, _ = lift(target)
    fast = ProgramTalker(target.name, program, tokenizer, np.float32)
    return target, tokenizer, TargetTalker(target, tokenizer), fast, reference_model(target)


class TransformersTalker:
    """The peer, scored by the very same code as ours."""

    def __init__(self, model, tokenizer, n_ctx: int) -> None:
        self.name, self.model, self.tokenizer, self.n_ctx = "transformers", model, tokenizer, n_ctx

    def log_probs(self, tokens):
        import torch

        from englishroom.models.reference import reference_log_probs

        return reference_log_probs(self.model, torch.from_numpy(tokens)).numpy()


def score_rows(model: str, rounds: int, n_stories: int) -> list[Row]:
    from englishroom.evaluate.score import score

    target, tokenizer, ours, fast, reference = _open(model)
    text = stories(ours, n_stories)
    peer = TransformersTalker(reference, tokenizer, target.spec.n_ctx)

    def run(talker) -> Callable[[], int]:
        return lambda: score(talker, text).tokens

    torch_rate, fast_rate, peer_rate = interleaved([run(ours), run(fast), run(peer)], rounds)
    beside = f"transformers {peer_rate:,.0f} tok/s"
    return [
        Row(
            f"score, torch, {target.name}",
            f"{torch_rate:,.0f} tok/s",
            beside,
            f"{torch_rate / peer_rate:.2f}",
            ">= 1.0",
        ),
        Row(f"score, vectorised, {target.name}", f"{fast_rate:,.0f} tok/s", beside, f"{fast_rate / peer_rate:.2f}", ""),
    ]


def stories(talker, count: int) -> list[str]:
    """Let the target tell the text that everyone is then scored on, so that no file is needed."""
    from englishroom.evaluate.talk import TalkOptions, talk

    return ["".join(talk(talker, "", TalkOptions(seed=seed, max_tokens=200))) for seed in range(count)]


def talk_rows(model: str, rounds: int, n_tokens: int) -> Iterator[Row]:
    import torch

    from englishroom.evaluate.talk import TalkOptions, continuation

    target, tokenizer, _, fast, reference = _open(model)
    prompt = [tokenizer.start_id, *tokenizer.encode("Once upon a time")]

    def ours(**options) -> Callable[[], int]:
        choice = TalkOptions(max_tokens=n_tokens, seed=1, **options)
        return lambda: sum(1 for _ in continuation(fast, prompt, choice))

    def peer(**options) -> Callable[[], int]:
        ids = torch.tensor([prompt])
        settings = {"max_new_tokens": n_tokens, "pad_token_id": 0, "eos_token_id": list(tokenizer.stop_ids), **options}

        def generate() -> int:
            with torch.inference_mode():
                return reference.generate(ids, attention_mask=torch.ones_like(ids), use_cache=True, **settings).shape[
                    1
                ] - len(prompt)

        return generate

    for name, mine, theirs in (
        ("greedy", {"greedy": True}, {"do_sample": False}),
        ("sampled", {}, {"do_sample": True, "top_k": 0}),
    ):
        our_rate, peer_rate = interleaved([ours(**mine), peer(**theirs)], rounds)
        yield Row(
            f"talk, one stream, {name}, {target.name}",
            f"{our_rate:,.0f} tok/s",
            f"transformers generate {peer_rate:,.0f} tok/s",
            f"{our_rate / peer_rate:.1f}",
            ">= 3",
        )


def emitted_row(model: str, count: int) -> Row:
    """Time the emitted file on one core, the loading of its tables left out."""
    import numpy as np

    from englishroom.evaluate.talkers.program import EmittedTalker
    from englishroom.ir.room import load_program
    from englishroom.pipeline import DecompileConfig, decompile

    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder) / "room"
        manifest = decompile(DecompileConfig(model, level="exact").changed(check=False), room)
        program, tokenizer = load_program(room)
        with EmittedTalker(room / "program.py", tokenizer, program.n_ctx) as talker:
            reading = talker.stream()
            reading.extend(np.array([[tokenizer.start_id]]))
            began = time.perf_counter()
            for token in tokenizer.encode("Once upon a time there was a little girl named Lily. " * 30)[:count]:
                reading.extend(np.array([[token]]))
            rate = count / (time.perf_counter() - began)
    return Row(
        f"program.py, pure Python, {manifest.target['name']}",
        f"{rate:,.0f} tok/s",
        "limit 20 tok/s",
        f"{rate / 20:.1f}",
        ">= 1 (stories260K)",
    )


def help_row() -> Row:
    command = [sys.executable, "-m", "englishroom.cli", "--help"]
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - began)
    middle = statistics.median(seconds)
    return Row("englishroom --help", f"{middle:.3f} s", "limit 0.3 s", f"{0.3 / middle:.1f}", ">= 1")


def memory_row(model: str) -> Row:
    """Measure the peak memory of `decompile` and of the processes that it starts, taken together every 10 ms."""
    import psutil

    from englishroom.pipeline import open_target

    target, _ = open_target(model)
    limit = 4 * sum(tensor.nbytes for tensor in target.weights.values()) + 700e6
    peak = 0
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "englishroom.cli", "decompile", model, "--level", "exact"]
        command += ["--out", f"{folder}/room"]
        with psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None:
                total = 0
                for part in (process, *process.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        total += part.memory_info().rss
                peak = max(peak, total)
                time.sleep(0.01)
        assert process.returncode == 0, f"decompile of {model} failed"
    return Row(
        f"decompile --level exact, peak memory, {target.name}",
        f"{peak / 1e6:,.0f} MB",
        f"limit {limit / 1e6:,.0f} MB",
        f"{limit / peak:.2f}",
        ">= 1",
    )


if __name__ == "__main__":
    main()
