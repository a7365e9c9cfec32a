"""Score talkers on text: every token after a document's start token, by the same windows for all.

1. Encode the documents and cut them to windows; every token is a target once.
2. Feed windows of similar length side by side, to the reference first, then to every talker that reads its tokens.
3. Check that the answers are probabilities, and that none of them looks ahead (``honesty``).
4. Take every metric of every token into tallies per document and category.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.data.corpus import windows
from englishroom.errors import ConfigError
from englishroom.evaluate import metrics
from englishroom.evaluate.categories import LABELS, WAYS, Sorter
from englishroom.evaluate.honesty import Examiner
from englishroom.evaluate.metrics import Calibration, MetricSums
from englishroom.talker import Talker

BATCH_TOKENS = 4096
BATCH_NUMBERS = 2**24
"""Log-probabilities held at once (64 MB in float32)."""
Progress = Callable[[int, int], None]


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

    def __add__(self, other: Score) -> Score:
        return Score(
            self.nats + other.nats,
            self.tokens + other.tokens,
            self.bytes + other.bytes,
            self.hits + other.hits,
            self.documents + other.documents,
        )

    @property
    def nats_per_token(self) -> float:
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes

    @property
    def top1(self) -> float:
        return self.hits / self.tokens


@dataclass
class Judgement:
    """All that was measured of one talker on one text; judgements of parts of the documents add up.

    Attributes:
        bytes: of every document in UTF-8, [document].
        tallies: by metric: ``nats`` and ``top1``; beside a reference also ``kl_target_talker`` and
            ``kl_talker_target`` (the target is the reference), ``top1_agreement`` and ``target_nats``, the reference's
            own nats at the same tokens.
        calibration: how sure it is, and how often right.
    """

    bytes: NDArray[np.int64]
    tallies: dict[str, MetricSums] = field(default_factory=dict)
    calibration: Calibration = field(default_factory=Calibration.empty)

    def __add__(self, other: Judgement) -> Judgement:
        if self.tallies.keys() != other.tallies.keys():
            raise ConfigError("judgements by different metrics cannot be added; measure both with the same reference")
        return Judgement(
            self.bytes,
            {name: tally + other.tallies[name] for name, tally in self.tallies.items()},
            self.calibration + other.calibration,
        )

    @property
    def ce_increase(self) -> MetricSums | None:
        """The tally of nats above the reference's, or ``None`` where there was none."""
        return self.tallies["nats"] - self.tallies["target_nats"] if "target_nats" in self.tallies else None

    @property
    def score(self) -> Score:
        """The plain sums."""
        nats, top1 = self.tallies["nats"], self.tallies["top1"]
        return Score(nats.total, nats.count, int(self.bytes.sum()), round(top1.total), len(self.bytes))


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


def score(talker: Talker, documents: Sequence[str], progress: Progress = lambda _done, _total: None) -> Score:
    """Score every document from its start token; longer ones than the context in windows that overlap by half.

    Raises:
        ConfigError: the text cannot be encoded, or has no token to score.
        InvalidTalkerError: the answers are no probabilities, or look ahead.
    """
    return judge([talker], documents, progress=progress)[0].score


