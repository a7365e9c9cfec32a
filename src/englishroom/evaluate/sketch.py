"""Sketches as talkers: the file itself, run by a bare Python in a process of its own."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ArtifactError
from englishroom.ir.tokenizer import Tokenizer
from englishroom.sketch.reading import Spelling

_HARNESS = """
import json, runpy, sys
from array import array
sketch = runpy.run_path(sys.argv[1])
spelling, read_as = json.loads(sys.stdin.readline())
stories = {}
for line in sys.stdin:
    text, tokens = json.loads(line)
    story = stories.setdefault(text, sketch["Story"](sketch["KINDS"]))
    for token in tokens:
        story.read(read_as[token])
        answer = sketch["log_probs"](story)
        rest = answer.pop(None)
        row = array("d", [answer.pop(word, rest) for word in spelling])
        if answer or sketch["N_TOKENS"] != len(spelling):
            sys.exit("it says words that are no tokens: " + ascii(list(answer)[:5]))
        sys.stdout.buffer.write(row.tobytes())
    sys.stdout.buffer.flush()
"""


class SketchTalker:
    """A ``sketch.py``, run by a bare Python (``-I -S``: isolated, no site packages) in its own process.

    It reads the talker's tokens as the words that they spell, and answers in float64, one text after the other.
    """

    def __init__(self, path: Path, tokenizer: Tokenizer, n_ctx: int, name: str = "sketch") -> None:
        self.name, self.path, self.tokenizer, self.n_ctx = name, path, tokenizer, n_ctx
        self._texts = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def source(self) -> str:
        """All that it is."""
        return self.path.read_text(encoding="utf-8")

    def close(self) -> None:
        """End the process; it starts again when it is asked."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def log_probs(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        return np.stack([self.stream().extend(row[None, :])[0] for row in np.atleast_2d(tokens)])

    def stream(self) -> SketchReading:
        return SketchReading(self)

    def new_text(self) -> int:
        """Begin a text, and return its number."""
        return next(self._texts)

    def answers(self, text: int, tokens: list[int]) -> NDArray[np.float64]:
        """Let a text go on by some tokens and return the answers after each of them, [pos, d_vocab].

        Raises:
            ArtifactError: the sketch stopped before it answered.
        """
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        d_vocab, data = len(self.tokenizer.pieces), b""
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps([text, tokens]).encode() + b"\n")
            process.stdin.flush()
            data = process.stdout.read(len(tokens) * d_vocab * 8)
        if len(data) < len(tokens) * d_vocab * 8:
            last = process.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
            status = process.wait()
            self.close()
            raise ArtifactError(f"{self.path}: stopped with status {status} ({last}); sketch the talker again")
        return np.frombuffer(data).reshape(len(tokens), d_vocab)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _HARNESS, str(self.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # so that Ctrl-C reaches this process only, which then ends that one
            )
            spelling = Spelling.of(self.tokenizer)
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                said = json.dumps([spelling.words, spelling.read_as(self.tokenizer)])
                self._process.stdin.write(said.encode() + b"\n")
        return self._process


class SketchReading:
    """Texts being read by a sketch, one after the other; the first tokens say how many."""

    def __init__(self, talker: SketchTalker) -> None:
        self._talker = talker
        self._texts: list[int] = []

    def extend(self, tokens: NDArray[np.integer]) -> NDArray[np.float64]:
        if not self._texts:
            self._texts = [self._talker.new_text() for _ in tokens]
        pairs = zip(self._texts, tokens.tolist(), strict=True)
        return np.stack([self._talker.answers(text, row) for text, row in pairs])
