"""Explanations checked by intervention: rules are taken out of the program, and what then happens is compared.

1. Read texts, and split the log-probability of every token into shares.
2. Choose, for every token, the rules that carry its largest shares.
3. Say by the explanation what taking a rule out changes: its own vote, and all that adds it up later.
4. Take it out: run the program without it, all later blocks computed anew, and compare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from englishroom.emit.graph import graph, require_sparse, rows_of
from englishroom.emit.prelude import explaining, removing
from englishroom.emit.prelude.telling import LISTED
from englishroom.errors import ConfigError
from englishroom.evaluate.shares import Shares, shares
from englishroom.interp.reading import Reading
from englishroom.interp.vectorised import Interpreter
from englishroom.ir.program import Program, Rules

Progress = Callable[[str, int, int], None]
ADD_UP_NATS = 1e-6
"""By how much shares may fail to add up to the log-probability."""
DIRECT_NATS = 1e-9
"""By how much the effect of a rule's own vote may be off."""
SAME_NATS = 1e-9
"""By how much what ``--explain`` prints may differ from what is checked here."""
DIRECT_EVERY = 8
"""Of how many rules taken out one is also taken out of the votes alone."""
COMPARED_POSITIONS = 8
"""Positions at which the two are compared."""


@dataclass(frozen=True)
class CheckConfig:
    """How much is checked, and what passes."""

    tokens: int = 1000
    """Tokens to check at least."""
    positions: int = 96
    """Positions read of each document, at most."""
    rules: int = 1
    """Rules taken out for each token: those that carry its largest shares."""
    within_nats: float = 0.05
    """What the effect of taking a rule out may differ from what is said,"""
    within_share: float = 0.25
    """and by so much of the effect itself."""
    often: float = 0.9
    """Share of the effects that must be within that."""
    correlation: float = 0.9
    """Correlation of said and found that must be reached."""


@dataclass(frozen=True)
class Errors:
    """How far what was said is from what was found.

    Attributes:
        effects: compared.
        mean_effect_nats: mean size of what was found.
        within: share of effects within the tolerance.
    """

    effects: int
    correlation: float
    slope: float
    mean_effect_nats: float
    median_error_nats: float
    p95_error_nats: float
    within: float


@dataclass(frozen=True)
class ExplainCheck:
    """What the check found.

    Attributes:
        tokens: tokens of which a rule that carries a large share was taken out.
        rules: different rules taken out.
        total: all effects, one for each token and rule taken out that carries one of the token's largest shares. What
            is said takes heads to look where they looked, and the same rules to fire.
        by_block: the same, by the block of the rule.
        replaced: against the program in which the next strongest rule may fire in place of the one taken out.
        largest_sum_error_nats: by how much shares failed to add up, at most.
        largest_direct_error_nats: of the rule's own vote alone, at most.
        largest_printed_difference_nats: between what ``--explain`` prints and what is checked here.
        faults: what does not pass; empty where all does.
    """

    tokens: int
    documents: int
    rules: int
    total: Errors
    by_block: dict[str, Errors]
    replaced: Errors
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
    program: Program,
    texts: Sequence[NDArray[np.integer]],
    config: CheckConfig = CheckConfig(),
    progress: Progress = lambda _step, _done, _total: None,
) -> ExplainCheck:
    """Check the explanations of a sparse program on texts.

    Args:
        texts: tokens, start token first; of each all but the last are read, and all but the first are said.

    Raises:
        ConfigError: the program is not sparse or has no rules that vote, or the texts are too short.
    """
    require_sparse(program, "explained")
    if min(config.tokens, config.positions, config.rules) < 1:
        raise ConfigError("--tokens, --positions and --rules are 1 or more; correct them")
    interpreter, checked = Interpreter(program, np.float64), _Checked()
    for text in texts:
        if len(checked.tokens) >= config.tokens:
            break
        if len(text) > 1:
            text = text[: config.positions + 1]
            _check_text(checked, program, Reading(interpreter, text[:-1]), text[1:], config.rules)
            progress("taking rules out", min(len(checked.tokens), config.tokens), config.tokens)
    if len(checked.tokens) < config.tokens:
        raise ConfigError(
            f"the text has {len(checked.tokens):,} tokens for which a rule votes, expected {config.tokens:,} at least; "
            "give a longer one, or fewer --tokens"
        )
    return checked.result(config)


def _check_text(checked: _Checked, program: Program, reading: Reading, said: NDArray[np.integer], n: int) -> None:
    found = shares(reading, said)
    checked.sums.append(np.abs(found.unexplained).max())
    if not checked.documents:
        checked.printed = _printed_difference(program, reading, found, said)
    checked.documents += 1
    for block, rule, places in _chosen(reading, found, n):
        checked.take_out(reading, said, block, rule, places)


