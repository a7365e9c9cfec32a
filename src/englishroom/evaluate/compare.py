"""Where two talkers differ: by category, token by token, and in what they tell from the same prompts and seeds."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.evaluate.metrics import pair
from englishroom.evaluate.score import Score, Window, comparable, judge, pad
from englishroom.evaluate.score_table import category_rows
from englishroom.evaluate.sums import Judgement
from englishroom.evaluate.talk import TalkOptions, talk
from englishroom.ir.tokenizer import Tokenizer
from englishroom.steps import StepProgress, silent
from englishroom.talker import Talker

CONTEXT_TOKENS = 16
"""Tokens shown before one that the talkers differ on."""


@dataclass(frozen=True)
class TokenDifference:
    """A token on which one talker is much better.

    Attributes:
        before, token: the text up to the token, and the token's own text.
        nats: what the token costs the first and the second talker.
        expected: what each held for the likeliest.
        document, position: where it stands; the start token is position 0.
    """

    before: str
    token: str
    nats: tuple[float, float]
    expected: tuple[str, str]
    document: int
    position: int

    @property
    def gain(self) -> float:
        """Nats by which the second talker is better."""
        return self.nats[0] - self.nats[1]


@dataclass(frozen=True)
class PairedStory:
    """What both tell after the same prompt with the same seed, and how many characters they share at first."""

    prompt: str
    seed: int
    first: str
    second: str

    @property
    def alike(self) -> int:
        same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(self.first, self.second, strict=False))
        return sum(1 for _ in same)


@dataclass(frozen=True)
class CategoryDifference:
    """How much better the second talker is on one category of tokens.

    Attributes:
        gain, interval: nats per token by which the second is better, and where 95 % of resamplings put it.
        share: of the whole difference that falls on these tokens; categories of one way of sorting sum to 1.
    """

    category: str
    tokens: int
    nats: tuple[float, float]
    gain: float
    interval: tuple[float, float]
    share: float


@dataclass(frozen=True)
class Comparison:
    """Where two talkers differ. The first is the reference of both KLs, ``KL(first ‖ second)`` the first of them.

    Attributes:
        gain, interval: nats per token by which the second is better, and where 95 % of resamplings put it.
        second_better, first_better: the tokens with the largest difference, one a document at most.
        categories: ranked by the size of the gain.
    """

    names: tuple[str, str]
    documents: int
    tokens: int
    nats_per_token: tuple[float, float]
    bits_per_byte: tuple[float, float]
    gain: float
    interval: tuple[float, float]
    kl_nats: tuple[float, float]
    top1_agreement: float
    categories: Sequence[CategoryDifference]
    second_better: Sequence[TokenDifference]
    first_better: Sequence[TokenDifference]
    stories: Sequence[PairedStory]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)


def compare(
    first: Talker,
    second: Talker,
    documents: Sequence[str],
    prompts: Sequence[str] = (),
    seed: int = 0,
    top: int = 8,
    story: TalkOptions | None = None,
    progress: StepProgress = silent,
) -> Comparison:
    """Compare two talkers that read the same tokens.

    Args:
        prompts: each is told on by both, with seeds ``seed``, ``seed + 1`` ...; "" begins a story.
        top: how many tokens to show in each direction.
        story: how stories are told; its seed is not used.

    Raises:
        ConfigError: they read different tokens, or the text has none.
    """
    if first.tokenizer != second.tokenizer:
        raise ConfigError(
            f"{first.name} and {second.name} have different vocabularies, so their tokens cannot be compared one by "
            "one; compare talkers of one tokenizer, or see both in englishroom score"
        )
    lead = first if comparable(second, first) else second
    largest = Differences(first.tokenizer, top)
    a, b = judge([first, second], documents, lead, categories=True, progress=progress, observe=largest.observe)
    gain = a.sums["nats_per_token"] - b.sums["nats_per_token"]
    one, two = Score.of(a), Score.of(b)
    names, other = ["kl_target_talker", "kl_talker_target"], b
    if lead is second:
        names, other = names[::-1], a
    return Comparison(
        names=(first.name, second.name),
        documents=len(documents),
        tokens=gain.count,
        nats_per_token=(one.nats_per_token, two.nats_per_token),
        bits_per_byte=(one.bits_per_byte, two.bits_per_byte),
        gain=gain.mean,
        interval=pair(gain.intervals(seed)[0]),
        kl_nats=(other.sums[names[0]].mean, other.sums[names[1]].mean),
        top1_agreement=other.sums["top1_agreement"].mean,
        categories=_rank(a, b, seed),
        second_better=largest.ranked(second_better=True),
        first_better=largest.ranked(second_better=False),
        stories=[_tell(first, second, prompt, seed + at, story or TalkOptions()) for at, prompt in enumerate(prompts)],
    )


def _rank(a: Judgement, b: Judgement, seed: int) -> list[CategoryDifference]:
    gain = a.sums["nats_per_token"] - b.sums["nats_per_token"]
    spread, whole = gain.intervals(seed), gain.total
    rows = list(zip(category_rows("", a, seed), category_rows("", b, seed), strict=True))
    kept = np.flatnonzero(gain.counts.sum(axis=0))
    found = [
        CategoryDifference(
            category=one.category,
            tokens=one.tokens,
            nats=(one["nats_per_token"], two["nats_per_token"]),
            gain=one["nats_per_token"] - two["nats_per_token"],
            interval=pair(spread[at]),
            share=float(gain.sums[:, at].sum() / whole) if whole else 0.0,
        )
        for at, (one, two) in zip(kept.tolist(), rows, strict=True)
        if one.category != "all"
    ]
    return sorted(found, key=lambda row: -abs(row.gain))


def _tell(first: Talker, second: Talker, prompt: str, seed: int, options: TalkOptions) -> PairedStory:
    chosen = replace(options, seed=seed)
    told = ["".join(talk(talker, prompt, chosen)) for talker in (first, second)]
    return PairedStory(prompt, seed, told[0], told[1])


class Differences:
    """Keeps the tokens on which two talkers differ most, at most one a document and direction."""

    def __init__(self, tokenizer: Tokenizer, top: int) -> None:
        self._tokenizer, self._top = tokenizer, top
        self._first: NDArray[np.floating[Any]] = np.empty((0, 0))
        self._best: NDArray[np.integer] = np.empty((0, 0), np.int64)
        self._heaps: dict[bool, list[tuple[float, int, TokenDifference]]] = {True: [], False: []}

    def observe(
        self, talker: int, batch: Sequence[Window], scored: NDArray[np.bool_], log_probs: NDArray[np.floating[Any]]
    ) -> None:
        """Take in what one talker answers to a batch, the first talker before the second."""
        tokens, _ = pad(batch, 0)
        nats = -np.take_along_axis(log_probs, tokens[:, 1:, None], axis=2)[..., 0]
        best = log_probs.argmax(axis=2)
        if talker == 0:
            self._first, self._best = nats, best
            return
        gain = np.where(scored, self._first - nats, 0)
        for row, window in enumerate(batch):
            for better in (True, False):
                at = int(gain[row].argmax() if better else gain[row].argmin())
                size = abs(float(gain[row, at]))
                heap = self._heaps[better]
                if (gain[row, at] > 0) != better or gain[row, at] == 0:
                    continue
                if len(heap) == self._top and size <= heap[0][0]:
                    continue
                pair = (float(self._first[row, at]), float(nats[row, at]))
                found = self._show(window, at + 1, pair, (int(self._best[row, at]), int(best[row, at])))
                same = [entry for entry in heap if entry[1] == window.document]
                if same and same[0][0] >= size:
                    continue
                if same:
                    heap.remove(same[0])
                    heapq.heapify(heap)
                heapq.heappush(heap, (size, window.document, found))
                if len(heap) > self._top:
                    heapq.heappop(heap)

    def ranked(self, second_better: bool) -> list[TokenDifference]:
        """Return the kept tokens of one direction, the largest difference first."""
        return [entry[2] for entry in sorted(self._heaps[second_better], key=lambda entry: -entry[0])]

    def _show(self, window: Window, at: int, nats: tuple[float, float], best: tuple[int, int]) -> TokenDifference:
        def text(tokens: Sequence[int]) -> str:
            return b"".join(self._tokenizer.pieces[token] for token in tokens).decode("utf-8", errors="replace")

        before = window.tokens[max(0 if window.start else 1, at - CONTEXT_TOKENS) : at]
        return TokenDifference(
            before=text(before),
            token=text(window.tokens[at : at + 1]),
            nats=nats,
            expected=(text(best[:1]), text(best[1:])),
            document=window.document,
            position=window.start + at,
        )
