"""Programs as talkers: run by the fast interpreter, or as the emitted file in a process of its own."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from englishroom.errors import ArtifactError
from englishroom.interp.vectorised import Interpreter, Stream
from englishroom.ir.program import Program
from englishroom.ir.tokenizer import Tokenizer


class ProgramTalker:
    """A program run by the vectorised interpreter."""

    def __init__(self, name: str, program: Program, tokenizer: Tokenizer, dtype: DTypeLike = np.float32) -> None:
        self.name, self.tokenizer = name, tokenizer
        self.interpreter = Interpreter(program, dtype)
        self.n_ctx = program.n_ctx

    def log_probs(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        return self.interpreter.log_probs(tokens)

    def stream(self) -> ProgramReading:
        return ProgramReading(self.interpreter)


class ProgramReading:
    """Texts being read by a program, side by side; the first tokens say how many."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter
        self._stream: Stream | None = None

    def extend(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        if self._stream is None:
            self._stream = self._interpreter.stream(len(tokens))
        return self._stream.extend(tokens)


_HARNESS = """
import json, runpy, sys
from array import array
program = runpy.run_path(sys.argv[1])
texts = {}
for line in sys.stdin:
    text, tokens = json.loads(line)
    memory, position = texts.get(text) or (program["new_memory"](), 0)
    for token in tokens:
        sys.stdout.buffer.write(array("d", program["step"](token, position, memory)).tobytes())
        position += 1
    texts[text] = memory, position
    sys.stdout.buffer.flush()
"""


class EmittedTalker:
    """An emitted ``program.py``, run by a bare Python (``-I -S``: isolated, no site packages) in its own process.

    Use it as a context manager. It answers in float64, one text after the other; texts may be open side by side.
    """

    def __init__(self, path: Path, tokenizer: Tokenizer, n_ctx: int) -> None:
        self.name, self.path, self.tokenizer, self.n_ctx = str(path), path, tokenizer, n_ctx
        self.d_vocab = len(tokenizer.pieces)
        self._texts = itertools.count()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _HARNESS, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that Ctrl-C reaches this process only, which then ends that one
        )

    def __enter__(self) -> EmittedTalker:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def log_probs(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        return np.stack([self.stream().extend(row[None, :])[0] for row in np.atleast_2d(tokens)])

    def stream(self) -> EmittedReading:
        return EmittedReading(self)

    def new_text(self) -> int:
        """Begin a text, and return its number."""
        return next(self._texts)

    def answers(self, text: int, tokens: list[int]) -> NDArray[np.float64]:
        """Let a text go on by some tokens and return the answers after each of them, [pos, d_vocab].

        Raises:
            ArtifactError: the program stopped before it answered.
        """
        process, size = self._process, len(tokens) * self.d_vocab * 8
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
            raise ArtifactError(f"{self.path.name}: stopped with status {process.wait()} ({last}); decompile again")
        return np.frombuffer(data).reshape(len(tokens), self.d_vocab)


class EmittedReading:
    """Texts being read by an emitted program, one after the other; the first tokens say how many."""

    def __init__(self, talker: EmittedTalker) -> None:
        self._talker = talker
        self._texts: list[int] = []

    def extend(self, tokens: NDArray[np.integer]) -> NDArray[np.float64]:
        if not self._texts:
            self._texts = [self._talker.new_text() for _ in tokens]
        pairs = zip(self._texts, tokens.tolist(), strict=True)
        return np.stack([self._talker.answers(text, row) for text, row in pairs])
