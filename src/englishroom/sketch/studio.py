"""The texts of a sketch as its gears see them, and all that is measured and written while it is made.

``share`` is 1 - KL(talker‖sketch) / KL(talker‖unigram): the unigram, what the talker says on average over the fitting
text, keeps nothing of it, the talker itself all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from englishroom.emit.prelude.sketching import OTHER
from englishroom.ir.tokenizer import Tokenizer
from englishroom.sketch.keys import COPYING, GEARS, Spelling, fits_table, read
from englishroom.sketch.kinds import sort_into_kinds
from englishroom.sketch.model import SampledPositions, SketchVotes, answers, loss
from englishroom.sketch.sampling import Heard
from englishroom.sketch.votes import Costs, importance_of
from englishroom.sketch.write import Tables, source, spell_out
from englishroom.steps import Progress

ALL_GEARS = (*GEARS, COPYING)
CODE_LINES = 100
"""What stands in every sketch, about, beside tables."""
HEADING_LINES, REMARK_CHARACTERS = 10, 45
"""What is set aside for the docstring of the file, and for what is said above a gear."""

Step = Progress


@dataclass(frozen=True)
class Ask:
    """What a sketch should be.

    Attributes:
        share: of the talker's behaviour, to be kept by as few lines as will do; or ``None`` for as much as lines hold.
        lines: the most that the file may have.
        words, kinds: how many words are listed, in how many kinds; by default as many as suit the lines.
    """

    share: float | None
    lines: int
    words: int | None = None
    kinds: int | None = None
    gears: tuple[str, ...] = ALL_GEARS

    @property
    def n_words(self) -> int:
        return self.words or min(max(4 * (self.lines - CODE_LINES), 150), 1500)

    @property
    def n_kinds(self) -> int:
        return self.kinds or min(max(self.lines // 4, 24), 80)


@dataclass(frozen=True)
class Judged:
    """How well a sketch does on some positions, in nats per token.

    Attributes:
        kl: KL(talker‖sketch).
        unigram_kl: KL(talker‖unigram).
    """

    kl: float
    unigram_kl: float

    @property
    def share(self) -> float:
        return 1 - self.kl / self.unigram_kl


class Studio:
    """Texts as gears see them, and all that is measured and written while a sketch is made.

    Attributes:
        fit, choose: what votes are fitted on, and what lengths are chosen on.
        costs: characters that it takes to write things down; infinite for kinds of one word, which say what it says.
        usable: which keys may stand in a table.
    """

    def __init__(self, tokenizer: Tokenizer, fit: Heard, choose: Heard, n_ctx: int, ask: Ask, progress: Step) -> None:
        self.ask, self.n_ctx, self.progress, self.tokenizer = ask, n_ctx, progress, tokenizer
        self.spelling = Spelling.of(tokenizer)
        d_vocab = len(self.spelling.words)
        mass = fit.probabilities.sum(0, dtype=np.float64)
        self.unigram = (mass + 1e-3) / (mass + 1e-3).sum()
        likely = np.argsort(-mass, kind="stable")
        listed = likely[self.spelling.writable[likely]][: ask.n_words]
        kind = sort_into_kinds(_follows(fit, d_vocab), listed, ask.n_kinds)
        n_kinds = int(kind.max()) + 1
        self.kind = np.where(kind < 0, n_kinds, kind)
        self.kind_names = [*_kind_names(self.spelling.words, kind, listed), OTHER]
        self._kinds = {self.spelling.words[token]: self.kind_names[kind[token]] for token in listed}
        self._tokens = {word: token for token, word in enumerate(self.spelling.words)}
        self.fit = self.sample(fit, "reading to fit")
        self.choose = self.sample(choose, "reading to choose")
        names = [*self.spelling.words, *self.kind_names]
        alone = np.bincount(kind[listed], minlength=n_kinds) == 1
        writable = np.concatenate([self.spelling.writable, ~alone, [True]])
        self.costs = Costs.of(names, writable, self.fit.readings.keys)
        twins = {name for name, is_alone in zip(self.kind_names, alone, strict=False) if is_alone}
        self.usable = np.array(
            [fits_table(key) and not twins.intersection(key.split(" ")) for _, key in self.fit.readings.keys], bool
        )

    def sample(self, heard: Heard, step: str) -> SampledPositions:
        """Read texts with every gear, under the names of the fitting text."""
        read_as = self.spelling.read_as(self.tokenizer)
        report = partial(self.progress, step)
        readings = read(heard, read_as, self._tokens, self._kinds, self.ask.gears, report)
        if hasattr(self, "fit"):
            readings = readings.under(self.fit.readings)
        return SampledPositions(readings, heard.probabilities)

    def start(self) -> SketchVotes:
        """Return the sketch that has nothing but its list of words."""
        listed = self.kind < self.kind.max()
        floor = np.log(self.unigram[~listed].mean()) if not listed.all() else np.log(self.unigram.min())
        always = np.where(listed, np.log(self.unigram) - floor, 0.0)
        nothing, n_kinds = np.empty(0, np.int64), len(self.kind_names)
        copies = np.zeros((len(self.fit.readings.copy_keys), n_kinds))
        return SketchVotes(self.kind, n_kinds, always, nothing, nothing, np.empty(0), copies)

    def judge(self, votes: SketchVotes, sample: SampledPositions) -> Judged:
        """Compare a sketch with the talker."""
        n = sample.readings.n_positions
        entropy, p = sample.entropy, sample.probabilities.sum(0, dtype=np.float64)
        return Judged((loss(votes, sample) - entropy) / n, float(-(p @ np.log(self.unigram)) - entropy) / n)

    def tables(self, votes: SketchVotes) -> Tables:
        """Spell a sketch out."""
        importance = importance_of(votes, self.fit)
        return spell_out(votes, self.fit.readings, self.spelling.words, self.kind_names, importance)

    def text(
        self, votes: SketchVotes, summary_lines: Sequence[str] = (), remarks: Mapping[str, str] | None = None
    ) -> str:
        """Write a sketch as its file, gears in the order of the remarks on them."""
        tables, remarks = self.tables(votes), remarks or {}
        order = [*(gear for gear in remarks if gear in tables.gears), *(g for g in tables.gears if g not in remarks)]
        ordered = Tables(tables.words, {gear: tables.gears[gear] for gear in order})
        return source(ordered, summary_lines, remarks, len(self.spelling.words), self.n_ctx)

    def lines(self, votes: SketchVotes) -> int:
        """Count the lines of the file."""
        remarks = dict.fromkeys(ALL_GEARS, "-" * REMARK_CHARACTERS)
        return self.text(votes, [""] * HEADING_LINES, remarks).count("\n")

    def answers(self, votes: SketchVotes, sample: SampledPositions) -> Iterator[NDArray[np.float64]]:
        """Yield what a sketch answers at every position, in float64, [d_vocab]."""
        for _, log in answers(votes, sample.readings, np.float64):
            yield from log.copy()  # the next chunk overwrites it

    def cross_entropy(self, votes: SketchVotes, sample: SampledPositions, targets: NDArray[np.int64]) -> float:
        """Return the mean nats of the tokens that came."""
        found = answers(votes, sample.readings)
        nats = [-log[np.arange(len(log)), targets[low : low + len(log)]].sum(dtype=np.float64) for low, log in found]
        return float(sum(nats)) / len(targets)


def _follows(heard: Heard, d_vocab: int) -> NDArray[np.float64]:
    """Sum the talker's probabilities by the last token, [d_vocab, d_vocab]."""
    pairs = zip(heard.windows, heard.counted, strict=True)
    last = np.concatenate([np.array(window[counted:]) for window, counted in pairs])
    order = np.argsort(last, kind="stable")
    starts = np.flatnonzero(np.diff(last[order], prepend=-1))
    follows = np.zeros((d_vocab, d_vocab))
    for group in np.split(order, starts[1:]):
        follows[last[group[0]]] = heard.probabilities[group].sum(0, dtype=np.float64)
    return follows


def _kind_names(words: Sequence[str], kind: NDArray[np.int64], listed: NDArray[np.int64]) -> list[str]:
    """Name every kind after one of its words, one that is likely and short."""
    names = []
    for number in range(int(kind.max()) + 1):
        members = ["@" + words[token] for token in map(int, listed) if kind[token] == number]
        best = min(range(min(6, len(members))), key=lambda at: (len(members[at]) + at / 2, at))
        names.append(members[best] if members[best] != OTHER else OTHER + "s")
    return names
