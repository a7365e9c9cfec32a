"""Programs as talkers: run by the fast interpreter, or as the emitted file in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from englishroom.evaluate.talkers.process import ProcessTalker
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


class EmittedTalker(ProcessTalker):
    """An emitted ``program.py``."""

    harness, remedy = _HARNESS, "decompile again"

    def __init__(self, path: Path, tokenizer: Tokenizer, n_ctx: int) -> None:
        super().__init__(path, tokenizer, n_ctx, str(path))
