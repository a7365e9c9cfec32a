"""Explanations checked by intervention: rules are taken out of the program, and what then happens is compared.

1. Read texts, and split the log-probability of every token into shares.
2. Choose, for every token, the rules that carry its largest shares.
3. Let the code of the emitted file say what taking a rule out changes, as ``--explain`` prints it.
4. Take it out: run the program without it in the interpreter, which shares no code with the file, and compare.

Beside that it is measured how far one comes without reading the text again: by following what the rule adds through all
that adds it up later, the same rules firing and heads looking where they looked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.emit.graph import graph, require_sparse, rows_of
from englishroom.emit.prelude import explaining, removing
from englishroom.emit.prelude.telling import LISTED
from englishroom.errors import ConfigError
from englishroom.inside.config import CheckConfig
from englishroom.inside.shares import Shares, shares
from englishroom.interp.recorded_run import RecordedRun
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Program, Rules
from englishroom.steps import Progress, silent

ADD_UP_NATS = 1e-6
"""By how much shares may fail to add up to the log-probability."""
DIRECT_NATS = 1e-9
"""By how much the effect of a rule's own vote may be off."""
SAME_NATS = 1e-9
"""By how much the shares that ``--explain`` prints may differ from those that are checked here."""
DIRECT_EVERY = 8
"""Of how many rules taken out one is also taken out of the votes alone."""
COMPARED_POSITIONS = 8
"""Positions at which the two are compared."""


@dataclass(frozen=True)
class Errors:
    """How far explained effects are from measured ones.

    Attributes:
        effects: compared.
        mean_effect_nats: mean size of what was found.
        within: share of effects within the tolerance.
        largest_error_nats: the farthest.
    """

    effects: int
    correlation: float
    slope: float
    mean_effect_nats: float
    median_error_nats: float
    p95_error_nats: float
    largest_error_nats: float
    within: float


@dataclass(frozen=True)
class ExplainCheck:
    """What the check found.

    Attributes:
        tokens: tokens of which a rule that carries a large share was taken out.
        rules: different rules taken out.
        total: all effects, one for each token and rule taken out that carries one of the token's largest shares.
        followed: the same effects, followed and not read again; by no means exact, and no part of the verdict.
        followed_by_block: these, by the block of the rule.
        largest_sum_error_nats: by how much shares failed to add up, at most.
        largest_direct_error_nats: of the rule's own vote alone, at most.
        largest_printed_difference_nats: between the shares that ``--explain`` prints and those that are checked here.
        faults: what does not pass; empty where all does.
    """

    tokens: int
    documents: int
    rules: int
    total: Errors
    followed: Errors
    followed_by_block: dict[str, Errors]
    largest_sum_error_nats: float
    largest_direct_error_nats: float
    largest_printed_difference_nats: float
    config: CheckConfig
    faults: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.faults

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def check_explanations(
    program: Program, texts: Sequence[NDArray[np.integer]], config: CheckConfig, progress: Progress = silent
) -> ExplainCheck:
    """Check the explanations of a sparse program on texts.

    Args:
        texts: tokens, start token first; of each all but the last are read, and all but the first are predicted.

    Raises:
        ConfigError: the program is not sparse or has no rules that vote, or the texts are too short.
    """
    require_sparse(program, "explained")
    config.validate()
    interpreter, checked = Interpreter(program, np.float64), _Checked(graph(program, rows_of))
    for text in texts:
        if len(checked.tokens) >= config.tokens:
            break
        if len(text) > 1:
            text = text[: config.positions + 1]
            _check_text(checked, RecordedRun(interpreter, text[:-1]), text[1:], config.rules)
            progress("taking rules out", min(len(checked.tokens), config.tokens), config.tokens)
    if len(checked.tokens) < config.tokens:
        raise ConfigError(
            f"the text has {len(checked.tokens):,} tokens for which a rule votes, expected {config.tokens:,} at least; "
            "give a longer one, or fewer --tokens"
        )
    return checked.result(config)


def _check_text(checked: _Checked, reading: RecordedRun, following: NDArray[np.integer], n: int) -> None:
    parts = shares(reading, following)
    checked.sums.append(np.abs(parts.unexplained).max())
    if not checked.documents:
        checked.printed = _printed_difference(checked.blocks, reading, parts, following)
    checked.documents += 1
    checked.read(reading.tokens)
    for block, rule, places in _chosen(reading, parts, n):
        checked.take_out(reading, following, block, rule, places)


def _chosen(reading: RecordedRun, parts: Shares, n: int) -> list[tuple[str, int, NDArray[np.intp]]]:
    """Choose the rules of the n largest shares of each token: block, rule, and where its share is among the largest."""
    names = [name for name in parts.of if isinstance(reading.blocks[name], Rules)]
    if not names:
        return []
    every = np.concatenate([parts.of[name] for name in names], axis=1)
    owners = [(name, rule) for name in names for rule in range(parts.of[name].shape[1])]
    ranked = np.argsort(-np.abs(every), axis=1)
    listed = np.zeros(every.shape, bool)
    np.put_along_axis(listed, ranked[:, :LISTED], True, axis=1)
    listed &= every != 0
    largest = np.unique(ranked[:, :n])
    return [(*owners[at], np.flatnonzero(listed[:, at])) for at in largest if listed[:, at].any()]


