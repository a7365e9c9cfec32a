"""N-gram rules over context templates: each of the last tokens is kept or skipped (Nguyen 2024).

A template is the tuple of distances that it keeps, counted back from the last token read: ``(1, 2)`` is the trigram
rule, ``(1, 3)`` skips the token between. Templates form a tree, in which the parent of one is without its farthest
token; contexts are numbered per template, and one is found by the number of its parent's and its farthest token.

1. For every template, sort the pairs (context, next token) of the text and count equal ones.
2. A rule's probabilities are its counts less a discount, and the discounted mass goes to the parent's probabilities;
   where the context never occurred, or reaches beyond the beginning of the document, the parent answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from englishroom.errors import ConfigError
from englishroom.ir.tokenizer import Tokenizer
from englishroom.talkers.ngrams.base import LastTokens
from englishroom.talkers.ngrams.search import begins, context_limits, find, slices_of, spans
from englishroom.talkers.ngrams.talker import N_CTX
from englishroom.talkers.text import TokenisedText

Template = tuple[int, ...]
CHUNK_ENTRIES = 2**22
"""Table entries read at once (32 MB a column)."""


@dataclass(frozen=True)
class TemplateRule:
    """The n-gram rule of one template, as a talker.

    Attributes:
        template: distances kept, nearest first; empty for the unigram rule.
        parent: the rule without the farthest token kept; ``None`` for the unigram rule.
        contexts: parent's context times ``d_vocab`` plus farthest token, sorted; the index is the context's number.
        starts: where the row of each context begins, [n_contexts + 1].
        followers, counts: next tokens of every context, and how often they came.
        discount: taken off every count, 0..1; 0 backs off from unseen contexts only.
    """

    template: Template
    parent: TemplateRule | None
    contexts: NDArray[np.int64]
    starts: NDArray[np.int64]
    followers: NDArray[np.int32]
    counts: NDArray[np.int32]
    discount: float
    tokenizer: Tokenizer
    n_ctx: int = N_CTX

    @property
    def name(self) -> str:
        """Kept tokens as ``x`` and skipped ones as ``.``, in the order of reading: ``(1, 3)`` is ``x.x``."""
        length = max(self.template, default=0)
        return "rule " + ("".join("x" if d in self.template else "." for d in range(length, 0, -1)) or "unigram")

    def log_probs(self, tokens: NDArray[np.integer]) -> NDArray[np.float64]:
        limits = context_limits(tokens, self.tokenizer.start_id)
        probabilities, _ = self._probabilities(tokens, limits)
        with np.errstate(divide="ignore"):  # without a discount, what never followed a context has no chance
            return np.log(probabilities, out=probabilities).reshape(*tokens.shape, -1)

    def stream(self) -> LastTokens:
        n_kept = max(self.template, default=1)
        return LastTokens(lambda read, n_new: self.log_probs(read)[:, read.shape[1] - n_new :], n_kept)

    def _probabilities(
        self, tokens: NDArray[np.integer], limits: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return probabilities [batch * pos, d_vocab] and the number of the context there, -1 where it has none."""
        d_vocab = len(self.tokenizer.pieces)
        if self.parent is None:
            counts = np.zeros(d_vocab)
            counts[self.followers] = self.counts
            flat = (counts + 1) / (counts.sum() + d_vocab)
            return np.tile(flat, (tokens.size, 1)), np.zeros(tokens.size, dtype=np.int64)
        probabilities, above = self.parent._probabilities(tokens, limits)
        farthest = self.template[-1]
        kept = np.zeros_like(limits)
        kept[:, farthest - 1 :] = tokens[:, : max(0, tokens.shape[1] - farthest + 1)]
        known = (limits >= farthest).reshape(-1) & (above >= 0)
        numbers = find(self.contexts, np.where(known, above * d_vocab + kept.reshape(-1), -1))
        seen = np.flatnonzero(numbers >= 0)
        lengths = self.starts[numbers[seen] + 1] - self.starts[numbers[seen]]
        for part in slices_of(lengths, CHUNK_ENTRIES):
            self._add_rows(probabilities, seen[part], numbers[seen[part]])
        return probabilities, numbers

    def _add_rows(self, probabilities: NDArray[np.float64], at: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
        entries, lengths = spans(self.starts[numbers], self.starts[numbers + 1])
        counts = self.counts[entries].astype(np.float64)
        rows = np.repeat(np.arange(len(at)), lengths)
        totals = np.bincount(rows, counts, minlength=len(at))
        rest = np.ones(len(probabilities))
        rest[at] = self.discount * lengths / totals
        probabilities *= rest[:, None]
        cells = np.repeat(at * probabilities.shape[1], lengths) + self.followers[entries]
        probabilities.reshape(-1)[cells] += (counts - self.discount) / totals[rows]


def template_rules(text: TokenisedText, tokenizer: Tokenizer, reach: int, discount: float = 0.5) -> list[TemplateRule]:
    """Count the rules of all ``2 ** reach`` templates over the last ``reach`` tokens.

    Returns:
        The rules, the unigram rule first, parents before their children.

    Raises:
        ConfigError: a setting is out of range.
    """
    if not 0 <= reach <= 8:
        raise ConfigError(f"the reach of the rules is {reach}, expected 0 to 8")
    if not 0 <= discount <= 1:
        raise ConfigError(f"the discount is {discount}, expected 0 to 1")
    if not len(text.tokens):
        raise ConfigError("the text has no tokens to count; give more text")
    tokens = text.tokens.astype(np.int64)
    after = np.append(tokens[1:], tokenizer.start_id)
    limits = context_limits(tokens[None], tokenizer.start_id)[0]
    d_vocab = len(tokenizer.pieces)

    def count(template: Template, parent: TemplateRule | None, above: NDArray[np.integer]) -> Iterator[TemplateRule]:
        """Count a rule and its children; ``above`` numbers the parent's context at every place, -1 for none."""
        inside = np.flatnonzero((above >= 0) & (limits >= max(template, default=0)))
        keys = above[inside].astype(np.int64)
        if template:
            keys = keys * d_vocab + tokens[inside - template[-1] + 1]
        keys = keys * d_vocab + after[inside]
        children = range(max(template, default=0) + 1, reach + 1)
        order = np.argsort(keys) if children else None
        keys = np.sort(keys) if order is None else keys[order]
        rule = _table(template, parent, keys)
        yield rule
        if order is None:
            return
        numbers = np.full(len(tokens), -1, dtype=np.int32)
        numbers[inside[order]] = np.cumsum(begins(keys // d_vocab)) - 1
        del inside, keys, order
        for farther in children:
            yield from count((*template, farther), rule, numbers)

    def _table(template: Template, parent: TemplateRule | None, keys: NDArray[np.int64]) -> TemplateRule:
        """Count equal ones of sorted keys (context, next token)."""
        first = np.flatnonzero(begins(keys))
        counts = np.diff(np.append(first, len(keys))).astype(np.int32)
        pairs = keys[first]
        contexts = pairs // d_vocab
        starts = np.flatnonzero(begins(contexts))
        followers = (pairs - contexts * d_vocab).astype(np.int32)
        ends = np.append(starts, len(pairs))
        return TemplateRule(template, parent, contexts[starts], ends, followers, counts, discount, tokenizer)

    rules = count((), None, np.zeros(len(tokens), dtype=np.int32))
    return sorted(rules, key=lambda rule: (len(rule.template), rule.template))
