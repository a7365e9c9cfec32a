"""Programs as talkers: run by the fast interpreter, or as the emitted file in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
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

    def stream(self) -> Stream:
        return self.interpreter.stream()


_HARNESS = """
import json, runpy, sys
from array import array
program = runpy.run_path(sys.argv[1])
memory = program["new_memory"]()
position = 0
for line in sys.stdin:
    order = json.loads(line)
    if order is None:
        memory, position = program["new_memory"](), 0
        continue
    for token in order:
        sys.stdout.buffer.write(array("d", program["step"](token, position, memory)).tobytes())
        position += 1
    sys.stdout.buffer.flush()
"""


class EmittedTalker:
    """An emitted ``program.py``, run by a bare Python (``-I -S``: isolated, no site packages) in its own process.

    Use it as a context manager. It reads one text at a time, in float64.
    """

    def __init__(self, path: Path, tokenizer: Tokenizer, n_ctx: int) -> None:
        self.name, self.path, self.tokenizer, self.n_ctx = str(path), path, tokenizer, n_ctx
        self.d_vocab = len(tokenizer.pieces)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _HARNESS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
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
        self.order(None)
        return EmittedReading(self)

    def order(self, tokens: list[int] | None) -> None:
        """Send tokens to read, or ``None`` to begin a new text."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(tokens).encode() + b"\n")
        self._process.stdin.flush()

    def answers(self, n_positions: int) -> NDArray[np.float64]:
        """Receive the answers at the next positions, [pos, d_vocab].

        Raises:
            ArtifactError: the process ended before it answered.
        """
        assert self._process.stdout is not None
        size = n_positions * self.d_vocab * 8
        data = self._process.stdout.read(size)
        if len(data) < size:
            raise ArtifactError(f"{self.path}: the program stopped (status {self._process.wait()}); decompile again")
        return np.frombuffer(data).reshape(n_positions, self.d_vocab)


@dataclass(frozen=True)
class EmittedReading:
    """One text being read by an emitted program."""

    talker: EmittedTalker

    def extend(self, tokens: NDArray[np.integer]) -> NDArray[np.float64]:
        self.talker.order([int(token) for token in tokens[0]])
        return self.talker.answers(tokens.shape[1])[None]