class _Checked:
    """What was explained and measured, effect by effect."""

    def __init__(self, blocks: list[dict[str, Any]]) -> None:
        self.blocks = blocks
        self.seen: list[dict[str, Any]] = []
        self.explained: list[float] = []
        self.measured: list[NDArray] = []
        self.followed: list[NDArray] = []
        self.of: list[str] = []
        self.tokens: set[tuple[int, int]] = set()
        self.rules: set[tuple[str, int]] = set()
        self.direct = self.printed = 0.0
        self.sums: list[float] = []
        self.documents = self.taken_out = 0

    def read(self, tokens: NDArray[np.integer]) -> None:
        """Read a text by the code of the emitted file."""
        self.seen = []
        for token in tokens.tolist():
            self.seen.append(explaining.read_on(self.blocks, self.seen, token))

    def take_out(
        self, reading: RecordedRun, following: NDArray[np.integer], block: str, rule: int, at: NDArray[np.intp]
    ) -> None:
        """Take a rule out of one text, and note what is explained and measured at the positions."""
        before = reading.log_probs[at, following[at]]
        again: list[dict[str, Any]] = []
        for place in at.tolist():
            seen = self.seen[: place + 1]
            self.explained.append(removing.without(self.blocks, seen, block, rule, int(following[place]), again))
        self.measured.append(reading.really_without(block, rule)[at, following[at]] - before)
        self.followed.append(reading.without(block, rule)[at, following[at]] - before)
        self.of += [block] * len(at)
        if self.taken_out % DIRECT_EVERY == 0:
            own = reading.without(block, rule, direct=True) - reading.votes_without(block, rule)
            self.direct = max(self.direct, float(np.abs(own).max()))
        self.taken_out += 1
        self.tokens |= {(self.documents, int(place)) for place in at}
        self.rules.add((block, rule))

    def result(self, config: CheckConfig) -> ExplainCheck:
        measured, followed, of = np.concatenate(self.measured), np.concatenate(self.followed), np.array(self.of)

        def near(part: NDArray[np.bool_]) -> Errors:
            return _errors(followed[part], measured[part], config.near_nats, config.near_share)

        check = ExplainCheck(
            tokens=len(self.tokens),
            documents=self.documents,
            rules=len(self.rules),
            total=_errors(np.array(self.explained), measured, config.within_nats),
            followed=near(np.ones(len(of), bool)),
            followed_by_block={str(name): near(of == name) for name in np.unique(of)},
            largest_sum_error_nats=float(max(self.sums)),
            largest_direct_error_nats=self.direct,
            largest_printed_difference_nats=self.printed,
            config=config,
        )
        check.faults.extend(_faults(check))
        return check


def _errors(explained: NDArray, measured: NDArray, nats: float, share: float = 0.0) -> Errors:
    error = np.abs(explained - measured)
    varied = min(explained.std(), measured.std()) > 0
    alike = np.corrcoef(explained, measured)[0, 1] if varied else np.array_equal(explained, measured)
    return Errors(
        effects=len(explained),
        correlation=float(alike),
        slope=float((explained * measured).sum() / (explained * explained).sum()) if explained.any() else 0.0,
        mean_effect_nats=float(np.abs(measured).mean()),
        median_error_nats=float(np.median(error)),
        p95_error_nats=float(np.quantile(error, 0.95)),
        largest_error_nats=float(error.max()),
        within=float((error <= nats + share * np.abs(measured)).mean()),
    )


def _faults(check: ExplainCheck) -> list[str]:
    """Say in one line each what does not pass."""
    bounds = (
        ("shares fail to add up by", check.largest_sum_error_nats, ADD_UP_NATS),
        ("a rule's own vote is off by", check.largest_direct_error_nats, DIRECT_NATS),
        ("printed shares differ from those that are checked by", check.largest_printed_difference_nats, SAME_NATS),
        ("an effect differs from its explanation by", check.total.largest_error_nats, check.config.within_nats),
    )
    return [f"{what} {value:.2g} nats, allowed {most:g}" for what, value, most in bounds if not value <= most]


def _printed_difference(
    blocks: list[dict[str, Any]], reading: RecordedRun, split: Shares, following: NDArray[np.integer]
) -> float:
    """Compare shares that the emitted file's own code finds with those checked, at the first positions of a text."""
    seen: list[dict[str, Any]] = []
    largest = 0.0
    for position, token in enumerate(following[:COMPARED_POSITIONS].tolist()):
        seen.append(explaining.read_on(blocks, seen, int(reading.tokens[position])))
        parts, _, baseline = explaining.shares(blocks, seen[-1], token)
        largest = max(largest, abs(baseline - split.baseline[position]))
        for (name, index), share in parts.items():
            largest = max(largest, abs(share - split.of[name][position, index]))
    return largest
