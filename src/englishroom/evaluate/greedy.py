"""Do two talkers tell the same text when both always take the likeliest token?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from englishroom.talker import Talker

PROMPT_TOKENS = 12
"""Tokens of a document, after the start token, that both are given where the context is long enough."""
NEW_TOKENS = 50
"""Tokens that both add."""


@dataclass(frozen=True)
class GreedyAgreement:
    """Sums over prompts; the agreements of parts of the prompts add up.

    Attributes:
        agreed: tokens told alike before the first difference, the end of the story counted as a token.
        told: tokens that the target told.
        same: prompts after which all was told alike.
    """

    agreed: int = 0
    told: int = 0
    same: int = 0
    prompts: int = 0

    def __add__(self, other: GreedyAgreement) -> GreedyAgreement:
        return GreedyAgreement(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def share(self) -> float:
        """Share of the target's text that the talker tells alike, from its beginning; nan without prompts."""
        return self.agreed / self.told if self.told else float("nan")


def prompts_of(talker: Talker, documents: Sequence[str], count: int) -> NDArray[np.int64]:
    """Take the beginnings of the first documents that are long enough, [prompt, 1 + length].

    They have ``PROMPT_TOKENS`` tokens after the start token, or half of a context that is shorter than two of them.
    """
    length = min(PROMPT_TOKENS, talker.n_ctx // 2)
    found: list[list[int]] = []
    for document in documents:
        if len(found) == count:
            break
        tokens = talker.tokenizer.encode(document)[:length]
        if len(tokens) == length:
            found.append([talker.tokenizer.start_id, *tokens])
    return np.array(found, np.int64).reshape(-1, 1 + length)


def continue_greedily(talker: Talker, prompts: NDArray[np.int64], new: int = NEW_TOKENS) -> NDArray[np.int64]:
    """Let a talker go on from prompts [prompt, pos] side by side, always by the likeliest token.

    Returns:
        The tokens it adds, [prompt, new]; from the end of a story on -1. Fewer than ``new`` where the context is full.
    """
    new = min(new, talker.n_ctx - prompts.shape[1] + 1)
    told = np.full((len(prompts), max(new, 0)), -1, np.int64)
    if told.size == 0:
        return told
    reading, fed = talker.stream(), prompts
    going = np.ones(len(prompts), bool)
    for at in range(new):
        best = reading.extend(fed)[:, -1].argmax(axis=1)
        going &= ~np.isin(best, talker.tokenizer.stop_ids)
        told[going, at] = best[going]
        if not going.any():
            break
        fed = best[:, None]
    return told


def greedy_agreement(target: NDArray[np.int64], talker: NDArray[np.int64]) -> GreedyAgreement:
    """Compare two texts token by token, each [prompt, new], ended by -1 as :func:`continue_greedily` does."""
    width = min(target.shape[1], talker.shape[1])
    target, talker = target[:, :width], talker[:, :width]
    if not width:
        return GreedyAgreement(prompts=len(target))
    ends = np.where((target < 0).any(axis=1), (target < 0).argmax(axis=1) + 1, width)  # the end is a token too
    differs = target != talker
    first = np.where(differs.any(axis=1), differs.argmax(axis=1), width)
    agreed = np.minimum(first, ends)
    return GreedyAgreement(int(agreed.sum()), int(ends.sum()), int((agreed == ends).sum()), len(target))
