"""Talkers that run in a process of their own: a bare Python reads tokens as lines of JSON and answers in float64."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ArtifactError
from englishroom.ir.tokenizer import Tokenizer


class ProcessTalker:
    """A file that talks, run by a bare Python (``-I -S``: isolated, no site packages) in its own process.

    The process starts when it is first asked, and ends with the talker, or earlier where that is closed or used as a
    context manager. It answers in float64; texts may be open side by side.

    Subclasses say in ``harness`` what runs the file, and in ``remedy`` what to do where it stops.
    """

    harness: str
    remedy: str

    def __init__(self, path: Path, tokenizer: Tokenizer, n_ctx: int, name: str) -> None:
        self.name, self.path, self.tokenizer, self.n_ctx = name, path, tokenizer, n_ctx
        self.d_vocab = len(tokenizer.pieces)
        self._texts = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def close(self) -> None:
        """End the process; it starts again when it is asked."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def told_first(self) -> bytes:
        """Return what the harness reads before any text."""
        return b""

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", self.harness, str(self.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # so that Ctrl-C reaches this process only, which then ends that one
            )
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(self.told_first())
        return self._process

    def log_probs(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        return np.stack([self.stream().extend(row[None, :])[0] for row in np.atleast_2d(tokens)])

    def stream(self) -> ProcessReading:
        return ProcessReading(self)

    def new_text(self) -> int:
        """Begin a text, and return its number."""
        return next(self._texts)

    def answers(self, text: int, tokens: list[int]) -> NDArray[np.float64]:
        """Let a text go on by some tokens and return the answers after each of them, [pos, d_vocab].

        Raises:
            ArtifactError: the file stopped before it answered.
        """
        process, size = self._running(), len(tokens) * self.d_vocab * 8
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        data = b""
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps([text, tokens]).encode() + b"\n")
            process.stdin.flush()
            data = process.stdout.read(size)
        if len(data) < size:
            last = process.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
            status = process.wait()
            self.close()
            raise ArtifactError(f"{self.where}: stopped with status {status} ({last}); {self.remedy}")
        return np.frombuffer(data).reshape(len(tokens), self.d_vocab)

    @property
    def where(self) -> str:
        """What errors call the file."""
        return self.path.name


class ProcessReading:
    """Texts being read by such a talker, one after the other; the first tokens say how many."""

    def __init__(self, talker: ProcessTalker) -> None:
        self._talker = talker
        self._texts: list[int] = []

    def extend(self, tokens: NDArray[np.integer]) -> NDArray[np.float64]:
        if not self._texts:
            self._texts = [self._talker.new_text() for _ in tokens]
        pairs = zip(self._texts, tokens.tolist(), strict=True)
        return np.stack([self._talker.answers(text, row) for text, row in pairs])
