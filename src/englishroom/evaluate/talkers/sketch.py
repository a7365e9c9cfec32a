"""Sketches as talkers: the file itself, run by a bare Python in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

from englishroom.evaluate.talkers.process import ProcessTalker
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
    """A ``sketch.py``; it reads the talker's tokens as the words that they spell.

    Args:
        source: what is run, whatever stands in the file by then.
    """

    harness, remedy = _HARNESS, "sketch the talker again"

    def __init__(self, path: Path, source: str, tokenizer: Tokenizer, n_ctx: int, name: str = "sketch") -> None:
        super().__init__(path, tokenizer, n_ctx, name)
        self.source = source

    @property
    def where(self) -> str:
        return str(self.path)

    def told_first(self) -> bytes:
        spelling = Spelling.of(self.tokenizer)
        return json.dumps([self.source, spelling.words, spelling.read_as(self.tokenizer)]).encode() + b"\n"
