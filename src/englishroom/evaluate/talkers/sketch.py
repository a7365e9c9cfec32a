"""Sketches as talkers: the file itself, run by a bare Python in a process of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ArtifactError
from englishroom.evaluate.talkers.process import ProcessTalker, bare_python
from englishroom.ir.tokenizer import Tokenizer
from englishroom.sketch.keys import Spelling

_HARNESS = """
import json, sys
from array import array
source, spelling, read_as = json.loads(sys.stdin.readline())
sketch = {"__name__": "sketch", "__file__": sys.argv[1]}
exec(compile(source, sys.argv[1], "exec"), sketch)
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


class SketchTalker(ProcessTalker):
    """A ``sketch.py``, run by a bare Python (``-I -S``: isolated, no site packages) in its own process.

    It reads the talker's tokens as the words that they spell, and answers in float64, one text after the other.

    Args:
        source: what is run, whatever stands in the file by then.
    """

    remedy = "sketch the talker again"

    def __init__(self, path: Path, source: str, tokenizer: Tokenizer, n_ctx: int, name: str = "sketch") -> None:
        super().__init__(path, tokenizer, n_ctx, name)
        self.source = source
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def where(self) -> str:
        return str(self.path)

    def close(self) -> None:
        """End the process; it starts again when it is asked."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def answers(self, text: int, tokens: list[int]) -> NDArray[np.float64]:
        try:
            return super().answers(text, tokens)
        except ArtifactError:
            self.close()
            raise

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = bare_python(_HARNESS, self.path)
            spelling = Spelling.of(self.tokenizer)
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                said = json.dumps([self.source, spelling.words, spelling.read_as(self.tokenizer)])
                self._process.stdin.write(said.encode() + b"\n")
        return self._process
