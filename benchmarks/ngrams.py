"""Measure n-gram talkers beside KenLM on the same model and text; print one table.

    python benchmarks/ngrams.py [TEXT ...] [--score TEXT] [--tokens 2000000] [--rounds 5]

Queries need KenLM's Python module (`pip install kenlm`), counting its program `lmplz` on the path; without them those
columns are left out. Ratios compare medians of interleaved rounds in this one process.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import subprocess
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from table import SHARED, Row, describe_machine, interleaved, limit_threads, print_table

ORDER = 5
QUERY_DOCUMENTS = 500
PEER_POSITIONS = 100
"""Positions of which the peer is asked for the whole distribution, one token after the other."""


@dataclass(frozen=True)
class Texts:
    """What is counted, and what is scored: documents as tokens.

    Attributes:
        fit: different documents, as one array.
        queries: other documents, without their start tokens.
    """

    tokenizer: Any
    fit: Any
    queries: list[list[int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", type=Path, help="default: the stories beside the project, where at hand")
    parser.add_argument("--score", type=Path, help="text to score; default: tinystories_valid, or the last documents")
    parser.add_argument("--tokens", type=int, default=2_000_000, help="of text behind the model that is queried")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    limit_threads(1)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")

    print(describe_machine(1))
    print_table(rows(given))


def rows(given: argparse.Namespace) -> Iterator[Row]:
    texts, tokenising = read_texts(given.texts, given.score)
    yield tokenising
    yield from count_rows(texts, given.rounds)
    yield from query_rows(texts, given.tokens, given.rounds)


def read_texts(paths: Sequence[Path], score: Path | None) -> tuple[Texts, Row]:
    """Read and tokenise the texts; the time that takes is the first row."""
    from englishroom.data.documents import read_documents
    from englishroom.pipeline import open_talker
    from englishroom.talkers.ngrams.encode import encode_documents

    at_hand = [SHARED / "data" / "tinystories_train.txt", SHARED / "data" / "stories15m_samples.txt.xz"]
    paths = list(paths) or [path for path in at_hand if path.exists()]
    if not paths:
        raise SystemExit(f"no text given, and none at {SHARED / 'data'}; give at least one text file")
    documents = list(dict.fromkeys(document for path in paths for document in read_documents(path)))
    held = score or SHARED / "data" / "tinystories_valid.txt"
    if held.exists():
        queries = read_documents(held)[:QUERY_DOCUMENTS]
    else:
        documents, queries = documents[:-QUERY_DOCUMENTS], documents[-QUERY_DOCUMENTS:]
    tokenizer = open_talker("tiny-2l", check=False).tokenizer
    began = time.perf_counter()
    fit = encode_documents(documents, tokenizer)
    seconds = time.perf_counter() - began
    row = Row(f"tokenise {len(documents):,} documents", f"{len(fit.tokens) / seconds:,.0f} tok/s", "", "", "")
    return Texts(tokenizer, fit, [tokenizer.encode(query) for query in queries]), row


def count_rows(texts: Texts, rounds: int) -> list[Row]:
    """Count and smooth beside `lmplz`, which does so from text and writes the model out."""
    from englishroom.talkers.ngrams.counts import count_ngrams
    from englishroom.talkers.ngrams.kneser_ney import fit_kneser_ney

    n_tokens, start_id, d_vocab = len(texts.fit.tokens), texts.tokenizer.start_id, len(texts.tokenizer.pieces)

    def ours() -> int:
        fit_kneser_ney(count_ngrams(texts.fit, start_id, d_vocab, ORDER))
        return n_tokens

    what = f"count and smooth, order {ORDER}, {n_tokens:,} tokens"
    tracemalloc.start()
    ours()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    memory = Row(what.replace("count and smooth", "peak memory beyond the text"), f"{peak / 1e6:,.0f} MB", "", "", "")
    lmplz = shutil.which("lmplz")
    if lmplz is None:
        rate = interleaved([ours], rounds)[0]
        return [Row(what, f"{rate:,.0f} tok/s", "lmplz is not on the path: left out", "", ""), memory]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text"
        with path.open("w") as file:
            file.writelines(f"{' '.join(map(str, document))}\n" for document in documents_of(texts.fit))

        def peer() -> int:
            with path.open() as file:
                command = [lmplz, "-o", str(ORDER), "-S", "2G", "-T", folder]
                subprocess.run(command, stdin=file, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
            return n_tokens

        rate, peer_rate = interleaved([ours, peer], rounds)
    beside = f"lmplz (writes ARPA text too) {peer_rate:,.0f} tok/s"
    return [Row(what, f"{rate:,.0f} tok/s", beside, f"{rate / peer_rate:.1f}", ">= 1"), memory]


def documents_of(text: Any) -> list[list[int]]:
    """Return the documents of a text without their start tokens."""
    ends = [*text.starts[1:].tolist(), len(text.tokens)]
    return [text.tokens[start + 1 : end].tolist() for start, end in zip(text.starts.tolist(), ends, strict=True)]


def query_rows(texts: Texts, n_tokens: int, rounds: int) -> list[Row]:
    """Score the queries with a model of the first so many tokens, and with the same model as KenLM reads it."""
    import numpy as np

    from englishroom.talkers.ngrams.arpa import to_arpa
    from englishroom.talkers.ngrams.counts import count_ngrams
    from englishroom.talkers.ngrams.kneser_ney import fit_kneser_ney
    from englishroom.talkers.ngrams.talker import NgramTalker
    from englishroom.talkers.text import TokenisedText

    starts = texts.fit.starts[texts.fit.starts < n_tokens]
    end = int(texts.fit.starts[len(starts)]) if len(starts) < len(texts.fit.starts) else len(texts.fit.tokens)
    start_id, d_vocab = texts.tokenizer.start_id, len(texts.tokenizer.pieces)
    counts = count_ngrams(TokenisedText(texts.fit.tokens[:end], starts), start_id, d_vocab, ORDER)
    talker = NgramTalker(fit_kneser_ney(counts), texts.tokenizer)
    stream = np.array([token for query in texts.queries for token in (start_id, *query)] + [start_id])[None]
    positions = stream[:, : stream.shape[1] // 64 * 64].reshape(64, -1)[:, :256]
    n_scored = stream.shape[1] - 1

    def tokens() -> int:
        talker.token_log_probs(stream)
        return n_scored

    def distributions() -> int:
        talker.log_probs(positions)
        return positions.size

    model = f"order {ORDER} of {end:,} tokens"
    try:
        kenlm: Any = importlib.import_module("kenlm")
    except ImportError:
        rates = interleaved([tokens, distributions], rounds)
        left_out = "kenlm is not installed: left out"
        return [
            Row(f"log-probabilities of {n_scored:,} tokens, {model}", f"{rates[0]:,.0f} tok/s", left_out, "", ""),
            Row(f"whole distributions, {d_vocab:,} tokens, {model}", f"{rates[1]:,.0f} pos/s", left_out, "", ""),
        ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.arpa"
        to_arpa(talker.model, path)
        peer = kenlm.Model(str(path))
    lines = [" ".join(map(str, query)) for query in texts.queries]

    def peer_sums() -> int:
        for line in lines:
            peer.score(line)
        return n_scored

    def peer_tokens() -> int:
        for line in lines:
            list(peer.full_scores(line))
        return n_scored

    def peer_distributions() -> int:
        state, out = kenlm.State(), kenlm.State()
        peer.BeginSentenceWrite(state)
        words = [str(token) for token in range(d_vocab)]
        for word in lines[0].split()[:PEER_POSITIONS]:
            for candidate in words:
                peer.BaseScore(state, candidate, out)
            peer.BaseScore(state, word, out)
            state, out = out, state
        return min(PEER_POSITIONS, len(texts.queries[0]))

    theirs = np.concatenate([[chance for chance, _, _ in peer.full_scores(line)] for line in lines]) * np.log(10)
    gap = float(np.abs(talker.token_log_probs(stream)[0] - theirs).max())
    tasks: list[Callable[[], int]] = [tokens, peer_tokens, peer_sums, distributions, peer_distributions]
    rate, peer_rate, sum_rate, whole_rate, peer_whole_rate = interleaved(tasks, rounds)
    each = f"log-probabilities of {n_scored:,} tokens, {model}"
    ours = f"{rate:,.0f} tok/s"
    return [
        Row(each, ours, f"kenlm full_scores {peer_rate:,.0f} tok/s", f"{rate / peer_rate:.2f}", ">= 1"),
        Row(each, ours, f"kenlm score (sums alone) {sum_rate:,.0f} tok/s", f"{rate / sum_rate:.2f}", ""),
        Row(
            f"whole distributions, {d_vocab:,} tokens, {model}",
            f"{whole_rate:,.0f} pos/s",
            f"kenlm BaseScore of every token {peer_whole_rate:,.0f} pos/s",
            f"{whole_rate / peer_whole_rate:.1f}",
            ">= 1",
        ),
        Row(f"largest difference, {model}", f"{gap:.1e} nats", "kenlm", "", "<= 1e-5 (float32)"),
    ]


if __name__ == "__main__":
    main()