def judge(
    talkers: Sequence[Talker],
    documents: Sequence[str],
    reference: Talker | None = None,
    categories: bool = False,
    progress: Progress = lambda _done, _total: None,
    part: range | None = None,
    observe: Observe = lambda _talker, _batch, _scored, _log_probs: None,
) -> list[Judgement]:
    """Measure talkers on documents; those that read the reference's tokens are also compared with it, token by token.

    Args:
        reference: usually the target; measured among ``talkers`` only if it is one of them.
        categories: whether to keep tallies by category (``categories.LABELS``), not only of all tokens.
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
        names = ["nats", "top1"]
        if paired:
            names += ["target_nats", "kl_target_talker", "kl_talker_target", "top1_agreement"]
        self.judgements = [Judgement(sizes, {name: MetricSums.empty(*shape) for name in names}) for _ in talkers]
        self.examiners = [Examiner(talker) for talker in talkers]
        self.lead_examiner = Examiner(lead)

    def run(self) -> Iterator[tuple[int, list[Window], NDArray[np.bool_], NDArray[np.floating[Any]]]]:
        """Measure batch by batch; yield which talker read what, which positions count, and its answers."""
        for batch in batches(self.cut, len(self.lead.tokenizer.pieces)):
            tokens, scored = pad(batch, self.lead.tokenizer.start_id)
            targets, kept = tokens[:, 1:].reshape(-1), scored.reshape(-1)
            owners = np.repeat([window.document for window in batch], scored.shape[1])[kept]
            labels = self._labels(batch)
            truth: _Answers | None = None
            if self.paired:
                truth = _Answers.of(self.lead, tokens[:, :-1], self.lead_examiner)
            beside = zip(self.talkers, self.examiners, self.judgements, strict=True)
            for member, (talker, examiner, judgement) in enumerate(beside):
                same = truth is not None and talker is self.lead
                ours = truth if same else _Answers.of(talker, tokens[:, :-1], examiner)
                assert ours is not None
                values = _values(ours, targets, truth)
                judgement.calibration += Calibration.of(ours.sure[kept], values["top1"][kept])
                for name, value in values.items():
                    judgement.tallies[name].add(value[kept], owners, labels)
                yield member, batch, scored, ours.log.reshape(*scored.shape, -1)

    def _labels(self, batch: Sequence[Window]) -> NDArray[np.int64]:
        if self.labels is None:
            return np.empty((sum(map(_n_scored, batch)), 0), np.int64)
        cut = [
            self.labels[window.document][window.start + window.scored_from - 1 :][: _n_scored(window)]
            for window in batch
        ]
        return np.concatenate(cut) if cut else np.empty((0, len(WAYS)), np.int64)


@dataclass(frozen=True)
class _Answers:
    """What a talker answers at every position of a batch, window after window.

    Attributes:
        log, p: log-probabilities and probabilities, [window * pos, d_vocab].
        best, sure: the likeliest token and its probability, [window * pos].
    """

    log: NDArray[np.floating[Any]]
    p: NDArray[np.floating[Any]]
    best: NDArray[np.integer]
    sure: NDArray[np.float64]

    @classmethod
    def of(cls, talker: Talker, tokens: NDArray[np.int64], examiner: Examiner) -> _Answers:
        log = talker.log_probs(tokens)
        p = examiner.examine(tokens, log)
        log, p = log.reshape(-1, log.shape[-1]), p.reshape(-1, log.shape[-1])
        best = log.argmax(axis=1)
        return cls(log, p, best, p[np.arange(len(p)), best].astype(np.float64))


def _values(ours: _Answers, targets: NDArray[np.integer], truth: _Answers | None) -> dict[str, NDArray[np.float64]]:
    """Compute every metric at every position, [window * pos]."""
    values = {"nats": metrics.nats(ours.log, targets), "top1": metrics.top1(ours.best, targets)}
    if truth is None:
        return values
    return values | {
        "target_nats": metrics.nats(truth.log, targets),
        "kl_target_talker": metrics.kl_nats(truth.log, ours.log, truth.p),
        "kl_talker_target": metrics.kl_nats(ours.log, truth.log, ours.p),
        "top1_agreement": metrics.agreement(truth.best, ours.best),
    }


def _n_scored(window: Window) -> int:
    return len(window.tokens) - window.scored_from


def encode(talker: Talker, documents: Sequence[str]) -> list[list[int]]:
    """Encode documents, each after the start token.

    Raises:
        ConfigError: a document has characters that the vocabulary lacks.
    """
    start = talker.tokenizer.start_id
    try:
        return [[start, *talker.tokenizer.encode(document)] for document in documents]
    except ValueError as error:
        raise ConfigError(f"text: {error}; use a text of other characters") from None


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
