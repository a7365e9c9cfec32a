"""A talker without a network to sketch: it says the next of a few words by the last one, and repeats a name."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.ir.tokenizer import Tokenizer
from englishroom.sketch.sampling import Heard, listen
from englishroom.sketch.studio import Ask, Studio

WORDS = (
    "Once",
    " upon",
    " a",
    " time",
    ",",
    " Lily",
    " Tom",
    " saw",
    " the",
    " dog",
    " cat",
    ".",
    "\n",
    ' "',
    '."',
    "!",
)
PIECES = (*(bytes([b]) for b in range(256)), *(word.encode() for word in WORDS), b"<|endoftext|>")
END = len(PIECES) - 1


def tokenizer() -> Tokenizer:
    """Make a tokenizer of single bytes and a few words, merged in one step from scores."""
    merges = []
    ids = {piece: i for i, piece in enumerate(PIECES)}
    pieces = list(PIECES)
    for word in WORDS:
        data = word.encode()
        for end in range(2, len(data) + 1):
            if data[:end] not in ids:
                ids[data[:end]] = len(pieces)
                pieces.insert(len(pieces), data[:end])
            merges.append((ids[data[: end - 1]], ids[data[end - 1 : end]]))
    return Tokenizer(
        kind="byte_bpe",
        pieces=tuple(pieces),
        merges=tuple(dict.fromkeys(merges)),
        scores=(),
        byte_ids=tuple(range(256)),
        specials=(END,),
        start_id=END,
        stop_ids=(END,),
        prefix_space=False,
    )


class TinyTalker:
    """Says what follows the last token by a fixed table, and is fond of what it said before."""

    name = "tiny"
    n_ctx = 24

    def __init__(self, seed: int = 0) -> None:
        self.tokenizer = tokenizer()
        size = len(self.tokenizer.pieces)
        self.table = np.random.default_rng(seed).normal(0, 1.5, (size, size))
        self.table[:, 256 : 256 + len(WORDS)] += 4

    def log_probs(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        logits = self.table[tokens]  # [batch, pos, d_vocab]
        said = np.cumsum(np.eye(logits.shape[-1])[tokens], axis=1) > 0
        logits = logits + 1.5 * said
        logits -= logits.max(-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def documents(n: int, seed: int) -> list[str]:
    """Draw documents of the few words."""
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(WORDS, rng.integers(10, 40))).strip() for _ in range(n)]


def heard(talker: TinyTalker, positions: int, seed: int, ends: bool = False) -> Heard:
    """Let the talker read random documents."""
    return listen(talker, documents(positions // 8, seed), positions, ends)


def studio(ask: Ask, positions: int = 2500) -> Studio:
    """Make all that a search needs."""
    talker = TinyTalker()
    fit, choose = heard(talker, positions, 1, ends=True), heard(talker, 600, 2)
    return Studio(talker.tokenizer, fit, choose, talker.n_ctx, ask, lambda _step, _done, _total: None)
