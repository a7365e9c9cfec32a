"""The readable program of the hand-set target says what was put into it, in words and numbers that a test can check.

Texts of one length of repetition would not do: where what comes next always stands 9 back, a look 9 back is as good as
one for the word after an earlier copy. So texts repeat after 5 to 10 words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from circuits import handset
from circuits.handset import IF, N_CTX, N_TOKENS, PREVIOUS, RULE_VOTE, SHARPNESS, THEN
from englishroom.dictionaries.checkpoint import Resumable
from englishroom.dictionaries.losses import kl_nats
from englishroom.dictionaries.replacement import clean_run
from englishroom.dictionaries.token_rows import TokenRows
from englishroom.inside.condition_config import SearchConfig
from englishroom.inside.explanations import Explained, explain
from englishroom.inside.labelling import label
from englishroom.inside.silencing import parts_of, silent_nats
from englishroom.interp.looking import Looking, LookParts
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.condition import WordAt
from englishroom.ir.labels import Labels, silent_key
from englishroom.ir.program import Looks, Lookup, Program, SparseTable, Votes
from englishroom.ir.tokenizer import Tokenizer
from englishroom.lower.wired import write_readable
from englishroom.models.forward import unembedding
from englishroom.readable.config import StreamConfig, WiringConfig
from englishroom.readable.look_fit import LookFit
from englishroom.readable.pieces import PiecesFit
from englishroom.readable.rounding import rounded
from englishroom.readable.stream_fit import StreamFit
from englishroom.readable.stream_start import start_stream
from englishroom.readable.wiring_fit import WiringFit
from englishroom.readable.wiring_start import start_wiring

WORDS = ("ant", "bee", "cat", "if", "dog", "elk", "fox", "then", "gnu", "hen", "ibis", "jay")
TOKENIZER = Tokenizer("byte_bpe", tuple(f" {word}".encode() for word in WORDS), (), (), (-1,) * 256, (), 0, (), False)
STEP = 16 * N_CTX
"""Tokens of one step of every fit."""
STREAM = StreamConfig(
    matches=12,
    moved=48,
    moved_active=1,
    rules=4,
    rules_active=1,
    first_rules_active=1,
    place_factor=20.0,  # two places, the beginning and the end: a look one back needs a curve
    apart_tokens=300 * STEP,
    look_tokens=400 * STEP,
    tokens=250 * STEP,
    batch=16,
    inside=0.0,
    rate=0.024,
    look_weight=1.0,
    look_until=1.0,
    dead_after=3000,
    ablate=0.5,
)
SHORT = WiringConfig(
    tokens=400 * STEP,
    batch=16,
    inside=0.0,
    rate=0.01,
    reads_half=2,
    reads_p95=4,
    reads_most=6,
    look_reads=8,
    words_half=2,
    words_p95=4,
    words_most=4,
    look_words=4,
    votes=4,
    follows=4,
    first_reads=100,
    first_words=24,
    prunings=20,
    active=0.5,
    ablate=0.5,
)
Rows = NDArray[np.int64]


def rows(n: int, seed: int) -> Rows:
    return handset.rows(n, seed, shortest=5).numpy()


def dense(table: SparseTable) -> NDArray:
    found = np.zeros((len(table.starts) - 1, table.n_columns))
    found[np.repeat(np.arange(len(found)), np.diff(table.starts)), table.columns] = table.values
    return found


@dataclass(frozen=True)
class Run:
    """What a program does on new rows; positions of all rows one after the other.

    Attributes:
        weights: of every look of each layer, [look, row, pos, pos].
    """

    program: Program
    tokens: Rows
    variables: dict[str, NDArray]
    weights: tuple[NDArray, ...]
    parts: tuple[LookParts, ...]
    log_probs: NDArray

    @cached_property
    def looks(self) -> tuple[Looks, ...]:
        return tuple(block for block in self.program.blocks if isinstance(block, Looks))

    @cached_property
    def before(self) -> Rows:
        """The token before each position, -1 at the first."""
        return np.concatenate([np.full((len(self.tokens), 1), -1), self.tokens[:, :-1]], axis=1).flatten()

    @cached_property
    def after_copies(self) -> NDArray[np.bool_]:
        """Say of each position which earlier ones follow a copy of its token, [row, pos, pos]."""
        same = self.tokens[:, :, None] == self.before.reshape(self.tokens.shape)[:, None, :]
        return same & np.tri(N_CTX, dtype=bool)

    @cached_property
    def foretold(self) -> NDArray[np.bool_]:
        """Say of each position whether a copy of its token stands before, [row, pos]."""
        return self.after_copies.sum(2) > 0

    @cached_property
    def kl(self) -> NDArray:
        """KL(target‖program), nats, [row, pos]."""
        target = handset.target()
        final, _ = clean_run(target.spec, target.weights, torch.from_numpy(self.tokens), [])
        logits = (final @ unembedding(target.spec, target.weights)).flatten(0, 1)
        found = kl_nats(logits, torch.from_numpy(self.log_probs).float())[0]
        return found.view(self.tokens.shape).numpy()

    @cached_property
    def previous(self) -> slice:
        """The moved features of the head ``PREVIOUS``, whose look comes first."""
        return slice(0, self.looks[0].moved[PREVIOUS])

    @cached_property
    def found(self) -> slice:
        """The moved features of the head ``INDUCTION``, whose look comes last."""
        n_moved = sum(self.looks[1].moved)
        return slice(n_moved - self.looks[1].moved[-1], n_moved)

    @cached_property
    def feature_of(self) -> tuple[list[int], NDArray]:
        """Return, for each token, the moved feature that says best that it stands before, and precision and recall."""
        there = self.before >= 0
        on = (self.variables["moved.0"][there, self.previous] > 0).astype(float)
        stands = np.eye(N_TOKENS)[self.before[there]]
        both = stands.T @ on
        scores = np.stack([both / on.sum(0).clip(min=1), both / stands.sum(0)[:, None]])
        best = scores.min(0).argmax(1)
        return best.tolist(), scores[:, np.arange(N_TOKENS), best]


def run_of(program: Program, tokens: Rows) -> Run:
    interpreter = Interpreter(program, np.float64)
    each = [interpreter.variables(row) for row in tokens]
    variables = {name: np.concatenate([one[name] for one in each]) for name in each[0]}
    back = np.arange(N_CTX)[:, None] - np.arange(N_CTX)
    ahead = np.where(back >= 0, 0.0, -np.inf)
    weights, parts = [], []
    for block in program.blocks:
        if not isinstance(block, Looks):
            continue
        looking = Looking(block, interpreter)
        by_row = [looking.parts(np.concatenate([one[name] for name in block.reads], axis=1)) for one in each]
        looked = [list(looking.weights(p.queries, p.keys, p.lone_keys, back, ahead)) for p in by_row]
        weights.append(np.stack(looked, axis=1))
        parts.append(LookParts(*(np.concatenate(part) for part in zip(*by_row, strict=True))))
    return Run(program, tokens, variables, tuple(weights), tuple(parts), variables[program.vote.name])


def to_end(run: Resumable) -> None:
    while run.step < run.n_steps:
        run.update()


@pytest.fixture(scope="module")
def fitted() -> Run:
    target, tokens = handset.target(), rows(400, 1).astype(np.int32)
    text = TokenRows(tokens.flatten(), np.arange(len(tokens)) * N_CTX, N_CTX)
    counted = torch.bincount(torch.from_numpy(text.tokens).long(), minlength=N_TOKENS).float()
    first = torch.from_numpy(text.batch(0, 0, 64))
    pieces, looks = PiecesFit(target, text, STREAM, {}), LookFit(target, text, STREAM, {})
    to_end(pieces)
    to_end(looks)
    stream = StreamFit(target, start_stream(target, looks.result(), pieces.result(), first, STREAM), text, STREAM, {})
    to_end(stream)
    wiring = WiringFit(target, start_wiring(stream.result(), counted, first, SHORT), text, SHORT, {})
    to_end(wiring)
    return run_of(write_readable(rounded(wiring.result()))[0], rows(60, 21))


@pytest.fixture(scope="module")
def labels(fitted: Run) -> Labels:
    return label(fitted.program, TOKENIZER, list(rows(60, 3)), "a text")


@pytest.fixture(scope="module")
def explained(fitted: Run, labels: Labels) -> dict[tuple[str, int], Explained]:
    """Search conditions on one text, and measure them on another."""
    found = explain(fitted.program, TOKENIZER, labels, list(rows(100, 4)), list(rows(60, 5)), SearchConfig())
    return {(feature.variable, feature.index): feature for feature in found.features}


def words_of(program: Program, block: Looks) -> NDArray:
    """Return how much each word counts for each moved feature where it stands, [feature, token]."""
    lists = next(other for other in program.blocks if isinstance(other, Lookup) and other.name == "lists")
    assert isinstance(lists.table, SparseTable)
    return dense(block.conditions)[:, : lists.table.n_columns] @ dense(lists.table).T


def test_the_program_says_what_the_target_says(fitted: Run):
    assert fitted.kl[fitted.foretold].mean() < 0.05
    assert fitted.kl.mean() < 0.15


def test_the_look_of_the_previous_head_looks_one_back(fitted: Run):
    one_back = np.diagonal(fitted.weights[0][PREVIOUS], -1, 1, 2)
    assert one_back.mean() > 0.9
    curve = fitted.looks[0].distance.values[PREVIOUS]
    assert curve.argmax() == 1
    assert curve[1] > np.delete(curve, 1).max() + 1.5


def test_each_previous_token_has_a_moved_feature(fitted: Run, labels: Labels):
    """It is on where that token stood before, and hardly elsewhere; its list says that word first, others far below."""
    features, scores = fitted.feature_of
    assert len(set(features)) == N_TOKENS
    assert (scores > 0.9).all(0).sum() >= N_TOKENS - 2
    assert scores.min() > 0.75
    words = words_of(fitted.program, fitted.looks[0])[features]
    assert (words.argmax(1) == np.arange(N_TOKENS)).all()
    others = np.where(np.eye(N_TOKENS, dtype=bool), 0, words).max(1)
    assert (others < 0.25 * words.max(1)).sum() >= N_TOKENS - 1
    names = [labels.of("moved.0", feature) for feature in features]
    assert [name.partition(":")[2] for name in names] == [f"{word}@1" for word in WORDS]


def test_conditions_say_that_a_word_stands_just_before(fitted: Run, explained: dict[tuple[str, int], Explained]):
    features, _ = fitted.feature_of
    told = [explained["moved.0", feature] for feature in features]
    exact = [str(one.explanation.condition) == f"{word} just before" for one, word in zip(told, WORDS, strict=True)]
    assert sum(exact) >= N_TOKENS - 2
    for one, word in zip(told, WORDS, strict=True):
        terms = [term for term in one.explanation.condition.terms if isinstance(term, WordAt) and term.back == 1]
        assert word in [own.text for term in terms if not term.negated for own in term.words]
        assert one.explanation.mcc > 0.85
        assert one.mcc_shuffled < 0.3


def test_the_look_of_the_induction_head_looks_behind_an_earlier_copy(fitted: Run):
    weights = (fitted.weights[1][-1] * fitted.after_copies).sum(2)
    assert weights[fitted.foretold].mean() > 0.9
    by_token = [weights[fitted.foretold & (fitted.tokens == token)].mean() for token in range(N_TOKENS)]
    assert min(by_token) > 0.6
    assert max(look[fitted.foretold].mean() for look in (fitted.weights[0] * fitted.after_copies).sum(3)) < 0.3


def test_matches_pair_a_word_with_the_feature_of_its_copy(fitted: Run):
    """What a word asks for is offered where its own feature is on; and the match that does most for it reads both."""
    features, _ = fitted.feature_of
    block, parts = fitted.looks[1], fitted.parts[1]
    own = slice(sum(block.matches[:-1]), None)
    here, there = fitted.tokens.flatten(), fitted.before
    queries = np.stack([parts.queries[here == token][:, own].mean(0) for token in range(N_TOKENS)])
    keys = np.stack([parts.keys[there == token][:, own].mean(0) for token in range(N_TOKENS)])
    scores = queries @ keys.T  # [word here, word before there]
    assert (scores.argmax(1) == np.arange(N_TOKENS)).all()
    lists = next(other for other in fitted.program.blocks if isinstance(other, Lookup) and other.name == "lists")
    assert isinstance(lists.table, SparseTable)
    by_word = dense(block.queries)[own, : lists.table.n_columns] @ dense(lists.table).T  # [match, word]
    starts = np.cumsum([0] + [fitted.program.space(name).size for name in block.reads])
    by_feature = dense(block.keys)[own][:, starts[block.reads.index("moved.0")] + np.array(features)]
    best = (queries * keys).argmax(1)
    read = [(by_word[match].argmax(), by_feature[match].argmax()) for match in best]
    assert sum(pair == (token, token) for token, pair in enumerate(read)) >= N_TOKENS - 3


def test_moved_features_of_the_induction_look_vote_for_the_word_that_it_finds(fitted: Run):
    values = fitted.variables["moved.1"][:, fitted.found]
    answers = fitted.tokens[:, 1:][fitted.foretold[:, :-1]]
    values = values.reshape(*fitted.tokens.shape, -1)[:, :-1][fitted.foretold[:, :-1]]
    votes = next(block for block in fitted.program.blocks if block.name == "votes")
    assert isinstance(votes, Votes)
    starts = np.cumsum([0] + [fitted.program.space(name).size for name in votes.reads])
    table = dense(votes.weights)[starts[votes.reads.index("moved.1")] :][fitted.found]
    strongest = (values @ table).argmax(1)
    assert (strongest == answers).mean() > 0.95
    words = words_of(fitted.program, fitted.looks[1])[fitted.found]
    for token in range(N_TOKENS):
        best = (values[answers == token].mean(0) * table[:, token]).argmax()
        assert words[best].argmax() == table[best].argmax() == token


def test_what_follows_if_is_then(fitted: Run):
    """A rule that reads the word here alone can be said by the row of words that follow it, and it is.

    The rest of it is said the other way round: rules that are on at all other words vote against ``THEN``.
    """
    follows, here = fitted.variables["follows"], fitted.tokens.flatten()
    at_if = follows[here == IF][0]
    assert at_if.argmax() == THEN
    assert at_if[THEN] - np.delete(at_if, THEN).max() > 1.5
    assert follows[here != IF][:, THEN].max() < 0.25 * at_if[THEN]
    votes = next(block for block in fitted.program.blocks if block.name == "votes")
    assert isinstance(votes, Votes)
    start = sum(fitted.program.space(name).size for name in votes.reads[: votes.reads.index("rules.0")])
    rules = fitted.variables["rules.0"]
    brought = rules @ dense(votes.weights)[start : start + rules.shape[1]][:, THEN]
    assert (rules[here == IF] == 0).mean() > 0.98
    assert brought[here != IF].mean() < -0.3
    said = follows[:, THEN] + brought
    assert said[here == IF].mean() - said[here != IF].mean() > 0.5 * RULE_VOTE * SHARPNESS


def test_idle_heads_have_no_look(fitted: Run, labels: Labels):
    """The program has one look for each head that does something; without either, it says something else."""
    assert [len(block.moved) for block in fitted.looks] == [1, 1]
    nats = silent_nats(fitted.program, parts_of(fitted.program, labels), list(rows(40, 6)))
    assert min(nats[silent_key(block.name, "look 0")] for block in fitted.looks) > 1
