"""Measure counting in a text of any length beside `infini-gram`, on the same text and queries; print one table.

    python benchmarks/ngrams_infini.py [--text FILE] [--queries 20000] [--rounds 5]

Needs `pip install infini-gram` for the peer; without it the rows stand alone. Every ratio compares medians of
interleaved rounds in this one process. Counts and lengths of matches are compared too.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from table import SHARED, Row, describe_machine, interleaved, limit_threads, print_table

SEPARATOR = 2**16 - 1
"""What the peer puts before every document."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, default=SHARED / "data" / "tinystories_train.txt", help="text to count")
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    limit_threads(1)
    print(describe_machine(1))
    print_table(rows(given.text, given.queries, given.rounds))


def rows(text: Path, n_queries: int, rounds: int) -> Iterator[Row]:
    import numpy as np

    from englishroom.data.corpus import split
    from englishroom.data.documents import read_documents
    from englishroom.pipeline import open_talker
    from englishroom.talkers.ngrams.encode import encode_documents
    from englishroom.talkers.ngrams.suffix_array import SuffixArray

    tokenizer = open_talker("tiny-2l", check=False).tokenizer
    documents, held = split(read_documents(text), 0.05)
    tokens, others = (encode_documents(part, tokenizer) for part in (documents, held))
    what = f"{len(tokens.tokens):,} tokens of {text.name}; {n_queries:,} queries of 1 to 8 tokens from other documents"
    print(what, file=sys.stderr)
    began = time.perf_counter()
    array = SuffixArray.build(tokens.tokens)
    built = time.perf_counter() - began

    rng = np.random.default_rng(0)
    begins = rng.integers(0, len(others.tokens) - 8, n_queries)
    lengths = rng.integers(1, 9, n_queries)
    pieces = [others.tokens[i : i + n].tolist() for i, n in zip(begins, lengths, strict=True)]
    queries = [piece for piece in pieces if tokenizer.start_id not in piece]
    starts = others.starts[np.diff(others.starts, append=len(others.tokens)) > 100][:40]
    texts = np.stack([others.tokens[start : start + 100] for start in starts]).astype(np.int64)

    def count_together() -> int:
        return len(array.count(queries))

    def count_singly() -> int:
        return sum(len(array.count([query])) for query in queries[:1000])

    def match() -> int:
        return array.longest(texts).length.size

    peer = Peer.build(tokens.tokens, tokens.starts)
    if peer is None:
        print("infini-gram is not installed (pip install infini-gram): our figures stand alone", file=sys.stderr)
        yield Row("suffix array, build", f"{built:.2f} s", "", "", "")
        rates = interleaved([count_together, count_singly, match], rounds)
        names = ("count, all queries in one call", "count, one query a call", "longest match at every position")
        yield from (Row(name, f"{rate:,.0f} /s", "", "", "") for name, rate in zip(names, rates, strict=True))
        return
    beside = f"infini-gram's indexing {peer.seconds:.2f} s"
    yield Row("suffix array, build", f"{built:.2f} s", beside, f"{peer.seconds / built:.1f}", "")
    with peer.folder:
        differ = sum(a != b for a, b in zip(array.count(queries).tolist(), map(peer.count, queries), strict=True))
        print(
            f"counts that differ: {differ} of {len(queries):,}; {peer.compare_matches(array, texts)}", file=sys.stderr
        )
        one, single, many, ours, theirs = interleaved(
            [count_together, count_singly, peer.counting(queries), match, peer.matching(texts)], rounds
        )
    beside = f"infini-gram {many:,.0f} /s"
    yield Row("count, all queries in one call", f"{one:,.0f} /s", beside, f"{one / many:.2f}", "")
    yield Row("count, one query a call", f"{single:,.0f} /s", beside, f"{single / many:.2f}", "")
    beside = f"infini-gram {theirs:,.0f} /s"
    yield Row("longest match at every position", f"{ours:,.0f} /s", beside, f"{ours / theirs:.1f}", "")


class Peer:
    """The engine of `infini-gram`, on an index of the same tokens (the start tokens become its separators)."""

    def __init__(self, folder: tempfile.TemporaryDirectory, seconds: float) -> None:
        from infini_gram.engine import InfiniGramEngine  # pyright: ignore[reportMissingImports]

        self.folder, self.seconds = folder, seconds
        self.engine = InfiniGramEngine(
            folder.name + "/index", eos_token_id=0, vocab_size=SEPARATOR, token_dtype="u16", load_to_ram=True
        )

    @classmethod
    def build(cls, tokens, starts) -> Peer | None:
        """Index the tokens with the peer's own program, or return None where it is not installed."""
        if importlib.util.find_spec("infini_gram") is None:
            return None
        folder = tempfile.TemporaryDirectory()
        index, data = Path(folder.name) / "index", Path(folder.name) / "data"
        index.mkdir()
        data.mkdir()
        separated = tokens.copy()
        separated[starts] = SEPARATOR
        (index / "tokenized.0").write_bytes(separated.astype("<u2").tobytes())
        (index / "offset.0").write_bytes((2 * starts).astype("<u8").tobytes())
        limit = str(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        command = [sys.executable, "-m", "infini_gram.indexing", "--data_dir", str(data), "--save_dir", str(index)]
        command += ["--token_dtype", "u16", "--cpus", "1", "--mem", "4", "--ulimit", limit]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        if done.returncode or not (index / "table.0").exists():
            print(f"infini-gram's indexing failed: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
            folder.cleanup()
            return None
        return cls(folder, seconds)

    def count(self, query: list[int]) -> int:
        return self.engine.count(query)["count"]

    def counting(self, queries: Sequence[list[int]]) -> Callable[[], int]:
        return lambda: sum(1 for query in queries if self.count(query) >= 0)

    def matching(self, texts) -> Callable[[], int]:
        prompts = self._prompts(texts)
        return lambda: sum(1 for prompt in prompts if self.length(prompt) >= 0)

    def length(self, prompt: list[int]) -> int:
        """Return how long the longest ending of a prompt is that occurs."""
        return self.engine.infgram_prob(prompt, 0)["suffix_len"]

    def _prompts(self, texts) -> list[list[int]]:
        """List what was read at every position; the start token is the peer's separator, which no prompt holds."""
        return [row[1 : 1 + at] for row in texts.tolist() for at in range(len(row))]

    def compare_matches(self, array, texts) -> str:
        found = array.longest(texts).length
        ours = [int(min(found[row, at], at)) for row in range(len(texts)) for at in range(texts.shape[1])]
        differ = sum(a != self.length(prompt) for a, prompt in zip(ours, self._prompts(texts), strict=True))
        return f"lengths of matches that differ: {differ} of {len(ours):,}"


if __name__ == "__main__":
    main()
