"""A talker of skip-trigrams (A ... B -> C), the rules that one layer of attention by itself is made of.

Elhage et al. (2021) read them off such models, where the score of A for B and what A says of C are told apart; here
each pair (A, B) has a row of its own.

1. After token B the bigrams say what comes next.
2. Every earlier token A within a window is looked up together with B, in the table of its distance. A pair that tells
   something answers with a distribution of its own.
3. P(token) is a weighted mean of all these, the bigrams among them. The weight of a pair, its *score*, depends on its
   table and on how much it tells (``SkipTable.kinds``); scores are divided by their sum, as attention does. They are
   fitted on other documents than were counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.data.corpus import document_marks, text_hash
from englishroom.errors import ConfigError
from englishroom.ir.tokenizer import Tokenizer
from englishroom.steps import Progress, silent
from englishroom.talkers.ngrams.base import LastTokens
from englishroom.talkers.ngrams.counts import count_ngrams
from englishroom.talkers.ngrams.encode import encode_documents
from englishroom.talkers.ngrams.kneser_ney import fit_kneser_ney
from englishroom.talkers.ngrams.search import context_limits, find, slices_of, spans
from englishroom.talkers.ngrams.skip_table import KINDS, SkipTable, count_skips, ranges_of
from englishroom.talkers.ngrams.talker import NgramTalker
from englishroom.talkers.text import TokenisedText

BUDGET = 2**25
"""Triples counted per table (268 MB while they are sorted)."""
ROUNDS = 100
"""Of fitting the scores; each climbs."""
PRIOR = 1e-3
"""Tokens of evidence for a score of 1, for kinds that are hardly seen while fitting."""
CHUNK_NUMBERS = 2**21
"""Probabilities formed, and table entries read, at once (16 MB each)."""


@dataclass(frozen=True)
class SkipTalker:
    """A talker of bigrams and skip-trigrams.

    Attributes:
        bigrams: an n-gram talker of order 2.
        tables: by distance, from 1 on.
        scores: of each table's kinds of pairs, [n_tables, KINDS]; that of the bigrams is 1.
        text_sha256, fit_marks: what was counted, as in :class:`~englishroom.talkers.ngrams.talker.NgramTalker`.
    """

    bigrams: NgramTalker
    tables: tuple[SkipTable, ...]
    scores: NDArray[np.float64]
    text_sha256: str = ""
    fit_marks: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))

    @property
    def name(self) -> str:
        return f"skip-trigrams within {self.window}"

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that it answers by."""
        found: dict[str, NDArray[Any]] = {"scores": self.scores} | self.bigrams.arrays()
        found["skip discounts"] = np.array([table.discount for table in self.tables])
        for table in self.tables:
            name = f"{table.nearest} to {table.farthest} before"
            found[f"{name}: branches"] = np.diff(table.starts)
            for part in ("pairs", "tokens", "counts", "totals", "kinds"):
                found[f"{name}: {part}"] = getattr(table, part)
        return found

    @property
    def window(self) -> int:
        return self.tables[-1].farthest

    @property
    def tokenizer(self) -> Tokenizer:
        return self.bigrams.tokenizer

    @property
    def n_ctx(self) -> int:
        return self.bigrams.n_ctx

    def log_probs(self, tokens: NDArray[np.integer]) -> NDArray[Any]:
        return self.stream().extend(tokens)

    def stream(self) -> LastTokens:
        return LastTokens(self._after, self.window)

    def _after(self, tokens: NDArray[np.integer], n_last: int) -> NDArray[Any]:
        """Compute log-probabilities after each of the last positions, [batch, n_last, d_vocab]."""
        first = tokens.shape[1] - n_last
        answers = self.bigrams.log_probs(tokens[:, first:])
        flat = answers.reshape(-1, answers.shape[-1])
        step = max(1, CHUNK_NUMBERS // flat.shape[1])
        hits = [found_pairs(table, tokens, first, self.tokenizer) for table in self.tables]
        for start in range(0, len(flat), step):
            part = flat[start : start + step]
            part[:] = np.log(self._attended(np.exp(part, dtype=np.float64), hits, start))
        return answers

    def _attended(
        self, chances: NDArray[np.float64], hits: list[tuple[NDArray[np.int64], NDArray[np.int64]]], start: int
    ) -> NDArray[np.float64]:
        """Mix the chances after B alone, [pos, d_vocab] from position ``start`` on, with the rows of the pairs."""
        n_pos, d_vocab = chances.shape
        total, rest = np.ones(n_pos), np.ones(n_pos)
        added = np.zeros(n_pos * d_vocab)
        for table, scores, (at, row) in zip(self.tables, self.scores, hits, strict=True):
            mine = slice(*np.searchsorted(at, [start, start + n_pos]))
            where, rows = at[mine] - start, row[mine]
            score = scores[table.kinds[rows]]
            total += np.bincount(where, score, n_pos)
            rest += np.bincount(where, score * table.rests[rows], n_pos)
            for part in slices_of(table.starts[rows + 1] - table.starts[rows], CHUNK_NUMBERS):
                entries, lengths = spans(table.starts[rows[part]], table.starts[rows[part] + 1])
                cells = np.repeat(where[part] * d_vocab, lengths) + table.tokens[entries]
                worth = np.repeat(score[part] / table.totals[rows[part]], lengths)
                added += np.bincount(cells, (table.counts[entries] - table.discount) * worth, n_pos * d_vocab)
        return (chances * rest[:, None] + added.reshape(chances.shape)) / total[:, None]


def found_pairs(
    table: SkipTable, tokens: NDArray[np.integer], first: int, tokenizer: Tokenizer
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Look up each position's token together with every one before it that the table is for.

    Returns:
        Flat positions from ``first`` on, sorted, and rows of the table, one entry per pair found.
    """
    limits = context_limits(tokens, tokenizer.start_id)[:, first:].reshape(-1)
    flat = tokens.reshape(-1).astype(np.int64)
    places = np.arange(tokens.size).reshape(tokens.shape)[:, first:].reshape(-1)
    found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for distance in range(table.nearest, table.farthest + 1):
        at = np.flatnonzero(limits > distance)
        rows = find(table.pairs, flat[places[at] - distance] * len(tokenizer.pieces) + flat[places[at]])
        found.append((at[rows >= 0], rows[rows >= 0]))
    at, rows = map(np.concatenate, zip(*found, strict=True))
    order = np.argsort(at, kind="stable")
    return at[order], rows[order]


def fit_skips(
    documents: Sequence[str],
    choose: Sequence[str],
    tokenizer: Tokenizer,
    window: int = 32,
    budget: int = BUDGET,
    progress: Progress = silent,
) -> SkipTalker:
    """Fit a talker: count ``documents``, and fit the scores on ``choose``, which must be other documents.

    Args:
        window: distance up to which tokens before the last one are looked at.
        budget: triples counted per table.
        progress: is told what is being done, how much of it is done, and of how much.

    Raises:
        ConfigError: a text cannot be encoded, the texts overlap, or a setting is out of range.
    """
    if window < 1 or budget < 1:
        raise ConfigError(f"window {window}, budget {budget}: expected 1 or more of both")
    marks = document_marks(documents)
    if np.isin(document_marks(choose), marks).any():
        raise ConfigError("documents to choose scores on are among those counted; hold other ones out")
    text = encode_documents(documents, tokenizer, partial(progress, "tokenising"))
    counts = count_ngrams(text, tokenizer.start_id, len(tokenizer.pieces), 2)
    bigrams = NgramTalker(fit_kneser_ney(counts), tokenizer, text_hash(documents), marks)
    tables = []
    for nearest, farthest in ranges_of(window):
        tables.append(count_skips(text, bigrams, nearest, farthest, budget))
        progress("counting skip-trigrams", farthest, window)
    scores = fit_scores(bigrams, tables, encode_documents(choose, tokenizer))
    return SkipTalker(bigrams, tuple(tables), scores, bigrams.text_sha256, marks)


def fit_scores(bigrams: NgramTalker, tables: Sequence[SkipTable], choose: TokenisedText) -> NDArray[np.float64]:
    """Fit the score of each kind of pair in each table, [n_tables, KINDS].

    A score becomes the credit that its kind gets for the tokens that came, over what a score of 1 would get by
    itself; that step never lowers the likelihood (a minorise-maximise step, as for Bradley-Terry scores; Hunter 2004).
    """
    chances, at, kinds, own = (np.concatenate(part) for part in zip(*_evidence(bigrams, tables, choose), strict=True))
    n_tokens, n_kinds = len(chances), len(tables) * KINDS
    scores = np.ones(n_kinds)
    for _ in range(ROUNDS):
        score = scores[kinds]
        total = 1 + np.bincount(at, score, n_tokens)
        chance = chances + np.bincount(at, score * own, n_tokens)
        credit = np.bincount(kinds, score * own / chance[at], n_kinds)
        alone = np.bincount(kinds, 1 / total[at], n_kinds)
        scores = (credit + PRIOR) / (alone + PRIOR)
        scores /= (chances / chance).sum() / (1 / total).sum()  # so that the bigrams' score is 1 again
    return scores.reshape(len(tables), KINDS)


def _evidence(
    bigrams: NgramTalker, tables: Sequence[SkipTable], choose: TokenisedText
) -> Iterator[tuple[NDArray[Any], ...]]:
    """Yield per document: the chance of each next token after B alone, and of every pair the position, kind, chance."""
    d_vocab, done = len(bigrams.tokenizer.pieces), 0
    entry_keys = [np.repeat(np.arange(len(t.pairs)), np.diff(t.starts)) * d_vocab + t.tokens for t in tables]
    for start, stop in zip(choose.starts, [*choose.starts[1:], len(choose.tokens)], strict=True):
        tokens = np.append(choose.tokens[start:stop], bigrams.tokenizer.start_id).astype(np.int64)
        chances = np.exp(bigrams.token_log_probs(tokens[None])[0].astype(np.float64))
        ats, kinds, owns = [], [], []
        for i, (table, keys) in enumerate(zip(tables, entry_keys, strict=True)):
            at, rows = found_pairs(table, tokens[None, :-1], 0, bigrams.tokenizer)
            entries = find(keys, rows * d_vocab + tokens[1:][at])
            shares, seen = np.zeros(len(at)), np.flatnonzero(entries >= 0)
            shares[seen] = (table.counts[entries[seen]] - table.discount) / table.totals[rows[seen]]
            ats.append(at + done)
            kinds.append(i * KINDS + table.kinds[rows].astype(np.int64))
            owns.append(shares + table.rests[rows] * chances[at])
        yield chances, *map(np.concatenate, (ats, kinds, owns))
        done += len(chances)
