"""Follow a few sentences through a sparse program: what every token cost, what fired, and what spoke for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.data.texts import Text
from englishroom.inside.shares import Shares, shares
from englishroom.inside.trace import rule_blocks, rules_on
from englishroom.interp.recorded_run import RecordedRun
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.labels import Labels
from englishroom.ir.program import Program
from englishroom.ir.tokenizer import Tokenizer
from englishroom.steps import Progress
from englishroom.talker import Talker

SENTENCES = 3
TOKENS = 28
PARTS = 7
"""Shares shown of every token; the others are added up."""


def follow(
    target: Talker, program: Program, tokenizer: Tokenizer, labels: Labels, text: Text, progress: Progress
) -> list[dict[str, Any]]:
    """Read the beginnings of the first documents, and split what the program says of every token into shares."""
    interpreter, found = Interpreter(program, np.float64), []
    for number, document in enumerate(text.documents[:SENTENCES]):
        progress("following sentences", number, SENTENCES)
        tokens = np.array([tokenizer.start_id, *tokenizer.encode(document)][: min(TOKENS, program.n_ctx)])
        if len(tokens) < 2:
            continue
        reading, said = RecordedRun(interpreter, tokens[:-1]), tokens[1:]
        split, theirs = shares(reading, said), target.log_probs(tokens[None, :-1])[0]
        rules = [rules_on(block, reading.variables) for block in rule_blocks(program)]
        fired = sum((which.sum(1) for which in rules), np.zeros(len(said), np.int64))
        pieces = [tokenizer.pieces[token].decode("utf-8", errors="replace") for token in tokens]
        rows = [
            {
                "token": pieces[at + 1],
                "target_nats": float(-theirs[at, token]),
                "program_nats": float(-reading.log_probs[at, token]),
                "expected": tokenizer.pieces[int(reading.log_probs[at].argmax())].decode("utf-8", errors="replace"),
                "rules_fired": int(fired[at]),
                "baseline": float(split.baseline[at]),
                "parts": _parts(split, at, labels, pieces),
            }
            for at, token in enumerate(said.tolist())
        ]
        found.append({"document": number, "text": text.name, "tokens": rows})
    progress("following sentences", SENTENCES, SENTENCES)
    return found


def _parts(split: Shares, at: int, labels: Labels, pieces: list[str]) -> list[dict[str, Any]]:
    """List the largest shares at a position, and the sum of all others."""
    named: list[tuple[float, str]] = []
    for variable, values in split.of.items():
        named += [(float(values[at, i]), labels.of(variable, i)) for i in _largest(values[at])]
    for name, values in split.heads.items():
        for head, places in enumerate(values[:, at]):
            named += [(float(places[i]), f"{name}, head {head}, from {pieces[i]!r}") for i in _largest(places)]
    named.sort(key=lambda entry: -abs(entry[0]))
    everything = sum(float(values[at].sum()) for values in split.of.values())
    everything += sum(float(values[:, at].sum()) for values in split.heads.values())
    shown = [{"name": name, "nats": nats} for nats, name in named[:PARTS] if nats]
    rest = everything - sum(part["nats"] for part in shown)
    return [*shown, {"name": "all others", "nats": rest}]


def _largest(values: NDArray[np.floating]) -> list[int]:
    """Return the indices of the largest values, either way."""
    return np.argsort(-np.abs(values), kind="stable")[:PARTS].tolist()
