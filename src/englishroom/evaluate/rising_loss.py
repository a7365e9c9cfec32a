"""Whether a model reads worse far into its context, as where its configuration says more than it was trained on.

The same tokens are read twice: late in the whole context, and in shorter ones. A model that was trained on all of its
context loses by that; one that was not gains. (Losses at early and late positions cannot be compared: beginnings of
stories are easier than their middles.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from englishroom.data.corpus import windows
from englishroom.evaluate import per_token
from englishroom.evaluate.per_token import Numbers
from englishroom.evaluate.score import Window, batches, encode, pad
from englishroom.talker import Talker

READ_TOKENS = 4096
"""Tokens read to find out."""
PARTS = (2, 4, 8)
"""Shorter contexts that are tried: the whole one over these."""
LEAST_CONTEXT, LEAST_TOKENS = 32, 100
"""A shorter context, and a text with fewer tokens in its second half, are not judged."""
GAIN_NATS, ERRORS = 0.1, 4.0
"""A shorter context is better where tokens cost less by so much, and by so many standard errors."""
ALIKE_NATS = 0.02


def rising_loss(talker: Talker, documents: Sequence[str], run_on: bool) -> str | None:
    """Say where a talker's loss rises along its context, in one line; ``None`` where it does not.

    Args:
        run_on: whether documents run on into the next ones until the context is full, as in fits; else the longest are
            read, each by itself, as in scores.

    Raises:
        ConfigError: the text cannot be encoded.
    """
    n_ctx = talker.n_ctx
    if n_ctx < LEAST_CONTEXT:
        return None
    rows = list((_run_on if run_on else _longest)(talker, documents))
    whole = _late_nats(talker, rows, n_ctx)
    if len(whole) < LEAST_TOKENS:
        return None
    gains = {n_ctx // part: whole - _late_nats(talker, rows, n_ctx // part) for part in PARTS}
    most = max(gain.mean() for gain in gains.values())
    context, gain = next((size, gain) for size, gain in gains.items() if gain.mean() >= most - ALIKE_NATS)
    if gain.mean() < max(GAIN_NATS, ERRORS * gain.std() / np.sqrt(len(gain))):
        return None
    return (
        f"{talker.name}: its loss rises along the context: tokens from position {n_ctx // 2:,} on cost "
        f"{whole.mean():.2f} nats, and {(whole - gain).mean():.2f} where it reads {context:,} at once; it may have "
        f"been trained on shorter texts than its configuration says, so give --context {context}"
    )


def _run_on(talker: Talker, documents: Sequence[str]) -> Iterator[list[int]]:
    """Yield rows that begin where a document begins and hold one token more than the context."""
    row: list[int] = []
    n_read = 0
    for document in documents:
        row += encode(talker, [document])[0]
        if len(row) > talker.n_ctx:
            yield row[: talker.n_ctx + 1]
            row, n_read = [], n_read + talker.n_ctx
        if n_read >= READ_TOKENS:
            return
    yield row


def _longest(talker: Talker, documents: Sequence[str]) -> Iterator[list[int]]:
    """Yield the beginnings of the longest documents."""
    n_read = 0
    for document in sorted(documents, key=len, reverse=True):
        row = encode(talker, [document])[0][: talker.n_ctx + 1]
        yield row
        n_read += len(row)
        if n_read >= READ_TOKENS:
            return


def _late_nats(talker: Talker, rows: Sequence[Sequence[int]], n_ctx: int) -> Numbers:
    """Return what every token of the rows past the half of the talker's context costs, read in a context of its own."""
    late = talker.n_ctx // 2 + 1
    cut = [
        Window(tuple(row[start:stop]), max(scored_from, late) - start, number, start)
        for number, row in enumerate(rows)
        for start, scored_from, stop in windows(row, n_ctx)
        if stop > late
    ]
    found = [np.zeros(len(row)) for row in rows]
    for batch in batches(cut, len(talker.tokenizer.pieces)):
        tokens, scored = pad(batch, talker.tokenizer.start_id)
        answers = talker.log_probs(tokens[:, :-1])
        nats = per_token.nats(answers.reshape(-1, answers.shape[-1]), tokens[:, 1:].reshape(-1)).reshape(scored.shape)
        for window, values, counted in zip(batch, nats, scored, strict=True):
            at = window.start + window.scored_from
            found[window.document][at : window.start + len(window.tokens)] = values[counted]
    return np.concatenate([numbers[late:] for numbers in found])