def _chosen(reading: Reading, found: Shares, n: int) -> list[tuple[str, int, NDArray[np.intp]]]:
    """Choose the rules of the n largest shares of each token: block, rule, and where its share is among the largest."""
    names = [name for name in found.of if isinstance(reading.blocks[name], Rules)]
    if not names:
        return []
    every = np.concatenate([found.of[name] for name in names], axis=1)
    owners = [(name, rule) for name in names for rule in range(found.of[name].shape[1])]
    ranked = np.argsort(-np.abs(every), axis=1)
    listed = np.zeros(every.shape, bool)
    np.put_along_axis(listed, ranked[:, :LISTED], True, axis=1)
    listed &= every != 0
    largest = np.unique(ranked[:, :n])
    return [(*owners[at], np.flatnonzero(listed[:, at])) for at in largest if listed[:, at].any()]


class _Checked:
    """What was said and found, effect by effect."""

    def __init__(self) -> None:
        self.said: list[NDArray] = []
        self.found: list[NDArray] = []
        self.replaced: list[NDArray] = []
        self.blocks: list[str] = []
        self.tokens: set[tuple[int, int]] = set()
        self.rules: set[tuple[str, int]] = set()
        self.direct = self.printed = 0.0
        self.sums: list[float] = []
        self.documents = self.taken_out = 0

    def take_out(
        self, reading: Reading, said: NDArray[np.integer], block: str, rule: int, at: NDArray[np.intp]
    ) -> None:
        """Take a rule out of one text, and note what was said and found at the positions given."""
        before = reading.log_probs[at, said[at]]
        self.said.append(reading.without(block, rule)[at, said[at]] - before)
        self.found.append(reading.really_without(block, rule)[at, said[at]] - before)
        self.replaced.append(reading.really_without(block, rule, replaced=True)[at, said[at]] - before)
        self.blocks += [block] * len(at)
        if self.taken_out % DIRECT_EVERY == 0:
            own = reading.without(block, rule, direct=True) - reading.votes_without(block, rule)
            self.direct = max(self.direct, float(np.abs(own).max()))
        self.taken_out += 1
        self.tokens |= {(self.documents, int(place)) for place in at}
        self.rules.add((block, rule))

    def result(self, config: CheckConfig) -> ExplainCheck:
        said, found, replaced = map(np.concatenate, (self.said, self.found, self.replaced))
        blocks = np.array(self.blocks)
        by_block = {
            str(name): _errors(said[blocks == name], found[blocks == name], config) for name in np.unique(blocks)
        }
        check = ExplainCheck(
            tokens=len(self.tokens),
            documents=self.documents,
            rules=len(self.rules),
            total=_errors(said, found, config),
            by_block=by_block,
            replaced=_errors(said, replaced, config),
            largest_sum_error_nats=float(max(self.sums)),
            largest_direct_error_nats=self.direct,
            largest_printed_difference_nats=self.printed,
            config=config,
        )
        check.faults.extend(_faults(check))
        return check


def _errors(said: NDArray, found: NDArray, config: CheckConfig) -> Errors:
    error = np.abs(said - found)
    varied = min(said.std(), found.std()) > 0
    return Errors(
        effects=len(said),
        correlation=float(np.corrcoef(said, found)[0, 1]) if varied else float(np.array_equal(said, found)),
        slope=float((said * found).sum() / (said * said).sum()) if said.any() else 0.0,
        mean_effect_nats=float(np.abs(found).mean()),
        median_error_nats=float(np.median(error)),
        p95_error_nats=float(np.quantile(error, 0.95)),
        within=float((error <= config.within_nats + config.within_share * np.abs(found)).mean()),
    )


def _faults(check: ExplainCheck) -> list[str]:
    """Say in one line each what does not pass."""
    config, total = check.config, check.total
    bounds = (
        ("shares fail to add up by", check.largest_sum_error_nats, ADD_UP_NATS),
        ("a rule's own vote is off by", check.largest_direct_error_nats, DIRECT_NATS),
        ("what is printed differs from what is checked by", check.largest_printed_difference_nats, SAME_NATS),
    )
    faults = [f"{what} {value:.2g} nats, allowed {most:g}" for what, value, most in bounds if not value <= most]
    if not total.within >= config.often:
        faults.append(f"{total.within:.3f} of the effects are within the tolerance, expected {config.often:g}")
    if not total.correlation >= config.correlation:
        faults.append(f"said and found correlate at {total.correlation:.3f}, expected {config.correlation:g}")
    return faults


def _printed_difference(program: Program, reading: Reading, found: Shares, said: NDArray[np.integer]) -> float:
    """Compare what the emitted file's own code says with what is checked, at the first positions of a text."""
    blocks, seen = graph(program, rows_of), []
    largest = 0.0
    for position, token in enumerate(said[:COMPARED_POSITIONS].tolist()):
        seen.append(explaining.read_on(blocks, seen, int(reading.tokens[position])))
        parts, _, baseline = explaining.shares(blocks, seen[-1], token)
        largest = max(largest, abs(baseline - found.baseline[position]))
        for (name, index), share in parts.items():
            largest = max(largest, abs(share - found.of[name][position, index]))
        rules = [(name, index) for name, index in parts if isinstance(reading.blocks[name], Rules)]
        for name, index in sorted(rules, key=lambda at: -abs(parts[at]))[:2]:
            said = reading.without(name, index)[position, token] - reading.log_probs[position, token]
            largest = max(largest, abs(removing.without(blocks, seen, name, index, token) - said))
    return largest
