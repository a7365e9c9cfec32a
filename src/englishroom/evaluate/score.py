"""Score talkers on text: every token after a document's start token, by the same windows for all.

1. Encode the documents and cut them to windows; every token is a target once.
2. Feed windows of similar length side by side, to the reference first, then to every talker that reads its tokens.
3. Check that the answers are probabilities, and that none of them looks ahead (``honesty``).
4. Sum every metric (``metrics``) over the tokens of each document and category.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.data.corpus import windows
from englishroom.data.spelling import encoded
from englishroom.errors import ConfigError
from englishroom.evaluate.categories import LABELS, WAYS, Sorter
from englishroom.evaluate.honesty import Examiner
from englishroom.evaluate.metrics import METRICS
from englishroom.evaluate.per_token import Answers, agreement
from englishroom.evaluate.sums import Calibration, Judgement, MetricSums
from englishroom.steps import StepProgress, silent
from englishroom.talker import Talker

BATCH_TOKENS = 4096
BATCH_NUMBERS = 2**24
"""Log-probabilities held at once (64 MB in float32)."""


@dataclass(frozen=True)
class Score:
    """Sums over scored tokens; adding two scores is right under any split of the text.

    Attributes:
        nats: summed negative log-probability of every token after the start token.
        tokens, bytes: what was scored.
        hits: tokens that were the talker's likeliest.
    """

    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0
    hits: int = 0
    documents: int = 0

    @classmethod
    def of(cls, judgement: Judgement) -> Score:
        """Take the plain sums of a judgement."""
        nats, top1 = judgement.sums["nats_per_token"], judgement.sums["top1"]
        return cls(nats.total, nats.count, int(judgement.bytes.sum()), round(top1.total), len(judgement.bytes))

    def __add__(self, other: Score) -> Score:
        return Score(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def nats_per_token(self) -> float:
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes

    @property
    def top1(self) -> float:
        return self.hits / self.tokens


@dataclass(frozen=True)
class Window:
    """Tokens to feed, and from which one on they are scored.

    Attributes:
        document: the index of its document.
        start: where in the document (start token included) it begins.
    """

    tokens: tuple[int, ...]
    scored_from: int
    document: int = 0
    start: int = 0


Observe = Callable[[int, Sequence[Window], NDArray[np.bool_], NDArray[np.floating[Any]]], None]
"""Sees (talker, windows, scored [window, pos], log-probabilities [window, pos, d_vocab]); ``i`` predicts ``i + 1``."""


def score(talker: Talker, documents: Sequence[str], progress: StepProgress = silent) -> Score:
    """Score every document from its start token; longer ones than the context in windows that overlap by half.

    Raises:
        ConfigError: the text cannot be encoded, or has no token to score.
        InvalidTalkerError: the answers are no probabilities, or look ahead.
    """
    return Score.of(judge([talker], documents, progress=progress)[0])


def judge(
    talkers: Sequence[Talker],
    documents: Sequence[str],
    reference: Talker | None = None,
    categories: bool = False,
    progress: StepProgress = silent,
    part: range | None = None,
    observe: Observe = silent,
) -> list[Judgement]:
    """Measure talkers on documents; those that read the reference's tokens are also compared with it, token by token.

    Args:
        reference: usually the target; measured among ``talkers`` only if it is one of them.
        categories: whether to keep sums by category (``categories.LABELS``), not only of all tokens.
        part: the documents to measure now, where the work is shared out; sums of parts add up to the whole.
        observe: called with the index of a talker and what it answers to every batch; see :data:`Observe`.

    Raises:
        ConfigError: the text cannot be encoded, or has no token to score.
        InvalidTalkerError: a talker's answers are no probabilities, or look ahead.
    """
    beside = [i for i, talker in enumerate(talkers) if reference is not None and comparable(talker, reference)]
    works: list[tuple[_Work, list[int]]] = []
    if reference is not None and beside:
        works.append((_Work([talkers[i] for i in beside], reference, documents, categories, part, True), beside))
    for i, talker in enumerate(talkers):
        if i not in beside:
            works.append((_Work([talker], talker, documents, categories, part, False), [i]))
    total, done = sum(work.size for work, _ in works), 0
    if not total:
        raise ConfigError("the text has no token to score; give more text")
    judged: dict[int, Judgement] = {}
    for work, members in works:
        for member, batch, scored, log_probs in work.run():
            observe(members[member], batch, scored, log_probs)
            done += sum(len(window.tokens) for window in batch)
            progress(done, total)
        judged |= dict(zip(members, work.judgements, strict=True))
    return [judged[index] for index in range(len(talkers))]


def comparable(talker: Talker, reference: Talker) -> bool:
    """Say whether a talker can be fed the windows of a reference."""
    return talker is reference or (talker.tokenizer == reference.tokenizer and talker.n_ctx >= reference.n_ctx)


class _Work:
    """Talkers that read the same windows."""

    def __init__(
        self,
        talkers: Sequence[Talker],
        lead: Talker,
        documents: Sequence[str],
        categories: bool,
        part: range | None,
        paired: bool,
    ) -> None:
        self.talkers, self.lead, self.paired = talkers, lead, paired
        encoded = encode(lead, documents)
        chosen = range(len(documents)) if part is None else part
        self.cut = [window for at in chosen for window in cut_windows(lead, at, encoded[at])]
        self.size = sum(len(window.tokens) for window in self.cut) * len(talkers)
        sorter = Sorter(lead.tokenizer, [tokens[1:] for tokens in encoded]) if categories else None
        self.labels = {at: sorter.labels(encoded[at][1:]) for at in chosen} if sorter else None
        shape = (len(documents), len(LABELS) if categories else 1)
        sizes = np.array([len(document.encode()) for document in documents], np.int64)
        self.taken = {m.key: m.per_token for m in METRICS if m.per_token and (paired or not m.paired)}
        self.judgements = [Judgement(sizes, {key: MetricSums.empty(*shape) for key in self.taken}) for _ in talkers]
        self.examiners = [Examiner(talker) for talker in talkers]
        self.lead_examiner = Examiner(lead)

    def run(self) -> Iterator[tuple[int, list[Window], NDArray[np.bool_], NDArray[np.floating[Any]]]]:
        """Measure batch by batch; yield which talker read what, which positions count, and its answers."""
        for batch in batches(self.cut, len(self.lead.tokenizer.pieces)):
            tokens, scored = pad(batch, self.lead.tokenizer.start_id)
            targets, kept = tokens[:, 1:].reshape(-1), scored.reshape(-1)
            owners = np.repeat([window.document for window in batch], scored.shape[1])[kept]
            labels = self._labels(batch)
            truth = answers(self.lead, tokens[:, :-1], self.lead_examiner) if self.paired else None
            beside = zip(self.talkers, self.examiners, self.judgements, strict=True)
            for member, (talker, examiner, judgement) in enumerate(beside):
                ours = truth if truth and talker is self.lead else answers(talker, tokens[:, :-1], examiner)
                judgement.calibration += Calibration.of(ours.sure[kept], agreement(ours.best, targets)[kept])
                for key, compute in self.taken.items():
                    judgement.sums[key].add(compute(ours, truth or ours, targets)[kept], owners, labels)
                yield member, batch, scored, ours.log.reshape(*scored.shape, -1)

    def _labels(self, batch: Sequence[Window]) -> NDArray[np.int64]:
        if self.labels is None:
            return np.empty((sum(map(_n_scored, batch)), 0), np.int64)
        cut = [self.labels[one.document][one.start + one.scored_from - 1 :][: _n_scored(one)] for one in batch]
        return np.concatenate(cut) if cut else np.empty((0, len(WAYS)), np.int64)


def answers(talker: Talker, tokens: NDArray[np.int64], examiner: Examiner) -> Answers:
    """Let a talker read a batch, and refuse answers that would fool the measure."""
    log = talker.log_probs(tokens)
    return Answers.of(log, examiner.examine(tokens, log))


def _n_scored(window: Window) -> int:
    return len(window.tokens) - window.scored_from


def encode(talker: Talker, documents: Sequence[str]) -> list[list[int]]:
    """Encode documents, each after the start token.

    Raises:
        ConfigError: a document has characters that the vocabulary lacks.
    """
    return [encoded(talker.tokenizer, document) for document in documents]


def cut_windows(talker: Talker, document: int, tokens: Sequence[int]) -> Iterator[Window]:
    """Cut one document to the talker's context."""
    for start, scored_from, stop in windows(tokens, talker.n_ctx):
        yield Window(tuple(tokens[start:stop]), scored_from - start, document, start)


def batches(cut: Sequence[Window], d_vocab: int) -> Iterator[list[Window]]:
    """Group windows of similar length, within bounds on tokens and on numbers held at once."""
    limit = max(1, min(BATCH_TOKENS, BATCH_NUMBERS // d_vocab))
    group: list[Window] = []
    for window in sorted(cut, key=lambda window: -len(window.tokens)):
        if group and (len(group) + 1) * len(group[0].tokens) > limit:
            yield group
            group = []
        group.append(window)
    if group:
        yield group


def pad(batch: Sequence[Window], start_id: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Lay windows side by side, shorter ones padded behind, where nothing is scored.

    Returns:
        tokens [window, length] and which predictions count, [window, length - 1].
    """
    length = max(len(window.tokens) for window in batch)
    tokens = np.full((len(batch), length), start_id, dtype=np.int64)
    scored = np.zeros((len(batch), length - 1), dtype=bool)
    for row, window in enumerate(batch):
        tokens[row, : len(window.tokens)] = window.tokens
        scored[row, window.scored_from - 1 : len(window.tokens) - 1] = True
    return tokens, scored
