"""The sanity rows of every table: what a talker has to be compared with before its own number means anything.

1. The target with the outputs of all its layers replaced: by zero, by their mean, by those of a random other position.
2. N-grams of the target's own tokens, from unigrams to unbounded contexts, fitted on the fitting text.
3. The rule of Nguyen (2024) that comes closest to the target, picked with hindsight.
4. The target quantised and pruned, the curve that a program of some length is compared with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import get_args

import torch

from englishroom.data.corpus import document_marks
from englishroom.data.overlap import check_overlap
from englishroom.data.texts import Text
from englishroom.evaluate.description import describe
from englishroom.evaluate.hindsight import hindsight
from englishroom.evaluate.packed_rows import packed_rows
from englishroom.evaluate.score import score
from englishroom.evaluate.score_table import ScoreRow
from englishroom.evaluate.tabulate import ScoredTalker
from englishroom.evaluate.talkers.replaced import ReplacedTalker, Replacement
from englishroom.evaluate.talkers.target import TargetTalker
from englishroom.models.compress.quantise import BITS, quantise_best
from englishroom.models.compress.smallest import prune
from englishroom.models.load import Target
from englishroom.steps import Progress
from englishroom.talkers.ngrams.encode import encode_documents
from englishroom.talkers.ngrams.infini import fit_infini
from englishroom.talkers.ngrams.skip import fit_skips
from englishroom.talkers.ngrams.talker import fit_orders
from englishroom.talkers.ngrams.template import template_rules

KEPT_SHARES = (0.5, 0.25, 0.1)
"""Shares of the weights that pruned targets keep."""
CALIBRATION_ROWS = 64
"""Full contexts of the fitting text that error compensation and replacement see."""
CHOOSING_DOCUMENTS = 60
"""Documents of the choosing text that settings are chosen on."""
HINDSIGHT_DOCUMENTS = 40
HINDSIGHT_FIT_DOCUMENTS = 5000
ORDER_NAMES = ("unigram", "bigram", "trigram", "kneser-ney 4-gram", "kneser-ney 5-gram")


def check_texts(fit: Text, choose: Text, report: Text) -> None:
    """Refuse texts that share a document: fit on one, choose on another, report on a third.

    Raises:
        ConfigError: two of them share a document.
    """
    check_overlap(fit.name, document_marks(fit.documents), report)
    check_overlap(choose.name, document_marks(choose.documents), report)
    check_overlap(fit.name, document_marks(fit.documents), choose)


def baselines(target: TargetTalker, fit: Text, choose: Text, seed: int, progress: Progress) -> Iterator[ScoredTalker]:
    """Make the sanity rows of a target, one after the other.

    Args:
        fit: what n-grams are counted on, and what replacement and error compensation see.
        choose: what settings are chosen on; never the text that is reported on.
        seed: of the random replacement.
    """
    yield from _replaced(target, fit, seed)
    yield from _ngrams(target, fit, choose, progress)
    yield from _compressed(target, fit, choose, progress)


def _replaced(target: TargetTalker, fit: Text, seed: int) -> Iterator[ScoredTalker]:
    rows = packed_rows(target.tokenizer, fit.documents, target.n_ctx, CALIBRATION_ROWS)
    for how in get_args(Replacement):
        yield ScoredTalker(ReplacedTalker(target.target, target.tokenizer, how, rows, seed), "replaced", how)


def _ngrams(target: TargetTalker, fit: Text, choose: Text, progress: Progress) -> Iterator[ScoredTalker]:
    models = fit_orders(fit.documents, target.tokenizer, range(1, len(ORDER_NAMES) + 1), progress)
    for model, name in zip(models, ORDER_NAMES, strict=True):
        yield ScoredTalker.of(model, "n-gram", name)
    progress("sorting contexts", 0, 1)
    held = choose.documents[:CHOOSING_DOCUMENTS]
    yield ScoredTalker.of(fit_infini(fit.documents, held, models[-1]), "n-gram", "infini-gram")
    progress("sorting contexts", 1, 1)
    skips = fit_skips(fit.documents, held, target.tokenizer, progress=progress)
    yield ScoredTalker.of(skips, "n-gram", "skip-trigram")


def hindsight_row(target: TargetTalker, fit: Text, text: Text, progress: Progress) -> ScoreRow:
    """Make the row of the oracle, on the first documents of the text only: what no program could know.

    Its rules are those of all templates over the last four tokens, counted on the first documents of the fitting text.
    """
    documents = text.documents[:HINDSIGHT_DOCUMENTS]
    counted = encode_documents(fit.documents[:HINDSIGHT_FIT_DOCUMENTS], target.tokenizer)
    rules = template_rules(counted, target.tokenizer, reach=4)
    found = hindsight(rules, target, documents, progress=partial(progress, "hindsight"))
    n_bytes = sum(len(document.encode()) for document in documents)
    nats = found.hindsight_nats_per_token
    return ScoreRow(
        talker=f"n-gram rules, first {len(documents)} documents",
        role="hindsight",
        target=target.name,
        documents=len(documents),
        tokens=found.tokens,
        bytes=n_bytes,
        values={
            "nats_per_token": nats,
            "bits_per_byte": found.hindsight_nats / math.log(2) / n_bytes,
            "ce_increase": nats - found.target_nats / found.tokens,
            "top1_agreement": found.hindsight_top1_agreement,
        },
    )


def _compressed(target: TargetTalker, fit: Text, choose: Text, progress: Progress) -> Iterator[ScoredTalker]:
    tokenizer = target.tokenizer
    rows = torch.from_numpy(packed_rows(tokenizer, fit.documents, target.n_ctx, CALIBRATION_ROWS))
    held = choose.documents[:CHOOSING_DOCUMENTS]

    def objective(candidate: Target) -> float:
        return score(TargetTalker(candidate, tokenizer), held).nats_per_token

    for done, bits in enumerate(BITS):
        progress("quantising", done, len(BITS))
        found = quantise_best(target.target, bits, rows, objective)
        name = f"{'ternary' if bits == 'ternary' else f'{bits} bits'} ({found.method})"
        yield ScoredTalker(TargetTalker(found.target, tokenizer), "quantised", name, describe(found).bits)
    progress("quantising", len(BITS), len(BITS))
    for keep in KEPT_SHARES:
        left = TargetTalker(prune(target.target, keep), tokenizer)
        yield ScoredTalker.of(left, "pruned", f"{keep:.0%} of the weights")
